"""Labels, names and GPU models: what people and providers hand us as text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.domain import labels
from dumont.domain.errors import InvalidInput
from dumont.domain.gpus import KNOWN_GPUS, canonical_gpu
from dumont.domain.names import check_machine_name, machine_id_for

MACHINE = "m0123456789ab"
env = st.from_regex(r"[a-z][a-z0-9]{0,11}", fullmatch=True)


@given(env, st.integers(1, 999_999), st.integers(1, 9_999))
def test_a_label_reads_back_as_it_was_written(env: str, generation: int, attempt: int) -> None:
    label = labels.Label(env, MACHINE, generation, attempt)
    assert labels.parse(str(label), env=env) == label
    assert str(label).startswith(labels.machine_prefix(env=env, machine_id=MACHINE))


@given(st.text(max_size=60))
def test_no_foreign_text_is_taken_for_a_label(text: str) -> None:
    parsed = labels.parse(text, env="prod")
    assert parsed is None or str(parsed) == text


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "my instance",
        "dmt-demo-m0123456789ab-g1-a1",  # another environment
        "dmt-prod-m0123456789ab-g0-a1",
        "dmt-prod-m0123456789ab-g1-a1-copy",
        " dmt-prod-m0123456789ab-g1-a1",
        "dmt-prod-m0123456789AB-g1-a1",
        "dmt-prod2-m0123456789ab-g1-a1",
    ],
)
def test_what_is_not_exactly_ours_is_not_ours(text: str | None) -> None:
    assert labels.parse(text, env="prod") is None


@pytest.mark.parametrize("name", ["my-box", "a", "a1", "x" * 40])
def test_good_names(name: str) -> None:
    assert check_machine_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "my/box", "../etc", "-a", "a-", "A", "1a", "x" * 41, "a b", "a\n", "é"]
)
def test_bad_names_are_refused_with_what_is_allowed(name: str) -> None:
    with pytest.raises(InvalidInput, match="lower-case letters, digits and hyphens") as caught:
        check_machine_name(name)
    assert caught.value.field == "name"


def test_the_same_request_names_the_same_machine() -> None:
    first = machine_id_for(owner_id="u1", idempotency_key="k")
    assert first == machine_id_for(owner_id="u1", idempotency_key="k")
    assert first != machine_id_for(owner_id="u2", idempotency_key="k")
    assert labels.parse(str(labels.Label("prod", first, 1, 1)), env="prod") is not None


@pytest.mark.parametrize("typed", ["RTX 4090", "rtx4090", "RTX_4090", "4090", "nvidia-rtx-4090"])
def test_people_spell_gpus_as_they_like(typed: str) -> None:
    assert canonical_gpu(typed) == "RTX 4090"


@pytest.mark.parametrize("name", KNOWN_GPUS)
def test_every_known_gpu_is_itself(name: str) -> None:
    assert canonical_gpu(name) == name


def test_an_unknown_gpu_is_named_with_what_it_may_have_been() -> None:
    with pytest.raises(InvalidInput, match="did you mean") as caught:
        canonical_gpu("RTX 4095")
    assert caught.value.field == "gpu"
    with pytest.raises(InvalidInput, match="unknown GPU 'banana'"):
        canonical_gpu("banana")
