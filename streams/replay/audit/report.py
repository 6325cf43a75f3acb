"""What an audit tells: differences without personal data, and per task what has been compared."""

from collections.abc import Iterator
from typing import Literal

from msgspec import Struct, field, structs

FIRST = 20
"""How many differences are kept per task, the first ones; all are counted."""

Kind = Literal["state", "wake-up", "task state", "records", "output", "dead letter", "store"]
Flaw = Literal["differs", "missing", "doubled", "unexpected", "damaged"]


class AuditError(Exception):
    """An audit that cannot be made: one line, why, and what to do."""


class Difference(Struct, frozen=True, omit_defaults=True):
    """One thing that is not as the engine, or the log, says.

    `commit` is the offset in the task's commit log it belongs to. `topic`, `partition` and `offset` say where: of an
    output or dead letter the record found (`offset` None: not found), of a state the record that led to it.
    `borrower_id` is only told when asked for.
    """

    task: int
    kind: Kind
    flaw: Flaw
    commit: int | None = None
    topic: str | None = None
    partition: int | None = None
    offset: int | None = None
    event_id: str | None = None
    what: str = ""
    borrower_id: str | None = None

    @property
    def line(self) -> str:
        """For the eye, in one line."""
        parts = [f"task {self.task}", f"{self.kind} {self.flaw}"]
        if self.topic is not None:
            place = self.topic if self.partition is None else f"{self.topic}/{self.partition}"
            parts.append(place if self.offset is None else f"{place} offset {self.offset}")
        if self.event_id is not None:
            parts.append(f"event {self.event_id}")
        if self.commit is not None:
            parts.append(f"commit {self.commit}")
        if self.borrower_id is not None:
            parts.append(f"borrower {self.borrower_id}")
        return ", ".join(parts) + (f": {self.what}" if self.what else "")


class TaskAudit(Struct):
    """One task. `first` and `last` are the commits audited (offsets in its log), `commits`, `records`, `outputs` and
    `dead_letters` how many were made again, `stored` the borrowers compared with the store (None: it was not compared).
    `differences` counts all, of which `shown` holds the first. `notes` say what could not be compared, and why."""

    task: int
    first: int | None = None
    last: int | None = None
    commits: int = 0
    records: int = 0
    outputs: int = 0
    dead_letters: int = 0
    stored: int | None = None
    differences: int = 0
    shown: list[Difference] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, difference: Difference) -> None:
        self.differences += 1
        if len(self.shown) < FIRST:
            self.shown.append(difference)

    @property
    def line(self) -> str:
        """For the eye, in one line."""
        if self.first is None:
            told = "nothing to audit in this range"
        else:
            told = (
                f"{self.commits:,} commits ({self.first} to {self.last}), {self.records:,} records, "
                f"{self.outputs:,} outputs, {self.dead_letters:,} dead letters"
            )
        store = "store not compared" if self.stored is None else f"{self.stored:,} borrowers in the store"
        return f"task {self.task}: {told}, {store}: {self.differences:,} differences"


class Audit(Struct):
    """All of it; filled while it goes on."""

    tasks: list[TaskAudit] = field(default_factory=list)

    @property
    def differences(self) -> int:
        return sum(task.differences for task in self.tasks)

    def without_borrowers(self) -> "Audit":
        """The same, naming nobody."""
        for task in self.tasks:
            task.shown = [structs.replace(difference, borrower_id=None) for difference in task.shown]
        return self

    def lines(self) -> Iterator[str]:
        """For the eye."""
        for task in self.tasks:
            yield task.line
            yield from (f"  note: {note}" for note in task.notes)
            yield from (f"  {difference.line}" for difference in task.shown)
            if task.differences > len(task.shown):
                yield f"  and {task.differences - len(task.shown):,} more"
