"""Fixtures of the simcloud tests: key pairs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.support.ssh import KeyPair, make_key_pair


@pytest.fixture(scope="session")
def make_key(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], KeyPair]:
    folder = tmp_path_factory.mktemp("keys")
    return lambda name: make_key_pair(folder, name)


@pytest.fixture(scope="session")
def key(make_key: Callable[[str], KeyPair]) -> KeyPair:
    return make_key("owner")
