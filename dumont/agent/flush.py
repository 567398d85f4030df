"""The barrier: when it returns, everything written before it was asked for is on the standby's disk.

Why each step is there (the primary may be killed the instant after we answer):

1. Files mapped writable by any process are written back first: their pages are clean then, so the
   next store moves the file's times and the next barrier sees it.
2. A mark, and a full pass of rsync that begins after the question.
3. Transfers that began earlier may hold an older content and put it in place last. They are waited
   for: lsyncd's here, and on the standby any that lost its sender.
4. Every file that changed since the last barrier, or is mapped writable, is compared by hash with the
   standby's. rsync's own quick check (size and time) is no proof: a mapped store may move neither.
5. What differs is sent again, whatever its size and time say, and compared again (`compare.py`).
6. The standby writes its file system to disk, and confirms that we still have authority.

Several questions at the same time share one run: each is answered by a run that began after it.
"""

from __future__ import annotations

import stat
import threading
import time
from typing import TYPE_CHECKING, Any

from dumont.agent import manifest, mapped, processes, since
from dumont.agent.compare import Comparison
from dumont.agent.context import timestamp
from dumont.agent.errors import AgentError
from dumont.agent.link import Conversation, Fenced, LinkDown
from dumont.agent.transfer import Hidden

if TYPE_CHECKING:
    from dumont.agent.context import Context
    from dumont.agent.control import Say
    from dumont.agent.mirror import Mirror

_DEFAULT_S = 600.0
_MARGIN_S = 2.0
"""File systems stamp with the clock of the last tick, and some with whole seconds."""
_NAMED = 100


class Barrier:
    """Serves `flush`."""

    def __init__(self, context: Context, mirror: Mirror) -> None:
        self._context = context
        self._mirror = mirror
        self._workspace = context.paths.workspace
        self._change = threading.Condition()
        self._running = False
        self._begun = 0
        self._finished = 0
        self._result: dict[str, Any] | AgentError = {}

    def handle(self, arguments: dict[str, Any], say: Say) -> dict[str, Any]:
        """The command `flush`."""
        timeout_s = arguments.get("timeout_s", _DEFAULT_S)
        if isinstance(timeout_s, bool) or not isinstance(timeout_s, (int, float)):
            raise AgentError("timeout must be a number of seconds", code="invalid")
        return self.flush(timeout_s=float(timeout_s))

    def flush(self, *, timeout_s: float = _DEFAULT_S) -> dict[str, Any]:
        """Wait until everything written before this call is on the standby.

        Returns:
            The result as in `docs/protection.md`; `changing` names files that never stood still,
            of which everything written before the call is there, too.

        Raises:
            AgentError: `fenced`, `timeout`, or `not_mirrored` when something cannot be mirrored.
        """
        deadline = time.monotonic() + timeout_s
        with self._change:
            needed = self._begun + 1
            while True:
                if self._finished >= needed:
                    late = isinstance(self._result, AgentError) and self._result.code == "timeout"
                    if not late or time.monotonic() >= deadline:
                        break
                    needed = self._begun + 1  # it was the other caller's patience that ended
                elif not self._running:
                    self._lead(deadline)
                elif not self._change.wait(max(0.0, deadline - time.monotonic())):
                    raise AgentError("not everything reached the standby in time", code="timeout")
            result = self._result
        if isinstance(result, AgentError):
            raise result
        return result

    def _lead(self, deadline: float) -> None:
        """Make one run, without holding the lock."""
        self._running = True
        self._begun += 1
        number = self._begun
        self._change.release()
        result: dict[str, Any] | AgentError
        try:
            result = self._run(deadline)
        except AgentError as error:
            result = error
        except Exception as error:
            self._context.log.exception("flush")
            result = AgentError(f"{type(error).__name__}: {error}")
        finally:
            self._change.acquire()
            self._running = False
            self._finished = number
            self._change.notify_all()
        self._result = result

    def _run(self, deadline: float) -> dict[str, Any]:
        began = time.monotonic()
        asked = since.moment()
        mirror = self._mirror
        if not mirror.copying.acquire(timeout=max(0.0, deadline - began)):
            raise AgentError("a pass that began earlier takes too long", code="timeout")
        try:
            while True:
                if mirror.fenced or self._context.fenced.is_set():
                    message = "this body has no authority: it is not mirrored any more"
                    raise AgentError(message, code="fenced")
                conversation = Conversation(mirror.link)
                try:
                    return self._once(conversation, asked, began, deadline)
                except Fenced as refusal:
                    mirror.refused(str(refusal))
                except LinkDown as trouble:
                    if time.monotonic() > deadline:
                        raise AgentError(f"the standby: {trouble}", code="timeout") from None
                    self._context.stop.wait(0.1)
                finally:
                    conversation.close()
        finally:
            mirror.copying.release()

    def _once(
        self, conversation: Conversation, asked: dict[str, Any], began: float, deadline: float
    ) -> dict[str, Any]:
        mirror = self._mirror
        older = {pid: processes.started(pid) for pid in mirror.running_transfers()}
        in_memory = mapped.writable(self._workspace)
        mapped.write_back(self._workspace, in_memory)
        try:
            sequence = mirror.marks.write()
        except OSError as error:
            raise AgentError(f"cannot write a mark: {error}", code="not_mirrored") from None
        outcome = mirror.pass_while_copying()
        if outcome.problem:
            raise AgentError(outcome.problem, code="not_mirrored")
        self._wait_for(older, deadline)
        left = deadline - time.monotonic()
        settled = conversation.ask({"do": "settle", "timeout_s": left}, timeout_s=left + 5)
        if not settled.get("settled"):
            raise AgentError("an earlier transfer does not end", code="timeout")
        files, size, suspects = self._suspects(in_memory)
        comparison = Comparison(
            workspace=self._workspace,
            transfers=mirror.transfers,
            conversation=conversation,
            in_memory=in_memory,
        )
        comparison.settle(suspects, deadline=deadline)
        conversation.ask({"do": "sync"}, timeout_s=max(10.0, deadline - time.monotonic()))
        mirror.compared(asked)
        result = {
            "epoch": self._context.config.epoch,
            "sequence": sequence,
            "replicated_at": timestamp(asked["at"]),
            "files": files,
            "bytes": size,
            "hashed": comparison.hashed,
            "seconds": round(time.monotonic() - began, 3),
        }
        if comparison.changing:
            names = sorted(comparison.changing)[:_NAMED]
            result["changing"] = [manifest.shown(name) for name in names]
        return result

    def _wait_for(self, older: dict[int, str | None], deadline: float) -> None:
        while any(began and processes.started(pid) == began for pid, began in older.items()):
            if time.monotonic() > deadline:
                raise AgentError("an earlier transfer does not end", code="timeout")
            time.sleep(0.01)

    def _suspects(self, in_memory: set[bytes]) -> tuple[int, int, list[tuple[bytes, int]]]:
        """Files and bytes in the workspace, and what has to be compared."""
        moment = self._mirror.compared_since()
        hidden = Hidden(self._mirror.transfers.hidden())
        files = size = 0
        suspects = []
        for name, state in manifest.walk(self._workspace):
            regular = stat.S_ISREG(state.st_mode)
            if not (regular or stat.S_ISLNK(state.st_mode)) or name in hidden:
                continue
            files += 1
            size += state.st_size
            changed = moment is None or state.st_ctime >= moment - _MARGIN_S
            if changed or name in in_memory:
                suspects.append((name, state.st_size if regular else 0))
        return files, size, suspects
