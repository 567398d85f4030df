"""The directory of a machine: what persists across its boots, and the files put there before one.

    home/       home of the login user          workspace/  what is /workspace inside
    tmp/        its /tmp                        bin/        first on its PATH: nvidia-smi
    layers/     overlay uppers of /etc, /usr... system/     files installed at the first boot
    boot/       files installed at every boot   logs/       console.log, sshd.log, init.log
    run.json    identity of the running process

Knows nothing of processes; see engine.py.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from urllib.parse import urlsplit

from simcloud.machines.processes import ProcessIdentity
from simcloud.machines.spec import MachineSpec

_HERE = Path(__file__).parent

_SSHD_CONFIG = """\
Include /etc/ssh/sshd_config.d/*.conf
HostKey {etc_ssh}/ssh_host_ed25519_key
PermitRootLogin {root}
PubkeyAuthentication yes
PasswordAuthentication no
KbdInteractiveAuthentication no
AuthorizedKeysFile .ssh/authorized_keys
UsePAM {pam}
UseDNS no
PrintMotd no
X11Forwarding no
AcceptEnv LANG LC_*
MaxStartups 100:30:200
MaxSessions 100
Subsystem sftp internal-sftp
"""

# The distribution's own stack wants an audit subsystem and a login uid, which a container lacks;
# a rented container reads /etc/environment and little else.
_PAM_SSHD = """\
auth     required pam_deny.so
account  required pam_permit.so
session  required pam_env.so
session  optional pam_limits.so
"""


class MachineDirectory:
    """Paths and files of one machine."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.home = path / "home"
        self.workspace = path / "workspace"
        self.tools = path / "bin"
        self.logs = path / "logs"
        self.console = self.logs / "console.log"
        self._run_file = path / "run.json"
        self._keys_file = path / "keys.json"

    def exists(self) -> bool:
        """Whether the machine was ever booted."""
        return self.path.is_dir()

    def prepare(self, spec: MachineSpec) -> None:
        """Create or refresh everything a boot needs."""
        for name in ("home", "workspace", "tmp", "bin", "logs", "layers", "root-home"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        (self.path / "tmp").chmod(0o1777)
        for private in ("home", "root-home"):
            (self.path / private).chmod(0o700)
        self._prepare_home()
        self._prepare_system(spec)
        self._prepare_boot(spec)
        self._prepare_gpus(spec)
        self.set_authorized_keys(spec.authorized_keys)

    def set_authorized_keys(self, keys: Iterable[str]) -> None:
        """Make `keys` the provider's keys; lines that someone inside added are kept."""
        wanted = [key.strip() for key in keys if key.strip()]
        ours = set(json.loads(self._keys_file.read_text())) if self._keys_file.exists() else set()
        ssh = self.home / ".ssh"
        if not ssh.exists():
            ssh.mkdir(mode=0o700)
            owner = self.home.stat()
            _give(ssh, owner.st_uid, owner.st_gid)
        file = ssh / "authorized_keys"
        foreign = [
            line
            for line in (file.read_text().splitlines() if file.exists() else [])
            if line.strip() and line.strip() not in ours and line.strip() not in wanted
        ]
        # in place, so that owner and inode stay as the machine knows them
        new = not file.exists()
        file.write_text("".join(f"{line}\n" for line in [*wanted, *foreign]))
        if new:
            file.chmod(0o600)
            owner = ssh.stat()
            _give(file, owner.st_uid, owner.st_gid)
        self._keys_file.write_text(json.dumps(wanted))

    def set_gpu_override(self, *, utilization: float | None, memory_mb: float | None) -> None:
        """Fix what nvidia-smi reports; both None returns it to what really runs."""
        file = self.tools / "override"
        if utilization is None and memory_mb is None:
            file.unlink(missing_ok=True)
            return
        memory = "" if memory_mb is None else f" {round(memory_mb)}"
        file.write_text(f"{round(utilization or 0)}{memory}\n")

    def gpu_override(self) -> tuple[float, float | None] | None:
        """Return the fixed (utilization, memory in MB), or None when nothing is fixed."""
        file = self.tools / "override"
        if not file.exists():
            return None
        numbers = [float(word) for word in file.read_text().split()]
        return numbers[0], numbers[1] if len(numbers) > 1 else None

    def record_run(self, identity: ProcessIdentity) -> None:
        """Write down the running process, for a later simcloud to find."""
        self._run_file.write_text(json.dumps(asdict(identity)))

    def clear_run(self) -> None:
        """Forget the running process."""
        self._run_file.unlink(missing_ok=True)

    def recorded_run(self) -> ProcessIdentity | None:
        """Return the process written down last, or None."""
        try:
            return ProcessIdentity(**json.loads(self._run_file.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def tail(self, lines: int) -> str:
        """Return the last `lines` lines of the console."""
        if not self.console.exists():
            return ""
        kept = self.console.read_text(errors="replace").splitlines()[-lines:] if lines > 0 else []
        return "".join(f"{line}\n" for line in kept)

    def _prepare_home(self) -> None:
        if any(self.home.iterdir()):
            return
        skeleton = Path("/etc/skel")
        if skeleton.is_dir():
            shutil.copytree(skeleton, self.home, dirs_exist_ok=True)

    def _prepare_system(self, spec: MachineSpec) -> None:
        etc = self.path / "system/etc"
        if etc.exists():
            return
        for folder in ("ssh", "pam.d"):
            (etc / folder).mkdir(parents=True)
        root = "prohibit-password" if spec.root_login else "no"
        config = _SSHD_CONFIG.format(etc_ssh="/etc/ssh", pam="yes", root=root)
        (etc / "ssh/sshd_config").write_text(config)
        (etc / "pam.d/sshd").write_text(_PAM_SSHD)
        (etc / "environment").write_text("")

    def _prepare_boot(self, spec: MachineSpec) -> None:
        boot = self.path / "boot"
        shutil.rmtree(boot, ignore_errors=True)
        run = boot / "run/simcloud"
        run.mkdir(parents=True, mode=0o755)
        (boot / "etc").mkdir()
        (boot / "etc/hostname").write_text(f"{spec.hostname}\n")
        hosts = [f"127.0.0.1 localhost\n{spec.address} {spec.hostname}\n"]
        environment = dict(spec.env)
        if spec.metadata_url is not None:
            url = urlsplit(spec.metadata_url)
            hosts.append(f"{url.hostname} metadata.google.internal metadata\n")
            environment.setdefault("GCE_METADATA_HOST", url.netloc)
        (boot / "etc/hosts").write_text("".join(hosts))
        _write_secret(
            run / "environment",
            "".join(f"export {key}={shlex.quote(value)}\n" for key, value in environment.items()),
        )
        for name, script in (("onstart", spec.onstart), ("on_shutdown", spec.on_shutdown)):
            if script:
                _write_secret(run / f"{name}.sh", script, mode=0o700)

    def _prepare_gpus(self, spec: MachineSpec) -> None:
        tool = self.tools / "nvidia-smi"
        if not spec.gpus:
            tool.unlink(missing_ok=True)
            return
        rows = []
        for index, gpu in enumerate(spec.gpus):
            digest = hashlib.sha256(f"{spec.name}/{index}".encode()).hexdigest()
            uuid = (
                f"GPU-{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}"
            )
            rows.append(
                f"{index}|{gpu.name}|{gpu.memory_mb}|{uuid}|00000000:{index + 1:02X}:00.0"
                f"|{gpu.driver_version}|{gpu.cuda_version}|{gpu.power_limit_w}"
                f"|{gpu.compute_capability}\n"
            )
        (self.tools / "gpus").write_text("".join(rows))
        shutil.copyfile(_HERE / "housekeeping.txt", self.tools / "housekeeping.txt")
        shutil.copyfile(_HERE / "nvidia-smi.sh", tool)
        tool.chmod(0o755)


def _write_secret(path: Path, text: str, *, mode: int = 0o600) -> None:
    path.touch(mode=mode)
    path.chmod(mode)
    path.write_text(text)


def _give(path: Path, uid: int, gid: int) -> None:
    if os.geteuid() == 0:
        os.chown(path, uid, gid)
