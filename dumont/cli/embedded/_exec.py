"""Become a part of the stack: the last few steps between the supervisor's fork and the program.

Run as a plain script (`python -I -S _exec.py PARENT SIGNAL USER COMMAND...`), so that it costs some
10 ms and imports nothing of the product. It must stay free of anything that starts a thread.

It asks the kernel to signal the part when the supervisor dies, however it dies: this is why a
`kill -9` of the supervisor leaves nothing behind. USER says as whom to run: `-` as we are, a user's
name, or `userns:NAME`: in a user namespace of our own where root's id reads as NAME's. The last is
for PostgreSQL, which refuses to be root; the files it makes stay root's, no account has to be
added, and no directory has to be opened to others.
"""

import ctypes
import os
import pwd
import signal
import sys

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000


def _become(user: str) -> None:
    name = user.removeprefix("userns:")
    account = pwd.getpwnam(name)
    if name == user:
        os.setgroups([])
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
        return
    outside_uid, outside_gid = os.getuid(), os.getgid()
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "cannot make a user namespace")
    for file, text in (
        ("setgroups", "deny"),
        ("uid_map", f"{account.pw_uid} {outside_uid} 1"),
        ("gid_map", f"{account.pw_gid} {outside_gid} 1"),
    ):
        with open(f"/proc/self/{file}", "w") as handle:
            handle.write(text)


def main() -> None:
    """Arm the death signal, then become the command."""
    parent, death_signal, user, *command = sys.argv[1:]
    if user != "-":
        _become(user)
    # After the change of user, which would disarm it.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("the supervisor died before this part had started")
    # Python ignores these; programs expect the default.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606
    except OSError as error:
        sys.exit(f"cannot run {command[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
