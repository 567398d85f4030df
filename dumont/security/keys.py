"""The deployment's own keys, in one file: made at the first start, never overwritten.

They seal workflow payloads (codec) and stored secrets (vault) and sign access tokens. Whoever loses
the file cannot read what was stored; whoever reads it can read everything.

The first key of a kind seals and signs; all keys of the kind open and verify. To rotate, put a new
entry first and keep the old ones as long as anything sealed with them is kept.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from dumont.domain.errors import DependencyUnavailable

DEPENDENCY: Final = "keys"

_BYTES: Final = 32
_KINDS: Final = ("codec", "vault", "token")
_VERSION: Final = 1

log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class NamedKey:
    """A 256-bit key and the id that is stored beside whatever it sealed or signed."""

    key_id: str
    key: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Keys:
    """The keys by use, newest first; each has at least one."""

    codec: tuple[NamedKey, ...]
    """For the payload codec of `dumont.temporal`."""
    vault: tuple[NamedKey, ...]
    """For secrets in the database."""
    token: tuple[NamedKey, ...]
    """For signing access tokens."""


def load_or_create_keys(path: Path) -> Keys:
    """The keys in `path`; made there when the file does not exist.

    Several processes may call this at once: all get the same keys.

    Raises:
        DependencyUnavailable: The file cannot be read or made, or does not hold keys. It is left
            as it is: a new file would make everything stored unreadable.
    """
    try:
        if not path.exists():
            _create(path)
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise _unusable(path, str(error)) from error
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        log.warning("keys_file_readable_by_others", path=str(path), hint=f"chmod 600 {path}")
    return _parse(path, text)


def _create(path: Path) -> None:
    """Write a complete file, then give it its name; a file that is there already wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "version": _VERSION,
        **{
            kind: [
                {
                    "id": f"{kind}-{secrets.token_hex(4)}",
                    "key": base64.b64encode(secrets.token_bytes(_BYTES)).decode(),
                }
            ]
            for kind in _KINDS
        },
    }
    # mkstemp makes it 0600 before a byte is written.
    handle, name = tempfile.mkstemp(prefix=".keys-", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(document, file, indent=2)
            file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(name, path)
        except FileExistsError:
            return
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        log.info("keys_created", path=str(path), hint="back this file up")
    finally:
        os.unlink(name)


def _parse(path: Path, text: str) -> Keys:
    try:
        document = json.loads(text)
        if document["version"] != _VERSION:
            raise _unusable(path, f"it has version {document['version']!r}, not {_VERSION}")
        codec, vault, token = (
            tuple(
                NamedKey(key_id=_text(item["id"]), key=base64.b64decode(item["key"], validate=True))
                for item in document[kind]
            )
            for kind in _KINDS
        )
    except (ValueError, KeyError, TypeError, binascii.Error) as error:
        raise _unusable(path, f"it is damaged ({type(error).__name__}: {error})") from None
    for kind, keys in zip(_KINDS, (codec, vault, token), strict=True):
        if not keys or any(len(key.key) != _BYTES for key in keys):
            raise _unusable(path, f"{kind!r} needs at least one key, each of {_BYTES} bytes")
        if len({key.key_id for key in keys}) != len(keys):
            raise _unusable(path, f"{kind!r} names a key twice")
    return Keys(codec=codec, vault=vault, token=token)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"a key's id is {value!r}")
    return value


def _unusable(path: Path, why: str) -> DependencyUnavailable:
    return DependencyUnavailable(
        f"the keys file {path} cannot be used: {why}",
        dependency=DEPENDENCY,
        hint="restore it from your backup; without it nothing stored can be read",
    )
