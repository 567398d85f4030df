"""The script that makes a CPU VM the standby of a machine. Pure.

It is the machine's own start script with a little around it: a VM's images keep root out, and the
programs of the data plane (HAProxy, rsync) have to be there.
"""

from __future__ import annotations

from collections.abc import Sequence

from dumont.ports import MachineSecrets
from dumont.remote.onstart import build_onstart

_BEFORE = r"""#!/bin/sh
# Makes this VM the standby of its machine. Runs at every boot.
if [ "$(id -u)" = 0 ] && [ ! -e "${HOME:-/}/.ssh/ssh_host_ed25519_key" ]; then
  HOME=/root
  mkdir -p /etc/ssh/sshd_config.d
  echo 'PermitRootLogin prohibit-password' >/etc/ssh/sshd_config.d/00-dumont.conf
fi
export HOME
"""

_AFTER = r"""
need=
for program in haproxy rsync python3; do
  PATH="$PATH:/usr/sbin" command -v $program >/dev/null || need="$need $program"
done
if [ -n "$need" ] && [ "$(id -u)" = 0 ]; then
  printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d && chmod 755 /usr/sbin/policy-rc.d
  apt-get update -q && DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends $need
  rm -f /usr/sbin/policy-rc.d
fi
"""


def build_standby_start(*, keys: MachineSecrets, authorized_keys: Sequence[str]) -> str:
    """The startup script of a machine's standby, for `ports.OnStart`'s sibling.

    Raises:
        InvalidInput: A key is not one line.
    """
    body = build_onstart(keys=keys, authorized_keys=authorized_keys)
    return _BEFORE + body.removeprefix("#!/bin/sh\n") + _AFTER
