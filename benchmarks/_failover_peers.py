"""What the mirror is compared with: lsyncd as it comes, and rsync in a loop; and the mirror itself.

Each one copies from the same primary to the same standby over the same sshd.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks._failover_cloud import key_pair
from benchmarks._failover_pair import Pair
from benchmarks._servers import wait_until

LOOP_S = 30
"""Pause of the rsync loop."""
_FOLDER = "peer"
_LSYNCD = """\
settings {{ nodaemon = true }}
sync {{ default.rsync, source = "/root/{folder}", target = "root@{host}:/root/{folder}",
  rsync = {{ archive = true, rsh = "{rsh}" }} }}
"""


@dataclass(frozen=True, kw_only=True)
class Mirrored:
    """A folder on the primary and its copy on the standby."""

    name: str
    source: Path
    target: Path
    cpu_s: float = 0.0
    """CPU seconds a second that both bodies use when nothing changes."""


@contextmanager
def ours(pair: Pair) -> Iterator[Mirrored]:
    """The product's mirror."""
    pair.renew(empty=True)
    pair.protect()
    folders = [body.workspace / "bench" for body in (pair.primary, pair.standby)]
    folders[0].mkdir()
    wait_until(folders[1].is_dir, what="the mirrored folder", seconds=60)
    yield Mirrored(name="dumont", source=folders[0], target=folders[1])


@contextmanager
def lsyncd(pair: Pair) -> Iterator[Mirrored]:
    """lsyncd with everything at its default."""
    rsh = _prepare(pair)
    text = _LSYNCD.format(folder=_FOLDER, host=pair.standby.host, rsh=rsh)
    (pair.primary.home / "peer.lua").write_text(text)
    with _running(pair, "exec lsyncd -nodaemon /root/peer.lua", "lsyncd, defaults") as made:
        yield made


@contextmanager
def rsync_loop(pair: Pair) -> Iterator[Mirrored]:
    """rsync, a pause, and again."""
    rsh = _prepare(pair)
    copy = f"rsync -a --delete -e '{rsh}' /root/peer/ root@{pair.standby.host}:/root/peer/"
    with _running(
        pair, f"while :; do {copy}; sleep {LOOP_S}; done", f"rsync every {LOOP_S} s"
    ) as made:
        yield made


def _prepare(pair: Pair) -> str:
    """Let the primary log in on the standby; returns how."""
    path = pair.cloud.folder / "peer"
    if not path.exists():
        public = key_pair(path)
        pair.standby.run("cat >>~/.ssh/authorized_keys", given=f"{public}\n")
        pair.primary.run("umask 077; cat >/root/peer_key", given=path.read_bytes())
    for body in (pair.primary, pair.standby):
        body.run(f"rm -rf /root/{_FOLDER}; mkdir /root/{_FOLDER}")
    options = "-o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null"
    return f"ssh -F none -i /root/peer_key -o LogLevel=ERROR {options}"


@contextmanager
def _running(pair: Pair, program: str, name: str) -> Iterator[Mirrored]:
    script = f"echo $$ >/root/peer.pid; {program}"
    (pair.primary.home / "peer.sh").write_text(f"#!/bin/sh\n{script}\n")
    log = (pair.cloud.folder / "peer.log").open("ab")
    process = subprocess.Popen(
        pair.primary.words("setsid -w sh /root/peer.sh"),
        stdin=subprocess.DEVNULL, stdout=log, stderr=log,
    )  # fmt: skip
    source, target = (body.home / _FOLDER for body in (pair.primary, pair.standby))
    try:
        (source / "first").write_text("x")
        wait_until((target / "first").exists, what=f"the first copy by {name}", seconds=3 * LOOP_S)
        yield Mirrored(name=name, source=source, target=target)
    finally:
        pair.primary.run('kill -KILL -- "-$(cat /root/peer.pid)"; rm -f /root/peer.pid')
        process.kill()
        process.wait()
        log.close()
