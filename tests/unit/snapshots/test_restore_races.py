"""People change things at the very moment at which they come back, and in any order: nothing is lost."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dumont.snapshots import places
from tests.support.restores import Killed, Place, filled, kill_after, no_partials
from tests.support.workspaces import listing


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return filled(tmp_path)


# At the same moment ---------------------------------------------------------------------------


def meanwhile(monkeypatch: pytest.MonkeyPatch, name: str, act: Callable[[], None]) -> None:
    """Something is done right before what came back gets its name."""
    real = places.Moment.take_place

    def take(
        self: places.Moment, partial: bytes, final: bytes, there: os.stat_result | None
    ) -> None:
        if final.endswith(b"/" + name.encode()):
            act()
        real(self, partial, final, there)

    monkeypatch.setattr(places.Moment, "take_place", take)


NAMES = ["weights.bin", "src/data.bin", "notes", "empty", "link", "src/notes too"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_what_somebody_makes_at_the_last_moment_is_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str, what: str
) -> None:
    path = place.back / name

    def act() -> None:
        if what == "file":
            path.write_text("mine")
        elif what == "folder":
            path.mkdir()
        else:
            path.symlink_to("/nowhere")

    meanwhile(monkeypatch, name, act)
    done = place.run()
    assert (done.problems, done.kept) == ([], [name])
    if what == "file":
        assert path.read_text() == "mine"
    elif what == "folder":
        assert path.is_dir()
    else:
        assert os.readlink(path) == "/nowhere"
    assert no_partials(place.back)


@pytest.mark.parametrize("name", NAMES)
def test_what_somebody_changes_at_the_last_moment_is_kept(
    place: Place, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = place.back / name
    path.parent.mkdir(parents=True)
    path.write_text("old")
    meanwhile(monkeypatch, name, lambda: void(path.write_text("new")))
    done = place.run()
    assert (done.problems, done.kept) == ([], [name])
    assert path.read_text() == "new"
    assert no_partials(place.back)


def void(_: object) -> None:
    """Nothing of it."""


def test_what_somebody_deletes_at_the_last_moment_comes_back(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.back.mkdir()
    (place.back / "weights.bin").write_text("old")
    meanwhile(monkeypatch, "weights.bin", (place.back / "weights.bin").unlink)
    assert place.rest().kept == []
    assert place.there() == listing(place.source)


@pytest.mark.parametrize("with_links", [True, False])
def test_a_file_system_without_that_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_links: bool
) -> None:
    def cannot(*_: object, **__: object) -> int:
        ctypes.set_errno(errno.EINVAL)
        return -1

    def no_link(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(places, "_renameat2", cannot)
    if not with_links:
        monkeypatch.setattr(os, "link", no_link)
    new, taken = tmp_path / "new", tmp_path / "taken"
    taken.write_text("theirs")
    for final in new, taken:
        partial = tmp_path / "partial"
        partial.write_text("ours")
        if final is taken:
            with pytest.raises(FileExistsError):
                places.put_new(bytes(partial), bytes(final))
        else:
            places.put_new(bytes(partial), bytes(final))
            assert not partial.exists()
    assert (new.read_text(), new.stat().st_nlink) == ("ours", 1)
    assert taken.read_text() == "theirs"


# Any order of things --------------------------------------------------------------------------

ACTS = st.lists(
    st.tuples(
        st.sampled_from(["write", "delete", "mkdir", "link", "chmod", "touch", "kill"]),
        st.sampled_from(["src", "src/a.py", "src/data.bin", "notes", "link", "weights.bin", "x"]),
        st.booleans(),
    ),
    max_size=6,
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(acts=ACTS)
def test_whatever_people_do_nothing_of_it_is_lost(
    place: Place, acts: list[tuple[str, str, bool]]
) -> None:
    shutil.rmtree(place.back, ignore_errors=True)
    place.run(small=True)
    theirs: dict[str, tuple[object, ...]] = {}
    for number, (act, name, runs) in enumerate(acts):
        path = place.back / name
        if not path.parent.is_dir():
            continue
        if act == "kill":
            with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
                kill_after(patch, 1)
                place.run()
            continue
        done = change(path, act, f"by hand, {number}")
        if done:
            theirs = {key: value for key, value in theirs.items() if not is_below(key, name)}
            if act != "delete":
                theirs[name] = look(path)
        if runs:
            place.run(small=bool(number % 2))
    place.run()
    for name, what in theirs.items():
        assert look(place.back / name) == what, name
    last = place.run()
    assert (last.problems, last.fetched) == ([], 0)


def is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def change(path: Path, act: str, text: str) -> bool:
    """What a person does; whether that can be done now."""
    there = os.path.lexists(path)
    if act in ("chmod", "touch"):
        if not there or path.is_symlink() or path.is_dir():
            return False
        if act == "chmod":
            path.chmod(0o700)
        else:
            path.touch()
        return True
    if there and (path.is_symlink() or not path.is_dir()):
        path.unlink()
    elif there:
        shutil.rmtree(path)
    if act == "write":
        path.write_text(text)
    elif act == "mkdir":
        path.mkdir(mode=0o711)
    elif act == "link":
        path.symlink_to(text)
    return True


def look(path: Path) -> tuple[object, ...]:
    state = os.lstat(path)
    if stat.S_ISLNK(state.st_mode):
        return (stat.S_IFLNK, os.readlink(path))
    if stat.S_ISDIR(state.st_mode):
        return (stat.S_IFDIR, stat.S_IMODE(state.st_mode))
    return (state.st_mode, state.st_mtime_ns, path.read_bytes())
