# SPDX-License-Identifier: BSD-3-Clause
"""Every example runs as a user would run it, and prints what it promises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import EXAMPLES
from support.helpers import shared_data


def run_python(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The finished run of this interpreter in `folder`."""
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        # One thread: tests run side by side, and examples must not fight over the cores.
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def run_example(name: str, folder: Path, *arguments: str) -> str:
    """Standard output of an example run in `folder`; fails the test unless it exits with 0."""
    done = run_python(folder, str(EXAMPLES / name), *arguments)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def number_after(label: str, output: str) -> float:
    """The number that follows `label` in the output."""
    return float(output.split(label, 1)[1].split()[0].strip(",;%"))


def test_demo(tmp_path: Path) -> None:
    for package in ("torch", "sklearn", "matplotlib", "tqdm"):
        pytest.importorskip(package)
    output = run_example("demo.py", tmp_path, "--quick")
    assert "same predictions: yes (whole scans, 3 to 8 rows of each, row by row)" in output
    assert "same continuation: yes" in output
    assert "both engines wrote after the prompt" in output
    assert "same predictions: yes; same continuation: yes" in output

    # Even three epochs name far more than the tenth that chance would.
    accuracies = [number_after(f"{e:<9} test accuracy: ", output) for e in ("PyTorch", "fastlstm")]
    assert accuracies[0] == accuracies[1] > 50
    bits = [
        number_after(f"{e:<9} bits per held-out character: ", output)
        for e in ("PyTorch", "fastlstm")
    ]
    assert bits[0] == pytest.approx(bits[1], abs=2e-6)
    assert 1 < bits[0] < 6.5  # 94 characters drawn blindly cost 6.55 bits

    # 66 updates: test_training_data.py says how closely the curves have to agree.
    for way in ("PyTorch, accelerated", "fastlstm"):
        assert f"\n{way:<21} " in output
        assert 0 < number_after(f"\n  {way:<21} ", output) < 1e-4
    assert " first 40 updates in " in output
    assert number_after("difference of the first 100 losses: ", output) < 1e-4
    for engine in ("PyTorch", "fastlstm"):
        mean, largest = (  # of the held-out logits, the last such lines
            number_after(engine, output.split(f"  {kind} error against float64: ")[-1])
            for kind in ("mean", "largest")
        )
        assert 0 < mean < largest < 1e-3

    for task in (
        "training update, 64 scans",
        "training update, 64 x 16 characters",
        "one scan",
        "batch of 64 scans",
        "ragged batch of 64",
        "one streaming step",
        "one character, LSTM only",
        "one character, sampling included",
    ):
        (line,) = (line for line in output.splitlines() if line.startswith(task))
        assert line.endswith(" x"), line
        assert line.count(" us") + line.count(" ms") == 2, line
    assert (tmp_path / "demo.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_demo_says_so_when_the_engines_disagree(tmp_path: Path) -> None:
    """A demo that could only ever say yes would prove nothing: spoil one weight on the way."""
    for package in ("torch", "sklearn", "matplotlib", "tqdm"):
        pytest.importorskip(package)
    script = tmp_path / "spoiled.py"
    script.write_text(
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "import demo, digits, text\n"
        "for module, name in ((digits, 'FastReader'), (text, 'FastWriter')):\n"
        "    right = getattr(module, name)\n"
        "    def spoiled(*models, right=right):\n"
        "        made = right(*models)\n"
        "        made.bias = -20 * made.bias\n"
        "        return made\n"
        "    setattr(module, name, spoiled)\n"
        "sys.exit(demo.main())\n"
    )
    done = run_python(tmp_path, str(script), str(EXAMPLES), "--quick")
    assert done.returncode == 1, f"{done.stdout}\n{done.stderr}"
    assert "same predictions: NO; same continuation: NO" in done.stdout


def test_train_digits_goes_on(tmp_path: Path) -> None:
    """Stopped after one epoch and started again, it prints what it prints in one go."""
    pytest.importorskip("sklearn")
    outputs = []
    for name, runs in (("whole", ["2"]), ("parts", ["1", "2"])):
        folder = tmp_path / name
        folder.mkdir()
        done = [run_example("train_digits.py", folder, epochs) for epochs in runs]
        outputs.append("".join(done[:-1]).split("test accuracy")[0] + done[-1])
    assert outputs[0] == outputs[1]
    assert outputs[0].count("validation loss") == 2
    assert number_after("test accuracy ", outputs[0]) > 60


TRAINING = ("torch", "fastlstm")


@pytest.mark.parametrize("data", ["made up", "japanese_vowels"])
def test_train_vowels(tmp_path: Path, data: str) -> None:
    """The made-up data set ships with the example: nothing else is read."""
    pytest.importorskip("torch")
    arguments = [] if data == "made up" else ["--data", str(shared_data(data))]
    output = run_example("train_vowels.py", tmp_path, "--engine", "both", *arguments)
    losses = [number_after(f"{e:<8} last mean loss ", output) for e in TRAINING]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    accuracies = [
        number_after("test accuracy ", output.split(f"{e:<8} last mean loss ")[1]) for e in TRAINING
    ]
    assert min(accuracies) > 90
    # The made-up one is learned faster, and updates of small losses enlarge every rounding.
    difference = number_after("difference of the losses: ", output)
    assert difference < (1e-3 if data == "made up" else 1e-4)


def test_train_vowels_says_what_is_missing(tmp_path: Path) -> None:
    done = run_python(tmp_path, str(EXAMPLES / "train_vowels.py"), "--data", "nowhere")
    assert done.returncode == 2
    assert "no JapaneseVowels_TRAIN.ts in nowhere" in done.stderr
    assert "Traceback" not in done.stderr


def test_train_text(tmp_path: Path) -> None:
    """On a short text, so that it also starts over."""
    pytest.importorskip("torch")
    (tmp_path / "text.txt").write_text("".join(f"{k} squared is {k * k}.\n" for k in range(600)))
    arguments = ["--engine", "both", "--updates", "30", "--data", "text.txt"]
    output = run_example("train_text.py", tmp_path, *arguments)
    held_out = [number_after(f"{e:<8} held-out loss ", output) for e in TRAINING]
    assert held_out[0] == pytest.approx(held_out[1], abs=2e-4)
    assert held_out[0] < 2.8  # 20 characters drawn blindly cost 3 nats
    assert number_after("difference of the losses: ", output) < 1e-4


@pytest.mark.parametrize("content", [None, "a short text\n", b"\xff" * 9999], ids=repr)
def test_train_text_says_what_it_needs(tmp_path: Path, content: str | bytes | None) -> None:
    if content is not None:
        data = content.encode() if isinstance(content, str) else content
        (tmp_path / "text.txt").write_bytes(data)
    done = run_python(tmp_path, str(EXAMPLES / "train_text.py"), "--data", "text.txt")
    assert done.returncode == 2
    assert "text" in done.stderr
    assert "Traceback" not in done.stderr


# What is not in a fresh clone with fastlstm installed is not there.
ALONE = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); name = sys.argv.pop(1)\n"
    "sys.modules |= dict.fromkeys(['torch', 'tqdm', 'sklearn', 'threadpoolctl'])\n"
    "sys.exit(__import__(name).main())\n"
)


@pytest.mark.parametrize(
    "arguments", [["train_text", "--updates", "30"], ["train_vowels"]], ids=str
)
def test_training_in_numpy_needs_nothing(tmp_path: Path, arguments: list[str]) -> None:
    """No data either: the text is CPython's own, the utterances are made by a rule."""
    (tmp_path / "alone.py").write_text(ALONE)
    done = run_python(tmp_path, "alone.py", str(EXAMPLES), *arguments)
    assert done.returncode == 0, done.stderr
    if arguments[0] == "train_text":
        # 95 characters drawn blindly cost 4.55 nats
        assert number_after("fastlstm held-out loss ", done.stdout) < 3.6
    else:
        assert number_after("test accuracy ", done.stdout) > 90


@pytest.mark.parametrize("name", ["train_text", "train_vowels"])
def test_training_in_torch_says_what_it_needs(tmp_path: Path, name: str) -> None:
    (tmp_path / "alone.py").write_text(ALONE)
    done = run_python(tmp_path, "alone.py", str(EXAMPLES), name, "--engine", "both")
    assert done.returncode == 1
    assert done.stderr.strip() == "--engine both needs PyTorch: pip install torch"


def test_the_made_up_data_set() -> None:
    """Sizes as promised, ragged, zeros past each end, the same every time."""
    done = run_python(
        EXAMPLES,
        "-c",
        "import made_up, numpy as np\n"
        "sets, again = made_up.utterances(), made_up.utterances()\n"
        "for s, count, t in zip(sets, (270, 370), again, strict=True):\n"
        "    assert s.x.shape == (count, 29, 12) and s.x.dtype == np.float32\n"
        "    assert set(s.labels) == set(range(9)) and set(s.lengths) == set(range(7, 30))\n"
        "    assert not any(x[n:].any() for x, n in zip(s.x, s.lengths))\n"
        "    assert all(map(np.array_equal, s, t))\n",
    )
    assert done.returncode == 0, done.stderr


def test_from_torch(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    output = run_example("from_torch.py", tmp_path)
    # Two layers of dot products of at most 192 terms in float32: a few 1e-6 at the very most.
    assert number_after("largest difference to PyTorch ", output) < 5e-6
    assert "y (4, 50, 192), h_n (4, 4, 96)" in output
    assert "same bits: True" in output


def test_streaming(tmp_path: Path) -> None:
    output = run_example("streaming.py", tmp_path)
    assert output.count("True") == 3
    assert "False" not in output
    assert " us a step" in output


def test_ragged(tmp_path: Path) -> None:
    output = run_example("ragged.py", tmp_path)
    assert output.count("True") == 8
    assert "False" not in output
