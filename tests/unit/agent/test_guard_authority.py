"""Who may write: never two, never an older epoch, and held until handed back."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import settings, strategies
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dumont.agent import authority
from dumont.agent.authority import PRIMARY, STANDBY, AuthorityFile, State
from dumont.agent.errors import AgentError

NOW = "2026-11-26T12:00:00.000Z"


def started(**changes: object) -> State:
    first = authority.first(epoch=3, host="10.0.0.1", port=22, sync_public_key="key3", now=NOW)
    return State(**{**first.__dict__, **changes})


def lost(state: State | None = None, **more: object) -> State:
    return authority.redirect(
        state or started(), cause="the link was lost", now=NOW, baseline={}, **more
    )


def fenced(state: State, epoch: int) -> State:
    return authority.fence(state, epoch=epoch, sync_public_key=f"key{epoch}", now=NOW, baseline={})


class Life(RuleBasedStateMachine):
    """Commands in any order, with any epochs, late and repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.state = started()
        self.epochs = [3]
        self.fence_pending = False

    def attempt(self, change: object) -> None:
        before = self.state
        try:
            self.state = change()  # type: ignore[operator]
        except AgentError:
            self.state = before
        self.epochs.append(self.state.epoch)

    epoch = strategies.integers(1, 8)

    @rule(forced=strategies.booleans())
    def redirect(self, forced: bool) -> None:
        self.attempt(lambda: lost(self.state, forced=forced))

    @rule(written=strategies.sampled_from([True, False, None]))
    def look(self, written: bool | None) -> None:
        was = self.state.written
        self.attempt(lambda: authority.observe_written(self.state, written))
        assert was is not True or self.state.written is True

    @rule()
    def heal(self) -> None:
        before = self.state
        self.attempt(lambda: authority.heal(self.state, now=NOW))
        if before != self.state:
            assert not before.held
            assert not before.forced
            assert before.written is False
            assert self.state.epoch == before.epoch

    @rule(epoch=epoch)
    def fence(self, epoch: int) -> None:
        before = self.state
        self.attempt(lambda: fenced(self.state, epoch))
        if self.state != before:
            assert self.state.held
            assert not authority.may_write(self.state, epoch)

    @rule(epoch=epoch)
    def configure(self, epoch: int) -> None:
        before = self.state
        self.attempt(
            lambda: authority.configure(
                self.state, epoch=epoch, host="h", port=1, sync_public_key=f"key{epoch}"
            )
        )
        assert (self.state.authority, self.state.held) == (before.authority, before.held)

    @rule()
    def quiesce(self) -> None:
        self.attempt(lambda: authority.quiesce(self.state))

    @rule(lapsed=strategies.booleans())
    def unquiesce(self, lapsed: bool) -> None:
        self.attempt(lambda: authority.unquiesce(self.state, lapsed=lapsed))

    @rule(epoch=epoch)
    def hand_back(self, epoch: int) -> None:
        before = self.state
        self.attempt(
            lambda: authority.hand_back(self.state, epoch=epoch, host="h", port=2, now=NOW)
        )
        if before.authority == STANDBY and self.state.authority == PRIMARY:
            assert before.held or before.waiting
            assert epoch == before.epoch

    @rule()
    def confirm(self) -> None:
        self.attempt(lambda: authority.confirm(self.state))

    @precondition(lambda self: self.state.held)
    @rule()
    def held_stays(self) -> None:
        before = self.state
        self.attempt(lambda: authority.heal(self.state, now=NOW))
        assert self.state == before

    @invariant()
    def one_writer(self) -> None:
        writers = [epoch for epoch in range(12) if authority.may_write(self.state, epoch)]
        assert len(writers) + (self.state.authority == STANDBY) == 1

    @invariant()
    def epochs_rise(self) -> None:
        assert self.epochs == sorted(self.epochs)

    @invariant()
    def whole(self) -> None:
        assert not (self.state.held and self.state.authority == PRIMARY)
        assert not (self.state.quiesced and self.state.authority == PRIMARY)


TestLife = Life.TestCase
TestLife.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def test_a_redirect_is_healed_only_when_it_is_known_that_nothing_was_written() -> None:
    state = lost()
    with pytest.raises(AgentError):
        authority.heal(state, now=NOW)
    healed = authority.heal(authority.observe_written(state, False), now=NOW)
    assert (healed.authority, healed.false_alarms, healed.redirects) == (PRIMARY, 1, 1)
    with pytest.raises(AgentError):
        authority.heal(authority.observe_written(state, True), now=NOW)


def test_a_drill_has_no_link_that_could_come_back() -> None:
    state = authority.observe_written(lost(forced=True), False)
    assert not authority.may_heal(state)


def test_a_late_fence_of_an_epoch_that_was_handed_back_is_refused() -> None:
    state = fenced(lost(), 4)
    state = authority.hand_back(state, epoch=4, host="10.0.0.2", port=23, now=NOW)
    assert authority.may_write(state, 4)
    assert not authority.may_read(state, 3)
    with pytest.raises(AgentError) as caught:
        fenced(state, 4)
    assert caught.value.code == "fenced"


def test_repeating_a_fence_or_a_hand_back_changes_nothing() -> None:
    state = fenced(lost(), 4)
    assert fenced(state, 4) == state
    back = authority.hand_back(state, epoch=4, host="h", port=2, now=NOW)
    again = authority.hand_back(back, epoch=4, host="h", port=2, now="later")
    assert again == back


def test_a_hand_back_that_never_worked_leads_back_to_held() -> None:
    state = authority.hand_back(fenced(lost(), 4), epoch=4, host="h", port=2, now=NOW)
    again = lost(state)
    assert again.held
    assert authority.hand_back(again, epoch=4, host="h2", port=2, now=NOW).host == "h2"
    settled = authority.confirm(state)
    assert not lost(settled).held


def test_nothing_is_handed_back_that_nobody_fenced() -> None:
    with pytest.raises(AgentError) as caught:
        authority.hand_back(lost(), epoch=3, host="h", port=2, now=NOW)
    assert caught.value.code == "not_fenced"


def test_a_quiescing_that_lapsed_must_be_repeated() -> None:
    state = authority.unquiesce(authority.quiesce(fenced(lost(), 4)), lapsed=True)
    with pytest.raises(AgentError) as caught:
        authority.hand_back(state, epoch=4, host="h", port=2, now=NOW)
    assert caught.value.code == "quiesce_lapsed"
    again = authority.quiesce(state)
    assert authority.hand_back(again, epoch=4, host="h", port=2, now=NOW).authority == PRIMARY


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"authority": "primary"}', '{"authority": "both", "epoch": 1}'],
)
def test_a_damaged_file_is_unknown_and_lets_nobody_write(tmp_path: Path, content: str) -> None:
    file = AuthorityFile(tmp_path / "authority.json")
    file.create(started())
    (tmp_path / "authority.json").write_text(content)
    with pytest.raises(AgentError) as caught:
        file.read()
    assert caught.value.code == authority.UNKNOWN


def test_a_lost_file_is_not_taken_for_a_first_start(tmp_path: Path) -> None:
    file = AuthorityFile(tmp_path / "authority.json")
    assert file.is_new()
    file.create(started())
    (tmp_path / "authority.json").unlink()
    assert not file.is_new()
    assert file.floor() == 3
    with pytest.raises(AgentError):
        authority.recover(epoch=3, floor=file.floor(), sync_public_key="k", now=NOW)
    assert authority.recover(epoch=4, floor=file.floor(), sync_public_key="k", now=NOW).held


def test_concurrent_changes_lose_none(tmp_path: Path) -> None:
    file = AuthorityFile(tmp_path / "authority.json")
    file.create(started(redirects=0))
    path = tmp_path / "authority.json"

    def count() -> None:
        mine = AuthorityFile(path)
        for _ in range(20):
            mine.change(lambda s: State(**{**s.__dict__, "redirects": s.redirects + 1}))

    threads = [threading.Thread(target=count) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert file.read().redirects == 80


_WRITER = """
import sys
from pathlib import Path
from dumont.agent.authority import AuthorityFile, State
file = AuthorityFile(Path(sys.argv[1]))
print("go", flush=True)
while True:
    file.change(lambda s: State(**{**s.__dict__, "redirects": s.redirects + 1}))
"""


def test_kill_at_any_moment_leaves_a_state_that_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "authority.json"
    file = AuthorityFile(path)
    file.create(started())
    seen = 0
    for _ in range(8):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)], stdout=subprocess.PIPE
        )
        assert writer.stdout is not None
        writer.stdout.readline()
        while file.read().redirects <= seen:
            pass
        writer.kill()
        writer.wait()
        writer.stdout.close()
        state = file.read()
        assert state.redirects > seen
        seen = state.redirects
    json.loads(path.read_text())
