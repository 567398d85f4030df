"""Idleness as typed calls: one method for each thing a command asks of the API."""

from __future__ import annotations

from dumont.cli.calls import Calls, part
from dumont.domain.idle import IdlePolicy, KeepAlive
from dumont.domain.idle_resources import IdlePolicyOrder, IdleView, KeepAliveOrder


class IdleCalls(Calls):
    """Calls about idleness."""

    def explain(self, *, ref: str) -> IdleView:
        """Whether a machine is idle, and why."""
        return self._read(f"/machines/{part(ref)}/idle", IdleView)

    def set_policy(self, *, ref: str, order: IdlePolicyOrder) -> IdlePolicy:
        """Change what is given; returns the whole policy."""
        path = f"/machines/{part(ref)}/idle-policy"
        response = self._http.call("PUT", path, json=order.said(), repeatable=True)
        return self._parse(response, IdlePolicy)

    def keep_alive(self, *, ref: str, order: KeepAliveOrder) -> KeepAlive:
        """Keep a machine up for a while."""
        path = f"/machines/{part(ref)}/keep-alive"
        said = order.model_dump(mode="json", exclude_none=True)
        return self._parse(self._http.call("POST", path, json=said, repeatable=True), KeepAlive)

    def stop_keep_alive(self, *, ref: str) -> None:
        """Keep it up no longer than it is used."""
        self._http.call("DELETE", f"/machines/{part(ref)}/keep-alive", repeatable=True)
