"""One partition of the year: folded, and held to the claims."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow.parquet as pq
from msgspec import Struct, field

from schemas.topics import CONTROL
from streams.engine import ledger
from streams.engine.chunk import Output
from streams.engine.features import FEATURES, evaluate
from streams.engine.fold import Engine
from streams.engine.limits import status_of
from streams.engine.order import Ordered
from streams.engine.state import Borrower, unpack
from streams.policy.loader import load
from streams.policy.model import Policy
from streams.replay.cycle import LocalTask, chunks
from streams.replay.explain import explain
from streams.replay.recording import Recording, beside
from streams.replay.simulate.writing import GROUND_TRUTH
from tests.laws.year.arrears import NEVER, Arrears
from tests.laws.year.flaps import Retaken, Watch, rests_on_score, score_for
from tests.laws.year.marks import marks
from tests.laws.year.reasons import Recount
from tests.laws.year.told import RAISED, Event, Tellers, Told
from tests.laws.year.way_back import WayBack, spells

_DECISIONS = ("limit-adjustments", "early-warnings", "blacklist")


class Offender(Struct, frozen=True):
    """A borrower of whom a claim is not true."""

    claim: str
    borrower_id: str
    what: str


class Found(Struct):
    """What one partition came to, in numbers."""

    borrowers: int = 0
    events: int = 0
    outputs: int = 0
    dead_letters: int = 0
    chains: int = 0
    holes: int = 0
    taken_again: int = 0
    flaps: int = 0
    touched: int = 0
    excused: int = 0
    marked: int = 0
    restricted: int = 0
    zeroed: int = 0
    due: int = 0
    restored: int = 0
    offenders: list[Offender] = field(default_factory=list)

    def __add__(self, other: "Found") -> "Found":
        return Found(*(getattr(self, name) + getattr(other, name) for name in self.__struct_fields__))

    def offend(self, claim: str, name: str, what: str) -> None:
        self.offenders.append(Offender(claim, name, what))


def check(path: Path, partition: int, advance: Callable[[int], None]) -> Found:
    """Fold a partition of the recording at `path` and hold it to the claims; `advance` is told of records done."""
    with Recording.open(path) as recording:
        year = _Year(load("standard"), recording.partition_count())
        for chunk in chunks(recording, partition):
            year.fold(chunk)
            advance(len(chunk))
    return year.judge(path)


class _Year:
    """A partition while its year goes by."""

    def __init__(self, policy: Policy, partitions: int | None) -> None:
        self.policy = policy
        self.task = LocalTask(Engine(policy, partitions=partitions))
        self.tellers = Tellers(policy)
        self.watch = Watch(policy)
        self.recount = Recount(policy)
        self.found = Found()
        self.end_ms = 0

    def fold(self, chunk: list[Ordered]) -> None:
        outputs: dict[tuple[str, int], list[tuple[str, Event]]] = {}
        last = chunk[-1][1:3]
        for folded in self.task.fold(chunk):
            self.found.outputs += len(folded.outputs)
            self.found.dead_letters += len(folded.dead_letters)
            for output in folded.outputs:
                if output.topic in _DECISIONS:
                    event = json.loads(output.value)
                    cause = event.get("cause")
                    # A listing names no cause: its moment within the chunk does not matter.
                    place = last if cause is None else (cause["topic"], cause["offset"])
                    outputs.setdefault(place, []).append((_about(output), event))
        for order_ms, topic, offset, record in chunk:
            self._hear(topic, record.key, record.value or b"")
            for name, event in outputs.get((topic, offset), ()):
                kept = self.tellers.keep(name, event, order_ms)
                if "limit_seq" in event:
                    self.watch.take(name, kept)
            self.end_ms = max(self.end_ms, order_ms)
        self.found.events += len(chunk)

    def _hear(self, topic: str, key: bytes | None, value: bytes) -> None:
        self.tellers.hear(value)
        if topic != CONTROL and key is not None and self.watch.watches(name := key.decode()):
            self.watch.deliver(name, json.loads(value)["event_id"])

    # --- the year's end -----------------------------------------------------------------------------------------------

    def judge(self, path: Path) -> Found:
        end_day = self.tellers.calendar.day(self.end_ms)
        touched = _touched(path)
        self.found.borrowers = sum(1 for _ in self.task.borrowers())
        self.found.taken_again = self.watch.taken_again
        retaken: dict[str, list[Retaken]] = {}
        for one in self.watch.retaken:
            retaken.setdefault(one.borrower_id, []).append(one)
        for name in self.task.borrowers():
            borrower = unpack(self.task.state(name) or b"")
            for loan in borrower.facts.loans.values():
                ledger.settle(loan, end_day, self.policy.facts)
            told = self.tellers.of(name)
            days, explained = self.tellers.excused(told, self.end_ms)
            arrears = Arrears(borrower.facts.loans.values(), days, self.policy.facts)
            self._chain(name, told, borrower)
            if name in touched:
                self._marks(name, told, arrears, explained, borrower)
            self._way_back(name, told, arrears, end_day)
            for one in retaken.get(name, ()):
                self._flap(path, one, told, arrears)
        return self.found

    def _chain(self, name: str, told: Told, borrower: Borrower) -> None:
        self.found.chains += bool(told.limits)
        limit = borrower.standing.limit
        at = (0, told.first_limit_minor, "normal")
        for event in told.limits:
            if (event["limit_seq"] - 1, event["from_minor"], event["from_status"]) != at:
                self.found.holes += 1
                self.found.offend("hole", name, f"{event['type']} {event['event_id']} does not follow on {at}")
            at = (event["limit_seq"], event["to_minor"], event["to_status"])
        held = (0, None, "normal") if limit is None else (limit.seq, limit.minor, status_of(limit.rung))
        if held != at:
            self.found.holes += 1
            self.found.offend("hole", name, f"the chain ends at {at}, the state stands at {held}")

    def _marks(self, name: str, told: Told, arrears: Arrears, explained: set[str], borrower: Borrower) -> None:
        self.found.touched += 1
        self.found.excused += bool(explained)
        of_borrower = list(
            marks(told, self.tellers, arrears, explained, self._features(borrower), self.recount, self.end_ms)
        )
        self.found.marked += bool(of_borrower)
        for what in of_borrower:
            self.found.offend("mark", name, what)

    def _features(self, borrower: Borrower) -> Mapping[str, int | None]:
        facts = borrower.facts
        values = evaluate(facts.windows, facts.loans.values(), self.end_ms, self.tellers.calendar, 0, 0)
        return {feature.name: value for feature, value in zip(FEATURES, values, strict=True)}

    def _way_back(self, name: str, told: Told, arrears: Arrears, end_day: int) -> None:
        of_borrower = spells(told, self.tellers, end_day)
        self.found.zeroed += any(event["type"] == "limit_zeroed" for event in told.limits)
        self.found.restricted += bool(of_borrower)
        rules = WayBack(self.policy, told, self.tellers, arrears)
        for spell in of_borrower:
            if rules.end_day(spell) == NEVER:
                continue
            self.found.due += 1
            self.found.restored += spell.ended
            if not spell.ended:
                self.found.offend("way back", name, f"{spell.taken['type']} {spell.taken['event_id']} has not ended")

    def _flap(self, path: Path, one: Retaken, told: Told, arrears: Arrears) -> None:
        day = self.tellers.calendar.day(one.restored["at_ms"])
        if "compensates" in one.restored:
            if self._undone_later(one.event, arrears, day) or self._arisen_since_undone(one, told, arrears):
                return
        elif self._reached_since(one.event, arrears, day):
            return
        if self._score_fell(path, one, told):
            return
        self.found.flaps += 1
        what = f"{one.event['type']} {one.event['event_id']} takes back {one.restored['event_id']}"
        self.found.offend("flap", one.borrower_id, what)

    def _counted(self, event: Event) -> list[Event]:
        return [reason for reason in event["reasons"] if self.recount.of_arrears(reason)]

    def _undone_later(self, event: Event, arrears: Arrears, day: int) -> bool:
        """Whether what was told later shows that the step taken again was wrong too."""
        return any(not self.recount.holds(reason, arrears, day) for reason in self._counted(event))

    def _arisen_since_undone(self, one: Retaken, told: Told, arrears: Arrears) -> bool:
        """Whether what calls for the step, arrears or a warning, was not there yet when it was first taken, wrongly."""
        if one.undone is None:
            return False
        if any(
            warning["type"] in RAISED and one.undone["told_ms"] < warning["told_ms"] < one.restored["told_ms"]
            for warning in told.warnings
        ):
            return True
        day = self.tellers.calendar.day(one.undone["at_ms"])
        return bool(self._counted(one.event)) and any(
            not self.recount.holds(reason, arrears, day, morning=False) for reason in self._counted(one.undone)
        )

    def _reached_since(self, event: Event, arrears: Arrears, day: int) -> bool:
        """Whether arrears call for a step that did not on the day on which it was given back."""
        counted = self._counted(event)
        return bool(counted) and not any(self.recount.holds(reason, arrears, day) for reason in counted)

    def _score_fell(self, path: Path, one: Retaken, told: Told) -> bool:
        """Whether the score has fallen since, in the very judgement that gave back too."""
        restored_ms, event_ms = one.restored["told_ms"], one.event["told_ms"]
        raised = [
            warning["score"]
            for warning in told.warnings
            if warning["type"] in RAISED and restored_ms <= warning["told_ms"] <= event_ms
        ]
        before_ms = restored_ms - 1 if event_ms == restored_ms else restored_ms
        before = explain(path, one.borrower_id, before_ms).standing
        if raised and min(raised) < before.score:
            return True
        return rests_on_score(one.event) and score_for(
            one.event, explain(path, one.borrower_id, event_ms).standing
        ) < score_for(one.event, before)


def _about(output: Output) -> str:
    return output.about or output.key.decode()


def _touched(path: Path) -> set[str]:
    """Those of whom a debit failed because its channel was down."""
    truth = pq.read_table(beside(path, GROUND_TRUTH), columns=["borrower_id", "outage_touched"]).to_pylist()
    return {row["borrower_id"] for row in truth if row["outage_touched"]}
