"""`MachineEngine` over SSH: puts the snapshot engine on a machine, gives it an order, hears its lines.

What a machine answers comes from a host that is not trusted: it is bounded and validated here. What opens
the owner's repository travels on the run's stdin and nowhere else.
"""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import asyncssh
import structlog

from dumont.domain.errors import AgentRefused, NotReady
from dumont.domain.instances import SshAddress
from dumont.ports import EngineGrant, EngineOrder
from dumont.remote import engine_archive
from dumont.remote.engine_archive import Folder
from dumont.remote.shell import (
    PYTHONS,
    SshShell,
    json_object,
    last_line,
    push,
    run,
    tail,
)

log = structlog.get_logger(__name__)

MAX_LINE_BYTES: Final = 16 * 1024 * 1024
SILENCE_S: Final = 300.0
"""A run that says nothing for so long is given up. It says at least an empty line every half a minute."""
_INSTALL_S: Final = 600.0
_FINAL: Final = frozenset({"wrong_key", "newer_format", "damaged", "no_such_snapshot", "bad_order"})
"""Codes of errors that asking again does not change."""

_LOOK = """\
cd && mkdir -p .dumont && chmod 700 .dumont && cd .dumont
for python in {pythons}; do
  "$python" -ISc 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || continue
  echo "python $python"
  "$python" -ISc 'import platform, sysconfig
print("kind", sysconfig.get_config_var("SOABI"), platform.libc_ver()[0] or "other")'
  break
done
ls -d engine-* libs-* 2>/dev/null | sed 's/^/has /'
exit 0
"""
_UNPACK = """\
cd "$HOME/.dumont" && rm -rf {name}.part && mkdir {name}.part && tar -xzf {name}.tgz -C {name}.part \
&& rm -f {name}.tgz && {{ mv -T {name}.part {name} 2>/dev/null || rm -rf {name}.part; }} && [ -d {name} ]
"""
_FETCH = """\
cd "$HOME/.dumont" && rm -rf {name}.part && \
{python} -m pip install --quiet --no-deps --only-binary=:all: --disable-pip-version-check \
  --target {name}.part {wanted} && \
if [ -d {name}.part/bitshuffle ]; then : >{name}.part/bitshuffle/__init__.py; fi && \
{{ mv -T {name}.part {name} || [ -d {name} ]; }}
"""
_TIDY = """\
cd "$HOME/.dumont" && for old in engine-* libs-*; do
  case "$old" in {keep}) ;; *) find "$old" -maxdepth 0 -mtime +2 -exec rm -rf {{}} + ;; esac
done
exit 0
"""
_RUN = """\
cd && exec {python} -ISc 'import os, sys
home = os.path.expanduser("~/.dumont")
sys.path[:0] = [os.path.join(home, name) for name in "{folders}".split()]
from dumont.snapshots.hosted import main
sys.exit(main())'
"""


class SshEngine:
    """The snapshot engines on machines.

    Args:
        shell: Logs in.
    """

    def __init__(self, shell: SshShell) -> None:
        self._shell = shell

    async def run(
        self,
        address: SshAddress,
        *,
        machine_id: str,
        order: EngineOrder,
        grant: EngineGrant,
        renew: Callable[[], Awaitable[EngineGrant]] | None = None,
        on_progress: Callable[[dict[str, Any]], None] | None = None,
    ) -> dict[str, Any]:
        """Carry out one order; see `ports.MachineEngine`."""
        async with self._shell.login(address, machine_id=machine_id) as connection:
            where = f"{address.host}:{address.port}"
            command = await _installed(connection, where)
            process: asyncssh.SSHClientProcess[bytes] = await connection.create_process(
                command, encoding=None
            )
            try:
                return await _converse(process, order, grant, renew, on_progress, where)
            finally:
                # Without its stdin the run ends itself, and keeps what it has sent.
                process.close()


async def _installed(connection: asyncssh.SSHClientConnection, where: str) -> str:
    """Have the engine on the machine; returns the command that runs it."""
    ours = engine_archive.sources()
    looked = await run(connection, _LOOK.format(pythons=" ".join(PYTHONS)), timeout_s=60)
    lines = [line.split(" ", 1) for line in looked.stdout.decode("utf-8", "replace").splitlines()]
    facts = {words[0]: words[1] for words in lines if len(words) == 2 and words[0] != "has"}
    there = {words[1] for words in lines if len(words) == 2 and words[0] == "has"}
    python = shlex.quote(facts.get("python", ""))
    if "python" not in facts or "kind" not in facts:
        raise AgentRefused(
            f"{where} has no Python 3.10 or newer, which the snapshot engine needs",
            hint="use an image with Python 3.10 or newer, or install it in the set-up script",
        )
    if ours.name not in there:
        await _unpacked(connection, ours)
    kind = facts["kind"]
    same = kind == engine_archive.python_kind()
    compiled = await asyncio.to_thread(engine_archive.libraries)
    folders = [ours.name]
    if not same:
        folders.append(f"{compiled.name}-{_plain(kind)}")
        if folders[-1] not in there:
            await _fetched(connection, folders[-1], python=python, kind=kind, where=where)
    if same or engine_archive.shares_codecs(kind):
        folders.append(compiled.name)
        if compiled.name not in there:
            await _unpacked(connection, compiled)
    if not there.issuperset(folders):
        await run(connection, _TIDY.format(keep="|".join(folders)), timeout_s=60)
    return _RUN.format(python=python, folders=" ".join(folders))


async def _unpacked(connection: asyncssh.SSHClientConnection, folder: Folder) -> None:
    await push(connection, folder.content, path=f".dumont/{folder.name}.tgz", timeout_s=_INSTALL_S)
    done = await run(connection, _UNPACK.format(name=folder.name), timeout_s=120)
    if done.exit_status != 0:
        raise NotReady(f"the snapshot engine could not be unpacked: {last_line(done.stderr)}")


async def _fetched(
    connection: asyncssh.SSHClientConnection, name: str, *, python: str, kind: str, where: str
) -> None:
    wanted = " ".join(shlex.quote(each) for each in engine_archive.wanted(kind))
    command = _FETCH.format(name=name, python=python, wanted=wanted)
    done = await run(connection, command, timeout_s=_INSTALL_S)
    if done.exit_status != 0:
        raise AgentRefused(
            f"{where} has another Python than we have, and the engine's libraries cannot be "
            f"installed there: {last_line(done.stderr)}",
            hint="give the machine pip and a way to the package index, or an image with our Python",
        )


async def _converse(
    process: asyncssh.SSHClientProcess[bytes],
    order: EngineOrder,
    grant: EngineGrant,
    renew: Callable[[], Awaitable[EngineGrant]] | None,
    on_progress: Callable[[dict[str, Any]], None] | None,
    where: str,
) -> dict[str, Any]:
    first = {
        "words": list(order.words),
        "folder": order.folder,
        "environment": grant.environment,
        "credentials": grant.credentials,
    }
    process.stdin.write(json.dumps(first).encode() + b"\n")
    renewing = asyncio.create_task(_renewing(process, grant, renew)) if renew is not None else None
    errors = asyncio.create_task(tail(process.stderr))
    try:
        answer = await _answer(process, on_progress, where)
        complaints = await errors
        await process.wait_closed()
    except TimeoutError:
        raise NotReady(f"the snapshot engine on {where} said nothing for {SILENCE_S:g} s") from None
    finally:
        if renewing is not None:
            renewing.cancel()
        errors.cancel()
    if answer is None:
        why = last_line(complaints) or f"status {process.exit_status}"
        raise NotReady(f"the snapshot engine on {where} ended without a word: {why}")
    if "error" in answer:
        _raise(answer["error"], where)
    result: dict[str, Any] = answer["result"]
    return result


async def _answer(
    process: asyncssh.SSHClientProcess[bytes],
    on_progress: Callable[[dict[str, Any]], None] | None,
    where: str,
) -> dict[str, Any] | None:
    """The line that is the result, or the error; None when there is none."""
    rest = b""
    while True:
        async with asyncio.timeout(SILENCE_S):
            chunk = await process.stdout.read(262_144)
        if not chunk:
            return None
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_LINE_BYTES:
            raise NotReady(f"the snapshot engine on {where} says more than it can have to say")
        for line in lines:
            said = json_object(line)
            if said is None:
                continue
            if isinstance(said.get("progress"), dict) and on_progress is not None:
                on_progress(said["progress"])
            if isinstance(said.get("result"), dict) or isinstance(said.get("error"), dict):
                return said


async def _renewing(
    process: asyncssh.SSHClientProcess[bytes],
    grant: EngineGrant,
    renew: Callable[[], Awaitable[EngineGrant]],
) -> None:
    """Send newer credentials halfway through the life of those that it has."""
    lasts = grant.lasts_s
    while True:
        await asyncio.sleep(max(lasts / 2, 1.0))
        try:
            fresh = await renew()
        except Exception as error:
            # Tried again in good time: half of their life is left.
            log.warning("credentials_not_renewed", error=str(error))
            lasts /= 2
            continue
        lasts = fresh.lasts_s
        with suppress(OSError, asyncssh.Error):
            process.stdin.write(json.dumps({"credentials": fresh.credentials}).encode() + b"\n")


def _raise(error: dict[str, Any], where: str) -> None:
    code, message = str(error.get("code"))[:80], str(error.get("message"))[:1000]
    hint = str(error.get("hint") or "")[:300] or None
    if code in _FINAL:
        raise AgentRefused(f"{where}: {message}", hint=hint)
    raise NotReady(f"{where}: {message}", hint=hint)


def _plain(text: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in text)[:60]
