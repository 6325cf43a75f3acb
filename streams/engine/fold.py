"""The fold of one chunk: records in their order, in and out as bytes.

    record ── decode ── duplicate? ── facts (ingest) ── judge (decide) ── outputs
                │                        │
                └──────── dead letter ───┘
    tick ──── clock ──── every wake-up due until then, by (moment, borrower) ──── judge ──── outputs

A fold is a function: task state, records, packed borrowers and due wake-ups go in, all that changed comes out, and what
went in is left as it was. Worker, replay, back-test, explain and the tests all run this one.

A tick may wake more borrowers than one fold is to look at: its sweep is then open, and goes on in folds without
records. Between them events may be folded too. Before an event, its own borrower's wake-ups that the sweep has not come
to are fired, so that of each borrower the same comes out as if the sweep had ended first.
"""

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Final

from msgspec import Struct, structs

from schemas.inbound import (
    BorrowerErased,
    BorrowerEvent,
    Inbound,
    IncidentClosed,
    IncidentOpened,
    MacroSet,
    PolicyActivated,
    RepaymentFailed,
    Tick,
)
from schemas.outbound import Cause
from schemas.partitioning import partition_of
from streams.engine import tightening
from streams.engine.activation import activate
from streams.engine.blacklist import Signer
from streams.engine.breaker import Granted, close_hours
from streams.engine.calendar import DAY_MS
from streams.engine.cases import Case, Cases
from streams.engine.chunk import (
    SWEEP_LIMIT,
    DeadLetter,
    Failure,
    Folded,
    PolicyInForce,
    Span,
    Sweep,
    TaskState,
    Wake,
    goes_beside,
)
from streams.engine.decide import Judge
from streams.engine.decode import BadInput, content_digest, decode
from streams.engine.directions import LEGAL_HOLD, hold_on
from streams.engine.encode import Emitter
from streams.engine.erasure import uncount
from streams.engine.incidents import borrower_of, changed_by, failure_key, forgotten, span_of
from streams.engine.ingest import TAKEN, Ingest, Parking
from streams.engine.journal import Duplicate, Refused
from streams.engine.order import LogRecord, Ordered, Record
from streams.engine.quarantine import STUMBLED, Place, Stumble, Stumbles, enter, is_a_rules, leave, lifts, stumble_of
from streams.engine.relief import heed_incidents, note_overdue
from streams.engine.reviews import settle_notices
from streams.engine.seen import find_seen, forget_seen, note_seen, seen_key
from streams.engine.shadows import Policies, ShadowJudge
from streams.engine.state import Parked
from streams.engine.tightening import FACTORS_MAX
from streams.policy import loader
from streams.policy.compiler import Compiled, compile_policy
from streams.policy.model import Policy

CONTROL: Final = "control"
CONTROL_SEEN_MAX: Final = 1_000


class Needs(Struct, frozen=True):
    """What has to be loaded before a fold: the borrowers its records are about, and the wake-ups due until
    `due_until_ms` (None: no tick, none needed). `failures`: the entries of the index of failures that an incident's
    sweep looks at, SWEEP_LIMIT + 1 of them, with their borrowers' states."""

    borrowers: list[str]
    due_until_ms: int | None
    failures: Span | None = None


class Engine:
    """One policy's engine for the tasks of a worker or a replay; it holds no state of any task.

    Args:
        policy: in force until a recorded activation replaces it.
        partitions: how many partitions the input topics have; a key on another partition than the Java client would
            choose is then a dead letter. None: not checked.
        recorded_policies: whether `policy_activated` events of the log switch the policy.
        signer: makes the subject tokens of the blacklist; None: placeholders (key id `none`).
    """

    def __init__(
        self,
        policy: Policy,
        *,
        partitions: int | None = None,
        recorded_policies: bool = True,
        signer: Signer | None = None,
    ) -> None:
        self._initial = compile_policy(policy)
        self._partitions = partitions
        self._recorded_policies = recorded_policies
        self._signer = signer
        self._judges: dict[str, Judge] = {self._initial.digest: self._judge(self._initial)}
        self._shadow_judges: dict[str, ShadowJudge] = {}

    @property
    def initial(self) -> Policy:
        """The policy in force until an activation replaces it."""
        return self._initial.policy

    def _judge(self, compiled: Compiled) -> Judge:
        return Judge(compiled, self._signer, self._partitions)

    def judge_of(self, task: TaskState) -> Judge:
        """The judge of the policy in force in `task`."""
        if task.live is None or not self._recorded_policies:
            return self._judges[self._initial.digest]
        judge = self._judges.get(task.live.digest)
        if judge is None:
            judge = self._judges[task.live.digest] = self._judge(_compiled(task.live))
        return judge

    def judge_by(self, digest: str) -> Judge | None:
        """The judge of a policy that was live in a task of this engine, None for any other."""
        return self._judges.get(digest)

    def policy_by(self, digest: str) -> Policy | None:
        """A policy that was live or a shadow in a task of this engine, None for any other."""
        judge = self._judges.get(digest) or self._shadow_judges.get(digest)
        return None if judge is None else judge.policy

    def policies_of(self, task: TaskState) -> Policies:
        """The judges of the policies in force in `task`: the live one and its shadows."""
        live = self.judge_of(task)
        if not self._recorded_policies:
            return Policies(live)
        shadows: list[tuple[int, ShadowJudge]] = []
        for policy in task.shadows:
            judge = self._shadow_judges.get(policy.digest)
            if judge is None:
                judge = self._shadow_judges[policy.digest] = ShadowJudge(_compiled(policy))
            shadows.append((policy.serial, judge))
        return Policies(live, shadows, None if task.live is None else task.live.was_shadow)

    def needs(self, task: TaskState, chunk: Sequence[Ordered], cases: Cases | None = None) -> Needs:
        """What `fold` of the same arguments has to be given: nothing of a borrower that `cases` holds."""
        sweep = task.sweep
        if sweep is not None and not goes_beside(sweep, chunk):
            return Needs([], sweep.at_ms if sweep.of_wakes else None, sweep.failures)
        borrowers: dict[bytes, None] = {}
        due_until_ms: int | None = None
        for _, topic, _, record in chunk:
            if topic == CONTROL:
                if sweep is not None:
                    break
                event = decode(topic, record.key, record.value, record.timestamp)
                if isinstance(event, Tick) and event.at_ms > (due_until_ms or 0):
                    due_until_ms = event.at_ms
            elif record.key is not None:
                borrowers[record.key] = None
        names = [key.decode("utf-8", "replace") for key in borrowers]
        return Needs([name for name in names if cases is None or name not in cases], due_until_ms)

    def fold(
        self,
        task: TaskState,
        chunk: Sequence[Ordered],
        blobs: Mapping[str, bytes | None],
        due: Sequence[Wake],
        cases: Cases | None = None,
        failures: Sequence[str] = (),
    ) -> Folded:
        """Fold `chunk` into the states in `blobs`; while a sweep is open, go on with it unless `goes_beside` it.

        Args:
            blobs: the packed state of every borrower in `needs(...)`, in `due` and in `failures`; None for one not
                known yet.
            due: the task's wake-ups until `due_until_ms`, in order, at most SWEEP_LIMIT + 1 of them.
            cases: what earlier folds of the task have opened, each committed; this fold adds its own. A fold that is
                not committed leaves them useless.
            failures: the entries of the index of failures within `needs(...)`, in order, at most SWEEP_LIMIT + 1.

        A rule that fails twice in the same way puts its borrower in quarantine (see `streams.engine.quarantine`).

        Raises:
            StateError: a packed state cannot be read.
        """
        stumbles = Stumbles()
        while True:
            run = _Pass(self, task, blobs, due, cases, self._partitions, self._recorded_policies, stumbles.certain)
            folded = run.run(chunk, failures)
            if not run.stumbled:
                return folded
            run.put_back()
            stumbles.note(run.stumbled)


class _Pass:
    """One run of the fold: the states it has opened, and the wake-ups that are due."""

    def __init__(
        self,
        engine: Engine,
        task: TaskState,
        blobs: Mapping[str, bytes | None],
        due: Sequence[Wake],
        kept: Cases | None,
        partitions: int | None,
        recorded_policies: bool,
        failing: Mapping[Place, Failure],
    ) -> None:
        self.stumbled: dict[Place, Stumble] = {}
        self._failing = failing
        self._engine = engine
        self._task = _copy(task)
        self._policies = engine.policies_of(task)
        self._judge = self._policies.live
        self._ingest = Ingest(self._judge.policy.facts, self._judge.calendar)
        self._reach_due = self._judge.policy.facts.incidents.reach == "due"
        self._blobs = blobs
        self._partitions = partitions
        self._recorded_policies = recorded_policies
        self._kept = kept
        self._cases: dict[str, Case] = {}
        self._bound: Wake | None = due[SWEEP_LIMIT] if len(due) > SWEEP_LIMIT else None
        self._due: list[Wake] = list(due[:SWEEP_LIMIT])
        heapify(self._due)
        # In the order in which they were erased; all had a state before this fold.
        self._erased: dict[str, None] = {}
        self._fired_ahead = 0
        self._folded = Folded(self._task)

    def run(self, chunk: Sequence[Ordered], failures: Sequence[str]) -> Folded:
        sweep = self._task.sweep
        if sweep is not None and not goes_beside(sweep, chunk):
            if sweep.failures is None:
                self._sweep(sweep)
            else:
                self._relieve(sweep, sweep.failures, failures)
            return self._finish(0)
        taken = 0
        fold_event = self._fold_or_quarantine if self._failing else self._fold_borrower_event
        for order_ms, topic, _, record in chunk:
            if sweep is not None:
                if topic == CONTROL or self._fired_ahead >= SWEEP_LIMIT:
                    break
                self._fire_ahead(record, sweep)
            taken += 1
            if topic == CONTROL:
                self._fold_control(record)
                if self._sweep_open():
                    break
            else:
                try:
                    fold_event(order_ms, topic, record)
                except Exception as error:
                    case = self._cases.get((record.key or b"").decode("utf-8", "replace"))
                    self._stumble(case, (topic, record.offset, ""), error, topic, record.offset)
        return self._finish(taken)

    def _sweep_open(self) -> bool:
        return self._task.sweep is not None

    def _finish(self, taken: int) -> Folded:
        folded = self._folded
        folded.taken = taken
        if self.stumbled:
            return folded
        for borrower_id, case in self._cases.items():
            if not case.touched:
                continue
            # Told with every state, not only where it moves: of a log that has been cut, what is left must be enough.
            if case.wake_ms is not None or case.borrower.wake_ms is not None:
                folded.wakes[borrower_id] = case.borrower.wake_ms = case.wake_ms
            if case.failed_days:
                folded.failures += [failure_key(day, borrower_id) for day in dict.fromkeys(case.failed_days)]
                case.failed_days = []
            folded.changed[borrower_id] = case.blob = case.parts.pack(case.borrower)
            case.known = True
            case.touched = False
        folded.erased = list(self._erased)
        if self._kept is not None:
            self._kept.keep(self._cases)
        return folded

    # --- records --------------------------------------------------------------------------------------------------

    def _count(self, topic: str, outcome: str) -> None:
        key = (topic, outcome)
        self._folded.counts[key] = self._folded.counts.get(key, 0) + 1

    def _refuse(self, record: Record, reason: str, message: str, stage: str) -> None:
        self._folded.dead_letters.append(DeadLetter(record, reason, message, stage))
        self._count(record.topic, "dead_letter")

    def _fold_borrower_event(self, order_ms: int, topic: str, record: Record) -> None:
        decoded = decode(topic, record.key, record.value, record.timestamp)
        if isinstance(decoded, BadInput):
            self._refuse(record, decoded.reason, decoded.message, "decode")
            return
        event = decoded
        assert isinstance(event, BorrowerEvent)
        case = self._open(event.borrower_id)
        if not case.known and not case.touched and not self._on_its_partition(record):
            self._refuse(
                record, "wrong_partition", "the key belongs on another partition; produce with murmur2", "fold"
            )
            return
        digest = content_digest(event)
        facts = case.borrower.facts
        keep_days = self._judge.policy.facts.duplicate_days
        key = seen_key(event.event_id)
        seen = find_seen(facts.seen, key, order_ms, keep_days)
        if seen is not None:
            if seen == digest:
                self._count(topic, "duplicate")
            else:
                self._refuse(record, "conflicting_duplicate", "event_id was used before with other content", "fold")
            return
        mark = facts.quarantine
        if isinstance(event, BorrowerErased):
            self._erase(case, record, key, digest, order_ms)
            return
        if mark is None:
            result = self._ingest.take(case, event)
        elif lifts(event, mark):
            leave(case)
            result = TAKEN
        else:
            self._refuse(record, "quarantined", "its borrower is in quarantine", "fold")
            return
        if isinstance(result, Refused):
            self._refuse(record, result.reason, result.message, "fold")
            return
        if isinstance(result, Duplicate):
            self._count(topic, "duplicate")
            return
        if isinstance(result, Parking):
            if not self._park(case, result.loan_id, record, order_ms):
                return
        else:
            self._count(topic, "accepted")
            for parked in result.released:
                self._release(case, parked)
        facts.seen = note_seen(facts.seen, key, digest, order_ms, keep_days)
        case.touched = True
        self._after(case, event, record)

    def _open(self, borrower_id: str) -> Case:
        case = self._cases.get(borrower_id)
        if case is None:
            kept = None if self._kept is None else self._kept.get(borrower_id)
            case = Case(borrower_id, self._blobs.get(borrower_id)) if kept is None else kept
            self._cases[borrower_id] = case
        return case

    def _erase(self, case: Case, record: Record, key: bytes, digest: int, order_ms: int) -> None:
        """Put somebody unknown in the place of a borrower, once for each event that asks for it."""
        task, keep_days = self._task, self._judge.policy.facts.duplicate_days
        seen = find_seen(task.erasures, key, order_ms, keep_days)
        if seen is not None and seen != digest:
            self._refuse(record, "conflicting_duplicate", "event_id was used before with other content", "fold")
            return
        if seen is None and hold_on(case.borrower.facts.directions) == LEGAL_HOLD:
            self._refuse(record, "legal_hold", "a legal hold is on: lift it before its borrower is erased", "fold")
            return
        self._count(record.topic, "accepted" if seen is None else "duplicate")
        if seen is not None:
            return
        task.erasures = note_seen(task.erasures, key, digest, order_ms, keep_days)
        uncount(case.borrower, task)
        if case.known:
            self._erased[case.borrower_id] = None
        self._cases[case.borrower_id] = Case(case.borrower_id, None)

    def _on_its_partition(self, record: Record) -> bool:
        if self._partitions is None or record.key is None:
            return True
        return partition_of(record.key, self._partitions) == record.partition

    def _after(self, case: Case, event: BorrowerEvent, record: Record) -> None:
        """Judge after an event. Before the first tick there is no time to judge at: the borrower waits for one."""
        clock_ms = self._task.clock_ms
        if clock_ms is None:
            case.wake_ms = event.at_ms if case.wake_ms is None else min(case.wake_ms, event.at_ms)
            self._await_wake(case)
            return
        heed_incidents(case, self._task, clock_ms, self._judge.policy.facts, self._judge.calendar)
        if not self._policies.still_stand(case, clock_ms, self._task):
            cause = Cause(topic=record.topic, partition=record.partition, offset=record.offset, event_id=event.event_id)
            self._policies.judge(case, clock_ms, cause, self._folded.outputs, self._task)
            reminding = self._judge.reminding
            if reminding is not None and isinstance(event, RepaymentFailed):
                reminding.after_failure(case, event, clock_ms, self._emitter(case, cause, clock_ms))
            self._judged(case, clock_ms)

    def _judged(self, case: Case, as_of_ms: int) -> None:
        """After a judgement: what it leaves to the index of failures and to reminders."""
        settle_notices(case)
        if self._reach_due:
            note_overdue(case, as_of_ms, self._judge.calendar)
        shadows = case.borrower.shadows
        case.borrower.standing.decide_ms = case.wake_ms if shadows is None else shadows.live_wake_ms
        if self._judge.reminding is not None:
            remind_ms = self._judge.reminding.next_ms(case, as_of_ms)
            if remind_ms is not None and (case.wake_ms is None or remind_ms < case.wake_ms):
                case.wake_ms = remind_ms
        self._await_wake(case)

    def _emitter(self, case: Case, cause: Cause, as_of_ms: int) -> Emitter:
        return Emitter(self._folded.outputs, self._judge.ref, case.borrower_id, cause, as_of_ms)

    def _await_wake(self, case: Case) -> None:
        if case.wake_ms is not None:
            heappush(self._due, (case.wake_ms, case.borrower_id))

    # --- rules that fail ----------------------------------------------------------------------------------------------

    def put_back(self) -> None:
        """Undo what this pass has done to the cases kept: it is thrown away."""
        if self._kept is not None:
            self._kept.reopen(self._cases)

    def _stumble(self, case: Case | None, place: Place, error: Exception, topic: str, offset: int) -> None:
        """Note a failure; the rest of its borrower's events is not looked at in this pass, which leads to nothing."""
        if case is None or not is_a_rules(error):
            raise error
        self.stumbled[place] = stumble_of(error, topic, offset)
        case.borrower.facts.quarantine = STUMBLED
        case.wake_ms = None

    def _fold_or_quarantine(self, order_ms: int, topic: str, record: Record) -> None:
        """Fold an event, unless it is one on which a rule fails."""
        failure = self._failing.get((topic, record.offset, ""))
        if failure is None:
            self._fold_borrower_event(order_ms, topic, record)
            return
        event = decode(topic, record.key, record.value, record.timestamp)
        assert isinstance(event, BorrowerEvent), "a rule can fail on an event alone"
        cause = Cause(topic=topic, partition=record.partition, offset=record.offset, event_id=event.event_id)
        clock_ms = self._task.clock_ms
        self._quarantine(self._open(event.borrower_id), failure, cause, event.at_ms if clock_ms is None else clock_ms)
        self._refuse(record, "quarantined", f"a rule failed twice on it: {failure.what}", "fold")

    def _quarantine(self, case: Case, failure: Failure, cause: Cause, as_of_ms: int) -> None:
        enter(case, failure, Emitter(self._folded.outputs, self._judge.ref, case.borrower_id, cause, as_of_ms))
        self._folded.quarantined.append(failure)

    # --- events before their loan -------------------------------------------------------------------------------------

    def _park(self, case: Case, loan_id: str, record: Record, order_ms: int) -> bool:
        rules, parked = self._judge.policy.facts, case.borrower.facts.parked
        value, key = record.value or b"", record.key or b""
        held = sum(len(other.value) for other in parked) + len(value)
        if len(parked) >= rules.parked_events_max or held > rules.parked_bytes_max:
            self._refuse(record, "parking_full", "too many events wait for loans not seen yet", "fold")
            return False
        since_ms = order_ms if self._task.clock_ms is None else self._task.clock_ms
        headers = [(name, content) for name, content in record.headers]
        parked.append(
            Parked(
                loan_id, record.topic, record.partition, record.offset, record.timestamp, key, value, headers, since_ms
            )
        )
        case.more_than_windows = True
        self._count(record.topic, "parked")
        return True

    def _release(self, case: Case, parked: Parked) -> None:
        record = _record_of(parked)
        event = decode(record.topic, record.key, record.value, record.timestamp)
        assert isinstance(event, BorrowerEvent), "a parked record was decoded before it was parked"
        result = self._ingest.take(case, event)
        if isinstance(result, Refused):
            self._forget(case, event)
            self._refuse(record, result.reason, result.message, "fold")
        else:
            self._count(record.topic, "duplicate" if isinstance(result, Duplicate) else "accepted")

    def _forget(self, case: Case, event: BorrowerEvent) -> None:
        facts = case.borrower.facts
        facts.seen = forget_seen(facts.seen, seen_key(event.event_id))

    def _expire_parked(self, case: Case, as_of_ms: int) -> None:
        lateness_ms = self._judge.policy.facts.allowed_lateness_days * DAY_MS
        waiting = case.borrower.facts.parked
        expired = [parked for parked in waiting if parked.parked_ms + lateness_ms <= as_of_ms]
        for parked in expired:
            waiting.remove(parked)
            record = _record_of(parked)
            event = decode(record.topic, record.key, record.value, record.timestamp)
            assert isinstance(event, BorrowerEvent), "a parked record was decoded before it was parked"
            self._forget(case, event)
            self._refuse(record, "unknown_loan", "its loan did not appear in the allowed lateness", "fold")

    # --- control ------------------------------------------------------------------------------------------------------

    def _fold_control(self, record: Record) -> None:
        event = decode(CONTROL, record.key, record.value, record.timestamp)
        if isinstance(event, BadInput):
            self._refuse(record, event.reason, event.message, "decode")
        elif isinstance(event, Tick):
            self._tick(event, record)
        elif event.event_id in self._task.control_seen:
            self._control_again(event, record)
        elif isinstance(event, IncidentOpened | IncidentClosed) and not self._take_incident(event, record):
            self._refuse(record, "unknown_incident", "incident_id: was not opened; open the incident first", "fold")
        elif isinstance(event, MacroSet) and not self._take_factor(event):
            self._refuse(record, "factors_full", f"{FACTORS_MAX} factors are in force; lift one with factor 0", "fold")
        else:
            refusal = self._activate(event) if isinstance(event, PolicyActivated) else None
            if refusal is not None:
                self._refuse(record, "invalid_policy", refusal, "fold")
                return
            task = self._task
            task.control_seen = [*task.control_seen[1 - CONTROL_SEEN_MAX :], event.event_id]
            task.control_digests = [*task.control_digests[1 - CONTROL_SEEN_MAX :], content_digest(event)]
            self._count(CONTROL, "accepted")

    def _control_again(self, event: Inbound, record: Record) -> None:
        """A control event whose id was taken before. Where no digest was noted with it, it counts as the same event."""
        ids, digests = self._task.control_seen, self._task.control_digests
        at = ids.index(event.event_id) - len(ids) + len(digests)
        if at < 0 or digests[at] == content_digest(event):
            self._count(CONTROL, "duplicate")
        else:
            self._refuse(record, "conflicting_duplicate", "event_id was used before with other content", "fold")

    def _tick(self, tick: Tick, record: Record) -> None:
        clock_ms = self._task.clock_ms
        if clock_ms is not None and tick.at_ms <= clock_ms:
            self._count(CONTROL, "ignored")
            return
        self._task.clock_ms = tick.at_ms
        self._count(CONTROL, "accepted")
        self._forget_failures(clock_ms, tick.at_ms)
        self._sweep(Sweep(tick.at_ms, record.partition, record.offset, tick.event_id))

    def _sweep(self, sweep: Sweep) -> None:
        """Fire the wake-ups due until the tick, each as of its own moment, until they are done or this pass's end."""
        cause = _cause_of(sweep)
        due = self._due
        while due and due[0][0] <= sweep.at_ms:
            if self._bound is not None and due[0] >= self._bound:
                break
            wake_ms, borrower_id = heappop(due)
            case = self._open(borrower_id)
            if case.wake_ms == wake_ms:
                self._fire(case, wake_ms, cause)
        more = self._bound is not None and self._bound[0] <= sweep.at_ms
        self._task.sweep = sweep if more else None
        if not more:
            close_hours(self._task.granted)

    def _fire_ahead(self, record: Record, sweep: Sweep) -> None:
        """Fire what the open sweep has not come to of the borrower that a record is about: the record comes after it,
        whatever becomes of it."""
        case = self._open((record.key or b"").decode("utf-8", "replace"))
        cause = _cause_of(sweep)
        while case.wake_ms is not None and case.wake_ms <= sweep.at_ms:
            self._fired_ahead += 1
            self._fire(case, case.wake_ms, cause)

    def _fire(self, case: Case, wake_ms: int, cause: Cause) -> None:
        place = ("", wake_ms, case.borrower_id)
        failure = self._failing.get(place)
        if failure is not None:
            self._quarantine(case, failure, cause, wake_ms)
            return
        try:
            self._wake(case, wake_ms, cause)
        except Exception as error:
            self._stumble(case, place, error, CONTROL, cause.offset)

    def _wake(self, case: Case, wake_ms: int, cause: Cause) -> None:
        case.touched = True
        self._expire_parked(case, wake_ms)
        reminding, live_awake = self._judge.reminding, self._policies.live_awake(case, wake_ms)
        if live_awake:
            heed_incidents(case, self._task, wake_ms, self._judge.policy.facts, self._judge.calendar)
        standing = case.borrower.standing
        reminder_alone = standing.judged_by and (standing.decide_ms is None or wake_ms < standing.decide_ms)
        if reminder_alone and case.borrower.shadows is None:
            case.wake_ms = standing.decide_ms
        if not reminder_alone or not self._policies.still_stand(case, wake_ms, self._task):
            self._policies.wake(case, wake_ms, cause, self._folded.outputs, self._task, live_awake)
        if reminding is not None and live_awake:
            clock_ms = self._task.clock_ms or wake_ms
            reminding.at_wake(case, wake_ms, clock_ms, self._emitter(case, cause, wake_ms))
        self._judged(case, wake_ms)

    # --- incidents ----------------------------------------------------------------------------------------------------

    def _take_incident(self, event: IncidentOpened | IncidentClosed, record: Record) -> bool:
        """Note what is told of an incident and begin to look for whom it has touched; whether it is known."""
        task, calendar = self._task, self._judge.calendar
        change = changed_by(event, task.incidents)
        if change is None:
            return False
        before, after = change
        if before == after:
            return True
        task.incidents = [*(incident for incident in task.incidents if incident is not before), after]
        task.incidents_rev += 1
        if task.clock_ms is not None:
            spans = [span_of(incident, task.clock_ms, calendar) for incident in (before or after, after)]
            failures = failure_key(min(first for first, _ in spans)), failure_key(max(last for _, last in spans) + 1)
            task.sweep = Sweep(task.clock_ms, record.partition, record.offset, event.event_id, failures)
        return True

    def _take_factor(self, event: MacroSet) -> bool:
        """Note what a factor is from now on; whether there is room for it."""
        factors = tightening.changed_by(event, self._task.factors, self._task.clock_ms)
        if len(factors) > FACTORS_MAX:
            return False
        self._task.factors = factors
        return True

    def _relieve(self, sweep: Sweep, span: Span, failures: Sequence[str]) -> None:
        """Let an incident have its effect on the borrowers of the next entries of the index."""
        cause = _cause_of(sweep)
        for entry in failures[:SWEEP_LIMIT]:
            case = self._open(borrower_of(entry))
            facts = case.borrower.facts
            if facts.quarantine is not None or facts.incidents_rev == self._task.incidents_rev:
                continue
            place = ("", sweep.at_ms, case.borrower_id)
            failure = self._failing.get(place)
            if failure is not None:
                self._quarantine(case, failure, cause, sweep.at_ms)
                continue
            try:
                case.touched = True
                heed_incidents(case, self._task, sweep.at_ms, self._judge.policy.facts, self._judge.calendar)
                if case.relieved_by:
                    self._policies.judge(case, sweep.at_ms, cause, self._folded.outputs, self._task)
                    self._judged(case, sweep.at_ms)
            except Exception as error:
                self._stumble(case, place, error, CONTROL, sweep.offset)
        more = len(failures) > SWEEP_LIMIT
        self._task.sweep = structs.replace(sweep, failures=(failures[SWEEP_LIMIT - 1], span[1])) if more else None

    def _forget_failures(self, before_ms: int | None, clock_ms: int) -> None:
        """Once a day, drop what is too old to be asked for."""
        calendar, rules = self._judge.calendar, self._judge.policy.facts.incidents
        day = calendar.day(clock_ms)
        if before_ms is None or calendar.day(before_ms) == day:
            return
        self._folded.failures_from = failure_key(day - rules.remember_days)
        task = self._task
        task.incidents = [incident for incident in task.incidents if not forgotten(incident, day, rules, calendar)]
        # As of the tick before: wake-ups that this one fires may be of moments at which a factor was in force.
        task.factors = tightening.not_ended(task.factors, before_ms)

    def _activate(self, event: PolicyActivated) -> str | None:
        """Put a recorded policy in force; why not, where it is refused."""
        if not self._recorded_policies:
            return None
        refusal = activate(event, self._task, self._judge.policy, self._judge.digest)
        if refusal is None:
            self._policies = self._engine.policies_of(self._task)
            self._judge = self._policies.live
        return refusal


def _compiled(policy: PolicyInForce) -> Compiled:
    return compile_policy(loader.loads(policy.body, f"policy {policy.policy_id}"))


def _cause_of(sweep: Sweep) -> Cause:
    return Cause(topic=CONTROL, partition=sweep.partition, offset=sweep.offset, event_id=sweep.event_id)


def _record_of(parked: Parked) -> LogRecord:
    return LogRecord(
        parked.topic, parked.partition, parked.offset, parked.timestamp, parked.key, parked.value, parked.headers
    )


def _copy(task: TaskState) -> TaskState:
    """A copy deep enough that a fold leaves its argument as it was (a fold that is not committed is done again)."""
    return structs.replace(
        task,
        loans={currency: {name: list(pair) for name, pair in by.items()} for currency, by in task.loans.items()},
        levels=dict(task.levels),
        statuses=dict(task.statuses),
        reviews=dict(task.reviews),
        overturned=dict(task.overturned),
        granted=Granted(task.granted.hour, dict(task.granted.counts)),
    )
