"""The agent as one file that any Python 3.8 can run.

The same source always makes the same bytes, so that their hash tells whether a machine has it.
"""

from __future__ import annotations

import functools
import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import dumont

_STARTER = """\
import sys
from dumont.agent.__main__ import main
sys.exit(main())
"""
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class AgentArchive:
    """The archive and its name."""

    content: bytes
    digest: str
    """First 16 hex digits of the SHA-256 of `content`."""

    @property
    def file_name(self) -> str:
        """Name on the machine."""
        return f"agent-{self.digest}.pyz"


@functools.cache
def agent_archive() -> AgentArchive:
    """Build the archive from the installed sources, once per process."""
    # Found by its place, not by import: nothing here may depend on the agent's code.
    root = Path(dumont.__file__).resolve().parent
    sources = {"__main__.py": _STARTER.encode(), "dumont/__init__.py": b""}
    for path in sorted((root / "agent").glob("*.py")):
        sources[f"dumont/agent/{path.name}"] = path.read_bytes()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in sorted(sources.items()):
            entry = zipfile.ZipInfo(name, date_time=_EPOCH)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o644 << 16
            entry.create_system = 3
            archive.writestr(entry, content)
    content = buffer.getvalue()
    return AgentArchive(content=content, digest=hashlib.sha256(content).hexdigest()[:16])
