"""The keys file is made once, privately and completely, and never replaced."""

from __future__ import annotations

import json
import multiprocessing
import stat
from pathlib import Path

import pytest

from dumont.domain.errors import DependencyUnavailable
from dumont.security.keys import Keys, load_or_create_keys


def test_the_first_start_makes_a_private_file_and_the_next_reads_it(tmp_path: Path):
    path = tmp_path / "state" / "keys.json"
    keys = load_or_create_keys(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert load_or_create_keys(path) == keys
    assert [entry.name for entry in path.parent.iterdir()] == ["keys.json"]
    secrets = {key.key for kind in (keys.codec, keys.vault, keys.token) for key in kind}
    assert len(secrets) == 3
    assert all(len(secret) == 32 for secret in secrets)


def test_no_key_shows_in_a_representation(tmp_path: Path):
    keys = load_or_create_keys(tmp_path / "keys.json")
    assert repr(keys.vault[0].key)[2:-1] not in repr(keys)


def _load(path: str) -> Keys:
    return load_or_create_keys(Path(path))


def test_processes_that_start_together_agree(tmp_path: Path):
    with multiprocessing.get_context("fork").Pool(8) as pool:
        found = pool.map(_load, [str(tmp_path / "keys.json")] * 16)
    assert all(keys == found[0] for keys in found)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"version": 2}',
        '{"version": 1, "codec": [], "vault": [], "token": []}',
        '{"version": 1, "codec": [{"id": "a", "key": "AAAA"}], "vault": [], "token": []}',
        '{"version": 1, "codec": [{"id": 5, "key": "AAAA"}], "vault": [], "token": []}',
        "\xff",
    ],
)
def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, text: str):
    path = tmp_path / "keys.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(DependencyUnavailable, match=r"keys\.json") as caught:
        load_or_create_keys(path)
    assert "backup" in (caught.value.hint or "")
    assert path.read_text(encoding="latin-1") == text


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DependencyUnavailable, match="cannot be used"):
        load_or_create_keys(tmp_path / "file" / "keys.json")


def test_several_keys_of_a_kind_keep_their_order(tmp_path: Path):
    path = tmp_path / "keys.json"
    first = load_or_create_keys(path)
    document = json.loads(path.read_text())
    document["vault"].insert(0, {"id": "newer", "key": document["codec"][0]["key"]})
    path.write_text(json.dumps(document))
    assert [key.key_id for key in load_or_create_keys(path).vault] == [
        "newer",
        first.vault[0].key_id,
    ]
