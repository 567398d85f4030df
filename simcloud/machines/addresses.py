"""Loopback addresses for machines: one /16 below 127.0.0.0/8 for each running simcloud.

Several simclouds may run on one computer. Each holds a guard socket in its network for as long as
it lives, so that the kernel itself keeps two of them apart and forgets the claim on death.
"""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Collection as AbstractCollection

from simcloud.store import Store

_GUARD_PORT = 48999


def free_address(used: AbstractCollection[str], *, network: str = "127.16") -> str:
    """Return the first address of `network` that is not in `used`.

    Args:
        used: Addresses already given away.
        network: The first two numbers of a /16 other than 127.0.

    Raises:
        RuntimeError: If all 62,500 addresses of the network are taken.
    """
    for third in range(1, 251):
        for fourth in range(1, 251):
            address = f"{network}.{third}.{fourth}"
            if address not in used:
                return address
    raise RuntimeError(f"{network}.0.0/16 has no free address left")


class AddressPool:
    """The durable book of who has which address."""

    def __init__(self, store: Store, *, seed: str) -> None:
        """Claim a network, if possible the one this state used before.

        Args:
            store: Where the book is kept.
            seed: Text that decides which network is tried first, e.g. the state directory.

        Raises:
            RuntimeError: If every network is held by another simcloud.
        """
        self._documents = store.collection("addresses")
        self._settings = store.collection("settings")
        self._owners: dict[str, str] = dict(self._documents.items())
        previous = self._settings.get("network")
        self._guard, self.network = _claim_network(seed, previous)
        if previous is not None and previous != self.network:
            self._move(previous)
        self._settings.put("network", self.network)

    def claim(self, owner: str) -> str:
        """Return a fresh address and write down its owner; `release` gives it back."""
        address = free_address(self._owners, network=self.network)
        self._owners[address] = owner
        self._documents.put(address, owner)
        return address

    def release(self, address: str) -> None:
        """Give an address back."""
        self._owners.pop(address, None)
        self._documents.delete(address)

    def release_of(self, owner: str) -> None:
        """Give back every address of an owner."""
        for address in [each for each, name in self._owners.items() if name == owner]:
            self.release(address)

    def relocate(self, address: str) -> str:
        """Return `address` as it reads in the network held now.

        Records keep full addresses; after a restart in another network they are passed through
        here once.
        """
        _, _, third, fourth = address.split(".")
        return f"{self.network}.{third}.{fourth}"

    def close(self) -> None:
        """Give the network up."""
        self._guard.close()

    def _move(self, previous: str) -> None:
        for address, owner in list(self._owners.items()):
            if address.startswith(previous + "."):
                self.release(address)
                moved = self.relocate(address)
                self._owners[moved] = owner
                self._documents.put(moved, owner)


def _claim_network(seed: str, previous: str | None) -> tuple[socket.socket, str]:
    first = hashlib.sha256(seed.encode()).digest()[0]
    candidates = [f"127.{16 + (first + step) % 224}" for step in range(224)]
    if previous is not None:
        candidates.insert(0, previous)
    for network in candidates:
        guard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            guard.bind((f"{network}.255.254", _GUARD_PORT))
        except OSError:
            guard.close()
            continue
        return guard, network
    raise RuntimeError("all loopback networks are held by other simclouds on this computer")
