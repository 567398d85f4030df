"""Which rsync a primary may start on the standby.

A rented host is not trusted. It may say `rsync --server` with options from a list, and with paths that
stay in the workspace; everything that names another file, another program or a daemon is refused. The
kernel confines the process besides, where it can (`guard_confine.py`): rsync itself follows symbolic
links in the names that its client sends later.
"""

from __future__ import annotations

import os

from dumont.agent.errors import AgentError

_FLAGS = frozenset("vqclptgodHAXEUNrnSWxIuzCimJO0yhPR")
"""Short options without a value. Not among them: following links to folders (K, k), copying links as
files (L), backups (b), devices (D, a), and -s, whose arguments cannot be seen."""

_PLAIN = frozenset(
    [
        "append",
        "append-verify",
        "delay-updates",
        "delete",
        "delete-after",
        "delete-before",
        "delete-delay",
        "delete-during",
        "delete-excluded",
        "delete-missing-args",
        "dirs",
        "existing",
        "existing-only",
        "force",
        "from0",
        "fsync",
        "fuzzy",
        "hard-links",
        "ignore-errors",
        "ignore-existing",
        "ignore-missing-args",
        "ignore-times",
        "implied-dirs",
        "inplace",
        "links",
        "munge-links",
        "no-implied-dirs",
        "no-inc-recursive",
        "no-relative",
        "no-r",
        "no-whole-file",
        "numeric-ids",
        "old-compress",
        "new-compress",
        "omit-dir-times",
        "omit-link-times",
        "one-file-system",
        "open-noatime",
        "partial",
        "preallocate",
        "preserve-atimes",
        "recursive",
        "safe-links",
        "size-only",
        "sparse",
        "specials",
        "stats",
        "use-qsort",
        "whole-file",
        "xattrs",
        "acls",
        "atimes",
        "crtimes",
    ]
)
_VALUED = frozenset(
    [
        "block-size",
        "bwlimit",
        "checksum-choice",
        "checksum-seed",
        "compress-choice",
        "compress-level",
        "compress-threads",
        "debug",
        "info",
        "iconv",
        "log-format",
        "max-alloc",
        "max-delete",
        "max-size",
        "min-size",
        "modify-window",
        "out-format",
        "skip-compress",
        "stop-after",
        "timeout",
        "zc",
        "zl",
        "cc",
    ]
)


def check(words: list[str], workspace: str) -> bool:
    """Whether the command writes the workspace; it is to be run in it.

    Args:
        words: The command as the client sent it, from `rsync` on.
        workspace: Its real path.

    Raises:
        AgentError: It is not allowed; names the word.
    """
    if words[:2] != ["rsync", "--server"]:
        raise _refused(" ".join(words[:2]))
    rest = words[2:]
    sends = rest[:1] == ["--sender"]
    if sends:
        rest = rest[1:]
    while rest and rest[0].startswith("-"):
        _check_option(rest.pop(0), sends)
    if rest[:1] != ["."] or len(rest) < 2 or (not sends and len(rest) != 2):
        raise _refused(" ".join(rest)[:100] or "no paths")
    for path in rest[1:]:
        _check_path(path, workspace, sends)
    return not sends


def _check_option(word: str, sends: bool) -> None:
    if word.startswith("--"):
        name, equals, value = word[2:].partition("=")
        if equals:
            # Names come over the connection: a file name here would be read on this machine.
            if name in _VALUED or (name == "files-from" and value == "-"):
                return
        elif name in _PLAIN or (name == "remove-source-files" and not sends):
            return
        raise _refused(word)
    flags, at, number = word[1:].partition("@")
    if at and (flags or not number.lstrip("-").isdigit()):
        raise _refused(word)
    # What follows `e.` are the client's capabilities.
    flags, dot, capabilities = flags.partition("e.")
    if dot and not capabilities.replace(".", "").isalnum():
        raise _refused(word)
    if word[1:2] in ("B", "M", "T") or not set(flags) <= _FLAGS:
        raise _refused(word)


def _check_path(path: str, workspace: str, sends: bool) -> None:
    parts = path.split("/")
    wild = any(character in path for character in "*?[\\")
    if not path or path.startswith("-") or ".." in parts or "\0" in path or (sends and wild):
        raise _refused(path)
    real = os.path.realpath(os.path.join(workspace, path))
    if real != workspace and not real.startswith(workspace.rstrip("/") + "/"):
        raise _refused(path)


def _refused(what: str) -> AgentError:
    return AgentError(f"not allowed: {what}", code="invalid")
