"""Toy parts for a real supervisor: shell scripts that write down what happens to them.

Also a program: `python toys.py STATE PART...` supervises the named toys until it is stopped.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from dumont.cli.embedded.state import StateDir
from dumont.cli.embedded.supervisor import Backoff, Launch, Part, Supervisor

QUICK = Backoff(first_s=0.02, longest_s=0.1, start_tries=3)

SCRIPTS = {
    # Works as soon as its file is there; says when it is asked to stop.
    "polite": "trap 'echo \"stop $NAME\" >> journal; exit 0' TERM\n"
    'echo "start $NAME" >> journal; echo $$ > "$NAME.up"\n'
    "while :; do sleep 0.02; done\n",
    "stubborn": "trap '' TERM\n"
    'echo "start $NAME" >> journal; sleep 300 & echo $! > "$NAME.child"; echo $$ > "$NAME.up"\n'
    "while :; do sleep 0.02; done\n",
    "broken": "echo cannot find my hat >&2; exit 3\n",
    "once": 'echo "start $NAME" >> journal; exit 0\n',
}


def part(name: str, folder: Path, *, kind: str = "polite", **options: object) -> Part:
    """A toy part that is healthy when its process has written its file."""
    up = folder / f"{name}.up"

    async def launch() -> Launch:
        up.unlink(missing_ok=True)
        return Launch(
            command=["/bin/sh", "-c", SCRIPTS[kind]],
            env={**os.environ, "NAME": name},
            cwd=folder,
        )

    async def check() -> None:
        if not up.exists() or not up.read_text().strip():
            raise RuntimeError(f"{name} is not up")

    known = {"check": None if kind == "once" else check, "grace_s": 5.0, **options}
    return Part(name=name, launch=launch, **known)  # type: ignore[arg-type]


async def supervise(path: Path, kinds: list[str]) -> None:
    """Run one toy of each kind, named after it, until SIGTERM."""
    state = StateDir(path, mode="demo")
    parts = [part(kind, path, kind=kind, grace_s=0.5) for kind in kinds]
    supervisor = Supervisor(state=state, parts=parts, backoff=QUICK)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, supervisor.request_stop)
    print("reaped", *sorted(await supervisor.reap()), flush=True)
    try:
        await supervisor.start()
        print("ready", flush=True)
        await supervisor.wait()
    finally:
        await supervisor.stop()
    print("stopped", flush=True)


if __name__ == "__main__":
    asyncio.run(supervise(Path(sys.argv[1]), sys.argv[2:]))
