"""The list filter: both grammars, on rows shaped as on the wire."""

import pytest

from simcloud.gcp import errors
from simcloud.gcp.filters import compile_filter

VM = {
    "name": "dmt-demo-box-g1-a1",
    "status": "RUNNING",
    "creationTimestamp": "2026-11-23T11:09:06.515-08:00",
    "labels": {"owner": "ada", "dmt-env": "demo", "empty": ""},
    "scheduling": {"automaticRestart": False, "provisioningModel": "SPOT"},
    "disks": [{"diskSizeGb": "10"}, {"diskSizeGb": "200"}],
    "zone": "https://www.googleapis.com/compute/v1/projects/p/zones/us-central1-a",
    "operationType": "compute.instances.preempted",
    "tags": {"items": ["web", "standby"]},
}


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (None, True),
        ("  ", True),
        ("name=dmt-demo-box-g1-a1", True),
        ('name = "dmt-demo-box-g1-a1"', True),
        ("name=other", False),
        ("name != other", True),
        ("name=dmt-demo-*", True),
        ('name="dmt-demo-*"', False),
        ("name:box", True),
        ("name:dmt-demo*", True),
        ("name eq dmt-demo-.*", True),
        ("name eq dmt-demo", False),  # the pattern must match the whole field
        ("name ne dmt-demo", True),
        ('name eq "dmt-(demo|prod)-.*"', True),
        ("name eq dmt-(demo|prod)-.*", True),
        ("name eq 'dmt-.*'", True),
        (r'operationType eq ".*\bcompute\.instances\.preempted\b.*"', True),
        (r'operationType eq ".*\bpreempt\b.*"', False),
        ('operationType="compute.instances.preempted"', True),
        ("labels.owner=ada", True),
        ("labels.owner:*", True),
        ("labels.empty:*", True),
        ("labels.none:*", False),
        ("labels.dmt-env=demo", True),
        ("labels.none=ada", False),
        ("labels.none!=ada", True),
        ("labels:owner", True),
        ("-labels.owner:*", False),
        ("NOT labels.none:*", True),
        ("NOT name=other AND status=RUNNING", True),
        ("scheduling.automaticRestart = false", True),
        ("scheduling.automaticRestart = true", False),
        ("disks.diskSizeGb > 100", True),
        ("disks.diskSizeGb > 500", False),
        ("disks.diskSizeGb < 9", False),  # numbers, not text
        ("tags.items=standby", True),
        ("zone:us-central1-a", True),
        ("status=RUNNING AND labels.owner=ada", True),
        ("status=RUNNING AND labels.owner=bob", False),
        ("status=STOPPED OR labels.owner=ada", True),
        ("(status=STOPPED OR labels.owner=bob) AND name:dmt", False),
        ("status=STOPPED OR status=RUNNING AND labels.owner=bob", False),
        ("(status = RUNNING) (labels.owner = ada)", True),
        ('(status eq "RUNNING") (name eq ".*box.*")', True),
        ("status=RUNNING labels.owner=bob", False),
        ('creationTimestamp > "2026-11-23T19:00:00Z"', True),
        ("creationTimestamp > 2026-11-23T19:30:00Z", False),
        ("creationTimestamp <= 2026-11-23T19:09:06.515+00:00", True),
    ],
)
def test_filter_selects(expression: str | None, expected: bool) -> None:
    assert compile_filter(expression)(VM) is expected


@pytest.mark.parametrize(
    "expression", ["name", "name =", "= x", "(name=x", "name=x)", "name eq [", "name ~ x", "AND"]
)
def test_malformed_filter_is_refused_with_its_text(expression: str) -> None:
    with pytest.raises(errors.GoogleError) as refused:
        compile_filter(expression)
    assert (refused.value.code, refused.value.reason) == (400, "invalid")
    assert f"'{expression}'" in refused.value.message
