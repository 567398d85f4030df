"""The user's own SSH key: found where people have one, or made when there is none.

A private key is never read into this program and never leaves the computer.
"""

from __future__ import annotations

import getpass
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

from dumont.cli.credentials import config_dir
from dumont.cli.files import make_private_dir
from dumont.domain.errors import InvalidInput, PreconditionFailed

_NAMES = ("id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk")
"""OpenSSH's own default names, the ones that need no touch of a token first."""

_TYPES = ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-", "sk-ssh-ed25519@", "sk-ecdsa-sha2-")


class LocalKey(NamedTuple):
    """A key pair on this computer."""

    private_path: Path
    public_key: str
    """The line of its `.pub` file."""
    made_now: bool = False
    """We made it just now, as there was none."""

    @property
    def material(self) -> str:
        """Type and key without the comment: what makes two lines the same key."""
        return " ".join(self.public_key.split()[:2])


def user_ssh_dir() -> Path:
    """Where OpenSSH keeps this user's files: `DUMONT_SSH_DIR`, or `~/.ssh`."""
    override = os.environ.get("DUMONT_SSH_DIR")
    return Path(override).expanduser() if override else Path.home() / ".ssh"


def default_key() -> LocalKey | None:
    """The key pair this user would log in with; None when there is none yet."""
    for path in [user_ssh_dir() / name for name in _NAMES] + [own_key_path()]:
        public = path.with_name(path.name + ".pub")
        if path.is_file() and public.is_file():
            return LocalKey(path, read_public_key(path=public))
    return None


def own_key_path() -> Path:
    """The private key made for Dumont alone."""
    return config_dir() / "ssh_key"


def ensure_key() -> LocalKey:
    """The user's key pair; a new one for Dumont alone when there is none.

    Raises:
        PreconditionFailed: There is none and none can be made.
    """
    return default_key() or _make_key(own_key_path())


def key_at(*, path: Path) -> LocalKey:
    """The pair a person named by either of its files.

    Raises:
        InvalidInput: Says which file is missing or wrong.
    """
    path = path.expanduser()
    private = path.with_suffix("") if path.suffix == ".pub" else path
    public = private.with_name(private.name + ".pub")
    if not public.is_file():
        raise InvalidInput(
            f"there is no public key at {public}",
            field="--ssh-key",
            hint=f"`ssh-keygen -y -f {private} > {public}` writes it from the private one"
            if private.is_file()
            else "name a key pair's .pub file, or make one with ssh-keygen",
        )
    return LocalKey(private, read_public_key(path=public))


def read_public_key(*, path: Path) -> str:
    """The one public key in a file.

    Raises:
        InvalidInput: It holds something else; a private key is refused by name.
    """
    try:
        text = path.expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise InvalidInput(f"cannot read {path}: {reason}", field="ssh_key") from None
    if "PRIVATE KEY" in text:
        raise InvalidInput(
            f"{path} is a private key: it must not leave this computer",
            field="ssh_key",
            hint="name the .pub file beside it",
        )
    lines = [line.strip() for line in text.splitlines() if line.strip() and line[0] != "#"]
    if len(lines) != 1 or not lines[0].startswith(_TYPES) or len(lines[0].split()) < 2:
        raise InvalidInput(f"{path} is not an OpenSSH public key", field="ssh_key")
    return lines[0]


def key_name() -> str:
    """What to call this computer's key in the list of keys: `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "user"
    return f"{user}@{platform.node() or 'computer'}"[:80]


def _make_key(path: Path) -> LocalKey:
    if shutil.which("ssh-keygen") is None:
        raise PreconditionFailed(
            "you have no SSH key, and ssh-keygen is not installed to make one",
            field="--ssh-key",
            hint="install the OpenSSH client (Debian: `apt install openssh-client`)",
        )
    try:
        make_private_dir(path=path.parent)
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", key_name(), "-f", str(path)],
            check=True,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        detail = getattr(error, "stderr", None) or str(error)
        raise PreconditionFailed(
            f"cannot make an SSH key at {path}: {detail.strip()}",
            field="--ssh-key",
            hint="make one with ssh-keygen and name it with --ssh-key",
        ) from None
    return LocalKey(path, read_public_key(path=path.with_name(path.name + ".pub")), made_now=True)
