"""Watching: every event once and in order, whatever becomes of the stream."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.cli.client import Api
from dumont.cli.credentials import Server
from dumont.cli.sse import Message, decode, lines
from dumont.cli.watch import PATIENCE_S, Watcher
from dumont.domain.errors import DependencyUnavailable, NotFound
from dumont.domain.ladder import Rung
from dumont.domain.resources import EventView, MachineView
from tests.unit.cli.fake_api import FakeApi, problem


def watcher(fake: FakeApi, machine: dict[str, Any], **more: Any) -> Watcher:
    api = Api(server=Server(url=fake.url, api_key="key-1"), sleep=lambda s: None)
    return Watcher(api=api, machine_id=machine["machine_id"], sleep=lambda s: None, **more)


def until_running(watch: Watcher) -> tuple[list[int], MachineView]:
    seqs = []
    for update in watch.updates():
        if isinstance(update, EventView):
            seqs.append(update.seq)
        elif update.phase == "running":
            return seqs, update
    raise AssertionError("unreachable")


def life(fake: FakeApi) -> dict[str, Any]:
    machine = fake.add_machine()
    other = fake.add_machine("other")
    fake.event(machine, "machine.requested", "requested")
    for second, rung in enumerate(Rung):
        fake.event(other, "machine.requested", "noise")
        fake.climb(machine, rung, at_s=second)
    return machine


def test_the_stream_tells_everything_once_in_order(fake: FakeApi) -> None:
    machine = life(fake)
    fake.on_stream = lambda api: None if machine["instance"] else api.run(machine) and None
    seqs, view = until_running(watcher(fake, machine))
    mine = [e["seq"] for e in fake.events if e["machine_id"] == machine["machine_id"]]
    assert seqs == mine[: len(seqs)]
    assert view.ssh is not None
    assert fake.streams == [0]


def test_a_stream_that_keeps_breaking_loses_and_repeats_nothing(fake: FakeApi) -> None:
    machine = life(fake)
    fake.run(machine)
    fake.stream_breaks_after = 2
    mine = [e["seq"] for e in fake.events if e["machine_id"] == machine["machine_id"]]
    seqs: list[int] = []
    for update in watcher(fake, machine).updates():
        if isinstance(update, EventView):
            seqs.append(update.seq)
        elif len(fake.streams) > 1:
            break
    assert seqs == mine
    assert fake.streams[0] == 0
    assert fake.streams[1] > 0, "it resumed from the start"


def test_without_a_stream_asking_takes_its_place(fake: FakeApi) -> None:
    machine = life(fake)
    fake.run(machine)
    fake.stream_down = True
    watch = watcher(fake, machine)
    seqs, view = until_running(watch)
    assert seqs == [e["seq"] for e in fake.events if e["machine_id"] == machine["machine_id"]]
    assert view.phase == "running"
    assert not watch.live


def test_a_change_without_an_event_is_seen_at_the_next_ping(fake: FakeApi) -> None:
    machine = fake.add_machine()
    fake.on_stream = lambda api: machine.update(phase="running")
    seqs, view = until_running(watcher(fake, machine))
    assert (seqs, view.phase) == ([], "running")


def test_a_server_away_for_too_long_is_given_up(fake: FakeApi) -> None:
    machine = fake.add_machine()
    fake.stream_down = True
    path = f"/machines/{machine['machine_id']}/events"
    for _ in range(40):
        fake.answer_once("GET", path, problem(503, "dependency_unavailable", "no database"))
    moments = iter(range(0, 10_000, int(PATIENCE_S / 2)))
    with pytest.raises(DependencyUnavailable):
        list(watcher(fake, machine, clock=lambda: float(next(moments))).updates())


def test_a_machine_that_is_not_there_ends_the_watch(fake: FakeApi) -> None:
    fake.stream_down = True
    path = "/machines/m0/events"
    fake.answer_once("GET", path, problem(404, "not_found", "no such machine"))
    with pytest.raises(NotFound):
        list(watcher(fake, {"machine_id": "m0"}).updates())


text = st.text(alphabet=st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"))


@given(
    messages=st.lists(
        st.tuples(st.sampled_from(["machine", "a.b"]), text.filter(bool)), max_size=5
    ),
    end=st.sampled_from(["\n", "\r\n"]),
    cuts=st.lists(st.integers(0, 400), max_size=8),
)
def test_messages_survive_any_cut_of_the_bytes(
    messages: list[tuple[str, str]], end: str, cuts: list[int]
) -> None:
    wire = "".join(
        f": ping{end}{end}id: {n}{end}event: {kind}{end}data: {data}{end}{end}"
        for n, (kind, data) in enumerate(messages)
    )
    edges = [0, *sorted(min(cut, len(wire)) for cut in cuts), len(wire)]
    chunks = [wire[a:b] for a, b in pairwise(edges)]
    read = [message for message in decode(lines(chunks)) if not message.ping]
    assert read == [Message(kind, data, str(n)) for n, (kind, data) in enumerate(messages)]
