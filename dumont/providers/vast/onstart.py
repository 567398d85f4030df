"""Makes a start script fit the 4,048 characters that Vast.ai takes."""

from __future__ import annotations

import base64
import gzip

from dumont.domain.errors import RequestRefused
from dumont.providers.vast.errors import PROVIDER

MAX_CHARS = 4048
"""Longest `onstart` of a create call."""

_WRAPPER = """#!/bin/sh
f="$(mktemp)" && printf %s {packed} | base64 -d | gzip -dc >"$f" && sh "$f"
s=$?
rm -f "$f"
exit $s
"""


def fit_onstart(script: str) -> str:
    """The script itself if it fits, otherwise a small one that unpacks and runs it.

    Raises:
        RequestRefused: It does not fit packed either.
    """
    if len(script) <= MAX_CHARS and script.isascii():
        return script
    packed = base64.b64encode(gzip.compress(script.encode(), 9, mtime=0)).decode()
    wrapped = _WRAPPER.format(packed=packed)
    if len(wrapped) > MAX_CHARS:
        raise RequestRefused(
            f"the start script needs {len(wrapped)} characters even when packed; "
            f"Vast.ai takes {MAX_CHARS}",
            provider=PROVIDER,
            field="setup_script",
            hint="shorten setup_script, or use fewer or shorter SSH keys (ed25519 keys are short)",
        )
    return wrapped
