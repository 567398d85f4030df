"""The init of a machine without namespaces: starts sshd and the start script, reaps, shuts down.

Runs as an ordinary user, or as a root that may not mount, in the machine's directory (`python -m simcloud.machines.supervisor`).
As a child subreaper it stays the ancestor of everything the machine ever started, so that the
engine finds all of it below one pid. What it cannot give is a private file system: /workspace is
the directory `workspace`, and sshd keeps its key and pid file in `~/.ssh`.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import shlex
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from simcloud.machines import processes

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_HANDLED = ("Include", "HostKey", "PermitRootLogin", "UsePAM", "AuthorizedKeysFile")
"""Settings for a private /etc; here everybody is root, and others are written in their place."""
_NSS_WRAPPERS = ("usr/lib/*/libnss_wrapper.so", "usr/lib*/libnss_wrapper.so")


def main() -> int:
    """Be the machine's init until told to end."""
    parent = os.getppid()
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    # SIGTERM is only taken up by sigwait below; children must not inherit the mask
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD})
    here = Path.cwd()
    (here / "bin/root_pid").write_text(str(os.getpid()))
    if int(os.environ["MACHINE_SSH_PORT"]):
        _start_sshd(here)
    _start_script(here, "onstart")
    if os.getppid() != parent:
        signal.raise_signal(signal.SIGTERM)
    threading.Thread(target=_reap, daemon=True).start()
    signal.sigwait({signal.SIGTERM})
    if os.getppid() == parent:
        _shut_down(here)
    processes.signal_tree(os.getpid(), signal.SIGKILL)
    return 0


def _reap() -> None:
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.2)


def _shut_down(here: Path) -> None:
    """Ask everything to end and wait until it has; the engine enforces the deadline."""
    script = _start_script(here, "on_shutdown")
    while script is not None and processes.read_stat(script.pid) is not None:
        time.sleep(0.02)
    processes.signal_tree(os.getpid(), signal.SIGTERM)
    while processes.descendants(os.getpid(), processes.snapshot()):
        time.sleep(0.02)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM, signal.SIGCHLD})


def _environment(here: Path) -> dict[str, str]:
    return {
        "PATH": f"{here / 'bin'}:{_PATH}",
        "HOME": str(here / "home"),
        "USER": "root",
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
    }


def _start_script(here: Path, name: str) -> subprocess.Popen[bytes] | None:
    script = here / f"boot/run/simcloud/{name}.sh"
    if not script.exists():
        return None
    if name == "onstart":
        copy = here / "home/onstart.sh"
        copy.write_bytes(script.read_bytes())
        copy.chmod(0o700)
        script = copy
    environment = here / "boot/run/simcloud/environment"
    runner = "exec" if script.read_bytes()[:2] == b"#!" else "exec bash"
    command = f". {shlex.quote(str(environment))}; {runner} {shlex.quote(str(script))}"
    return subprocess.Popen(
        ["bash", "-c", command],
        cwd=here / "home",
        env=_environment(here),
        stdin=subprocess.DEVNULL,
        preexec_fn=_unblock,
    )


def _start_sshd(here: Path) -> None:
    ssh = here / "home/.ssh"
    key = ssh / "ssh_host_ed25519_key"
    config = ssh / "sshd_config"
    if not key.exists():
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)],
            check=True,
            preexec_fn=_unblock,
        )
    if not config.exists():
        config.write_text(_sshd_config(here, ssh))
    environment = {"PATH": _PATH, "LANG": "C.UTF-8"}
    environment |= _as_root(here)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    address, port = os.environ["MACHINE_ADDRESS"], os.environ["MACHINE_SSH_PORT"]
    pid_file = ssh / "sshd.pid"
    pid_file.unlink(missing_ok=True)
    with (here / "logs/sshd.log").open("ab") as log:
        subprocess.Popen(
            [
                *("/usr/sbin/sshd", "-D", "-e", "-f", str(config), "-o", f"PidFile={pid_file}"),
                *("-o", f"ListenAddress={address}:{port}"),
            ],
            env=environment,
            stdin=subprocess.DEVNULL,
            stderr=log,
            preexec_fn=_unblock,
        )
    # a start script may HUP sshd, which would kill it before its handler stands
    deadline = time.monotonic() + 5
    while not pid_file.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def _sshd_config(here: Path, ssh: Path) -> str:
    template = (here / "system/etc/ssh/sshd_config").read_text()
    lines = [line for line in template.splitlines() if line.split()[0] not in _HANDLED]
    return "\n".join(
        [
            *lines,
            f"HostKey {ssh / 'ssh_host_ed25519_key'}",
            f"AuthorizedKeysFile {ssh / 'authorized_keys'}",
            "PermitRootLogin prohibit-password",
            "UsePAM no",
            # the directory may lie below one that others can write to, such as /tmp
            "StrictModes no",
            f"SetEnv PATH={here / 'bin'}:{_PATH} HOME={here / 'home'}",
            "",
        ]
    )


def _as_root(here: Path) -> dict[str, str]:
    """Return an environment in which sshd takes `root` for the present user, at home here."""
    library = next((path for each in _NSS_WRAPPERS for path in Path("/").glob(each)), None)
    if library is None:
        sys.stderr.write("libnss_wrapper.so is missing: log in under your own user name\n")
        return {}
    uid, gid, home = os.geteuid(), os.getegid(), here / "home"
    passwd, group = here / "passwd", here / "group"
    passwd.write_text(f"root:x:{uid}:{gid}:root:{home}:/bin/bash\n" + _separated_user())
    group.write_text(f"root:x:{gid}:\n")
    return {
        "LD_PRELOAD": str(library),
        "NSS_WRAPPER_PASSWD": str(passwd),
        "NSS_WRAPPER_GROUP": str(group),
    }


def _separated_user() -> str:
    """Return the entry of the user that sshd separates itself into, which it does as root only."""
    try:
        user = pwd.getpwnam("sshd")
    except KeyError:
        return ""
    return f"sshd:x:{user.pw_uid}:{user.pw_gid}::{user.pw_dir}:{user.pw_shell}\n"


if __name__ == "__main__":
    sys.exit(main())
