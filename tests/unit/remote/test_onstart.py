"""The start script, run for real in a home of its own (and, as root, in a file system of its own)."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dumont.domain.errors import InvalidInput
from dumont.providers.vast.onstart import MAX_CHARS, fit_onstart
from dumont.remote.onstart import build_onstart
from dumont.security.ssh import new_machine_secrets

KEYS = new_machine_secrets("m0123456789ab")
OWNER = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIHmAJYPDfDgh4Em9dvNtbrpEMHCLTXyVeWdFvlCGgHlB ann@home"
SECOND = OWNER.replace("HlB ann", "HlC bob")


def script(setup_script: str = "", *authorized: str) -> str:
    return build_onstart(
        keys=KEYS, authorized_keys=authorized or (OWNER,), setup_script=setup_script
    )


class Home:
    """A home in which an sshd without root keeps its key."""

    def __init__(self, path: Path) -> None:
        self.path = path
        (path / ".ssh").mkdir(parents=True)
        (path / ".ssh/ssh_host_ed25519_key").write_text("the image's own\n")
        (path / ".ssh/ssh_host_rsa_key").write_text("another\n")

    def run(self, text: str, **env: str) -> subprocess.CompletedProcess[str]:
        # The reload waits for a pid file in the background and must not hold our pipes.
        return subprocess.run(
            ["sh", "-c", text],
            env={"PATH": os.environ["PATH"], "HOME": str(self.path), **env},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False,
        )  # fmt: skip

    def read(self, name: str) -> str:
        return (self.path / name).read_text()

    def mode(self, name: str) -> int:
        return stat.S_IMODE((self.path / name).stat().st_mode)


class Daemon:
    """Something called sshd that notes the SIGHUPs it gets."""

    def __init__(self, folder: Path) -> None:
        self.note = folder / "hups"
        program = folder / "sshd"
        shutil.copy(os.path.realpath(shutil.which("bash") or "/bin/bash"), program)
        self.process = subprocess.Popen(
            [str(program), "-c", f"trap 'echo hup >>{self.note}' HUP; echo up >>{self.note}; "
             "while :; do sleep 0.05; done"]
        )  # fmt: skip
        self.wait_for("up")

    def wait_for(self, word: str) -> None:
        deadline = time.monotonic() + 20
        while not self.note.exists() or word not in self.note.read_text():
            assert time.monotonic() < deadline, f"no {word!r}"
            time.sleep(0.02)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home")


@pytest.fixture
def daemon(home: Home, tmp_path: Path) -> Iterator[Daemon]:
    found = Daemon(tmp_path)
    (home.path / ".ssh/sshd.pid").write_text(f"{found.process.pid}\n")
    yield found
    found.stop()


def test_the_host_key_becomes_the_machines_own(home: Home, daemon: Daemon) -> None:
    assert home.run(script()).returncode == 0
    daemon.wait_for("hup")
    assert home.read(".ssh/ssh_host_ed25519_key").strip() == KEYS.host_key_private.strip()
    assert home.mode(".ssh/ssh_host_ed25519_key") == 0o600
    assert home.read(".ssh/ssh_host_ed25519_key.pub").strip() == KEYS.host_key_public.strip()
    assert not (home.path / ".ssh/ssh_host_rsa_key").exists()
    derived = subprocess.run(
        ["ssh-keygen", "-y", "-f", str(home.path / ".ssh/ssh_host_ed25519_key")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert derived.stdout.split()[:2] == KEYS.host_key_public.split()[:2]


def test_keys_are_let_in_once_and_nobody_is_thrown_out(home: Home, daemon: Daemon) -> None:
    (home.path / ".ssh/authorized_keys").write_text("ssh-rsa AAAA provider")  # no line end
    for _ in range(2):
        home.run(script("", OWNER, SECOND, OWNER))
    lines = home.read(".ssh/authorized_keys").splitlines()
    assert lines == ["ssh-rsa AAAA provider", OWNER, SECOND, KEYS.access_key_public]
    assert home.mode(".ssh/authorized_keys") == 0o600
    assert home.mode(".ssh") == 0o700


def test_a_second_start_changes_nothing(home: Home, daemon: Daemon) -> None:
    def state() -> dict[str, str]:
        return {
            str(p.relative_to(home.path)): p.read_text()
            for p in sorted(home.path.rglob("*"))
            if p.is_file()
        }

    home.run(script("echo hi"))
    first = state()
    home.run(script("echo hi"))
    assert state() == first


def test_the_workspace_is_made_and_noted(home: Home, daemon: Daemon) -> None:
    home.run(script())
    assert home.read(".dumont/workspace").strip() == str(home.path / "workspace")
    assert (home.path / "workspace").is_dir()


def test_the_owners_lines_run_in_the_workspace_with_their_quotes_intact(
    home: Home, daemon: Daemon
) -> None:
    text = "x='a  b'\r\necho \"$x\" '$HOME' >out\npwd >>out\n[[ a == a ]] && echo bash >>out\nEOF\n"
    done = home.run(script(text + "umask >>out\nexit 3"))
    assert home.read("workspace/out").splitlines() == [
        "a  b $HOME",
        str(home.path / "workspace"),
        "bash",
        "0022",
    ]
    assert "setup_script ended with status 3" in done.stdout


def test_a_shebang_is_respected(home: Home, daemon: Daemon) -> None:
    home.run(script(f"#!{sys.executable}\nopen('out', 'w').write('python')"))
    assert home.read("workspace/out") == "python"


def test_a_setup_script_that_contains_marks_of_ours_is_not_expanded(
    home: Home, daemon: Daemon
) -> None:
    done = home.run(script("echo '@HOST_PRIVATE@ @END@ \\1'"))
    assert "@HOST_PRIVATE@ @END@ \\1" in done.stdout


def test_a_stale_pid_file_hurts_nobody(home: Home, tmp_path: Path) -> None:
    bystander = subprocess.Popen(["sleep", "60"])
    try:
        (home.path / ".ssh/sshd.pid").write_text(f"{bystander.pid}\n")
        running = subprocess.Popen(
            ["sh", "-c", script()],
            env={"PATH": os.environ["PATH"], "HOME": str(home.path)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        running.wait(timeout=30)
        daemon = Daemon(tmp_path)
        # The right daemon comes up late and is found.
        (home.path / ".ssh/sshd.pid").write_text(f"{daemon.process.pid}\n")
        daemon.wait_for("hup")
        daemon.stop()
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


@pytest.mark.parametrize("key", ["two\nlines", "", "   "])
def test_a_key_is_one_line(key: str) -> None:
    with pytest.raises(InvalidInput):
        script("", key)


def test_shellcheck_finds_nothing() -> None:
    checker = shutil.which("shellcheck")
    if checker is None:
        pytest.skip("shellcheck is not installed")
    done = subprocess.run(
        [checker, "-s", "sh", "-"], input=script("echo hi"), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox"])
def test_every_common_shell_can_read_it(shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    words = [program, "sh"] if shell == "busybox" else [program]
    done = subprocess.run(
        [*words, "-n"], input=script("echo hi"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_it_fits_where_providers_put_it() -> None:
    assert len(script("pip install torch\n", OWNER, SECOND)) <= MAX_CHARS
    rsa = "ssh-rsa " + "".join(chr(65 + (7 * n * n) % 26) for n in range(716)) + " me@laptop"
    longest = script("echo a line of an ordinary length\n" * 58, rsa, OWNER, SECOND)
    assert len(longest) > MAX_CHARS
    assert len(fit_onstart(longest)) <= MAX_CHARS


needs_namespaces = pytest.mark.skipif(
    os.geteuid() != 0
    or subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode
    != 0,
    reason="needs root and mount namespaces",
)


@needs_namespaces
def test_as_root_it_changes_the_system_of_its_machine(tmp_path: Path) -> None:
    """In a private /etc, /run, /root and /workspace, with a real sshd on a loopback address."""
    (tmp_path / "onstart.sh").write_text(script('echo "made by $A_VARIABLE" >/workspace/out'))
    for name in ("etc", "layer", "root", "workspace"):
        (tmp_path / name).mkdir()
    test = f"""
        set -e
        mkdir -p /workspace
        cp -a /etc/ssh /etc/passwd /etc/environment {tmp_path}/etc/ 2>/dev/null || :
        mount -t tmpfs tmpfs /run && mkdir -p /run/sshd
        mount --bind {tmp_path}/root /root
        mount --bind {tmp_path}/workspace /workspace
        mount -t tmpfs tmpfs {tmp_path}/layer
        mkdir {tmp_path}/layer/up {tmp_path}/layer/w
        mount -t overlay overlay -o lowerdir=/etc,upperdir={tmp_path}/layer/up,workdir={tmp_path}/layer/w /etc
        printf 'Port 22\\n' >/etc/ssh/sshd_config
        printf 'KEPT=1\\n' >/etc/environment
        rm -f /etc/ssh/ssh_host_*
        ssh-keygen -A >/dev/null
        /usr/sbin/sshd -o ListenAddress=127.77.1.9:2222
        n=0 # its child writes this file after the parent has returned, and anew when reloaded
        until [ -s /run/sshd.pid ]; do sleep 0.1; n=$((n + 1)); [ $n -lt 100 ]; done
        for n in 1 2; do HOME=/root A_VARIABLE='a value' sh {tmp_path}/onstart.sh; done
        ls /etc/ssh >{tmp_path}/keys
        cp /etc/ssh/sshd_config /etc/environment {tmp_path}/
        n=0
        until ssh-keyscan -p 2222 127.77.1.9 2>/dev/null >{tmp_path}/offered &&
              grep -q '{KEYS.host_key_public.split()[1]}' {tmp_path}/offered; do
            sleep 0.1; n=$((n + 1)); [ $n -lt 100 ]
        done
    """  # the daemon ends with its namespace
    done = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", test],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    offered = [line.split()[1:] for line in (tmp_path / "offered").read_text().splitlines() if line]
    assert offered == [KEYS.host_key_public.split()[:2]], "the machine's key and no other"
    assert "ssh_host_rsa_key" not in (tmp_path / "keys").read_text()
    config = (tmp_path / "sshd_config").read_text().splitlines()
    assert config == ["HostKey /etc/ssh/ssh_host_ed25519_key", "Port 22"]
    environment = (tmp_path / "environment").read_text().splitlines()
    assert environment[0] == "KEPT=1"
    assert environment.count("A_VARIABLE=a value") == 1
    assert not any(line.startswith("HOME=") for line in environment)
    assert (tmp_path / "workspace/out").read_text() == "made by a value\n"
