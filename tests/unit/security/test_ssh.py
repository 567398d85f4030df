"""Public keys that owners hand us stand in authorized_keys files: they must be keys, and only keys."""

from __future__ import annotations

import subprocess
from pathlib import Path

import asyncssh
import pytest

from dumont.domain.errors import InvalidInput
from dumont.security.ssh import new_machine_secrets, parse_public_key

ED25519 = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
PRIVATE = asyncssh.generate_private_key("ssh-ed25519").export_private_key().decode()
SECURITY_KEY = (
    "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAILeSUCWLuAEt6qkvkRVHg"
    "9mBp4ToC61JQcqEPBWZPO12AAAABHNzaDo= token"
)


@pytest.mark.parametrize("kind", ["ssh-ed25519", "ecdsa-sha2-nistp256", "ssh-rsa"])
def test_a_key_as_ssh_keygen_writes_it_is_taken(kind: str):
    line = asyncssh.generate_private_key(kind, comment="me@host").export_public_key().decode()
    assert parse_public_key(line).line == line.strip()


def test_a_hardware_key_is_taken():
    assert parse_public_key(SECURITY_KEY).line == SECURITY_KEY


def test_the_fingerprint_is_the_one_ssh_keygen_prints(tmp_path: Path):
    (tmp_path / "key.pub").write_text(ED25519 + "\n")
    printed = subprocess.run(
        ["ssh-keygen", "-lf", tmp_path / "key.pub"], check=True, capture_output=True, text=True
    ).stdout
    assert parse_public_key(ED25519).fingerprint in printed


def test_a_comment_is_kept_harmless():
    assert parse_public_key(f"{ED25519}  a\tb\x1b[31m é").line.endswith(" a b [31m")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "ssh-ed25519",
        "ssh-ed25519 AAAA",
        "ssh-dss AAAAB3NzaC1kc3M=",
        f'command="/bin/sh" {ED25519}',
        f"{ED25519}\n{ED25519}",
        f"{ED25519} x\nssh-ed25519 AAAA evil",
        "ssh-rsa " + ED25519.split()[1],
        asyncssh.generate_private_key("ssh-rsa", key_size=1024).export_public_key().decode(),
    ],
    ids=range(10),  # the keys are new in each process, and names must be the same in all
)
def test_anything_else_is_refused_by_field(text: str):
    with pytest.raises(InvalidInput) as caught:
        parse_public_key(text, field="ssh_keys.0")
    assert caught.value.field == "ssh_keys.0"


def test_a_private_key_is_refused_and_not_repeated():
    with pytest.raises(InvalidInput, match="private key") as caught:
        parse_public_key(PRIVATE)
    assert PRIVATE.splitlines()[1] not in str(caught.value.message)


def test_a_machine_gets_two_pairs_that_openssh_reads(tmp_path: Path):
    made = new_machine_secrets("m0123456789ab")
    for private, public in (
        (made.host_key_private, made.host_key_public),
        (made.access_key_private, made.access_key_public),
    ):
        (tmp_path / "key").write_text(private)
        (tmp_path / "key").chmod(0o600)
        shown = subprocess.run(
            ["ssh-keygen", "-yf", tmp_path / "key"], check=True, capture_output=True, text=True
        ).stdout
        assert shown.split()[:2] == public.split()[:2]
    assert made.host_key_public != made.access_key_public
