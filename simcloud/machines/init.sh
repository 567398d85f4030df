#!/bin/sh
# PID 1 of a machine that has its own mount, pid, uts and ipc namespaces. Started in the machine's
# directory with MACHINE_* set; makes the private file system, starts sshd, then the start script,
# reaps orphans, and turns SIGTERM into an orderly shutdown.
set -eu

# The directory may lie below a path that is about to be covered, so everything is mounted relative
# to it (-c: the kernel resolves the path, mount does not make it absolute).
for top in etc usr var opt srv home; do
    [ -d "/$top" ] && [ ! -L "/$top" ] || continue
    mkdir -p "layers/$top/upper" "layers/$top/work"
    mount -c -t overlay overlay \
        -o "lowerdir=/$top,upperdir=layers/$top/upper,workdir=layers/$top/work" "/$top" \
        2>>logs/init.log && continue
    # Without overlayfs only /etc is private, as a copy.
    if [ "$top" = etc ]; then
        [ -d etc-copy ] || cp -a /etc etc-copy
        mount -c --bind etc-copy /etc
    fi
done
mkdir -p /workspace
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
mkdir -p /run/sshd /run/lock /run/simcloud
[ "$MACHINE_USER" = root ] || mount -c --bind root-home /root
if [ -e disk.img ]; then
    mkdir /run/simcloud/disk
    mount -c -o loop disk.img /run/simcloud/disk
    mkdir -p /run/simcloud/disk/workspace
    mount -c --bind /run/simcloud/disk/workspace /workspace
else
    mount -c --bind workspace /workspace
fi
mount -c --bind bin /usr/local/sbin

if [ ! -e .installed ]; then
    rm -f /etc/ssh/ssh_host_* /etc/ssh/sshd_config.d/*
    cp -r system/. /
    touch .installed
fi
cp -r boot/. /
[ -e /etc/ssh/ssh_host_ed25519_key ] ||
    ssh-keygen -q -t ed25519 -N '' -C "$MACHINE_HOSTNAME" -f /etc/ssh/ssh_host_ed25519_key
echo "$MACHINE_HOSTNAME" >/proc/sys/kernel/hostname

if [ "$MACHINE_USER" = root ]; then
    home=/root
else
    id "$MACHINE_USER" >/dev/null 2>&1 || useradd -M -s /bin/bash "$MACHINE_USER"
    home="/home/$MACHINE_USER"
    mkdir -p "$home"
fi
mount -c --bind home "$home"
[ "$MACHINE_USER" = root ] || chown -R "$MACHINE_USER:" "$home" /workspace

# The host's /tmp goes last: the machine's directory may be in it.
exec 4>>logs/sshd.log
mount -c --bind tmp /tmp
cd /

# The environment given at creation reaches these scripts and nothing else.
launch() {
    cd "$home"
    exec env -i PATH="$PATH" HOME="$home" USER=root SHELL=/bin/bash LANG=C.UTF-8 bash -c '
        . /run/simcloud/environment
        [ "$(head -c 2 "$0")" != "#!" ] || exec "$0"
        exec bash "$0"' "$1" 4>&-
}

shut_down() {
    trap '' TERM
    [ ! -e /run/simcloud/on_shutdown.sh ] || (launch /run/simcloud/on_shutdown.sh) || :
    kill -TERM -1 2>/dev/null || :
    # every process but this shell must be gone, orphans included; the engine enforces the deadline
    while set -- /proc/[0-9]*; [ $# -gt 1 ]; do
        sleep 0.05 & wait $! || :
    done
    exit 0
}
trap shut_down TERM

if [ "$MACHINE_SSH_PORT" -gt 0 ]; then
    env -i PATH="$PATH" LANG=C.UTF-8 /usr/sbin/sshd -D -e -o PidFile=/run/sshd.pid \
        -o "ListenAddress=$MACHINE_ADDRESS:$MACHINE_SSH_PORT" 2>&4 4>&- &
    # A start script may HUP sshd, which would kill it before its handler stands: the pid file is
    # written after that. sshd may also fail, so this ends.
    tries=250
    while [ ! -s /run/sshd.pid ] && [ $((tries -= 1)) -gt 0 ]; do
        sleep 0.02 & wait $! || :
    done
fi

onstart=/run/simcloud/onstart.sh
if [ -e "$onstart" ]; then
    if [ "$MACHINE_USER" = root ]; then
        cp -p "$onstart" /root/onstart.sh
        onstart=/root/onstart.sh
    fi
    (launch "$onstart") &
fi

while :; do
    sleep 86400 4>&- & wait $! || :
done
