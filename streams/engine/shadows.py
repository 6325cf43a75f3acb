"""The policies of a task side by side: one live, any number of shadows, over one fold of the facts.

    event or wake-up ── facts ──┬── live ───── warnings, limits, buckets, offers ...
                                ├── shadow ─── shadow-decisions
                                └── shadow ─── shadow-decisions

What a shadow makes of a borrower is a standing of its own, begun as a copy of the live one when it first looks at the
borrower: from there on it decides what it would decide if it were live. It tells its warnings and limit adjustments on
`shadow-decisions` and nothing else, and nothing that it does shows in the live policy's outputs: each policy has its
own next wake-up and is judged at no other; the borrower's one wake-up is the earliest of them.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import msgpack, structs

from schemas import outbound
from schemas.outbound import Cause
from streams.engine import delinquency
from streams.engine.breaker import Granted
from streams.engine.cases import Case
from streams.engine.chunk import Output, TaskState
from streams.engine.decide import Judge
from streams.engine.encode import Emitter, derived_id
from streams.engine.standing import Standing
from streams.engine.state import ShadowStanding, SideBySide

SHADOW_DECISIONS = "shadow-decisions"
SHADOWED = frozenset(("early-warnings", "limit-adjustments"))
"""The topics whose events a shadow tells; of anything else it keeps note in its standing, and says nothing."""

_encode = msgpack.Encoder().encode
_standings = msgpack.Decoder(Standing)


class ShadowEmitter(Emitter):
    """Sends warnings and limit adjustments to `shadow-decisions`, under ids of the policy's own, and drops the rest."""

    __slots__ = ()

    def emit(self, topic: str, event: type[outbound.BorrowerEvent], detail: str, **fields: Any) -> str:
        if topic in SHADOWED:
            return super().emit(SHADOW_DECISIONS, event, detail, **fields)
        return self.next_id(event)

    def emit_listing(self, topic: str, listing: outbound.Listing) -> None:
        """A shadow lists nobody."""

    def _derived(self, kind: str, ordinal: int) -> str:
        return derived_id(self.cause, self.borrower_id, f"{self.policy.digest}|{kind}", self.as_of_ms, ordinal)


class ShadowJudge(Judge):
    emitter = ShadowEmitter


class Policies:
    """The judges of a task: `live`, and its shadows, each with the number of its activation.

    Args:
        was_shadow: the activation under which the live policy ran as a shadow before it went live; None if it did not.
    """

    __slots__ = ("_shadows", "_was_shadow", "live")

    def __init__(
        self, live: Judge, shadows: Sequence[tuple[int, ShadowJudge]] = (), was_shadow: int | None = None
    ) -> None:
        self.live = live
        self._shadows = shadows
        self._was_shadow = was_shadow

    def still_stand(self, case: Case, as_of_ms: int, task: TaskState) -> bool:
        """Whether a judgement now would change nothing but the score, which is noted; never with shadows, which are
        asked one by one when it comes to the judgement."""
        if self._shadows or case.borrower.shadows is not None:
            return False
        return self.live.still_stands(case, as_of_ms, task)

    def judge(self, case: Case, as_of_ms: int, cause: Cause, outputs: list[Output], task: TaskState) -> None:
        """Judge after an event, under every policy."""
        if self._shadows or case.borrower.shadows is not None:
            self._judge_each(case, as_of_ms, cause, outputs, task, at_wake=False, live_awake=True)
        else:
            self.live.judge(case, as_of_ms, cause, outputs, task)

    def live_awake(self, case: Case, wake_ms: int) -> bool:
        """Whether a wake-up of the borrower is the live policy's own: for a decision or for a reminder."""
        if case.borrower.shadows is None:
            return True
        _, live_wake_ms = self._seated(case)
        if live_wake_ms is not None and live_wake_ms <= wake_ms:
            return True
        reminding = self.live.reminding
        return reminding is not None and reminding.next_ms(case, wake_ms - 1) == wake_ms

    def wake(
        self, case: Case, wake_ms: int, cause: Cause, outputs: list[Output], task: TaskState, live_awake: bool
    ) -> None:
        """Judge at the borrower's wake-up, under the policies whose own it is."""
        if self._shadows or case.borrower.shadows is not None:
            self._judge_each(case, wake_ms, cause, outputs, task, at_wake=True, live_awake=live_awake)
        else:
            self.live.judge(case, wake_ms, cause, outputs, task)

    def _judge_each(
        self,
        case: Case,
        as_of_ms: int,
        cause: Cause,
        outputs: list[Output],
        task: TaskState,
        *,
        at_wake: bool,
        live_awake: bool,
    ) -> None:
        """Shadows first: they need what happened since the last judgement, which the live judge takes as dealt with.

        At a wake-up for a reminder alone a policy that reminds as the live one does judges only if the score has moved
        over a threshold.
        """
        beside, live_wake_ms = self._seated(case)
        live_due = at_wake and live_wake_ms is not None and live_wake_ms <= as_of_ms
        reminded = live_awake and not live_due
        day = self.live.calendar.day(as_of_ms)
        if any(delinquency.learns_past(loan, day) for loan in case.borrower.facts.loans.values()):
            case.retroactive = True
        # Gauges are of the live policy alone, and so is what the breaker counts: a shadow closes no accounts.
        aside = structs.replace(task, loans={}, levels={}, statuses={}, reviews={}, overturned={}, granted=Granted())
        for serial, judge in self._shadows:
            shadow = beside.get(serial)
            if shadow is None:
                if not live_awake:
                    continue
                standing = _standings.decode(_encode(case.borrower.standing))
                shadow = beside[serial] = ShadowStanding(serial, standing, live_wake_ms)
            due = at_wake and shadow.wake_ms is not None and shadow.wake_ms <= as_of_ms
            if at_wake and not due and not (reminded and judge.policy.reminders == self.live.policy.reminders):
                continue
            seat = _seat(case, shadow)
            if due or not judge.still_stands(seat, as_of_ms, task):
                judge.judge(seat, as_of_ms, cause, outputs, aside)
                shadow.wake_ms = seat.wake_ms
        case.wake_ms = live_wake_ms
        if live_due or (live_awake and not self.live.still_stands(case, as_of_ms, task)):
            self.live.judge(case, as_of_ms, cause, outputs, task)
        seated = [beside[serial] for serial, _ in self._shadows if serial in beside]
        if not seated:
            case.borrower.shadows = None
            return
        case.borrower.shadows = SideBySide(case.wake_ms, seated)
        case.wake_ms = _earliest([case.wake_ms, *(shadow.wake_ms for shadow in seated)])

    def _seated(self, case: Case) -> tuple[dict[int, ShadowStanding], int | None]:
        """The shadow standings of the borrower that are still wanted, and when the live policy has to decide next.

        A policy that went live keeps the wake-up it had asked for as a shadow: its thresholds need not wait for that of
        the policy before it.
        """
        kept, standing = case.borrower.shadows, case.borrower.standing
        if kept is None:
            return {}, standing.decide_ms if standing.judged_by else case.wake_ms
        beside = {shadow.serial: shadow for shadow in kept.shadows}
        promoted = None if self._was_shadow is None else beside.get(self._was_shadow)
        wake_ms = kept.live_wake_ms if promoted is None else _earliest([kept.live_wake_ms, promoted.wake_ms])
        return {serial: beside[serial] for serial, _ in self._shadows if serial in beside}, wake_ms


def _seat(case: Case, shadow: ShadowStanding) -> Case:
    """The case as a shadow sees it: the same facts, its own standing and wake-up."""
    return case.seat(structs.replace(case.borrower, standing=shadow.standing, shadows=None), shadow.wake_ms)


def _earliest(moments: Sequence[int | None]) -> int | None:
    return min((moment for moment in moments if moment is not None), default=None)
