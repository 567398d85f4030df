"""A picture that is redrawn while something is under way, where there is a terminal to draw on."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from rich.console import Console, RenderableType
from rich.live import Live


class Picture:
    """Redrawn until the block is left; subclasses say what it shows.

    Args:
        console: Where to; nothing is drawn on what is no terminal.
    """

    def __init__(self, *, console: Console) -> None:
        self._console = console
        self._live = (
            Live(get_renderable=self._picture, console=console, refresh_per_second=8)
            if console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._live:
            self._live.stop()

    def _picture(self) -> RenderableType:
        raise NotImplementedError
