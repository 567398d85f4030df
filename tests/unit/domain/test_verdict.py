"""Evidence: silence proves nothing, one witness replaces nothing, life always helps."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dumont.domain.verdict import (
    Sign,
    Source,
    Thresholds,
    VerdictKind,
    Witness,
    judge,
    may_destroy,
    may_replace,
)

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
LIMITS = Thresholds()
SEVERITY = {
    VerdictKind.HEALTHY: 0,
    VerdictKind.UNKNOWN: 0,
    VerdictKind.SUSPECT: 1,
    VerdictKind.UNREACHABLE: 2,
    VerdictKind.LOST: 3,
}


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def says(
    source: Source, sign: Sign, *, heard: float | None = 0.0, since: float | None = None
) -> Witness:
    return Witness(
        source=source,
        sign=sign,
        news_at=None if heard is None else ago(heard),
        since=None if since is None else ago(since),
    )


LINK_DOWN = says(Source.LINK, Sign.LOST, since=20)
LINK_UP = says(Source.LINK, Sign.ALIVE, since=20)
NO_LOGIN = says(Source.SSH, Sign.LOST)
LOGIN = says(Source.SSH, Sign.ALIVE)
BEATS = says(Source.HEARTBEAT, Sign.ALIVE, heard=1)
LEASE_EXPIRED = says(Source.HEARTBEAT, Sign.ALIVE, heard=60)
NEVER_HEARD = says(Source.HEARTBEAT, Sign.SILENT, heard=None)
RUNS = says(Source.PROVIDER, Sign.ALIVE)
ENDED = says(Source.PROVIDER, Sign.ENDED)
OFFLINE = says(Source.PROVIDER, Sign.LOST)
PROVIDER_ERROR = says(Source.PROVIDER, Sign.SILENT, heard=None)


def kind(*witnesses: Witness) -> VerdictKind:
    return judge(witnesses, now=NOW).kind


@pytest.mark.parametrize(
    ("witnesses", "expected"),
    [
        ((), VerdictKind.UNKNOWN),
        ((NEVER_HEARD, PROVIDER_ERROR), VerdictKind.UNKNOWN),
        ((LINK_UP, BEATS, RUNS), VerdictKind.HEALTHY),
        ((BEATS, PROVIDER_ERROR), VerdictKind.HEALTHY),
        ((LINK_DOWN,), VerdictKind.SUSPECT),
        ((LEASE_EXPIRED, RUNS), VerdictKind.SUSPECT),
        ((LINK_DOWN, NO_LOGIN, BEATS), VerdictKind.SUSPECT),
        ((LINK_DOWN, NO_LOGIN, RUNS), VerdictKind.UNREACHABLE),
        ((LINK_DOWN, NO_LOGIN, LEASE_EXPIRED, RUNS), VerdictKind.LOST),
        ((LINK_DOWN, NO_LOGIN), VerdictKind.LOST),
        ((LINK_DOWN, LEASE_EXPIRED), VerdictKind.LOST),
        ((LINK_DOWN, ENDED), VerdictKind.LOST),
        ((LINK_DOWN, OFFLINE), VerdictKind.LOST),
        ((ENDED, LOGIN), VerdictKind.SUSPECT),
    ],
)
def test_what_witnesses_mean_together(witnesses: tuple[Witness, ...], expected: VerdictKind):
    assert kind(*witnesses) is expected


def test_a_link_that_just_broke_says_nothing_yet():
    assert kind(says(Source.LINK, Sign.LOST, since=3), NO_LOGIN) is VerdictKind.SUSPECT


def test_a_provider_that_says_running_is_believed_for_a_while_only():
    long_down = says(Source.LINK, Sign.LOST, since=LIMITS.contradicted_s)
    assert kind(LINK_DOWN, NO_LOGIN, RUNS) is VerdictKind.UNREACHABLE
    assert kind(long_down, NO_LOGIN, RUNS) is VerdictKind.LOST


def test_the_reason_names_the_witnesses():
    down = LINK_DOWN.model_copy(update={"words": "no banner for 20 s"})
    verdict = judge([down, BEATS.model_copy(update={"words": "heard 1 s ago"})], now=NOW)
    assert verdict.reason == "no banner for 20 s; yet heard 1 s ago"


def test_nobody_counts_twice():
    assert kind(LINK_DOWN, LINK_DOWN) is VerdictKind.SUSPECT
    lost_heartbeat = says(Source.HEARTBEAT, Sign.LOST, heard=60)
    assert kind(lost_heartbeat, LEASE_EXPIRED) is VerdictKind.SUSPECT


def test_the_latest_word_of_a_source_counts():
    resumed = says(Source.PROVIDER, Sign.ALIVE, heard=1)
    outbid = says(Source.PROVIDER, Sign.ENDED, heard=20)
    assert not may_destroy([outbid, resumed], owner_said_so=False, now=NOW)
    assert may_destroy([outbid], owner_said_so=False, now=NOW)


def test_old_proof_is_none():
    outbid_long_ago = says(Source.PROVIDER, Sign.ENDED, heard=LIMITS.fresh_s + 1)
    assert not may_destroy([outbid_long_ago], owner_said_so=False, now=NOW)
    assert kind(outbid_long_ago, LINK_DOWN) is VerdictKind.SUSPECT


def test_the_owners_word_is_enough():
    assert may_destroy([BEATS, RUNS], owner_said_so=True, now=NOW)


seconds = st.floats(min_value=0, max_value=10_000, allow_nan=False)
witness = st.builds(
    says,
    st.sampled_from(Source),
    st.sampled_from(Sign),
    heard=st.none() | seconds,
    since=st.none() | seconds,
)
silent = st.one_of(
    st.builds(says, st.sampled_from(Source), st.sampled_from(Sign), heard=st.none(), since=seconds),
    st.builds(
        says,
        st.sampled_from([Source.LINK, Source.SSH, Source.PROVIDER]),
        st.just(Sign.SILENT),
        heard=seconds,
        since=seconds,
    ),
)
alive = st.builds(
    says,
    st.sampled_from(Source),
    st.just(Sign.ALIVE),
    heard=st.floats(min_value=0, max_value=LIMITS.heartbeat_lease_s),
    since=st.none() | seconds,
)


@given(st.lists(silent))
def test_silence_and_errors_never_prove_anything(witnesses: list[Witness]):
    assert kind(*witnesses) is VerdictKind.UNKNOWN
    assert not may_replace(witnesses, now=NOW)
    assert not may_destroy(witnesses, owner_said_so=False, now=NOW)


@given(witness, st.lists(silent))
def test_one_witness_replaces_nothing(alone: Witness, others: list[Witness]):
    assert not may_replace([alone, *others], now=NOW)


@given(st.lists(witness), st.lists(silent))
def test_nothing_is_ended_without_the_providers_word(
    witnesses: list[Witness], others: list[Witness]
):
    without = [w for w in witnesses if w.source is not Source.PROVIDER]
    assert not may_destroy([*without, *others], owner_said_so=False, now=NOW)


@settings(max_examples=500)
@given(st.lists(witness, max_size=8), alive)
def test_a_sign_of_life_never_moves_towards_lost(witnesses: list[Witness], life: Witness):
    before, after = judge(witnesses, now=NOW), judge([*witnesses, life], now=NOW)
    assert SEVERITY[after.kind] <= SEVERITY[before.kind], (before, after)


@settings(max_examples=500)
@given(st.lists(witness, max_size=8), st.lists(silent, max_size=4))
def test_silence_changes_no_verdict(witnesses: list[Witness], others: list[Witness]):
    assert judge([*witnesses, *others], now=NOW) == judge(witnesses, now=NOW)


@given(st.lists(witness, max_size=6), st.randoms())
def test_the_order_of_witnesses_does_not_matter(witnesses: list[Witness], shuffled: random.Random):
    other = list(witnesses)
    shuffled.shuffle(other)
    assert kind(*other) is kind(*witnesses)


def test_of_two_words_of_the_same_moment_the_milder_one_counts():
    lasting, unknown = LINK_DOWN, says(Source.LINK, Sign.LOST)
    for both in ((lasting, unknown), (unknown, lasting)):
        assert kind(*both) is kind(unknown)
        assert kind(*both) is not kind(lasting)


@pytest.mark.parametrize("seed", range(3))
def test_a_provider_that_stumbles_for_a_day_replaces_nothing(seed: int):
    """25 time-outs of the status call over 19 hours, some of them in a row, all else well."""
    dice = random.Random(seed)
    polls = 19 * 3600 // 5
    burst = dice.randrange(polls - 8)
    in_a_row = range(burst, burst + 8)
    times_out = {*in_a_row, *dice.sample([n for n in range(polls) if n not in in_a_row], 17)}
    start, last_answer = NOW, NOW
    replaced = ended = 0
    for poll in range(polls):
        at = start + timedelta(seconds=5 * poll)
        answered = poll not in times_out
        last_answer = at if answered else last_answer
        witnesses = [
            Witness(source=Source.LINK, sign=Sign.ALIVE, news_at=at, since=start),
            Witness(
                source=Source.HEARTBEAT,
                sign=Sign.ALIVE,
                news_at=at - timedelta(seconds=dice.uniform(0, 4)),
            ),
            Witness(
                source=Source.PROVIDER,
                sign=Sign.ALIVE if answered else Sign.SILENT,
                news_at=last_answer,
            ),
        ]
        replaced += may_replace(witnesses, now=at)
        ended += may_destroy(witnesses, owner_said_so=False, now=at)
        # The control plane's own network may be gone at the same time: nothing reaches it at all.
        blind = [w.model_copy(update={"sign": Sign.SILENT, "news_at": None}) for w in witnesses]
        if not answered:
            replaced += may_replace(blind, now=at)
    assert (len(times_out), replaced, ended) == (25, 0, 0)
