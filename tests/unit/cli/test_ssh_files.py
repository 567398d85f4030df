"""The user's SSH configuration stays the user's; ours says exactly how to reach whom."""

from __future__ import annotations

import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dumont.cli import credentials, ssh_addresses, ssh_hosts, ssh_include, ssh_keys
from dumont.cli.credentials import Server
from dumont.domain.errors import DumontError, InvalidInput, PreconditionFailed
from dumont.domain.resources import MachineView
from tests.unit.cli.conftest import make_key
from tests.unit.cli.fake_api import HOST_KEY, FakeApi

OURS = Path("/home/a b/.config/dumont/ssh_config")
LINE = ssh_include.include_line(path=OURS) + b"\n"

config_lines = st.lists(
    st.one_of(
        st.sampled_from(
            [
                b"Host *",
                b"    ForwardAgent yes",
                b"Match all",
                b"Include other",
                b'Include "/home/a b/.config/dumont/ssh_confi"',
                b"# Include nothing",
                b"Include='unfinished",
                b"",
                b"\xff\xfe",
            ]
        ),
        st.binary(max_size=20),
    ),
    max_size=8,
).map(b"\n".join)


@given(before=config_lines)
def test_adding_and_removing_the_line_gives_back_every_byte(before: bytes) -> None:
    after = ssh_include.with_include(config=before, path=OURS)
    assert after == LINE + before
    assert ssh_include.with_include(config=after, path=OURS) == after
    assert ssh_include.without_include(config=after, path=OURS) == before


@given(before=config_lines, above=config_lines)
def test_what_was_written_above_the_line_later_stays(before: bytes, above: bytes) -> None:
    config = above + b"\n" + LINE + before
    if config.startswith(LINE) or (b"\n" + LINE) in above + b"\n":
        return
    assert ssh_include.without_include(config=config, path=OURS) == above + b"\n" + before


@pytest.mark.parametrize(
    ("config", "included"),
    [
        (b'Include "/home/a b/.config/dumont/ssh_config"\n', True),
        (b'  include  "/home/a b/.config/dumont/ssh_config" other\n', True),
        (b'Include="/home/a b/.config/dumont/ssh_config"\n', True),
        (b'Host x\n  Include "/home/a b/.config/dumont/ssh_config"\n', False),
        (b'# Include "/home/a b/.config/dumont/ssh_config"\n', False),
    ],
)
def test_a_line_counts_only_where_it_holds_for_all_hosts(config: bytes, included: bool) -> None:
    assert (ssh_include.with_include(config=config, path=OURS) == config) is included


def test_mode_and_symbolic_link_of_the_users_file_stay(home: Path) -> None:
    real = home / "dotfiles/ssh_config"
    real.parent.mkdir()
    real.write_bytes(b"Host x\n  Port 2\n")
    real.chmod(0o640)
    (home / ".ssh").mkdir()
    link = home / ".ssh/config"
    link.symlink_to(real)
    assert ssh_include.ensure_include()
    assert not ssh_include.ensure_include()
    assert link.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert real.read_bytes().endswith(b"\nHost x\n  Port 2\n")
    assert ssh_include.remove_include()
    assert real.read_bytes() == b"Host x\n  Port 2\n"


def test_a_first_config_is_private(home: Path) -> None:
    ssh_include.ensure_include()
    assert stat.S_IMODE((home / ".ssh").stat().st_mode) == 0o700
    assert stat.S_IMODE((home / ".ssh/config").stat().st_mode) == 0o600


def test_a_file_that_cannot_be_changed_is_left_and_the_line_is_given(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / ".ssh").mkdir()
    config = home / ".ssh/config"
    config.write_bytes(b"Host x\n")

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InvalidInput, match="No space left") as caught:
        ssh_include.ensure_include()
    assert "Include" in str(caught.value.hint)
    assert config.read_bytes() == b"Host x\n"
    assert [p.name for p in config.parent.iterdir()] == ["config"]


def test_removing_is_remembered(home: Path) -> None:
    ssh_include.set_include(wanted=True)
    ssh_include.set_include(wanted=False)
    assert not ssh_include.include_allowed()
    ssh_include.set_include(wanted=True)
    assert ssh_include.include_allowed()


def test_the_environment_can_forbid_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUMONT_TOUCH_SSH_CONFIG", "0")
    assert not ssh_include.include_allowed()


# Entries


def running(name: str = "my-box", **changes: object) -> MachineView:
    return MachineView.model_validate({**FakeApi().add_running(name), **changes})


def openssh_view(host: str) -> dict[str, str]:
    """What OpenSSH itself makes of our configuration."""
    lines = subprocess.run(
        ["ssh", "-G", "-F", str(ssh_hosts.ssh_config_path()), host],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    return dict(line.split(" ", 1) for line in lines if " " in line)


def test_openssh_reads_the_entry_as_meant(home: Path, ssh_key: Path) -> None:
    ssh_hosts.remember(server="http://one:1", machine=running(), identity=ssh_key)
    seen = openssh_view("dumont-my-box")
    assert (seen["hostname"], seen["port"], seen["user"]) == ("127.9.8.7", "40022", "root")
    assert seen["hostkeyalias"] == "dumont-m000000000001"
    assert seen["stricthostkeychecking"] == "true"
    assert seen["identityfile"] == str(ssh_key)
    assert seen["identitiesonly"] == "yes"
    assert seen["userknownhostsfile"] == str(ssh_hosts.known_hosts_path())
    known = ssh_hosts.known_hosts_path().read_text()
    assert known == f"dumont-m000000000001 {HOST_KEY}\n"
    for path in (ssh_hosts.ssh_config_path(), ssh_hosts.known_hosts_path()):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_home_with_a_space_and_a_percent_sign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "my 100% home"
    monkeypatch.setenv("DUMONT_CREDENTIALS", str(config / "credentials.json"))
    monkeypatch.setenv("DUMONT_SSH_DIR", str(tmp_path / ".ssh"))
    ssh_hosts.remember(server="http://one:1", machine=running())
    assert openssh_view("dumont-my-box")[
        "userknownhostsfile"
    ] == f'"{config / "known_hosts"}"'.strip('"')
    ssh_include.ensure_include()
    out = subprocess.run(
        ["ssh", "-G", "-F", str(tmp_path / ".ssh/config"), "dumont-my-box"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert "hostname 127.9.8.7\n" in out


def test_an_address_that_moved_replaces_the_old_one_and_keeps_the_key(
    home: Path, ssh_key: Path
) -> None:
    ssh_hosts.remember(server="http://one:1", machine=running(), identity=ssh_key)
    moved = running(ssh={"host": "127.1.1.1", "port": 22, "user": "root"})
    ssh_hosts.remember(server="http://one:1", machine=moved)
    seen = openssh_view("dumont-my-box")
    assert (seen["hostname"], seen["identityfile"]) == ("127.1.1.1", str(ssh_key))
    away = running(phase="stuck", ssh=None)
    assert ssh_hosts.remember(server="http://one:1", machine=away) is not None
    ssh_hosts.remember(server="http://one:1", machine=running(phase="destroyed", ssh=None))
    assert ssh_hosts.load_hosts().hosts == []
    assert ssh_hosts.known_hosts_path().read_text() == ""


def test_a_list_forgets_only_its_own_servers_machines(home: Path) -> None:
    ssh_hosts.remember(server="http://one:1", machine=running("a"))
    ssh_hosts.remember(server="http://two:2", machine=running("b"))
    ssh_hosts.remember_all(server="http://one:1", machines=[])
    assert [h.name for h in ssh_hosts.load_hosts().hosts] == ["b"]


def test_of_two_machines_with_one_name_the_default_servers_wins(home: Path) -> None:
    credentials.save_server(server=Server(url="http://two:2", api_key="k"))
    ssh_hosts.remember(server="http://one:1", machine=running())
    mine = running(ssh={"host": "127.2.2.2", "port": 22, "user": "root"})
    ssh_hosts.remember(server="http://two:2", machine=mine)
    assert openssh_view("dumont-my-box")["hostname"] == "127.2.2.2"


def test_a_new_machine_of_an_old_name_takes_its_place(home: Path) -> None:
    ssh_hosts.remember(server="http://one:1", machine=running())
    ssh_hosts.remember(server="http://one:1", machine=running(machine_id="m000000000099"))
    assert [h.machine_id for h in ssh_hosts.load_hosts().hosts] == ["m000000000099"]


@pytest.mark.parametrize(
    "changes",
    [
        {"ssh": {"host": "h\nProxyCommand touch /tmp/x", "port": 22, "user": "root"}},
        {"ssh": {"host": "-oProxyCommand=x", "port": 22, "user": "root"}},
        {"ssh": {"host": "%h", "port": 22, "user": "root"}},
        {"ssh": {"host": "h", "port": 22, "user": "a b"}},
        {"host_key": "ssh-ed25519 AAAA\n* ssh-rsa BBBB"},
        {"host_key": "@cert-authority * ssh-rsa AAAA"},
        {"machine_id": "m1\nHost *"},
        {"name": "a\nHost *"},
    ],
)
def test_nothing_a_server_says_becomes_a_directive(home: Path, changes: dict[str, object]) -> None:
    try:
        ssh_hosts.remember(server="http://one:1", machine=running(**changes))
    except DumontError:
        assert ssh_hosts.load_hosts().hosts == []
        return
    config = ssh_hosts.ssh_config_path().read_text() + ssh_hosts.known_hosts_path().read_text()
    assert config.count("Host dumont-") == 1
    (proxy,) = [line.strip() for line in config.splitlines() if "ProxyCommand" in line]
    command = ssh_addresses.proxy_command(machine_id="m000000000001")
    assert proxy == f"ProxyCommand {command}"
    assert "*" not in config


def test_a_damaged_list_of_hosts_is_made_anew(home: Path) -> None:
    ssh_hosts.remember(server="http://one:1", machine=running())
    ssh_hosts.hosts_path().write_text("{")
    ssh_hosts.remember(server="http://one:1", machine=running())
    assert len(ssh_hosts.load_hosts().hosts) == 1


# Keys


def test_the_users_own_key_is_taken_before_ours(home: Path, ssh_key: Path) -> None:
    key = ssh_keys.ensure_key()
    assert (key.private_path, key.made_now) == (ssh_key, False)
    assert key.public_key.endswith("ann@laptop")


def test_without_a_key_one_is_made_once_and_private(home: Path) -> None:
    key = ssh_keys.ensure_key()
    assert key.made_now
    assert key.private_path == credentials.config_dir() / "ssh_key"
    assert stat.S_IMODE(key.private_path.stat().st_mode) == 0o600
    again = ssh_keys.ensure_key()
    assert (again.public_key, again.made_now) == (key.public_key, False)
    assert not (home / ".ssh").exists()


def test_no_ssh_keygen_says_what_to_install(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(home))
    with pytest.raises(PreconditionFailed, match="ssh-keygen"):
        ssh_keys.ensure_key()


def test_a_private_key_is_never_read_as_a_public_one(home: Path, ssh_key: Path) -> None:
    with pytest.raises(InvalidInput, match="must not leave this computer"):
        ssh_keys.read_public_key(path=ssh_key)
    assert ssh_keys.key_at(path=ssh_key).public_key.startswith("ssh-ed25519 ")
    assert ssh_keys.key_at(path=ssh_key.with_suffix(".pub")).private_path == ssh_key


@pytest.mark.parametrize("content", ["", "hello", "ssh-ed25519", "ssh-ed25519 A\nssh-ed25519 B"])
def test_what_is_no_public_key_is_refused(home: Path, content: str) -> None:
    path = home / "k.pub"
    path.write_text(content)
    with pytest.raises(InvalidInput, match="not an OpenSSH public key"):
        ssh_keys.read_public_key(path=path)


def test_a_lone_private_key_gets_the_command_that_completes_it(home: Path) -> None:
    make_key(home / "lone")
    (home / "lone.pub").unlink()
    with pytest.raises(InvalidInput) as caught:
        ssh_keys.key_at(path=home / "lone")
    assert "ssh-keygen -y" in str(caught.value.hint)
