#!/usr/bin/env bash
# Writes constraints.txt: the exact versions that pyproject.toml's bounds resolve to today.
#
# It resolves in a fresh environment of its own, so that nothing installed by hand slips in, and
# records names and versions only: no index address, no local path.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-.venv/bin/python}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip --disable-pip-version-check install -q ".[embedded,dev]"
{
  echo "# Exact versions for scripts/setup.sh. Made by \`make pins\`; do not edit."
  "$work/venv/bin/python" -m pip --disable-pip-version-check freeze --exclude dumont-cloud |
    grep -E '^[A-Za-z0-9._-]+==[^ ]+$' | LC_ALL=C sort -f
} > "$work/constraints.txt"
mv "$work/constraints.txt" constraints.txt
wc -l < constraints.txt | xargs printf '%s packages pinned\n'
