"""A restore in two runs, with people at work between and beside them: nothing that they did is lost."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pytest

from dumont.snapshots import command, places, restore
from dumont.snapshots.backup import Backup, Options
from dumont.snapshots.errors import SnapshotError
from dumont.snapshots.repository import Repository
from dumont.snapshots.restore import Restore
from tests.support.restores import BIG, SECRET, Killed, Place, filled, kill_after, no_partials
from tests.support.workspaces import listing, make


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return filled(tmp_path)


# Small ones first -----------------------------------------------------------------------------


@pytest.mark.parametrize("beside_people", [False, True])
def test_small_files_folders_and_links_come_first_and_the_rest_later(
    place: Place, beside_people: bool
) -> None:
    first = place.run(small=True, beside=beside_people)
    assert (first.problems, first.is_whole) == ([], False)
    assert (first.later, first.later_bytes) == (3, 2 * BIG)
    assert first.usable_s is not None
    big = {b"weights.bin", b"weights.too", b"src/data.bin"}
    whole = listing(place.source)
    assert place.there() == {path: what for path, what in whole.items() if path not in big}
    second = place.run(beside=beside_people)
    assert (second.problems, second.is_whole, second.later) == ([], True, 0)
    assert place.there() == whole
    assert (second.files, second.directories, second.links) == (
        place.kept.totals.files, place.kept.totals.directories, place.kept.totals.links,
    )  # fmt: skip


def test_nothing_is_left_for_later_where_nothing_is_large(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (place.source / "file").write_text("small")
    place.keep()
    assert place.run(small=True, beside=False).is_whole


def test_an_awkward_workspace_comes_back_in_two_runs_bit_for_bit(tmp_path: Path) -> None:
    place = Place(tmp_path)
    make(place.source, megabytes=4)
    place.keep()
    assert not place.small().is_whole
    assert place.rest().kept == []
    assert place.there() == listing(place.source)


def test_only_what_is_missing_is_fetched(place: Place) -> None:
    """Small files share chunks, so that none can be compared by hash: they must not need to be."""
    small = place.small()
    second = place.rest()
    assert second.unchanged == small.files - 1, "all but the hard link, which is no content"
    assert second.fetched < 2 * BIG + 10_000
    third = place.rest()
    assert (third.fetched, third.is_whole, third.kept) == (0, True, [])


def test_files_that_are_right_cost_a_look_and_no_reading(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.small()
    monkeypatch.setattr(Restore, "_is_equal", lambda *_: pytest.fail("it was read"))
    monkeypatch.setattr(Restore, "_is_right_already", lambda *_: pytest.fail("it was dressed"))
    for name in ("src/data.bin", "weights.bin"):
        shutil.copy2(place.source / name, place.back / name)
    os.link(place.back / "weights.bin", place.back / "weights.too")
    assert place.rest().fetched == 0


def test_without_the_wish_nothing_is_noted_and_everything_overwritten(place: Place) -> None:
    place.run(beside=False)
    assert not (place.back / ".dumont").exists()
    (place.back / "notes").write_text("mine")
    again = place.run(beside=False)
    assert (again.kept, again.kept_count) == ([], 0)
    assert place.there() == listing(place.source)


# What people do -------------------------------------------------------------------------------


def test_what_was_edited_between_the_runs_is_kept_and_named(place: Place) -> None:
    place.small()
    (place.back / "src/a.py").write_text("my work of today")
    (place.back / "src/b.py").chmod(0o700)
    (place.back / "src/new.py").write_text("mine too")
    (place.back / "weights.bin").write_text("I have made my own")
    done = place.rest()
    assert sorted(done.kept) == ["src/a.py", "src/b.py", "weights.bin"]
    assert (done.kept_count, done.is_whole) == (3, True)
    assert (place.back / "src/a.py").read_text() == "my work of today"
    assert stat.S_IMODE((place.back / "src/b.py").stat().st_mode) == 0o700
    assert (place.back / "src/new.py").read_text() == "mine too"
    assert (place.back / "weights.bin").read_text() == "I have made my own"
    assert (place.back / "src/data.bin").read_bytes() == (
        place.source / "src/data.bin"
    ).read_bytes()
    # What it was a second name of is somebody's now: the other name has what was kept.
    other = place.back / "weights.too"
    assert other.read_bytes() == (place.source / "weights.too").read_bytes()
    assert no_partials(place.back)


def test_an_edit_that_keeps_size_and_mode_or_carries_an_old_time_is_an_edit(place: Place) -> None:
    place.small()
    for name in ("src/a.py", "notes"):
        file = place.back / name
        file.write_text("X" * len(file.read_text()))
    os.utime(place.back / "notes", (1, 1))
    done = place.rest()
    assert {"src/a.py", "notes"} <= set(done.kept)
    assert (place.back / "src/a.py").read_text().startswith("XXX")
    assert (place.back / "notes").read_text().startswith("XXX")
    assert (place.back / "src/notes too").read_text().startswith("XXX"), "they are one file"


def test_a_file_moved_in_with_an_old_time_is_theirs(place: Place) -> None:
    place.back.mkdir()
    ours = place.back / "brought along"
    ours.write_text("from long ago")
    os.utime(ours, (1, 1))
    place.small()
    ours.rename(place.back / "notes")
    assert "notes" in place.rest().kept
    assert (place.back / "notes").read_text() == "from long ago"


def test_what_was_there_before_is_overwritten(place: Place) -> None:
    """As a set-up script leaves it: files, a link, a folder and a file in each other's place."""
    (place.back / "src/deep").mkdir(parents=True)
    (place.back / "src/a.py").write_text("from the image")
    (place.back / "src/data.bin").write_bytes(b"x" * BIG)
    (place.back / "src").chmod(0o700)
    (place.back / "notes").mkdir()
    (place.back / "link").symlink_to("elsewhere")
    (place.back / "empty").symlink_to("/etc/hostname")
    (place.back / "weights.too").write_text("a file of its own")
    place.small()
    done = place.rest()
    assert done.kept == []
    assert place.there() == listing(place.source)


def test_what_was_there_before_and_is_right_is_not_fetched(place: Place) -> None:
    place.back.mkdir()
    shutil.copy(place.source / "weights.bin", place.back / "weights.bin")
    place.small()
    assert place.rest().fetched < 1.5 * BIG
    assert place.there() == listing(place.source)


def test_names_of_one_file_of_before_are_all_overwritten(place: Place) -> None:
    """When the first one is taken away, the change time of the others is now."""
    (place.back / "src").mkdir(parents=True)
    cache = place.back / "cache"
    cache.write_text("from a package")
    names = ("src/a.py", "src/b.py", "notes", "src/notes too")
    for name in names:
        os.link(cache, place.back / name)
    place.small()
    assert place.rest().kept == []
    assert cache.read_text() == "from a package"
    cache.unlink()
    os.utime(place.back, ns=(1, place.source.stat().st_mtime_ns))
    assert place.there() == listing(place.source)


def test_a_file_of_before_that_is_edited_later_is_theirs(place: Place) -> None:
    place.back.mkdir()
    (place.back / "weights.bin").write_bytes(b"x" * BIG)
    place.small()
    with (place.back / "weights.bin").open("r+b") as file:
        file.write(b"y")
    done = place.rest()
    assert done.kept == ["weights.bin"]
    assert (place.back / "weights.bin").read_bytes() == b"y" + b"x" * (BIG - 1)


def test_what_was_deleted_comes_back(place: Place) -> None:
    place.small()
    (place.back / "notes").unlink()
    (place.back / "link").unlink()
    shutil.rmtree(place.back / "src")
    done = place.rest()
    assert (done.kept, done.is_whole) == ([], True)
    assert place.there() == listing(place.source)


def test_links_that_were_set_anew_stay(place: Place) -> None:
    place.small()
    (place.back / "link").unlink()
    (place.back / "link").symlink_to("src/b.py")
    (place.back / "src/b.py").unlink()
    (place.back / "src/b.py").symlink_to("a.py")
    done = place.rest()
    assert sorted(done.kept) == ["link", "src/b.py"]
    assert os.readlink(place.back / "link") == "src/b.py"
    assert (place.back / "src/b.py").is_symlink()
    assert (place.back / "src/a.py").read_text() == (place.source / "src/a.py").read_text()


def test_a_folder_where_a_file_should_be_stays(place: Place) -> None:
    place.small()
    (place.back / "weights.bin").mkdir()
    (place.back / "notes").unlink()
    (place.back / "notes").mkdir()
    (place.back / "notes/mine").write_text("mine")
    done = place.rest()
    assert sorted(done.kept) == ["notes", "weights.bin"]
    assert (place.back / "notes/mine").read_text() == "mine"


@pytest.mark.parametrize("as_link", [False, True])
def test_something_where_a_folder_should_be_stays_with_all_that_is_in_it(
    place: Place, tmp_path: Path, as_link: bool
) -> None:
    place.small()
    shutil.move(place.back / "src", tmp_path / "moved away")
    if as_link:
        (place.back / "src").symlink_to(tmp_path / "moved away")
    else:
        (place.back / "src").write_text("mine")
    before = listing(tmp_path / "moved away")
    done = place.rest()
    assert (done.kept, done.is_whole) == (["src"], True)
    assert listing(tmp_path / "moved away") == before
    if not as_link:
        assert (place.back / "src").read_text() == "mine"
    assert (place.back / "weights.bin").stat().st_size == BIG


def test_a_second_name_of_a_file_in_a_folder_that_is_gone_comes_back(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (place.source / "a").mkdir()
    (place.source / "a/first").write_text("content")
    os.link(place.source / "a/first", place.source / "second")
    place.keep()
    place.small()
    (place.back / "second").unlink()
    shutil.rmtree(place.back / "a")
    (place.back / "a").write_text("mine")
    assert place.rest().kept == ["a"]
    assert (place.back / "second").read_text() == "content"


def test_a_folder_that_somebody_closed_stays_closed(place: Place) -> None:
    place.small()
    (place.back / "src").chmod(0o700)
    done = place.rest()
    assert done.kept == ["src"]
    assert stat.S_IMODE((place.back / "src").stat().st_mode) == 0o700
    assert (place.back / "src/data.bin").exists(), "what belongs in it comes all the same"


def test_the_time_of_a_folder_that_somebody_works_in_is_left(place: Place) -> None:
    place.small()
    (place.back / "src/new.py").write_text("mine")
    place.rest()
    now, then = (place.back / "src").stat(), (place.source / "src").stat()
    assert now.st_mtime_ns != then.st_mtime_ns
    deep = (place.back / "src/deep").stat()
    assert deep.st_mtime_ns == (place.source / "src/deep").stat().st_mtime_ns


def test_many_are_counted_and_the_first_are_named(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restore, "_NAMED", 2)
    place.small()
    for name in ("src/a.py", "src/b.py", "src/deep/c.py"):
        (place.back / name).write_text("mine")
    done = place.rest()
    assert (len(done.kept), done.kept_count) == (2, 3)


# When it began --------------------------------------------------------------------------------


@pytest.mark.parametrize("names", [0, 1, 3, 5])
def test_a_killed_first_run_is_where_it_began(
    place: Place, monkeypatch: pytest.MonkeyPatch, names: int
) -> None:
    place.back.mkdir()
    (place.back / "notes").write_text("from the image")
    with monkeypatch.context() as patch:
        kill_after(patch, names)
        with pytest.raises(Killed):
            place.run(small=True)
    (place.back / "mine").write_text("mine")
    (place.back / "src/deep/c.py").unlink(missing_ok=True)
    (place.back / "src/deep/c.py").write_text("mine")
    place.small()
    done = place.rest()
    assert done.kept == ["src/deep/c.py"]
    assert (place.back / "mine").read_text() == "mine"
    there, whole = place.there(), listing(place.source)
    for path, what in whole.items():
        if path != b"src/deep/c.py" and not (place.source / os.fsdecode(path)).is_dir():
            assert there[path] == what
        assert there[path][:2] == what[:2], "modes of folders too"


def test_the_moment_is_on_disk_before_anything_changes(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.back.mkdir()
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    def index(self: Repository, **_: object) -> None:
        raise Killed

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Repository, "index", index)
    with pytest.raises(Killed):
        place.run(small=True)
    assert place.mark.exists()
    assert synced[0] == f"{place.mark}.part"
    assert synced[1:] == [str(place.mark.parent), str(place.back / ".dumont"), str(place.back)]
    assert [each.name for each in place.back.iterdir()] == [".dumont"]


def test_the_moment_parts_what_was_before_from_what_comes_after(place: Place) -> None:
    """Clocks of file systems go in steps; nothing may fall on the wrong side."""
    for number in range(20):
        target = place.folder / f"target{number}"
        target.mkdir()
        (target / "before").write_text("x")
        moment = places.Moment(os.fsencode(str(target)), place.kept.id, owns=True)
        moment.begin()
        (target / "after").write_text("x")
        assert not moment.is_since(os.lstat(target / "before"))
        assert moment.is_since(os.lstat(target / "after"))


def test_the_moment_stays_whatever_is_done_to_the_file_that_notes_it(place: Place) -> None:
    """`chown -R` and `touch` are what people do to everything."""
    place.small()
    (place.back / "notes").write_text("mine")
    noted = json.loads(place.mark.read_text())["began_ns"]
    for path in place.mark, place.mark.parent:
        path.chmod(0o700)
        os.utime(path)
    assert "notes" in place.rest().kept
    assert json.loads(place.mark.read_text())["began_ns"] == noted
    assert (place.back / "notes").read_text() == "mine"


def test_a_run_that_is_asked_for_twice_overwrites_nothing(place: Place) -> None:
    """The answer of the last one may be lost on its way: it is done again, with people at work."""
    place.small()
    assert place.rest().is_whole
    (place.back / "weights.bin").write_text("mine")
    (place.back / "notes").write_text("mine")
    again = place.rest()
    assert {"weights.bin", "notes"} <= set(again.kept)
    assert (place.back / "weights.bin").read_text() == "mine"


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"began_ns": "x"}', "[]"])
def test_a_moment_that_cannot_be_understood_makes_everything_theirs(
    place: Place, content: str
) -> None:
    place.back.mkdir()
    (place.back / "notes").write_text("whose is it?")
    place.mark.parent.mkdir(parents=True)
    place.mark.write_text(content)
    done = place.rest()
    assert done.kept == ["notes"]
    assert (place.back / "notes").read_text() == "whose is it?"


def test_a_moment_that_cannot_be_noted_changes_nothing(place: Place) -> None:
    place.back.mkdir()
    (place.back / ".dumont").write_text("in the way")
    (place.back / "notes").write_text("mine")
    with pytest.raises(SnapshotError, match=r"\.dumont/restore/"):
        place.run()
    assert sorted(each.name for each in place.back.iterdir()) == [".dumont", "notes"]
    assert (place.back / "notes").read_text() == "mine"


def test_a_clock_that_was_set_back_takes_nothing_from_anybody(place: Place) -> None:
    place.back.mkdir()
    (place.back / "notes").write_text("whose is it?")
    place.small()
    ahead = json.loads(place.mark.read_text())
    ahead["began_ns"] += 3_600 * 10**9
    place.mark.write_text(json.dumps(ahead))
    (place.back / "notes").write_text("mine")
    assert "notes" in place.rest().kept
    assert json.loads(place.mark.read_text())["began_ns"] == 0, "nor when it has caught up"


def test_after_a_reboot_what_was_not_written_to_the_disk_comes_again(
    place: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    place.small()
    for name in ("src/a.py", "src/b.py"):
        file = place.back / name
        state = file.stat()
        with file.open("r+b") as opened:
            if name == "src/a.py":
                opened.truncate(5)
            else:
                opened.write(bytes(10))
        os.utime(file, ns=(state.st_atime_ns, state.st_mtime_ns))
    (place.back / "src/deep/c.py").write_text("mine")
    boot = tmp_path / "boot_id"
    boot.write_text("another\n")
    monkeypatch.setattr(places, "_BOOT", boot)
    done = place.rest()
    assert done.kept == ["src/deep/c.py"]
    for name in ("src/a.py", "src/b.py"):
        assert (place.back / name).read_text() == (place.source / name).read_text()


def test_the_note_is_in_no_snapshot(place: Place) -> None:
    """Not in that of the workspace, and not in that of a folder above."""
    place.small()
    assert place.mark.exists()
    for root in place.back, place.folder:
        again = Backup(place.repository, root, options=Options(workers=1)).run()
        found = place.repository.entries(again, place.repository.index())
        paths = [entry.path for entry in found]
        assert any(path.endswith(b"src/a.py") for path in paths)
        assert not any(b".dumont/restore" in path for path in paths)


def test_a_snapshot_has_a_moment_of_its_own(place: Place) -> None:
    first = place.kept
    place.small()
    (place.source / "notes").write_text("as it is now")
    place.keep()
    (place.back / "notes").write_text("before the second restore began")
    assert place.rest().kept == []
    assert (place.back / "notes").read_text() == "as it is now"
    assert {each.name for each in place.mark.parent.iterdir()} == {first.id, place.kept.id}


def test_who_is_not_root_has_two_runs_as_well(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Owners are not restored then; a folder that its owner may not write in is filled all the same."""
    (place.source / "src").chmod(0o555)
    place.keep()
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)
    place.small()
    assert stat.S_IMODE((place.back / "src").stat().st_mode) == 0o555
    assert place.rest().kept == []
    assert place.there() == listing(place.source)


# Orders ---------------------------------------------------------------------------------------


def test_the_command_takes_both_wishes(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DUMONT_SNAP_STORE", f"file://{place.folder / 'store'}")
    secret = place.folder / "secret"
    secret.write_bytes(SECRET)
    common = [f"--secret-file={secret}", f"--state={place.folder / 'state'}"]

    def order(*words: str) -> tuple[int, str]:
        status = command.main(["restore", *common, *words, place.kept.id, str(place.back)])
        return status, capsys.readouterr().out

    status, said = order("--small-only", "--keep-changed", "--json")
    result = json.loads(said.splitlines()[-1])["result"]
    assert status == 0, "it is what was asked for"
    assert (result["later"], result["later_bytes"], result["kept_count"]) == (3, 2 * BIG, 0)
    assert not (place.back / "weights.bin").exists()
    (place.back / "notes").write_text("mine")
    status, said = order("--keep-changed")
    assert (status, "kept as it was changed meanwhile: notes" in said) == (0, True)
    assert (place.back / "notes").read_text() == "mine"
    assert order()[0] == 0
    assert place.there() == listing(place.source), "without the wish all is as it was kept"
