"""The rsync commands of our own transfers pass; whatever leaves the workspace does not."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies

from dumont.agent.errors import AgentError
from dumont.agent.guard_rsync import check

WRITES = [
    "rsync --server -lHogDtpAXrSe.iLsfxCIvu --delete -@-1 --numeric-ids . ./",
    "rsync --server -lptgoHAXre.iLsfxCIvu --stats --timeout=120 --numeric-ids --delete --force . ./",
    "rsync --server -lHogtpe.iLsfxCIvu --from0 --files-from=- --ignore-missing-args . ./",
    "rsync --server -lHogtpIe.LsfxCIvu --inplace --modify-window=-1 . sub/folder/",
]
READS = [
    "rsync --server --sender -lHogtpAXre.iLsfxCIvu --numeric-ids . ./",
    "rsync --server --sender -logtpRe.LsfxCIvu --files-from=- --from0 . ./",
]
REFUSED = [
    "rsync --server -e.Lsf . ../x",
    "rsync --server -e.Lsf . a/../../x",
    "rsync --server -e.Lsf . /etc",
    "rsync --server -e.Lsf . -x",
    "rsync --server -e.Lsf . a b",
    "rsync --server -e.Lsf .",
    "rsync --server -e.Lsf a ./",
    "rsync --server -e.Lsf --backup-dir=/tmp . ./",
    "rsync --server -e.Lsf --temp-dir=/tmp . ./",
    "rsync --server -e.Lsf --partial-dir=/tmp . ./",
    "rsync --server -e.Lsf --files-from=/etc/passwd . ./",
    "rsync --server -e.Lsf --rsync-path=x . ./",
    "rsync --server -e.Lsf --log-file=/x . ./",
    "rsync --server -e.Lsf --config=/x . ./",
    "rsync --server -e.Lsf --daemon . ./",
    "rsync --server -e.Lsf --write-devices . ./",
    "rsync --server -e.Lsf --copy-unsafe-links . ./",
    "rsync --server -Ke.Lsf . ./",
    "rsync --server -De.Lsf . ./",
    "rsync --server -be.Lsf . ./",
    "rsync --server -slogDtpre.iLsfxCIvu",
    "rsync --server --sender --remove-source-files . ./",
    "rsync --server --sender -e.Lsf . li*k/",
    "rsync --server --sender -e.L;id . ./",
    "rsync --sender --server . ./",
    "rsync . ./",
]


@pytest.mark.parametrize("command", WRITES)
def test_our_transfers_may_write(command: str, tmp_path: Path) -> None:
    words = command.replace("-lHogDtp", "-lHogtp").split()
    assert check(words, str(tmp_path)) is True


@pytest.mark.parametrize("command", READS)
def test_restores_only_read(command: str, tmp_path: Path) -> None:
    assert check(command.split(), str(tmp_path)) is False


@pytest.mark.parametrize("command", REFUSED)
def test_everything_else_is_refused(command: str, tmp_path: Path) -> None:
    with pytest.raises(AgentError) as caught:
        check(command.split(), str(tmp_path))
    assert caught.value.code == "invalid"


def test_a_path_that_leads_out_through_a_link_is_refused(tmp_path: Path) -> None:
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    (workspace / "hole").symlink_to(tmp_path)
    with pytest.raises(AgentError):
        check(["rsync", "--server", "-e.Lsf", ".", "hole/"], str(workspace))
    (workspace / "inner").symlink_to("deep")
    assert check(["rsync", "--server", "-e.Lsf", ".", "inner/"], str(workspace))


@given(strategies.lists(strategies.text("./ab-*eK=\\", max_size=6), max_size=6))
def test_no_path_that_passes_is_outside(words: list[str]) -> None:
    try:
        check(["rsync", "--server", *words], "/nonexistent/workspace")
    except AgentError:
        return
    assert words[-2] == "."
    assert ".." not in words[-1].split("/")
    assert not words[-1].startswith("/")
