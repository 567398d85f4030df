"""Where the agent keeps its things. One place, so that two bodies on one host never meet.

Everything hangs on the home directory: `~/.dumont` for what must last, and a private run folder in
/tmp for sockets and pid files, whose names must be short (107 bytes) and which die with the boot.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import stat
import sys
from pathlib import Path

from dumont.agent.errors import AgentError
from dumont.agent.hello import WORKSPACE_NOTE

MARKER = "DUMONT_AGENT_RUN"
"""Environment variable of everything that the daemon starts; holds the run folder. Processes that
carry it are ended with the daemon, even after a crash. Remove it from the environment of a child
that must outlive the worker (see `Context.outliving_environment`)."""


class Paths:
    """The places of the agent of one home directory.

    Attributes:
        home: The home directory.
        base: `~/.dumont`.
        config, authority, status_json, status_text, sync_key, known_hosts: Files in it.
        log: Folder of logs.
        run: Private folder for sockets and pid files; call `ensure` before using it.
        control_socket, pid_file: Files in it.
        workspace: The folder that the owner works in.
        product: `.dumont/` at the top of the workspace.
    """

    def __init__(self, home: Path | None = None) -> None:
        self.home = Path(os.path.realpath(str(home or Path.home())))
        self.base = self.home / ".dumont"
        self.config = self.base / "agent.json"
        self.authority = self.base / "authority.json"
        self.status_json = self.base / "status.json"
        self.status_text = self.base / "status"
        self.sync_key = self.base / "sync_key"
        self.known_hosts = self.base / "known_hosts"
        self.log = self.base / "log"
        digest = hashlib.sha256(os.fsencode(str(self.home))).hexdigest()[:12]
        self.run = Path("/tmp") / ("dmt-" + digest)  # noqa: S108
        self.control_socket = self.run / "control"
        self.pid_file = self.run / "daemon.pid"

    @property
    def workspace(self) -> Path:
        """The folder that the owner works in, as the start script noted it."""
        try:
            noted = (self.home / WORKSPACE_NOTE.replace("~/", "", 1)).read_text().strip()
        except (OSError, ValueError):
            noted = ""
        return Path(noted or "/workspace")

    @property
    def product(self) -> Path:
        """The product's own folder in the workspace."""
        return self.workspace / ".dumont"

    @property
    def is_system_account(self) -> bool:
        """Whether this is root at root's own home: then system-wide places are ours to use."""
        if os.geteuid() != 0:
            return False
        return os.path.realpath(pwd.getpwuid(0).pw_dir) == str(self.home)

    def ensure(self) -> Paths:
        """Create the folders. Raises AgentError when somebody else holds the run folder."""
        self.base.mkdir(mode=0o700, exist_ok=True)
        self.log.mkdir(mode=0o700, exist_ok=True)
        try:
            self.run.mkdir(mode=0o700)
        except FileExistsError:
            found = os.lstat(str(self.run))
            mine = found.st_uid == os.geteuid() and stat.S_ISDIR(found.st_mode)
            if not mine or found.st_mode & 0o077:
                message = f"{self.run} is not a private folder of ours"
                raise AgentError(message, code="invalid") from None
        return self


def program() -> list[str]:
    """The command line, without a command, that runs this same agent again."""
    archive = _archive()
    if archive is not None:
        return [sys.executable, str(archive)]
    return [sys.executable, "-m", "dumont.agent"]


def program_environment() -> dict[str, str]:
    """What `program` needs in its environment when it does not run from an archive."""
    if _archive() is not None:
        return {}
    return {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}


def program_digest() -> str:
    """Changes with the agent's code: first 16 hex digits of a SHA-256."""
    archive = _archive()
    digest = hashlib.sha256()
    if archive is not None:
        digest.update(archive.read_bytes())
    else:
        for source in sorted(Path(__file__).resolve().parent.glob("*.py")):
            digest.update(source.read_bytes())
    return digest.hexdigest()[:16]


def _archive() -> Path | None:
    """The archive that this code runs from, if it does. Links are followed: the daemon must not
    change its code half-way when `agent.pyz` is pointed at a newer archive."""
    for parent in Path(__file__).parents:
        if parent.is_file():
            return parent.resolve()
    return None
