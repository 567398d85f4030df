"""The mirror: first copy, then every change within a fraction of a second, and never silently not.

    first copy in parallel streams -> lsyncd -> full pass -> protected
                                        |          ^
                                        |          every 10 to 60 s; after an overflow, a crash or a failure
                                        +--> without lsyncd: a pass every second, and it is said

One thread (the caller's) watches and measures; another makes the full passes. Whatever fails is tried
again; the status says why it is degraded until it is not. A refusal by the standby stops all copying:
the standby has authority. It is asked now and then whether it gave authority back; a heartbeat that
was answered with `fenced` ends mirroring for good in this epoch, also after a restart.
"""

from __future__ import annotations

import hashlib
import threading
import time
from typing import TYPE_CHECKING, Any

from dumont.agent import lsyncd, mapped, processes, restored, since, store, survey
from dumont.agent.context import Context, timestamp
from dumont.agent.link import Conversation, Fenced, Link, LinkDown
from dumont.agent.lsyncd import Lsyncd
from dumont.agent.marks import Marks
from dumont.agent.transfer import Outcome, Transfers

if TYPE_CHECKING:
    from dumont.agent.config import MirrorConfig

_MARK_EVERY_S = 1.0
_LOOK_EVERY_S = 0.05
_PASS_EVERY_S = (10.0, 60.0)
_PASS_SHARE = 50
"""A pass may take a fiftieth of the time: often in a small tree, every minute in a big one."""
_RETRY_PASS_S = 3.0
_ASK_AUTHORITY_EVERY_S = 1.0
_SURVEY_EVERY_S = 900.0
_NOTE_EVERY_S = 0.9
_SILENT_S = 10.0
"""A mark that has not arrived for so long means that the mirror is not working."""
_RESTART_BACKOFF_S = (0.2, 30.0)


class Mirror:
    """Mirrors the workspace of this body to its standby.

    Attributes:
        link, transfers, marks: What the barrier uses, too.
        copying: Held during a full pass; the barrier makes its own under it.
        caught_up: Whether a full pass has succeeded since this worker began or lost authority.
        restoring: Whether the workspace is not whole yet; nothing is mirrored then.
        fenced: Whether the standby or the control plane said that we have no authority.
    """

    def __init__(self, context: Context, mirror: MirrorConfig) -> None:
        self._context = context
        self._config = mirror
        self._log = context.log
        self._paths = context.paths
        self._workspace = context.paths.workspace
        self._state_file = context.paths.base / "mirror.json"
        self.link = Link(paths=context.paths, mirror=mirror, log=context.log)
        self.transfers = Transfers(
            workspace=self._workspace, link=self.link, excludes=mirror.excludes, log=context.log
        )
        self.marks = Marks(product=context.paths.product, epoch=context.config.epoch)
        self.copying = threading.Lock()
        self.caught_up = False
        self.fenced = False
        self.restoring = mirror.paused or restored.is_pending(context.paths)
        self._conversation = Conversation(self.link)
        self._lsyncd: Lsyncd | None = None
        self._reasons: dict[str, str] = {}
        self._pass_wanted = threading.Event()
        self._left: tuple[int | None, int | None] = (None, None)
        self._not_mirrored: list[dict[str, Any]] = []
        self._surveyed_at: float | None = None
        self._lsyncd_pause = _RESTART_BACKOFF_S[0]
        self._lsyncd_at = 0.0
        self._noted_at = 0.0
        self._pass_took_s = 0.0
        self._published: tuple[str, str] = ("", "")

    def run(self) -> None:
        """Mirror until told to stop."""
        state = self._state()
        if state.get("fenced"):
            self._context.fenced.set()
        self._reasons["start"] = "catching up after a restart" if state.get("complete") else ""
        self._publish()
        self._reasons["install"] = lsyncd.install(self._log)
        if self._reasons["install"]:
            self._log.error("%s", self._reasons["install"])
        self.link.start()
        threading.Thread(target=self._passes, name="passes", daemon=True).start()
        while not self._context.stop.is_set():
            try:
                if self._context.fenced.is_set():
                    self._rest()
                elif self.restoring:
                    self._wait_for_restore()
                elif self.fenced:
                    self._ask_for_authority()
                elif not self._state().get("complete"):
                    self._first_copy()
                else:
                    self._watch()
            except Fenced as refusal:
                self.refused(str(refusal))
            except LinkDown as trouble:
                self._reasons["link"] = f"the standby cannot be reached: {trouble}"
                self._publish()
                self._context.stop.wait(0.2)
        self._stop_lsyncd()
        self._conversation.close()
        self.link.close()

    def running_transfers(self) -> list[int]:
        """The pids of lsyncd's running rsync processes."""
        return [] if self._lsyncd is None else self._lsyncd.transfers()

    def is_complete(self) -> bool:
        """Whether the first copy to this standby was made."""
        return bool(self._state().get("complete"))

    def refused(self, why: str) -> None:
        """The standby has authority: stop copying at once."""
        if not self.fenced:
            self._log.warning("the standby refuses our changes: %s", why)
        self.fenced = True
        self._stop_lsyncd()
        self._publish()

    def compared(self, moment: dict[str, Any]) -> None:
        """A barrier compared all that changed before this moment (`since.moment`)."""
        restored.note_replicated(self._paths, moment["at"])
        self._save({**self._state(), "compared": moment})

    def compared_since(self) -> float | None:
        """When the newest barrier (or the first copy) began; None: compare everything."""
        return since.seconds(self._state().get("compared"))

    def _passed(self, outcome: Outcome) -> None:
        self._reasons["pass"] = outcome.problem
        if outcome.unreadable:
            count = outcome.unreadable
            self._reasons["pass"] = f"{count} files could not be mirrored: {outcome.problem}"
        if not outcome.problem:
            self.caught_up = True
            self._reasons["start"] = ""
            self._reasons["overflow"] = ""

    # -- the steady state ---------------------------------------------------------------------

    def _watch(self) -> None:
        """One mark: write it, look for it until the next is due, say how it went."""
        self._keep_lsyncd()
        began = time.monotonic()
        try:
            self.marks.write()
            self._reasons["mark"] = ""
        except OSError as error:
            self._reasons["mark"] = f"the workspace cannot be written to: {error}"
        arrived = False
        while not (self._context.stop.is_set() or self.fenced or self._context.fenced.is_set()):
            if not arrived:
                arrived = self.marks.saw(self._conversation.ask({"do": "mark"}).get("mark"))
                if arrived:
                    self._publish()
            self._reasons["link"] = ""
            left = _MARK_EVERY_S - (time.monotonic() - began)
            if left <= 0:
                break
            self._context.stop.wait(left if arrived else min(left, _LOOK_EVERY_S))
        self._judge_marks()
        self._publish()

    def _judge_marks(self) -> None:
        age = self.marks.age_s()
        silent = age is not None and age > _SILENT_S
        if silent and not self._reasons.get("mark"):
            self._reasons["silent"] = "changes have not reached the standby for a while"
            self._pass_wanted.set()
        elif not silent:
            self._reasons["silent"] = ""

    def _keep_lsyncd(self) -> None:
        """Start lsyncd when it does not run, unless it cannot be had."""
        if self._reasons.get("install") or self._reasons.get("watches"):
            return
        daemon = self._lsyncd
        if daemon is not None and daemon.is_running():
            if time.monotonic() - self._lsyncd_at > _SILENT_S:
                self._lsyncd_pause = _RESTART_BACKOFF_S[0]
            return
        if daemon is not None:
            self._log.warning("lsyncd ended: %s", daemon.trouble or "no reason given")
            if daemon.out_of_watches and not lsyncd.raise_watch_limit(self._log):
                self._reasons["watches"] = (
                    "the system's limit of inotify watches is too low for this workspace; "
                    "mirroring by repeated passes instead"
                )
                self._pass_wanted.set()
                return
            if time.monotonic() - self._lsyncd_at < self._lsyncd_pause:
                return
            self._lsyncd_pause = min(self._lsyncd_pause * 2, _RESTART_BACKOFF_S[1])
        self._lsyncd_at = time.monotonic()
        self._lsyncd = Lsyncd(
            workspace=self._workspace,
            run=self._paths.run,
            rsh=self.link.rsh,
            excludes=self._config.excludes,
            xattrs=self.transfers.xattrs,
            log=self._log,
            on_overflow=self._overflowed,
        )
        try:
            self._lsyncd.start()
            self._reasons["lsyncd"] = ""
        except OSError as error:
            self._reasons["lsyncd"] = f"lsyncd does not start: {error}"
        # What changed while there was none.
        self._pass_wanted.set()

    def _stop_lsyncd(self) -> None:
        if self._lsyncd is not None:
            self._lsyncd.stop()
            self._lsyncd = None

    def _overflowed(self) -> None:
        self._reasons["overflow"] = "too many changes at once; catching up with a full pass"
        self._pass_wanted.set()

    # -- full passes --------------------------------------------------------------------------

    def _passes(self) -> None:
        while not self._context.stop.is_set():
            self._pass_wanted.wait(self._pause_between_passes())
            ready = self.link.is_up and self.is_complete() and not self.restoring
            if not ready or self.fenced or self._context.fenced.is_set():
                self._context.stop.wait(0.2)
                continue
            self._pass_wanted.clear()
            try:
                self.full_pass()
                self._survey()
            except Fenced as refusal:
                self.refused(str(refusal))
            except LinkDown:
                self._pass_wanted.set()  # the watching thread says so
                self._context.stop.wait(0.5)
            except Exception:
                self._log.exception("full pass")
                self._context.stop.wait(_RETRY_PASS_S)

    def full_pass(self) -> Outcome:
        """Make the standby's tree like ours. Raises Fenced, LinkDown."""
        with self.copying:
            return self.pass_while_copying()

    def pass_while_copying(self) -> Outcome:
        """The same, for whoever holds `copying`."""
        before, began = self._reasons.get("pass"), time.monotonic()
        outcome = self.transfers.full_pass()
        self._pass_took_s = time.monotonic() - began
        self._passed(outcome)
        if outcome.problem and outcome.problem != before:
            self._log.warning("full pass: %s", outcome.problem)
        self._publish()
        return outcome

    def _pause_between_passes(self) -> float:
        if self._reasons.get("install") or self._reasons.get("watches"):
            return _MARK_EVERY_S
        if self._reasons.get("pass"):
            return _RETRY_PASS_S
        return min(max(self._pass_took_s * _PASS_SHARE, _PASS_EVERY_S[0]), _PASS_EVERY_S[1])

    def _survey(self) -> None:
        """See, rarely, what is not mirrored."""
        now = time.monotonic()
        if self._surveyed_at is None or now - self._surveyed_at > _SURVEY_EVERY_S:
            self._not_mirrored = survey.not_mirrored(self._workspace, self.transfers.hidden())
            self._surveyed_at = now

    # -- first copy, authority ----------------------------------------------------------------

    def _first_copy(self) -> None:
        if not self.link.wait_up(0.5):
            raise LinkDown(self.link.trouble or "connecting")
        known = self._conversation.ask({"do": "mark"}).get("mark")
        self._reasons["link"] = ""
        if known and not self.marks.sequence:
            # Somebody else's work: mirroring an empty folder over it would delete it.
            self._reasons["strange"] = "the standby holds a workspace that was never restored here"
            self._publish()
            self._context.stop.wait(_ASK_AUTHORITY_EVERY_S)
            return
        self._reasons["strange"] = ""
        self._publish()
        began, moment = time.monotonic(), since.moment()
        with self.copying:
            # From here on stores to mapped memory move the times of their files; see flush.py.
            mapped.write_back(self._workspace, mapped.writable(self._workspace))
            outcome = self.transfers.send_all(self._config.streams, self._progress)
        self._log.info(
            "first copy: %d bytes in %.1f s %s",
            outcome.bytes_sent, time.monotonic() - began, outcome.problem,
        )  # fmt: skip
        self._left = (None, None)
        # A full pass decides what is complete; until lsyncd runs it would only be made again.
        self._keep_lsyncd()
        result = self.full_pass()
        if result.problem and not result.unreadable:
            self._context.stop.wait(_RETRY_PASS_S)
            return
        self._save({"complete": True, "compared": moment})

    def _wait_for_restore(self) -> None:
        """A workspace that lacks files must never be taken for one whose files were deleted."""
        self._stop_lsyncd()
        self._publish()
        self._context.stop.wait(0.5)

    def _progress(self, files: int, size: int) -> None:
        self._left = (files, size)
        self._publish()

    def _ask_for_authority(self) -> None:
        """The standby may give authority back under the same epoch, if nothing was written there."""
        # The thread of the passes may have been refused while this one was starting it.
        self._stop_lsyncd()
        self._context.stop.wait(_ASK_AUTHORITY_EVERY_S)
        self._conversation.ask({"do": "mark"})
        self._log.info("the standby takes our changes again")
        self.fenced = False
        self.caught_up = False
        self._pass_wanted.set()

    def _rest(self) -> None:
        """Fenced for good: what is here is not mirrored any more, and that is said."""
        if not self._state().get("fenced"):
            self._save({**self._state(), "fenced": True})
        self.refused("the control plane has fenced this body")
        self.link.close()
        self._context.stop.wait()

    # -- what is said -------------------------------------------------------------------------

    def _publish(self) -> None:
        status, reason = self._judge()
        ages = [processes.age_s(pid) for pid in self.running_transfers()]
        oldest = max((age for age in ages if age is not None), default=None)
        replicated_at = self.marks.replicated_at(oldest)
        self._note(replicated_at)
        files, size = self._left
        state = {
            "status": status,
            "reason": reason,
            "lag_s": None if self.fenced else self.marks.lag_s(oldest),
            "replicated_at": None if replicated_at is None else timestamp(replicated_at),
            "pending_files": files,
            "pending_bytes": size,
            "not_mirrored": self._not_mirrored,
        }
        changed = (status, reason) != self._published
        self._published = (status, reason)
        if changed:
            self._log.info("%s %s", status, reason)
            self._context.tell(_for_people(status, reason))
        self._context.publish("protection", state, now=changed)

    def _judge(self) -> tuple[str, str]:
        if self._context.fenced.is_set():
            return "degraded", "fenced: another body of this machine has taken over"
        if self.fenced:
            return "degraded", "the standby has authority: it does not take changes from here"
        reasons = "; ".join(reason for reason in self._reasons.values() if reason)
        if self.restoring:
            return "degraded", "the workspace is being restored; nothing is mirrored meanwhile"
        if not self.is_complete() and not self._reasons.get("pass", self._reasons.get("strange")):
            return "mirroring", reasons
        if reasons:
            return "degraded", reasons
        if self._lsyncd is None or not self._lsyncd.is_running():
            return "degraded", "changes are not watched for a moment: lsyncd is being started"
        if not self.caught_up or self.marks.age_s() is None:
            return "mirroring", "waiting for the first mark to arrive"
        return "protected", ""

    # -- what is remembered -------------------------------------------------------------------

    def _state(self) -> dict[str, Any]:
        """What is known of this standby in this epoch."""
        try:
            noted = store.read_json(self._state_file)
        except ValueError:
            return {}
        if not isinstance(noted, dict) or noted.get("standby") != self._standby():
            return {}
        return noted

    def _save(self, state: dict[str, Any]) -> None:
        store.write_json(self._state_file, {**state, "standby": self._standby()})

    def _note(self, replicated_at: float | None) -> None:
        """Remember now and then how far the standby is; see divergence.py."""
        if replicated_at is not None and time.monotonic() - self._noted_at > _NOTE_EVERY_S:
            self._noted_at = time.monotonic()
            restored.note_replicated(self._paths, replicated_at)

    def _standby(self) -> str:
        mirror = self._config
        text = f"{self._context.config.epoch} {mirror.host} {mirror.port} {mirror.host_key}"
        return hashlib.sha256(text.encode()).hexdigest()[:16]


def _for_people(status: str, reason: str) -> str:
    if status == "protected":
        return "This machine is protected: every change is mirrored to its standby."
    if status == "mirroring":
        return "This machine is being copied to its standby; it is not protected yet."
    return f"WARNING: this machine is not fully protected: {reason}."
