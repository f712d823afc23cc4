# SPDX-License-Identifier: BSD-3-Clause
"""Saving is all or nothing, whatever ends it, and treats modes and links as any writing does."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path

import pytest

import fastlstm
from support import processes


def only(folder: Path, *names: str) -> None:
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)


@pytest.mark.parametrize(
    "error", [OSError("no space"), KeyboardInterrupt(), MemoryError()], ids=repr
)
@pytest.mark.parametrize("place", ["fsync", "replace", "fstat"])
@pytest.mark.parametrize("old", [True, False])
def test_a_save_that_ends_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException, place: str, old: bool
) -> None:
    """The good file stays, and no other file is left."""
    if place == "fstat" and not old:
        pytest.skip("nobody asks for the owner of a file that is not replaced")
    path = tmp_path / "model"
    small, large = fastlstm.LSTM(3, 5, seed=0), fastlstm.LSTM(30, 50, seed=1)
    if old:
        small.save(path)

    def fail(*args: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(f"fastlstm.saving.os.{place}", fail)
        with pytest.raises(type(error)):
            large.save(path)
    only(tmp_path, *(["model"] if old else []))
    if old:
        assert fastlstm.load(path).hidden_size == 5
    large.save(path)
    assert fastlstm.load(path).hidden_size == 50
    only(tmp_path, "model")


def test_a_disk_that_fills_up(tmp_path: Path) -> None:
    """The system ends the write halfway."""
    fastlstm.LSTM(3, 5, seed=0).save(tmp_path / "model")
    done = processes.run(
        f"""
        import resource, signal
        import fastlstm
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        large = fastlstm.LSTM(100, 100)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
        try:
            large.save({str(tmp_path / "model")!r})
        except OSError as error:
            print("refused")
        """
    )
    assert (done.code, done.out) == (0, "refused\n"), str(done)
    assert fastlstm.load(tmp_path / "model").hidden_size == 5
    only(tmp_path, "model")


def test_readers_see_the_old_file_or_the_new(tmp_path: Path) -> None:
    path = tmp_path / "model"
    models = [fastlstm.LSTM(40, 50 + i, seed=i) for i in range(2)]
    models[0].save(path)
    stop = threading.Event()

    def save() -> None:
        for i in range(60):
            models[i % 2].save(path)
        stop.set()

    writers = [threading.Thread(target=save) for _ in range(2)]
    for writer in writers:
        writer.start()
    seen = set()
    while not stop.is_set():
        seen.add(fastlstm.load(path).hidden_size)
    for writer in writers:
        writer.join()
    assert seen <= {50, 51}
    only(tmp_path, "model")


@pytest.mark.parametrize("mode", [0o644, 0o600, 0o664, 0o755])
def test_a_file_that_is_replaced_keeps_its_mode(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "model"
    fastlstm.LSTM(3, 5).save(path)
    path.chmod(mode)
    fastlstm.LSTM(3, 6).save(path)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert fastlstm.load(path).hidden_size == 6


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_a_new_file_has_the_mode_of_any_new_file(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        fastlstm.LSTM(3, 5).save(tmp_path / "model")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model").stat().st_mode) == 0o666 & ~umask


def test_saving_through_links_to_a_file_elsewhere(tmp_path: Path) -> None:
    """The file at their end is replaced, in its own folder; the links stay."""
    for name in ("here", "there"):
        (tmp_path / name).mkdir()
    target = tmp_path / "there" / "model"
    (tmp_path / "here" / "second").symlink_to(Path("..") / "there" / "model")
    (tmp_path / "here" / "first").symlink_to("second")
    for hidden in (5, 6):
        fastlstm.LSTM(3, hidden).save(tmp_path / "here" / "first")
        only(tmp_path / "here", "first", "second")
        only(tmp_path / "there", "model")
        assert fastlstm.load(target).hidden_size == hidden
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError):
        fastlstm.LSTM(3, 5).save(tmp_path / "loop")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_file_that_must_not_be_written_to(tmp_path: Path) -> None:
    """Also where its folder would let it be replaced."""
    path = tmp_path / "model"
    fastlstm.LSTM(3, 5).save(path)
    path.chmod(0o444)
    with pytest.raises(PermissionError):
        fastlstm.LSTM(3, 6).save(path)
    assert fastlstm.load(path).hidden_size == 5
    only(tmp_path, "model")


def test_saving_into_what_is_no_file(tmp_path: Path) -> None:
    fastlstm.LSTM(3, 5).save(os.devnull)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    lstm, pipe = fastlstm.LSTM(3, 5, seed=0), tmp_path / "pipe"
    lstm.save(tmp_path / "model")
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    lstm.save(pipe)
    assert os.read(reader, 1 << 16) == (tmp_path / "model").read_bytes()
    os.close(reader)
    with pytest.raises(ValueError, match="device or a pipe"):
        fastlstm.load(pipe)  # which would wait for somebody to write


def test_names_as_long_as_they_may_be(tmp_path: Path) -> None:
    path = tmp_path / ("m" * 255)
    fastlstm.LSTM(3, 5).save(path)
    assert fastlstm.load(path).hidden_size == 5
    fastlstm.LSTM(3, 6).save(path)
    with pytest.raises(OSError):
        fastlstm.LSTM(3, 5).save(tmp_path / ("m" * 256))
    only(tmp_path, path.name)
    with pytest.raises(FileNotFoundError):
        fastlstm.LSTM(3, 5).save("")
    with pytest.raises(OSError):
        fastlstm.LSTM(3, 5).save(f"{tmp_path}/new/")
    with pytest.raises(ValueError, match="null"):
        fastlstm.LSTM(3, 5).save(f"{tmp_path}/a\0b")


def test_a_relative_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for hidden in (5, 6):
        fastlstm.LSTM(3, hidden).save("model")
        assert fastlstm.load("model").hidden_size == hidden
    only(tmp_path, "model")
