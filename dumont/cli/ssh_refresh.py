"""Look one machine's addresses up again: what the proxy of `ssh` calls behind its back.

    python -m dumont.cli.ssh_refresh SERVER MACHINE_ID ADDRESSES

Says nothing: it ends with 0 when the server answered, 1 when it did not.
"""

from __future__ import annotations

import contextlib
import os
import sys

from dumont.cli.client import Api
from dumont.cli.credentials import resolve
from dumont.cli.ssh_hosts import remember
from dumont.domain.errors import DumontError


def refresh(*, server: str, machine_id: str) -> None:
    """Ask the server where a machine is, and remember it.

    Raises:
        DumontError: It did not say.
    """
    api = Api(server=resolve(url=server), sleep=_no_patience)
    try:
        remember(server=api.url, machine=api.machine(ref=machine_id))
    finally:
        api.close()


def main(arguments: list[str]) -> int:
    """Refresh, and take the proxy's mark away so that the next one may ask again."""
    server, machine_id, addresses = arguments
    try:
        refresh(server=server, machine_id=machine_id)
    except DumontError:
        return 1
    finally:
        with contextlib.suppress(OSError):
            os.unlink(addresses + ".refreshing")
    return 0


def _no_patience(_: float) -> None:
    raise DumontError("the server asks for patience; the next connection asks again")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
