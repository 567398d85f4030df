"""The configuration comes from outside: whatever is wrong in it is named, and nothing else happens."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from dumont.agent.config import parse, to_document
from dumont.agent.errors import AgentError

PRIMARY: dict[str, Any] = {
    "protocol": 1, "role": "primary", "machine_id": "m1", "name": "my-box", "generation": 3,
    "epoch": 5, "instance_id": "24000001",
    "heartbeat": {"url": "http://127.0.0.1/x", "token": "t", "every_s": 2.0},
    "mirror": {
        "host": "203.0.113.7", "port": 22, "user": "root", "host_key": "ssh-ed25519 AAAA",
        "private_key": "-----BEGIN OPENSSH PRIVATE KEY-----\nx", "excludes": ["*.pyc"],
        "streams": 10,
    },
    "dead_man": {
        "after_s": 86400, "method": "PUT", "url": "https://x/y/", "body": {"state": "stopped"},
        "key_variable": "CONTAINER_API_KEY",
    },
}  # fmt: skip
STANDBY: dict[str, Any] = {
    "protocol": 1, "role": "standby", "machine_id": "m1", "name": "my-box", "generation": 3,
    "epoch": 5, "instance_id": "1", "heartbeat": None,
    "endpoint": {"host": "203.0.113.7", "port": 2222, "sshd_port": 22},
    "primary": {"host": "198.51.100.4", "port": 40022, "sync_public_key": "ssh-ed25519 AAAA e5"},
}  # fmt: skip


def changed(document: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    new = copy.deepcopy(document)
    *folders, last = path.split(".")
    inner = new
    for folder in folders:
        inner = inner[folder]
    inner[last] = value
    return new


def test_both_roles_are_read_with_their_defaults() -> None:
    primary, standby = parse(PRIMARY), parse(STANDBY)
    assert primary.mirror is not None
    assert primary.mirror.excludes == ("*.pyc",)
    assert primary.mirror.private_key.endswith("\n")
    assert primary.endpoint is None
    assert standby.endpoint is not None
    assert standby.endpoint.check_ms == 50
    assert standby.primary is not None
    assert standby.mirror is None


def test_parts_may_be_null() -> None:
    config = parse({**PRIMARY, "mirror": None, "heartbeat": None, "dead_man": None})
    assert (config.mirror, config.heartbeat, config.dead_man) == (None, None, None)


def test_the_digest_follows_the_content_and_not_its_order() -> None:
    turned = dict(reversed(list(PRIMARY.items())))
    assert parse(turned).digest == parse(PRIMARY).digest
    assert parse(changed(PRIMARY, "epoch", 6)).digest != parse(PRIMARY).digest


@pytest.mark.parametrize(
    ("document", "path", "value"),
    [
        (PRIMARY, "protocol", 2),
        (PRIMARY, "role", "witness"),
        (PRIMARY, "epoch", -1),
        (PRIMARY, "epoch", True),
        (PRIMARY, "epoch", "5"),
        (PRIMARY, "machine_id", "../x"),
        (PRIMARY, "heartbeat.url", "file:///etc/passwd"),
        (PRIMARY, "heartbeat.token", "two\r\nlines"),
        (PRIMARY, "heartbeat.every_s", 0),
        (PRIMARY, "mirror.host", "-oProxyCommand=x"),
        (PRIMARY, "mirror.host", "a b"),
        (PRIMARY, "mirror.user", "root\nHost *"),
        (PRIMARY, "mirror.port", 70000),
        (PRIMARY, "mirror.host_key", "ssh-ed25519 AAAA\nother key"),
        (PRIMARY, "mirror.private_key", "secret"),
        (PRIMARY, "mirror.excludes", ["a\nb"]),
        (PRIMARY, "mirror.excludes", "*.pyc"),
        (PRIMARY, "mirror.streams", 0),
        (PRIMARY, "dead_man.method", "GET"),
        (PRIMARY, "dead_man.key_variable", "A=B"),
        (PRIMARY, "mirror", "none"),
        (STANDBY, "endpoint", None),
        (STANDBY, "endpoint.port", None),
        (STANDBY, "primary.sync_public_key", 'ssh-ed25519 AAAA\nssh-rsa BBBB"'),
    ],
)
def test_what_is_wrong_is_named(document: dict[str, Any], path: str, value: Any) -> None:
    with pytest.raises(AgentError) as caught:
        parse(changed(document, path, value))
    assert caught.value.code == "invalid"
    assert path in caught.value.message


@pytest.mark.parametrize("text", ["", "[]", "{", "null"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(AgentError):
        to_document(text)
