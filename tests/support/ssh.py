"""A key pair and the system's own ssh client."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class KeyPair:
    """An ed25519 key pair on disk."""

    private: Path
    public: str

    def ssh(
        self, address: str, port: int, command: str, *, user: str = "root"
    ) -> subprocess.CompletedProcess[str]:
        """Log in once with the system's own ssh client, trusting any host key."""
        return subprocess.run(
            [
                "ssh", "-i", str(self.private), "-p", str(port),
                "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes", "-o", "ConnectTimeout=5",
                "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                "-o", "LogLevel=ERROR", f"{user}@{address}", command,
            ],
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip


def make_key_pair(folder: Path, name: str) -> KeyPair:
    """Generate a key pair called `name` in `folder`."""
    private = folder / name
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(private)],
        check=True,
    )
    return KeyPair(private, private.with_suffix(".pub").read_text().strip())
