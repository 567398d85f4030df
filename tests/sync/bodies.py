"""Two bodies on this host: a standby behind a real sshd, a primary with a real agent."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dumont.remote.agent_archive import agent_archive
from tests.support.ssh import make_key_pair


def wait_until(condition: Callable[[], Any], what: str, *, timeout_s: float = 60) -> Any:
    """Wait for a condition; returns its value."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.01)


@dataclass
class Bodies:
    """A primary's and a standby's home, and how the one reaches the other."""

    folder: Path
    address: str
    port: int
    epoch: int = 5
    excludes: list[str] = field(default_factory=list)
    heartbeat: dict[str, Any] | None = None
    dead_man: dict[str, Any] | None = None
    python: str = sys.executable
    environment: dict[str, str] = field(default_factory=dict)
    wrapper: list[str] = field(default_factory=list)
    """Runs every command of the agent, in front of it."""

    def __post_init__(self) -> None:
        self.home = self.folder / "primary"
        self.workspace = self.home / "workspace"
        self.standby = self.folder / "standby" / "workspace"
        self.standby.mkdir(parents=True)
        guards = self.standby.parent / ".dumont"
        guards.mkdir()
        (guards / "workspace").write_text(f"{self.standby}\n")
        (guards / "agent.pyz").write_bytes(agent_archive().content)
        self.authority = guards / "authority.json"
        self.give_authority("primary")
        (self.home / ".dumont").mkdir(parents=True)
        self.workspace.mkdir()
        (self.home / ".dumont/workspace").write_text(f"{self.workspace}\n")
        self.agent = self.home / ".dumont" / agent_archive().file_name
        self.agent.write_bytes(agent_archive().content)
        self.host_key = make_key_pair(self.folder, "host_key")
        self.sync_key = make_key_pair(self.folder, "sync_key")
        self.sshd: subprocess.Popen[bytes] | None = None

    def give_authority(self, to: str) -> None:
        """Do what the guard does when authority changes, as far as its forced command sees it."""
        new = self.authority.with_suffix(".new")
        state = {"authority": to, "epoch": self.epoch, "held": to == "standby"}
        new.write_text(json.dumps(state) + "\n")
        new.replace(self.authority)

    def start_sshd(self) -> None:
        """Start the standby's sshd, with the forced command for the sync key."""
        program = f"{sys.executable} -I -S {self.authority.parent}/agent.pyz"
        command = f"{program} receive --epoch {self.epoch}"
        keys = self.folder / "authorized_keys"
        keys.write_text(f'restrict,command="{command}" {self.sync_key.public}\n')
        config = self.folder / "sshd_config"
        config.write_text(
            f"ListenAddress {self.address}:{self.port}\nHostKey {self.host_key.private}\n"
            f"AuthorizedKeysFile {keys}\nPidFile {self.folder}/sshd.pid\nStrictModes no\n"
            "UsePAM no\nPasswordAuthentication no\nMaxStartups 100\n"
            f"SetEnv HOME={self.standby.parent}\n"
        )
        Path("/run/sshd").mkdir(exist_ok=True) if os.geteuid() == 0 else None
        with (self.folder / "sshd.log").open("ab") as log:
            self.sshd = subprocess.Popen(
                ["/usr/sbin/sshd", "-D", "-e", "-f", str(config)],
                stdin=subprocess.DEVNULL, stderr=log, start_new_session=True,
            )  # fmt: skip
        wait_until((self.folder / "sshd.pid").exists, "sshd is up")

    def stop_sshd(self) -> None:
        """End the standby's sshd and all its connections."""
        if self.sshd is not None:
            family = [self.sshd.pid, *descendants(self.sshd.pid)]
            for pid in family:
                kill(pid)
            self.sshd.wait()
            self.sshd = None
            (self.folder / "sshd.pid").unlink(missing_ok=True)

    def configuration(self) -> dict[str, Any]:
        """What the control plane would push to the primary."""
        return {
            "protocol": 1, "role": "primary", "machine_id": "m1", "name": "box", "generation": 3,
            "epoch": self.epoch, "instance_id": "24000001", "heartbeat": self.heartbeat,
            "dead_man": self.dead_man,
            "mirror": {
                "host": self.address, "port": self.port, "user": "root",
                "host_key": " ".join(self.host_key.public.split()[:2]),
                "private_key": self.sync_key.private.read_text(),
                "excludes": self.excludes, "streams": 4,
            },
        }  # fmt: skip

    def run(self, *words: str, given: str = "", check: bool = True) -> dict[str, Any]:
        """Run a command of the primary's agent; returns its last line."""
        done = subprocess.run(
            [*self.wrapper, self.python, str(self.agent), *words],
            input=given, capture_output=True, text=True, timeout=120, check=False,
            env={**os.environ, "HOME": str(self.home), **self.environment}, cwd="/",
        )  # fmt: skip
        lines = done.stdout.splitlines()
        assert lines, f"{words}: said nothing; {done.stderr}"
        answer: dict[str, Any] = json.loads(lines[-1])
        assert not check or done.returncode == 0, f"{words}: {answer} {done.stderr}"
        return answer

    def apply(self) -> dict[str, Any]:
        """Push the configuration."""
        return self.run("apply", given=json.dumps(self.configuration()))

    def protection(self) -> dict[str, Any]:
        """What the primary's daemon says of the mirror."""
        try:
            status = json.loads((self.home / ".dumont/status.json").read_text())
        except FileNotFoundError:
            return {}
        if command_line(status["pid"])[-1:] == [""]:
            protection: dict[str, Any] = status.get("protection", {})
            return protection
        return {}  # of a worker that is dead

    def wait_protected(self, *, timeout_s: float = 30) -> dict[str, Any]:
        """Wait until the workspace is protected."""
        wait_until(
            lambda: self.protection().get("status") == "protected",
            f"protected; {self.protection()}", timeout_s=timeout_s,
        )  # fmt: skip
        return self.protection()

    def daemon_pids(self) -> list[int]:
        """The worker and all that it started."""
        status = json.loads((self.home / ".dumont/status.json").read_text())
        return [status["pid"], *descendants(status["pid"])]

    def find(self, program: str) -> list[int]:
        """Those of them that run this program."""
        return [pid for pid in self.daemon_pids() if command_line(pid)[:1] == [program]]

    def kill_primary(self) -> None:
        """SIGKILL everything of the primary, as the death of its host would."""
        # The supervisor first, or it would start another worker.
        pids = self.daemon_pids()
        supervisor = parent(pids[0])
        for pid in [supervisor, *pids]:
            kill(pid)

    def reset(self) -> None:
        """Be as new: authority here, nothing in the workspace, everything mirrored."""
        self.excludes = []
        self.give_authority("primary")
        if self.sshd is None:
            self.start_sshd()
        for path in self.workspace.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path) if path.name != ".dumont" else None
            else:
                path.unlink()
        self.apply()
        self.wait_protected()
        wait_until(lambda: os.listdir(self.standby) == [".dumont"], "the standby is empty, too")

    def close(self) -> None:
        """End everything."""
        self.run("stop", check=False)
        self.stop_sshd()
        for home in (self.home, self.standby.parent):
            shutil.rmtree(run_folder(home), ignore_errors=True)


def run_folder(home: Path) -> str:
    """Where the agent of this home keeps its sockets."""
    return f"/tmp/dmt-{hashlib.sha256(os.fsencode(os.path.realpath(home))).hexdigest()[:12]}"


def parent(pid: int) -> int:
    """The parent's pid; 0 when there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def descendants(pid: int) -> list[int]:
    """All processes below one."""
    parents = {
        int(p.name): parent(int(p.name)) for p in Path("/proc").iterdir() if p.name.isdigit()
    }
    found, pending = [], [pid]
    while pending:
        top = pending.pop()
        below = [child for child, its in parents.items() if its == top]
        found += below
        pending += below
    return found


def command_line(pid: int) -> list[str]:
    """The words of a process's command line, the program without its folder."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [words[0].rpartition("/")[2], *words[1:]]


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process that may be gone."""
    if pid > 1:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def tree(root: Path) -> dict[bytes, tuple[object, ...]]:
    """All that should be the same on both sides, by relative name."""
    found: dict[bytes, tuple[object, ...]] = {}
    base = os.fsencode(root)
    for folder, folders, files in os.walk(base):
        for name in [*folders, *files]:
            path = os.path.join(folder, name)
            relative = os.path.relpath(path, base)
            if relative.startswith(b".dumont/") or relative == b".dumont":
                continue
            with contextlib.suppress(FileNotFoundError):  # it vanished meanwhile
                state = os.lstat(path)
                what: object = None
                if os.path.islink(path):
                    what = os.readlink(path)
                elif os.path.isfile(path):
                    with open(path, "rb") as file:
                        what = file.read()
                found[relative] = (state.st_mode, state.st_uid, state.st_mtime_ns, what)
    return found
