"""The script that makes a rented instance the machine its owner knows. Pure.

It runs at every start of the instance and must change nothing when run again. Providers limit its
size: it stays small, and says its reasons here rather than there.

- The machine's own host key replaces the image's, and is the only one offered: clients see one host
  whatever is rented behind the address. `HostKey` as the first line of `sshd_config` survives images
  that make missing keys anew at every start.
- An sshd that does not run as root keeps its key in `~/.ssh`; then nothing outside of the home is
  touched, and the workspace is `~/workspace`.
- sshd may start before or after this script. Its pid file appears once it heeds SIGHUP, which would
  kill it earlier.
- OpenSSH from 9.8 on shuts out who connects and does not log in, as the standby's checks do.
- After a restart the agent takes up what it was doing.
- Programs started by sshd do not see the environment the instance was created with; it goes to
  `/etc/environment`, between marks.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from dumont.domain.errors import InvalidInput
from dumont.ports import MachineSecrets

_SCRIPT = r"""#!/bin/sh
# Makes this instance the machine its owner knows. Runs at every start.
set -u
: "${HOME:=/root}"
umask 077
mkdir -p "$HOME/.ssh" "$HOME/.dumont"
if [ -e "$HOME/.ssh/ssh_host_ed25519_key" ]; then
  ssh="$HOME/.ssh" run="$HOME/.ssh" ws="$HOME/workspace"
else
  ssh=/etc/ssh run=/run ws=/workspace
fi
put() { cat >"$1.new" && mv -f "$1.new" "$1"; }
put "$ssh/ssh_host_ed25519_key" <<'EOF'
@HOST_PRIVATE@
EOF
echo '@HOST_PUBLIC@' | put "$ssh/ssh_host_ed25519_key.pub"
for t in rsa ecdsa dsa; do
  rm -f "$ssh/ssh_host_${t}_key" "$ssh/ssh_host_${t}_key.pub"
done
line='HostKey /etc/ssh/ssh_host_ed25519_key' conf=/etc/ssh/sshd_config
if [ "$ssh" = /etc/ssh ] && [ "$(head -n 1 $conf)" != "$line" ]; then
  more='PerSourcePenalties no'
  /usr/sbin/sshd -t -o "$more" 2>/dev/null && more="$line
$more" || more=$line
  mode=$(stat -c %a $conf) && { echo "$more"; cat $conf; } | put $conf && chmod "$mode" $conf
fi
auth="$HOME/.ssh/authorized_keys"
touch "$auth"
[ -z "$(tail -c 1 "$auth")" ] || echo >>"$auth"
while read -r key; do
  grep -qxF -e "$key" "$auth" || echo "$key" >>"$auth"
done <<'EOF'
@AUTHORIZED@
EOF
chmod 700 "$HOME/.ssh"
chmod 600 "$auth"
chmod go-w "$HOME"
reload() {
  n=0
  while [ "$n" -lt 150 ]; do
    for f in "$run/sshd.pid" "$run/sshd/sshd.pid"; do
      p=$(cat "$f" 2>/dev/null) || continue
      case $(cat "/proc/$p/comm" 2>/dev/null) in sshd*) kill -HUP "$p" && return ;; esac
    done
    sleep 0.2
    n=$((n + 1))
  done
  [ "$ssh" = /etc/ssh ] && pkill -HUP -o -x sshd
}
reload &
umask 022
mkdir -p "$ws"
echo "$ws" >"$HOME/.dumont/workspace"
if [ "$ssh" = /etc/ssh ]; then
  e=/etc/environment
  touch $e
  {
    sed '/^# >>> dumont/,/^# <<< dumont/d' $e
    echo '# >>> dumont'
    env | grep -E '^[A-Za-z_][A-Za-z0-9_]*=' |
      grep -vE '^(HOME|PWD|OLDPWD|SHLVL|_|USER|LOGNAME|SHELL|TERM|HOSTNAME)='
    echo '# <<< dumont'
  } | put $e && chmod 644 $e
fi
a="$HOME/.dumont/agent.pyz"
[ ! -e "$a" ] || python3 "$a" resume >/dev/null 2>&1 &
@SETUP@"""

_SETUP = r"""cat >"$HOME/.dumont/setup.sh" <<'@END@'
@SETUP_SCRIPT@
@END@
cd "$ws" || exit
if [ "$(head -c 2 "$HOME/.dumont/setup.sh")" = '#!' ]; then
  chmod +x "$HOME/.dumont/setup.sh"
  "$HOME/.dumont/setup.sh"
else
  "$(command -v bash || echo sh)" "$HOME/.dumont/setup.sh"
fi
echo "setup_script ended with status $?"
"""


def build_onstart(
    *, keys: MachineSecrets, authorized_keys: Sequence[str], setup_script: str = ""
) -> str:
    """The start script of a machine, for `ports.OnStart`.

    Args:
        keys: The machine's host key to install and our access key to let in.
        authorized_keys: The owner's public keys, one line each.
        setup_script: The owner's lines, run last, in the workspace; a first line with `#!` is
            respected, otherwise bash (or sh, where there is no bash) runs them.

    Raises:
        InvalidInput: A key is not one line.
    """
    lines = [*authorized_keys, keys.access_key_public]
    for line in [*lines, keys.host_key_public]:
        if not re.fullmatch(r"[^\r\n\x00]+", line.strip()):
            raise InvalidInput("an SSH key must be one line", field="authorized_keys")
    host_public = re.sub(r"[^A-Za-z0-9+/=@._ -]", "", keys.host_key_public.strip())
    parts = {
        "@HOST_PRIVATE@": keys.host_key_private.strip(),
        "@HOST_PUBLIC@": host_public,
        "@AUTHORIZED@": "\n".join(dict.fromkeys(line.strip() for line in lines)),
        "@SETUP@": _setup(setup_script),
    }
    return re.sub("|".join(parts), lambda match: parts[match[0]], _SCRIPT)


def _setup(script: str) -> str:
    if not script.strip():
        return ""
    if "\x00" in script:
        raise InvalidInput("setup_script contains a NUL character", field="setup_script")
    end = "EOF"
    while end in script.splitlines():
        end += "F"
    # A carriage return would become part of the last word of each line.
    parts = {"@END@": end, "@SETUP_SCRIPT@": script.replace("\r\n", "\n").rstrip("\n")}
    return re.sub("|".join(parts), lambda match: parts[match[0]], _SETUP)
