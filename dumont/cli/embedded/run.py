"""One run of a stack in the foreground: start, tell, wait, stop."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

from dumont.cli.embedded.layout import Layout, make_layout
from dumont.cli.embedded.login import ensure_login
from dumont.cli.embedded.parts import stack
from dumont.cli.embedded.state import Mode, StateDir
from dumont.cli.embedded.summary import Narrator
from dumont.cli.embedded.supervisor import Supervisor
from dumont.config import Settings

_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_stack(
    *, mode: Mode, state_path: Path, settings: Settings | None, boot_seconds: str | None = None
) -> None:
    """Run a stack until Ctrl-C or SIGTERM.

    Args:
        mode: Demo or real clouds.
        state_path: The state directory.
        settings: The user's configuration; None for a demo.
        boot_seconds: See `parts.stack`.

    Raises:
        DumontError: It cannot be started; names the part or the field.
    """
    state = StateDir(state_path, mode=mode)
    try:
        layout = make_layout(state=state, settings=settings)
        asyncio.run(_run(layout, settings=settings, boot_seconds=boot_seconds))
    finally:
        state.close()


async def _run(layout: Layout, *, settings: Settings | None, boot_seconds: str | None) -> None:
    narrator = Narrator(layout)
    supervisor = Supervisor(
        state=layout.state,
        parts=stack(layout, settings=settings, boot_seconds=boot_seconds),
        report=narrator.part_changed,
    )
    loop = asyncio.get_running_loop()
    stopping = False

    def stop() -> None:
        nonlocal stopping
        narrator.stopping(again=stopping)
        stopping = True
        supervisor.request_stop()

    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, stop)
    supervisor.status.urls.update(narrator.urls())
    narrator.strays_ended(await supervisor.reap())
    try:
        await supervisor.start()
        if not stopping:
            login = await asyncio.to_thread(ensure_login, layout)
            narrator.ready(login)
            await supervisor.wait()
    finally:
        await supervisor.stop()
        narrator.stopped()
