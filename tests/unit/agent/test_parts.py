"""Parts of the agent that need no other machine."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import stat
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dumont.agent import (
    control,
    dead_man,
    hook,
    lsyncd,
    manifest,
    mapped,
    marks,
    processes,
    restored,
    since,
    store,
    survey,
    telemetry,
    transfer,
    words,
)  # fmt: skip
from dumont.agent.context import timestamp
from dumont.agent.errors import AgentError
from dumont.agent.paths import Paths


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    found = Paths(tmp_path)
    found.run = tmp_path / "run"
    found.control_socket = found.run / "control"
    (tmp_path / ".dumont").mkdir()
    (tmp_path / "workspace").mkdir()
    (tmp_path / ".dumont/workspace").write_text(f"{tmp_path / 'workspace'}\n")
    return found.ensure()


def test_two_homes_never_share_a_run_folder(tmp_path: Path) -> None:
    one, two = Paths(tmp_path / "a"), Paths(tmp_path / "b")
    assert one.run != two.run
    assert len(str(one.control_socket)) < 60


def test_a_run_folder_of_somebody_else_is_refused(paths: Paths) -> None:
    paths.run.chmod(0o777)
    with pytest.raises(AgentError, match="private"):
        paths.ensure()


def test_a_file_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    store.write_json(path, {"a": 1}, mode=0o600)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def fails(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="disk full"):
        store.write_json(path, {"a": 2})
    assert store.read_json(path) == {"a": 1}
    assert os.listdir(tmp_path) == ["x"]
    assert store.read_json(tmp_path / "none") is None


def test_a_request_is_answered_with_progress_and_errors_keep_their_code(paths: Paths) -> None:
    import logging

    server = control.Control(paths=paths, log=logging.getLogger("test"))

    def count(arguments: dict[str, Any], say: control.Say) -> dict[str, Any]:
        for number in range(arguments["to"]):
            say(f"{number}")
        return {"counted": arguments["to"]}

    def refuse(_: dict[str, Any], __: control.Say) -> dict[str, Any]:
        raise AgentError("no", code="fenced")

    server.register("count", count)
    server.register("refuse", refuse)
    server.start()
    lines: list[str] = []
    assert control.call(paths, "count", {"to": 3}, progress=lines.append) == {"counted": 3}
    assert lines == ["0", "1", "2"]
    with pytest.raises(AgentError) as caught:
        control.call(paths, "refuse")
    assert caught.value.code == "fenced"
    with pytest.raises(AgentError) as caught:
        control.call(paths, "count", {"wrong": 1})
    assert caught.value.code == "failed"
    server.close()
    with pytest.raises(AgentError) as caught:
        control.call(paths, "count")
    assert caught.value.code == "not_running"


def test_a_command_that_a_starting_role_registers_soon_is_waited_for(paths: Paths) -> None:
    import logging

    server = control.Control(paths=paths, log=logging.getLogger("test"))
    server.start()
    answers: list[dict[str, Any]] = []
    asking = threading.Thread(target=lambda: answers.append(control.call(paths, "late")))
    asking.start()
    server.register("late", lambda _, __: {"came": True})
    asking.join()
    server.close()
    assert answers == [{"came": True}]


def test_a_mark_measures_the_lag(tmp_path: Path) -> None:
    own = marks.Marks(product=tmp_path / ".dumont", epoch=5)
    assert own.lag_s(None) is None
    assert own.replicated_at(None) is None
    first = own.write()
    text = (tmp_path / ".dumont/mark").read_text()
    assert own.age_s() is None, "nothing arrived yet: unknown"
    assert own.saw(text) is True
    assert own.lag_s(None) is not None
    assert own.lag_s(12.5) == 12.5, "a transfer under way is part of the lag"
    second = own.write()
    assert second == first + 1
    assert own.saw(text) is False
    age = own.age_s()
    assert age is not None
    assert age > 0
    assert own.saw('{"epoch": 4, "sequence": 99}') is False, "another epoch's"
    assert own.saw("garbage") is False
    assert own.saw(None) is False
    later = marks.Marks(product=tmp_path / ".dumont", epoch=6)
    assert later.write() == second + 1


def test_lots_weigh_about_the_same_and_hard_links_stay_together(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"f{number}").write_bytes(bytes(1000 * number))
    os.link(tmp_path / "f39", tmp_path / "a link to f39")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    lots = transfer.split(manifest.walk(tmp_path), 2)
    names = [name for lot, _ in lots for name in lot]
    assert sorted(names) == sorted([*(f"f{n}".encode() for n in range(40)), b"a link to f39"])
    sizes = [size for _, size in lots]
    assert max(sizes) < 2 * min(sizes)
    home = next(lot for lot, _ in lots if b"f39" in lot)
    assert b"a link to f39" in home


def test_no_name_can_become_code_in_lsyncds_configuration(tmp_path: Path) -> None:
    evil = 'x"]] os.execute("touch /tmp/owned") --\n\\'
    text = lsyncd.configuration(
        workspace=tmp_path / evil, run=tmp_path, rsh="ssh -F x", excludes=(evil, "*.pyc"),
        xattrs=True,
    )  # fmt: skip
    assert "os.execute(" not in text
    if shutil.which("lua"):
        program = f"settings = function() end\nsync = function(t) print(t.source) end\n{text}"
        program = "function settings() end\nfunction sync(t) io.write(t.source) end\n"
        program += "default = { rsync = {} }\n" + text
        said = subprocess.run(["lua", "-"], input=program, capture_output=True, text=True)
        assert said.stdout == str(tmp_path / evil)


def test_excludes_are_patterns_whatever_they_begin_with() -> None:
    assert transfer.filters(["+ keep", "!", "- x"])[1:] == [
        "--filter=- + keep", "--filter=- !", "--filter=- - x",
    ]  # fmt: skip


def test_rsyncs_account_of_what_it_hides_is_read() -> None:
    out = (
        b"[sender] hiding file a/b.pyc because of pattern *.pyc\n"
        b"[sender] hiding directory cache dir because of pattern /cache dir/\n"
        b"[sender] hiding file new\\#012line.pyc because of pattern *.pyc\n"
        b"[sender] hiding file .dumont/mark.tmp because of pattern /.dumont/mark.tmp\n"
        b"something else\n"
    )
    assert transfer.parse_hidden(out) == {
        "*.pyc": [b"a/b.pyc", b"new\nline.pyc"],
        "/cache dir/": [b"cache dir"],
    }
    hidden = transfer.Hidden(transfer.parse_hidden(out))
    assert b"cache dir/deep/file" in hidden
    assert b"cache" not in hidden


def test_what_is_not_mirrored_is_counted(tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/a").write_bytes(bytes(10))
    (tmp_path / "b.pyc").write_bytes(bytes(5))
    os.mkfifo(tmp_path / "pipe")
    rows = survey.not_mirrored(tmp_path, {"cache": [b"cache"], "*.pyc": [b"b.pyc", b"gone.pyc"]})
    assert rows == [
        {"pattern": "*.pyc", "files": 1, "bytes": 5},
        {"pattern": "cache", "files": 1, "bytes": 10},
        {"pattern": survey.SPECIAL, "files": 1, "bytes": 0},
    ]


def test_names_that_are_not_utf_8_survive_json(tmp_path: Path) -> None:
    name = b"\xff\nname"
    with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
        file.write(b"x")
    entry = json.loads(json.dumps(manifest.describe(tmp_path, name, hashed=True)))
    assert manifest.to_bytes(entry["path"]) == name
    assert entry["hash"] == manifest.describe(tmp_path, name, hashed=True)["hash"]
    assert manifest.shown(name) == "\\xff\nname"
    assert manifest.describe(tmp_path, b"none", hashed=True)["kind"] == "absent"


def test_a_file_mapped_for_writing_is_found(tmp_path: Path) -> None:
    (tmp_path / "shared").write_bytes(bytes(4096))
    (tmp_path / "private").write_bytes(bytes(4096))
    with (tmp_path / "shared").open("r+b") as one, (tmp_path / "private").open("r+b") as two:
        shared = mmap.mmap(one.fileno(), 4096)
        private = mmap.mmap(two.fileno(), 4096, flags=mmap.MAP_PRIVATE)
        assert mapped.writable(tmp_path) == {b"shared"}
        shared.close()
        private.close()
    assert mapped.writable(tmp_path) == set()


def test_mappings_of_odd_and_deleted_files_are_read() -> None:
    lines = (
        b"7f0-7f1 rw-s 00000000 08:01 11 /w/new\\012line name\n"
        b"7f0-7f1 rw-s 00000000 08:01 12 /w/gone (deleted)\n"
        b"7f0-7f1 r--s 00000000 08:01 13 /w/read only\n"
        b"7f0-7f1 rw-s 00000000 08:01 14 /elsewhere/x\n"
        b"7f0-7f1 rw-p 00000000 00:00 0\n"
    )
    assert mapped.parse(lines, b"/w/") == {b"new\nline name"}


def test_a_clock_that_was_set_makes_the_moment_unknown() -> None:
    now = since.moment()
    assert since.seconds(now) == pytest.approx(time.time(), abs=5)
    assert since.seconds({**now, "offset": now["offset"] - 3600}) is None
    assert since.seconds({**now, "boot": "another"}) is None
    assert since.seconds(None) is None


def test_after_a_boot_rather_too_many_files_are_taken_for_changed(paths: Paths) -> None:
    assert restored.changed_after(paths) is None
    restored.note_replicated(paths, 1_000_000.0)
    assert restored.changed_after(paths) == 1_000_000.0 - 2
    file = paths.base / "replicated.json"
    store.write_json(file, {**store.read_json(file), "boot": "another"})
    assert restored.changed_after(paths) == 1_000_000.0 - 25 * 3600


def test_gpu_figures_are_read_and_unknown_is_unknown() -> None:
    assert telemetry.parse_smi("50, 1000, 20\n100, 3000, 60\n") == (75.0, 4000, 60.0)
    assert telemetry.parse_smi("[N/A], 1000, [N/A]\n") == (None, 1000, None)
    assert telemetry.parse_smi("50, 1000\n") == (None, None, None)
    assert telemetry.parse_smi("No devices were found\n") == (None, None, None)
    assert telemetry.parse_smi("") == (None, None, None)


def test_the_host_is_seen(tmp_path: Path) -> None:
    reading = telemetry.Telemetry(workspace=tmp_path).read()
    assert reading["memory_used_mb"] is not None
    assert 0 < (reading["disk_used_percent"] or 0) <= 100
    gone = telemetry.Telemetry(workspace=tmp_path / "gone").read()
    assert gone["disk_free_gb"] is None


def test_the_providers_key_is_found_in_the_environment_file() -> None:
    text = "# comment\nA=1\nexport B=\"two words\"\nC='three'\nnot a line\n"
    assert dead_man.read_environment(text) == {"A": "1", "B": "two words", "C": "three"}


def test_only_names_inside_the_workspace_can_be_asked_for(tmp_path: Path) -> None:
    for name in ("/etc/passwd", "../x", "a/../../x", "a\0b"):
        with pytest.raises(ValueError, match="not a path"):
            words._inside(name)
    assert words._inside("a/..b/c") == b"a/..b/c"


def test_a_process_is_known_by_its_start() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        assert child.pid in processes.children(os.getpid())
        assert processes.started(child.pid) is not None
        assert (processes.age_s(child.pid) or 0) < 30
    finally:
        child.kill()
        child.wait()
    assert processes.started(child.pid) is None


def test_the_flush_command_runs_this_agent_for_this_home(paths: Paths) -> None:
    import logging

    hook.install_command(paths, logging.getLogger("test"))
    script = paths.home / ".local/bin/dumont-flush"
    done = subprocess.run([str(script), "--timeout", "soon"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "not a number" in done.stderr


def test_a_moment_is_written_in_utc_with_milliseconds() -> None:
    assert timestamp(1.5) == "1970-01-01T00:00:01.500Z"
