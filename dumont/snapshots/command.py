"""`dumont-snap`: the engine as a command of its own.

Where the repository is and what opens it come from options or the environment; results are for people, or
with `--json` one JSON object a line, progress included. Exit status: 0 done, 1 failed, 2 wrong usage,
3 done in part (what is missing is named).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from dumont.snapshots import backup, check, compare, prune, restore, retention, tree
from dumont.snapshots.crypto import KEY_BYTES
from dumont.snapshots.errors import SnapshotError
from dumont.snapshots.manifest import Snapshot
from dumont.snapshots.repository import LATEST, Repository
from dumont.storage.errors import StoreError
from dumont.storage.store import Store
from dumont.storage.url import from_url

_STORE = "DUMONT_SNAP_STORE"
_SECRET = "DUMONT_SNAP_SECRET"  # noqa: S105 - the name of a variable
_SECRET_FILE = "DUMONT_SNAP_SECRET_FILE"  # noqa: S105
_IN_PART = 3


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit status."""
    given = _parser().parse_args(arguments)
    say = Speaker(as_json=given.json)
    try:
        return int(given.run(given, say))
    except (SnapshotError, StoreError) as error:
        say.error(error)
        return 1
    except KeyboardInterrupt:
        say.error(SnapshotError("interrupted; what was sent is not sent again"))
        return 130


class Speaker:
    """Says what happened, to people or to programs.

    Args:
        as_json: One JSON object a line.
    """

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self._told = 0.0
        self._is_live = not as_json and sys.stderr.isatty()

    def result(self, document: dict[str, Any], text: str) -> None:
        """The outcome."""
        self._clear()
        print(json.dumps({"result": document}) if self.as_json else text, flush=True)

    def progress(self, document: dict[str, Any], text: str) -> None:
        """How far it is; at most five times a second."""
        now = time.monotonic()
        if now - self._told < 0.2:
            return
        self._told = now
        if self.as_json:
            print(json.dumps({"progress": document}), flush=True)
        elif self._is_live:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Something to know meanwhile."""
        self._clear()
        if not self.as_json:
            print(text, file=sys.stderr, flush=True)

    def error(self, error: SnapshotError | StoreError) -> None:
        """What went wrong, and what to do."""
        self._clear()
        hint = getattr(error, "hint", "")
        if self.as_json:
            document = {"code": error.code, "message": str(error), "hint": hint}
            print(json.dumps({"error": document}), flush=True)
        else:
            print(f"dumont-snap: {error}" + (f"\n  {hint}" if hint else ""), file=sys.stderr)

    def _clear(self) -> None:
        if self._is_live:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


# The commands ---------------------------------------------------------------------------------


def _init(given: argparse.Namespace, say: Speaker) -> int:
    secret, passphrase = _secret(given)
    made = Repository.create(_store(given), secret, passphrase=passphrase)
    say.result({"repository": made.id}, f"repository {made.id} is ready; keep its secret safe")
    return 0


def _snapshot(given: argparse.Namespace, say: Speaker) -> int:
    options = backup.Options(
        machine=given.machine, tags=tuple(given.tag), kept=given.keep,
        excludes=tuple(given.exclude), dense=given.dense, workers=given.workers,
    )  # fmt: skip

    def progress(now: backup.Progress) -> None:
        say.progress(asdict(now), f"{now.files} files, {_size(now.bytes)}; {_size(now.sent)} sent")

    run = backup.Backup(
        _open(given), Path(given.path), options=options, state=_state(given), on_progress=progress
    )
    made = run.run()
    totals = made.totals
    lines = [
        f"{made.id}: {totals.files} files, {_size(totals.bytes)} in {totals.seconds:.1f} s; "
        f"{_size(totals.new_raw)} new, stored as {_size(totals.new_stored)}"
    ]
    lines += [f"  changed while it was read: {name}" for name in totals.torn]
    lines += [f"  not in it: {name}" for name in totals.unreadable]
    say.result(_document(made), "\n".join(lines))
    return 0 if made.is_whole else _IN_PART


def _restore(given: argparse.Namespace, say: Speaker) -> int:
    repository = _open(given)

    def progress(now: restore.Report) -> None:
        say.progress(
            {"files": now.files, "bytes": now.bytes, "fetched": now.fetched},
            f"{now.files} files, {_size(now.bytes)} are back",
        )

    def usable(now: restore.Report) -> None:
        say.note(f"all small files are back after {now.usable_s:.1f} s; you can begin to work")

    report = restore.Restore(
        repository, repository.snapshot(given.snapshot), Path(given.target),
        paths=[os.fsencode(path) for path in given.path], workers=given.workers,
        on_progress=progress, on_usable=usable,
        small_only=given.small_only, keep_changed=given.keep_changed,
    ).run()  # fmt: skip
    lines = [
        f"{report.files} files, {_size(report.bytes)} are back and verified in "
        f"{report.seconds:.1f} s ({report.unchanged} were right already)"
    ]
    if report.later:
        lines.append(
            f"  {report.later} large files, {_size(report.later_bytes)}, are for a later run"
        )
    lines += [f"  kept as it was changed meanwhile: {name}" for name in report.kept]
    if report.kept_count > len(report.kept):
        lines.append(f"  and {report.kept_count - len(report.kept)} more")
    lines += [f"  not restored: {p.path}: {p.why}" for p in report.problems]
    say.result(asdict(report), "\n".join(lines))
    return _IN_PART if report.problems else 0


def _list(given: argparse.Namespace, say: Speaker) -> int:
    found, wrong = _open(given).snapshots()
    rows = [
        f"{s.id}  {s.totals.files:>8} files  {_size(s.totals.bytes):>9}  "
        f"new {_size(s.totals.new_stored):>9}  {s.machine}{'' if s.is_whole else '  NOT WHOLE'}"
        f"{'  kept' if s.kept else ''}{'  ' + ','.join(s.tags) if s.tags else ''}"
        for s in found
    ]
    rows += [f"DAMAGED: {error.message}" for error in wrong]
    document = {
        "snapshots": [_document(s) for s in found],
        "damaged": [error.message for error in wrong],
    }
    say.result(document, "\n".join(rows) or "no snapshots")
    return _IN_PART if wrong else 0


def _show(given: argparse.Namespace, say: Speaker) -> int:
    repository = _open(given)
    found = repository.snapshot(given.snapshot)
    wanted = os.fsencode(given.path).strip(b"/")
    rows, entries = [], []
    for entry in repository.entries(found, repository.index()):
        if wanted and entry.path != wanted and not entry.path.startswith(wanted + b"/"):
            continue
        name = tree.shown(entry.path)
        entries.append({"kind": entry.kind, "path": name, "size": entry.size, "mode": entry.mode})
        when = datetime.fromtimestamp(entry.mtime_ns / 1e9, timezone.utc)
        rows.append(f"{entry.kind} {entry.mode:04o} {entry.size:>14} {when:%Y-%m-%d %H:%M} {name}")
    say.result({"snapshot": _document(found), "entries": entries}, "\n".join(rows))
    return 0


def _diff(given: argparse.Namespace, say: Speaker) -> int:
    repository = _open(given)
    old, new = repository.snapshot(given.old), repository.snapshot(given.new)
    found = list(compare.changes(repository, old, new, repository.index()))
    marks = {"added": "+", "removed": "-", "changed": "M", "touched": "t"}
    rows = [f"{marks[c.what]} {tree.shown(c.path)}" for c in found]
    document = [
        {"what": c.what, "path": tree.shown(c.path), "before": c.before, "after": c.after}
        for c in found
    ]
    say.result({"changes": document}, "\n".join(rows) or "no difference")
    return 0


def _check(given: argparse.Namespace, say: Speaker) -> int:
    found = check.check(
        _open(given),
        read=given.read,
        on_pack=lambda done, total: say.progress(
            {"packs": done, "of": total}, f"{done} of {total} packs"
        ),
    )
    lines = [f"  {words}" for words in found.damage]
    for snapshot, files in found.files.items():
        lines += [f"  {snapshot}: cannot be restored: {name}" for name in files]
    how = f"{_size(found.read)} read" if given.read else "sizes compared; --read reads everything"
    head = f"{found.snapshots} snapshots, {found.packs} packs, {found.chunks} chunks: " + (
        f"sound ({how})" if found.is_sound else "DAMAGED"
    )
    say.result(asdict(found), "\n".join([head, *lines]))
    return 0 if found.is_sound else _IN_PART


def _forget(given: argparse.Namespace, say: Speaker) -> int:
    repository = _open(given)
    if given.snapshot:
        gone = [repository.snapshot(name) for name in given.snapshot]
    else:
        found, _ = repository.snapshots()
        policy = retention.Policy(
            last=given.keep_last, hourly=given.keep_hourly, daily=given.keep_daily,
            weekly=given.keep_weekly, monthly=given.keep_monthly,
        )  # fmt: skip
        mine = [s for s in found if not given.machine or s.machine == given.machine]
        gone = [v.snapshot for v in retention.decide(mine, policy) if not v.stays]
    for snapshot in gone:
        if not given.dry_run:
            repository.forget(snapshot.id)
    verb = "would be forgotten" if given.dry_run else "forgotten; prune frees their space"
    names = [snapshot.id for snapshot in gone]
    say.result({"forgotten": names}, "\n".join([*names, f"{len(names)} snapshots {verb}"]))
    return 0


def _prune(given: argparse.Namespace, say: Speaker) -> int:
    done = prune.prune(
        _open(given), dry_run=given.dry_run, on_step=lambda words: say.progress({}, words)
    )
    if given.dry_run:
        text = f"{_size(done.doomed)} would be freed; {_size(done.needed)} are needed"
    else:
        text = f"{_size(done.freed)} freed, {_size(done.needed)} are needed"
        if done.doomed:
            text += (
                f"; {_size(done.doomed)} more once {done.waits_for} snapshots under way have ended"
            )
    say.result(asdict(done), text)
    return 0


def _repair(given: argparse.Namespace, say: Speaker) -> int:
    count, wrong = check.repair_index(_open(given))
    lines = [f"the index was written anew from {count} packs", *(f"  {w}" for w in wrong)]
    say.result({"packs": count, "wrong": wrong}, "\n".join(lines))
    return _IN_PART if wrong else 0


# Help -----------------------------------------------------------------------------------------


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dumont-snap", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    add = common.add_argument
    add("--store", default=os.environ.get(_STORE), metavar="URL",
        help=f"s3://BUCKET/PREFIX?endpoint=URL or file:///FOLDER; ${_STORE}")  # fmt: skip
    add("--secret-file", default=os.environ.get(_SECRET_FILE), metavar="FILE",
        help=f"what opens the repository; ${_SECRET_FILE}, or a passphrase in ${_SECRET}")  # fmt: skip
    add("--state", metavar="FOLDER", help="what this machine remembers; ~/.cache/dumont-snap")
    add("--json", action="store_true", help="one JSON object a line")

    def command(
        name: str, run: Callable[[argparse.Namespace, Speaker], int], words: str
    ) -> argparse.ArgumentParser:
        made = commands.add_parser(name, parents=[common], help=words, description=words)
        made.set_defaults(run=run)
        return made

    command("init", _init, "make a repository")
    one = command("snapshot", _snapshot, "keep a folder as it is now")
    one.add_argument("path")
    one.add_argument("--machine", default="", help="whose it is")
    one.add_argument("--tag", action="append", default=[])
    one.add_argument("--keep", action="store_true", help="no rule deletes it")
    one.add_argument("--exclude", action="append", default=[], metavar="PATTERN")
    one.add_argument("--dense", action="store_true", help="smaller and slower")
    one.add_argument("--workers", type=int, default=0)
    back = command("restore", _restore, "bring a snapshot back, verified")
    back.add_argument("snapshot", help=f"its id, the beginning of it, or {LATEST}")
    back.add_argument("target")
    back.add_argument("--path", action="append", default=[], help="only this, and what is below")
    back.add_argument("--small-only", action="store_true", help="leave large files for a later run")
    back.add_argument("--keep-changed", action="store_true",
        help="keep what was changed there since the first run with this option began")  # fmt: skip
    back.add_argument("--workers", type=int, default=0)
    command("list", _list, "all snapshots")
    show = command("show", _show, "what is in a snapshot")
    show.add_argument("snapshot")
    show.add_argument("path", nargs="?", default="")
    diff = command("diff", _diff, "what changed between two")
    diff.add_argument("old")
    diff.add_argument("new")
    look = command("check", _check, "is everything there, and as it was written")
    look.add_argument("--read", action="store_true", help="read and verify every byte")
    forget = command("forget", _forget, "delete snapshots, by name or by rules")
    forget.add_argument("snapshot", nargs="*")
    forget.add_argument("--machine", default="")
    for period in ("last", "hourly", "daily", "weekly", "monthly"):
        forget.add_argument(f"--keep-{period}", type=int, default=0, metavar="N")
    forget.add_argument("--dry-run", action="store_true")
    free = command("prune", _prune, "free what no snapshot needs")
    free.add_argument("--dry-run", action="store_true")
    command("repair-index", _repair, "write the index anew from the packs")
    return parser


def _store(given: argparse.Namespace) -> Store:
    if not given.store:
        raise SnapshotError("no store is named", hint=f"--store URL, or ${_STORE}")
    return from_url(given.store, os.environ)


def _secret(given: argparse.Namespace) -> tuple[bytes, bool]:
    """What opens the repository, and whether a person chose it."""
    if given.secret_file:
        try:
            secret = Path(given.secret_file).read_bytes().strip()
        except OSError as error:
            raise SnapshotError(f"{given.secret_file} cannot be read: {error.strerror}") from None
        if (
            not secret.isascii()
            or not secret.decode("ascii", "replace").isprintable()
            or not secret
        ):
            raise SnapshotError(
                f"{given.secret_file} is not a line of text",
                hint="head -c 32 /dev/urandom | base64 > FILE makes a good one",
            )
        return secret, len(secret) < KEY_BYTES
    passphrase = os.environ.get(_SECRET, "")
    if not passphrase:
        raise SnapshotError(
            "nothing to open the repository with", hint=f"--secret-file FILE, or ${_SECRET}"
        )
    return passphrase.encode(), True


def _state(given: argparse.Namespace) -> Path:
    if given.state:
        return Path(given.state)
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "dumont-snap"


def _open(given: argparse.Namespace) -> Repository:
    return Repository.open(_store(given), _secret(given)[0], cache=_state(given))


def _document(snapshot: Snapshot) -> dict[str, Any]:
    found = asdict(snapshot)
    del found["tree"]
    return {**found, "time": snapshot.time.isoformat(), "whole": snapshot.is_whole}


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.2f} TB"


if __name__ == "__main__":
    sys.exit(main())
