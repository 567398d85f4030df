"""One line in the user's own `~/.ssh/config`, so that plain `ssh dumont-my-box` works.

The file is the user's: every other byte of it, its mode, its owner and a symbolic link to it stay.
"""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from dumont.cli.files import make_private_dir, replace_file
from dumont.cli.ssh_hosts import change_hosts, load_hosts, ssh_config_path
from dumont.cli.ssh_keys import user_ssh_dir
from dumont.domain.errors import InvalidInput


def include_line(*, path: Path) -> bytes:
    """The line that includes `path`."""
    return f'Include "{path}"'.encode()


def with_include(*, config: bytes, path: Path) -> bytes:
    """A configuration that includes `path` for all hosts; as it was when it does already.

    The line goes to the top: behind the first `Host` or `Match` it would hold for that block only.
    """
    if _includes(config, path):
        return config
    return include_line(path=path) + b"\n" + config


def without_include(*, config: bytes, path: Path) -> bytes:
    """The configuration without the line that `with_include` added, all else byte for byte."""
    line = include_line(path=path) + b"\n"
    if config.startswith(line):
        return config[len(line) :]
    head, found, tail = config.partition(b"\n" + line)
    return head + b"\n" + tail if found else config


def include_allowed() -> bool:
    """Whether the user lets us add the line: unless `--remove` was said or the environment says no."""
    if os.environ.get("DUMONT_TOUCH_SSH_CONFIG", "1").lower() in ("0", "no", "false", "off"):
        return False
    return load_hosts().include


def is_included() -> bool:
    """Whether the user's configuration includes ours now."""
    try:
        return _includes((user_ssh_dir() / "config").read_bytes(), ssh_config_path())
    except OSError:
        return False


def ensure_include() -> bool:
    """Add the line if it is not there; True when the file was changed.

    Raises:
        InvalidInput: The file cannot be written. Nothing was changed then.
    """
    directory = user_ssh_dir()
    try:
        make_private_dir(path=directory)
    except OSError as error:
        raise _untouchable(directory, error) from None
    return _edit(directory / "config", add=True)


def remove_include() -> bool:
    """Take the line out again; True when the file was changed.

    Raises:
        InvalidInput: The file cannot be written.
    """
    return _edit(user_ssh_dir() / "config", add=False)


def set_include(*, wanted: bool) -> bool:
    """Add or remove the line and remember the wish; True when the user's file was changed.

    Raises:
        InvalidInput: A file cannot be written.
    """
    changed = ensure_include() if wanted else remove_include()
    change_hosts(edit=lambda hosts: setattr(hosts, "include", wanted))
    return changed


def _edit(config: Path, *, add: bool) -> bool:
    try:
        before = config.read_bytes()
        mode = stat.S_IMODE(config.stat().st_mode)
    except FileNotFoundError:
        before, mode = b"", 0o600
    except OSError as error:
        raise _untouchable(config, error) from None
    edit = with_include if add else without_include
    after = edit(config=before, path=ssh_config_path())
    if after == before:
        return False
    try:
        replace_file(path=config, content=after, mode=mode)
    except OSError as error:
        raise _untouchable(config, error) from None
    return True


def _includes(config: bytes, path: Path) -> bool:
    for raw in config.splitlines():
        keyword, _, rest = (
            raw.decode("utf-8", "replace").strip().replace("=", " ", 1).partition(" ")
        )
        if keyword.lower() in ("host", "match"):
            return False
        if keyword.lower() == "include":
            try:
                names = shlex.split(rest)
            except ValueError:
                continue
            if any(Path(name).expanduser() == path for name in names):
                return True
    return False


def _untouchable(path: Path, error: OSError) -> InvalidInput:
    return InvalidInput(
        f"cannot change {path}: {error.strerror}",
        hint=f"add `{include_line(path=ssh_config_path()).decode()}` at its top yourself, or use "
        "`dumont ssh` and say --no-touch-ssh-config",
    )
