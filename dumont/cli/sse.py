"""Server-sent events, as the WHATWG HTML standard defines the format.

Unlike ready-made readers it also reports comments: the server's pings are the moments at which a
watcher can look around without a second thread.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

# The standard's three line ends, and no other: JSON text may hold what Unicode calls a line end. A
# carriage return that ends a chunk may be half of a pair.
_LINE_END = re.compile(r"\r\n|\n|\r(?!\Z)")


class Message(NamedTuple):
    """One event of a stream; a ping has no event and no data, but may move the place (`id`)."""

    event: str
    data: str
    id: str | None = None

    @property
    def ping(self) -> bool:
        """Nothing happened; the connection lives."""
        return not self.event and not self.data


def lines(chunks: Iterable[str]) -> Iterator[str]:
    """The lines of a text that arrives in pieces, without their ends."""
    rest = ""
    for chunk in chunks:
        *whole, rest = _LINE_END.split(rest + chunk)
        yield from whole


def decode(text: Iterable[str]) -> Iterator[Message]:
    """The messages in a stream's lines (without their ends), as soon as each is complete."""
    event, data = "", list[str]()
    last_id: str | None = None
    for line in text:
        if not line:
            yield Message(event or "message" if data else "", "\n".join(data), last_id)
            event, data = "", []
            continue
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            event = value
        elif name == "data":
            data.append(value)
        elif name == "id" and "\0" not in value:
            last_id = value
