"""The dashboard's own checks: types, lint, components, and what its build and lock file promise."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
WEB = ROOT / "web"
ENTRY_KB = 95
"""Gzipped JavaScript of the first screen, at most."""


def npm(*arguments: str, **environment: str) -> str:
    """Run a script of web/package.json."""
    own = ROOT / ".venv-node/bin/npm"
    program = str(own) if own.exists() else shutil.which("npm")
    assert program, "no npm: scripts/setup.sh brings one"
    done = subprocess.run(
        [program, "run", "--silent", *arguments],
        cwd=WEB, env=os.environ | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_types_and_lint() -> None:
    npm("check")


def test_components() -> None:
    npm("test")


def test_the_api_types_are_the_apis(tmp_path: Path) -> None:
    kept = WEB / "src/api/schema.d.ts"
    fresh = tmp_path / "schema.d.ts"
    npm("generate", OUTPUT=str(fresh))
    assert fresh.read_text() == kept.read_text(), "run `npm run generate` in web/"


def test_the_lock_file_names_no_registry() -> None:
    assert '"resolved"' not in (WEB / "package-lock.json").read_text()


def test_the_build_keeps_its_promises(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    npm("build", "--", "--outDir", str(dist))
    page = (dist / "index.html").read_text()
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bon\w+=|style=", page), "inline code"
    assert not re.search(r"(?:src|href)=\"(?:https?:)?//", page), "another origin"
    entry = re.search(r'src="(/assets/index-[\w-]+\.js)"', page)
    assert entry is not None
    script = dist / entry[1].lstrip("/")
    size = len(gzip.compress(script.read_bytes(), 9)) / 1000
    assert size <= ENTRY_KB, f"{size:.1f} KB of JavaScript for the first screen"
    for path in [script, *dist.glob("assets/*.css")]:
        for suffix in (".br", ".gz"):
            assert path.with_name(path.name + suffix).stat().st_size < path.stat().st_size
    text = "".join(path.read_text() for path in dist.glob("assets/*.css"))
    assert not re.search(r"url\(\s*['\"]?(?:https?:)?//", text), "a font or picture from elsewhere"
    assert "eval(" not in script.read_text()


def test_pins_are_exact() -> None:
    package = json.loads((WEB / "package.json").read_text())
    versions = package["dependencies"] | package["devDependencies"]
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions.values()), versions
