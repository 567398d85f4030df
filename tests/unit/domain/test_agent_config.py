"""What is pushed to agents is what they read; checks are as patient as the link."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from dumont.agent import config as agent_side
from dumont.domain.agent_config import Beat, link_timing, primary_config, standby_config
from dumont.domain.instances import SshAddress
from dumont.domain.protection import ActiveStandby, ProtectionPolicy

BEAT = Beat(url="http://127.0.0.1:1/api/v1/agent/heartbeat", token="t" * 40)
STANDBY = ActiveStandby(
    provider="gcp", instance_id="vm1", label="dmt-t-m0123456789ab-g1-a1", zone="us-west1-b",
    number=1, ssh=SshAddress(host="127.2.0.1", port=22),
    endpoint=SshAddress(host="127.2.0.1", port=2222), rtt_ms=0.4,
)  # fmt: skip
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOI9zMhpFQVf3spkUzv5iN0sM4JLn2fa8RnkULLYQJbT"
COMMON = {"machine_id": "m0123456789ab", "name": "my-box", "generation": 2, "epoch": 3}


def test_the_primarys_agent_reads_what_we_push() -> None:
    pushed = primary_config(
        **COMMON,  # type: ignore[arg-type]
        instance_id="1",
        beat=BEAT,
        standby=STANDBY,
        host_key=f"{KEY} m0123456789ab",
        private_key="-----BEGIN OPENSSH PRIVATE KEY-----\nx\n-----END OPENSSH PRIVATE KEY-----\n",
        policy=ProtectionPolicy(excludes=("*.pyc",)),
        paused=True,
        stop_call={
            "method": "PUT",
            "url": "https://example.com/api/v0/instances/1/",
            "body": {"state": "stopped"},
            "key_variable": "CONTAINER_API_KEY",
        },
    )
    read = agent_side.parse(agent_side.to_document(json.dumps(pushed)))
    assert (read.role, read.generation, read.epoch) == ("primary", 2, 3)
    assert read.mirror is not None
    assert (read.mirror.host, read.mirror.paused) == ("127.2.0.1", True)
    assert list(read.mirror.excludes) == ["*.pyc"]


def test_the_guard_reads_what_we_push() -> None:
    pushed = standby_config(
        **COMMON,  # type: ignore[arg-type]
        standby=STANDBY,
        beat=None,
        primary=SshAddress(host="127.1.1.1", port=40022),
        sync_public_key=f"{KEY} dumont-sync-e3",
    )
    read = agent_side.parse(agent_side.to_document(json.dumps(pushed)))
    assert read.role == "standby"
    assert read.endpoint is not None
    assert (read.endpoint.port, read.endpoint.sshd_port) == (2222, 22)
    assert read.primary is not None
    assert (read.primary.host, read.primary.port) == ("127.1.1.1", 40022)


@given(st.floats(0, 2_000))
def test_a_check_never_ends_before_four_round_trips(rtt_ms: float) -> None:
    timing = link_timing(rtt_ms)
    for limit in (timing.connect_ms, timing.check_ms):
        assert limit >= min(4 * rtt_ms, limit) or limit >= 4 * rtt_ms - 1
    assert timing.inter_ms >= 50


def test_an_unknown_round_trip_is_taken_for_a_long_one() -> None:
    assert link_timing(None).connect_ms > link_timing(1.0).connect_ms
