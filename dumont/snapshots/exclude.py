"""What a snapshot leaves out, by patterns as in .gitignore and rsync."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable


class Excludes:
    """Patterns; called with a path and whether it is a directory.

    `name` matches anywhere, `/name` at the top, `a/b` below any folder, `name/` only folders; `*` and `?`
    do not cross a slash, `**` does.

    Args:
        patterns: One each.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        rules = [_rule(pattern) for pattern in patterns if pattern.strip()]
        self._any = [re.compile(text.encode()) for text, only_folders in rules if not only_folders]
        self._folders = [re.compile(text.encode()) for text, only_folders in rules if only_folders]

    def __call__(self, path: bytes, is_folder: bool) -> bool:
        """Whether it is left out."""
        if any(rule.fullmatch(path) for rule in self._any):
            return True
        return is_folder and any(rule.fullmatch(path) for rule in self._folders)


def _rule(pattern: str) -> tuple[str, bool]:
    only_folders = pattern.endswith("/")
    body = pattern.strip("/") if pattern.startswith("/") else pattern.rstrip("/")
    text = ""
    for part in re.split(r"(\*\*/?|\*|\?|\[[^]]*\])", body):
        if part.startswith("**"):
            text += "(?:.*/)?" if part.endswith("/") else ".*"
        elif part == "*":
            text += "[^/]*"
        elif part == "?":
            text += "[^/]"
        elif part.startswith("["):
            text += fnmatch.translate(part).removeprefix("(?s:").removesuffix(r")\Z")
        else:
            text += re.escape(part)
    anchored = pattern.startswith("/")
    return ("" if anchored else "(?:.*/)?") + text, only_folders
