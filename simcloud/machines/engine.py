"""The process engine: machines that boot, freeze and die for real. Knows no provider.

A machine is a process tree under one init. With root it lives in its own mount, pid, uts and ipc
namespaces (`isolation == "namespaces"`): killing its init makes the kernel kill everything in it.
Without root it is an ordinary process tree in a directory of its own (`"directory"`).

Every tree dies with simcloud, even if simcloud is SIGKILLed (parent-death signal), and what an
earlier run could have left behind is found by recorded identity and ended at the start.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from simcloud.machines import disks, processes
from simcloud.machines.launch import Isolation, detect_isolation, launch_command
from simcloud.machines.layout import MachineDirectory
from simcloud.machines.links import LinkFault, Links
from simcloud.machines.spec import MachineSpec, Usage

log = logging.getLogger(__name__)

ExitListener = Callable[[str], None]


@dataclass(kw_only=True)
class _Running:
    spec: MachineSpec
    process: asyncio.subprocess.Process
    watcher: asyncio.Task[None] | None = None
    frozen: bool = False
    ending: bool = False
    """Set when we end it on purpose, so that its death is not reported as its own."""
    cpu_mark: tuple[float, dict[int, float]] | None = None
    disk_mark: tuple[float, float] | None = None
    gone: asyncio.Event = field(default_factory=asyncio.Event)


class Machines:
    """All machines of this simcloud. Every name is unique over all providers."""

    def __init__(self, root: Path, *, isolation: Isolation | Literal["auto"] = "auto") -> None:
        """Use `root` for the machines' directories, and end what an earlier run left there.

        Args:
            root: One directory per machine is made below it.
            isolation: `auto` takes the strongest that works here.

        Raises:
            RuntimeError: If sshd is not installed.
        """
        self._root = root.resolve()
        self._root.mkdir(parents=True, exist_ok=True)
        self.isolation: Isolation = detect_isolation() if isolation == "auto" else isolation
        self._links = Links()
        self._running: dict[str, _Running] = {}
        self._listeners: list[ExitListener] = []
        for leftover in self.reap_leftovers():
            log.warning("ended a process tree left by an earlier run: %s", leftover)

    def reap_leftovers(self) -> list[str]:
        """End trees recorded by an earlier run that still live; return their machines' names."""
        ended = []
        for path in self._root.iterdir():
            directory = MachineDirectory(path)
            identity = directory.recorded_run()
            if identity is not None and path.name not in self._running:
                if processes.end_tree(identity):
                    ended.append(path.name)
                directory.clear_run()
        return ended

    def discard(self, unwanted: Callable[[str], bool]) -> None:
        """Delete the directories of machines that do not run and whose name is unwanted."""
        for path in self._root.iterdir():
            if path.name not in self._running and unwanted(path.name):
                shutil.rmtree(path, ignore_errors=True)

    def on_exit(self, listener: ExitListener) -> None:
        """Call `listener(name)` whenever a machine ends without having been told to."""
        self._listeners.append(listener)

    def directory(self, name: str) -> MachineDirectory:
        """Return the machine's directory (it may not exist yet)."""
        if "/" in name or name in ("", ".", ".."):
            raise ValueError(f"name: {name!r} cannot name a machine's directory")
        return MachineDirectory(self._root / name)

    async def boot(self, spec: MachineSpec) -> None:
        """Start a machine; returns once its init exists, sshd may need another moment.

        Raises:
            RuntimeError: If it is running already.
        """
        if spec.name in self._running:
            raise RuntimeError(f"machine {spec.name} is running already")
        directory = self.directory(spec.name)
        directory.prepare(spec)
        if spec.disk_mb is not None:
            image = directory.path / "disk.img"
            await asyncio.to_thread(disks.make_disk, image, megabytes=spec.disk_mb)
        with directory.console.open("ab") as console:
            process = await asyncio.create_subprocess_exec(
                *launch_command(self.isolation, group=self._links.group_file(spec.name)),
                cwd=directory.path,
                env=_init_environment(spec),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
            )
        identity = processes.identify(process.pid)
        if identity is not None:
            directory.record_run(identity)
        running = _Running(spec=spec, process=process)
        self._running[spec.name] = running
        self._links.attach(spec.name, address=spec.address, always=_metadata_of(spec))
        running.watcher = asyncio.create_task(self._watch(spec.name, running))

    async def shut_down(self, name: str, grace_s: float) -> None:
        """Ask everything inside to end, kill what is left after `grace_s` seconds."""
        running = self._running.get(name)
        if running is None:
            return
        running.ending = True
        deadline = time.monotonic() + grace_s
        # again and again: an init that is only starting has no handler yet, and the kernel drops
        # a signal that PID 1 does not handle
        while not (running.frozen or running.gone.is_set()):
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                log.info("machine %s did not end within %.1f s", name, grace_s)
                break
            self._signal_init(running, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(running.gone.wait(), min(remaining, 0.5))
        await self.kill(name)

    async def kill(self, name: str) -> None:
        """SIGKILL the whole tree; on return nothing of it exists and its ports refuse."""
        running = self._running.get(name)
        if running is None:
            return
        running.ending = True
        while not running.gone.is_set():
            if not self._signal_init(running, signal.SIGKILL):
                processes.signal_tree(running.process.pid, signal.SIGKILL)
                processes.send(running.process.pid, signal.SIGKILL)
            try:
                await asyncio.wait_for(running.gone.wait(), 0.2)
            except TimeoutError:
                continue

    async def crash(self, name: str) -> None:
        """Kill a machine as an accident: its provider hears of it as of a death by itself."""
        if name in self._running:
            await self.kill(name)
            self._report(name)

    async def freeze(self, name: str) -> None:
        """Stop every process where it stands: connections are taken up but never answered."""
        running = self._need(name)
        running.frozen = True
        await asyncio.to_thread(processes.signal_tree, running.process.pid, signal.SIGSTOP)

    async def thaw(self, name: str) -> None:
        """Let a frozen machine go on."""
        running = self._need(name)
        running.frozen = False
        await asyncio.to_thread(processes.signal_tree, running.process.pid, signal.SIGCONT)

    @property
    def links(self) -> bool:
        """Whether links can be cut here."""
        return self._links.available

    @property
    def links_reason(self) -> str:
        """Why links cannot be cut; empty when they can."""
        return self._links.reason

    def link(self, name: str) -> LinkFault:
        """Return what is wrong with a machine's network link."""
        return self._links.state(name)

    async def set_link(self, name: str, fault: LinkFault) -> None:
        """Cut a machine's link, make it lose packets, or mend it; it is mended when it ends.

        Raises:
            LinksUnavailable: It is not possible here.
        """
        self._need(name)
        await self._links.set(name, fault, pids=lambda: self.pids(name))

    @property
    def disks_reason(self) -> str:
        """Why machines cannot have disks of their own here; empty when they can."""
        return disks.why_unavailable(self.isolation)

    async def set_free_disk(self, name: str, megabytes: float | None) -> float:
        """Fill a machine's own disk but for so much, or empty it again; return what is free.

        Raises:
            DisksUnavailable: It has no disk of its own.
        """
        inside = processes.children(self._need(name).process.pid)
        if self.disks_reason or not inside:
            raise disks.DisksUnavailable(self.disks_reason or f"machine {name} is ending")
        return await asyncio.to_thread(disks.set_free, inside[0], megabytes=megabytes)

    async def wipe(self, name: str) -> None:
        """Kill a machine and delete its directory; it may never have existed."""
        await self.kill(name)
        await asyncio.to_thread(shutil.rmtree, self.directory(name).path, ignore_errors=True)

    async def close(self) -> None:
        """Kill every machine."""
        await asyncio.gather(*(self.kill(name) for name in list(self._running)))
        self._links.close()

    def alive(self, name: str) -> bool:
        """Whether its init runs (also while frozen)."""
        return name in self._running

    def frozen(self, name: str) -> bool:
        """Whether it runs but is frozen."""
        running = self._running.get(name)
        return running is not None and running.frozen

    def names(self) -> list[str]:
        """Return the machines that run."""
        return list(self._running)

    def set_authorized_keys(self, name: str, keys: Iterable[str]) -> None:
        """Replace the provider's keys of a machine; effective for the next login."""
        directory = self.directory(name)
        if directory.home.is_dir():
            directory.set_authorized_keys(keys)

    def logs(self, name: str, tail: int = 1000) -> str:
        """Return the last `tail` lines of its console: init and start script."""
        return self.directory(name).tail(tail)

    def pids(self, name: str) -> list[int]:
        """Return the pids, as seen from outside, of everything inside."""
        running = self._running.get(name)
        if running is None:
            return []
        return [
            stat.pid for stat in processes.descendants(running.process.pid, processes.snapshot())
        ]

    def usage(
        self, name: str, *, table: dict[int, processes.ProcessStat] | None = None
    ) -> Usage | None:
        """Return what a machine uses, or None when it does not run.

        CPU figures are the mean since the previous call for this machine, None at the first.

        Args:
            name: The machine.
            table: A process snapshot to share between machines read at the same time.
        """
        running = self._running.get(name)
        if running is None:
            return None
        inside = processes.descendants(running.process.pid, table or processes.snapshot())
        now = time.monotonic()
        spent = {stat.pid: stat.cpu_seconds for stat in inside}
        cpu = gpu_util = None
        if running.cpu_mark is not None and now > running.cpu_mark[0]:
            seconds = now - running.cpu_mark[0]
            before = running.cpu_mark[1]
            cores = {
                stat.pid: (stat.cpu_seconds - before.get(stat.pid, 0.0)) / seconds
                for stat in inside
            }
            cpu = sum(cores.values())
            if running.spec.gpus:
                work = sum(cores[stat.pid] for stat in inside if stat.is_work)
                gpu_util = min(100.0, 100.0 * work / len(running.spec.gpus))
        running.cpu_mark = (now, spent)
        gpu_memory = None
        if running.spec.gpus:
            gpu_memory = sum(stat.resident_mb for stat in inside if stat.is_work)
            override = self.directory(name).gpu_override()
            if override is not None:
                gpu_util = override[0]
                gpu_memory = gpu_memory if override[1] is None else override[1]
        return Usage(
            cpu=cpu,
            memory_mb=sum(stat.resident_mb for stat in inside),
            disk_gb=self._disk_gb(name, running, now),
            gpu_util=gpu_util,
            gpu_memory_mb=gpu_memory,
            processes=len(inside),
        )

    def _disk_gb(self, name: str, running: _Running, now: float) -> float:
        # walking a big workspace is dear; half a minute old is as fresh as a provider's figure
        if running.disk_mark is None or now - running.disk_mark[0] > 30:
            running.disk_mark = (now, _tree_bytes(self.directory(name).path) / 1e9)
        return running.disk_mark[1]

    def _need(self, name: str) -> _Running:
        running = self._running.get(name)
        if running is None:
            raise RuntimeError(f"machine {name} is not running")
        return running

    def _signal_init(self, running: _Running, number: signal.Signals) -> bool:
        """Signal the machine's init; False when it does not exist (yet, or any more)."""
        if self.isolation == "directory":
            if number == signal.SIGKILL:
                # while it lives its orphans stay below it: it must be the last to die
                processes.send(running.process.pid, signal.SIGSTOP)
                processes.signal_tree(running.process.pid, signal.SIGKILL)
            return processes.send(running.process.pid, number)
        # the process we started is `unshare`; the init is its only child
        inits = processes.children(running.process.pid)
        reached = [processes.send(pid, number) for pid in inits]
        return any(reached)

    async def _watch(self, name: str, running: _Running) -> None:
        code = await running.process.wait()
        self._running.pop(name, None)
        self.directory(name).clear_run()
        await self._links.detach(name)
        running.gone.set()
        if not running.ending:
            log.info("machine %s ended by itself (%s)", name, code)
            self._report(name)

    def _report(self, name: str) -> None:
        for listener in self._listeners:
            listener(name)


def _init_environment(spec: MachineSpec) -> dict[str, str]:
    return {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LANG": "C.UTF-8",
        # for an init that is a module of ours; it hands this to nobody
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "MACHINE_NAME": spec.name,
        "MACHINE_HOSTNAME": spec.hostname,
        "MACHINE_ADDRESS": spec.address,
        "MACHINE_SSH_PORT": str(spec.ssh_port if spec.ssh else 0),
        "MACHINE_USER": spec.user,
    }


def _metadata_of(spec: MachineSpec) -> tuple[str, ...]:
    """Return the address of its metadata server: its host serves that, whatever link is cut."""
    host = None if spec.metadata_url is None else urlsplit(spec.metadata_url).hostname
    return () if host is None else (host,)


def _tree_bytes(path: Path) -> int:
    total = 0
    pending = [path]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(Path(entry.path))
                    elif entry.is_file(follow_symlinks=False):
                        total += entry.stat(follow_symlinks=False).st_size
        except OSError:
            continue
    return total
