"""Logs stay bounded while somebody writes to them."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from dumont.cli.embedded.logs import bound, open_log, tail


def test_a_log_that_grew_is_moved_aside_and_writing_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    handle = open_log(path)
    os.write(handle, b"old\n" * 100)
    assert not bound(path, max_bytes=400)
    assert bound(path, max_bytes=399)
    os.write(handle, b"new\n")
    os.close(handle)
    # No hole where the old text was: the writer appends.
    assert path.read_bytes() == b"new\n"
    assert (tmp_path / "api.log.1").read_bytes() == b"old\n" * 100


def test_without_room_for_the_copy_the_log_is_still_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfile", full)
    path = tmp_path / "api.log"
    path.write_text("x" * 100)
    assert bound(path, max_bytes=10)
    assert path.read_bytes() == b""


def test_an_absent_log_is_no_trouble(tmp_path: Path) -> None:
    assert not bound(tmp_path / "none.log")
    assert tail(tmp_path / "none.log", lines=3) == ""


def test_tail_is_the_last_lines(tmp_path: Path) -> None:
    path = tmp_path / "api.log"
    path.write_text("".join(f"line {n}\n" for n in range(5000)))
    assert tail(path, lines=2) == "line 4998\nline 4999"
