"""Confine this process to the workspace with the kernel's Landlock, before it becomes rsync.

Names that a client sends in the course of a transfer may lead through symbolic links which it put
there itself. rsync follows them; the kernel does not let it leave. Kernels without Landlock (before
5.13, or with it turned off) leave only the checks of `guard_rsync.py`.
"""

from __future__ import annotations

import ctypes
import os

_CREATE, _ADD, _RESTRICT = 444, 445, 446
_VERSION = 1
_NO_NEW_PRIVILEGES = 38
_PARENT_DEATH_SIGNAL = 1

_READ = (1 << 0) | (1 << 2) | (1 << 3)
"""Execute, read a file, read a folder."""
_READ_WRITE_FILE = (1 << 1) | (1 << 2)
_DEVICES = (1 << 6) | (1 << 11)
"""Make character and block devices."""
_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All that the versions of Landlock know about files."""

_SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64", "/nix", "/opt", "/proc/self")
_SYSTEM_FILES = (
    *("/etc/ld.so.cache", "/etc/ld.so.preload", "/etc/localtime", "/etc/nsswitch.conf"),
    *("/etc/passwd", "/etc/group", "/etc/popt"),
)


class _Rule(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("descriptor", ctypes.c_int32))


def confine(workspace: str) -> bool:
    """From now on only `workspace` can be written, and only it and programs can be read.

    Returns whether the kernel does it.

    Raises:
        OSError: It should and did not.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))
    if version < 1:
        return False
    rights = _RIGHTS[max(each for each in _RIGHTS if each <= version)]
    handled = ctypes.c_uint64(rights)
    rules = libc.syscall(
        _CREATE, ctypes.byref(handled), ctypes.c_size_t(ctypes.sizeof(handled)), ctypes.c_uint32(0)
    )
    _check(rules)
    try:
        _allow(libc, rules, workspace, rights & ~_DEVICES)
        for path in _SYSTEM:
            _allow(libc, rules, path, _READ)
        for path in _SYSTEM_FILES:
            _allow(libc, rules, path, 1 << 2)
        _allow(libc, rules, "/dev/null", _READ_WRITE_FILE)
        _check(libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
        _check(libc.syscall(_RESTRICT, ctypes.c_int(rules), ctypes.c_uint32(0)))
    finally:
        os.close(rules)
    return True


def die_with_parent(number: int) -> None:
    """Have the kernel send this process a signal when its parent ends."""
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, int(number), 0, 0, 0)


def _allow(libc: ctypes.CDLL, rules: int, path: str, rights: int) -> None:
    try:
        descriptor = os.open(path, getattr(os, "O_PATH", 0o10000000) | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        rule = _Rule(rights, descriptor)
        _check(
            libc.syscall(
                _ADD, ctypes.c_int(rules), ctypes.c_int(1), ctypes.byref(rule), ctypes.c_uint32(0)
            )
        )
    finally:
        os.close(descriptor)


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
