"""The journal of a loan: where an entry belongs, and what an event that names a known entry is."""

import msgspec
from msgspec import Struct

from schemas import inbound as wire
from streams.engine.calendar import DAY_MS
from streams.engine.decode import content_digest
from streams.engine.loan import DAY, DETAIL, ENTRY, KIND, NONE, OFFSET, RESCHEDULE, REVERSAL, WAIVER, Loan


class Applied(Struct, frozen=True):
    """The event is part of the loan now.

    `retroactive` says that it is dated before the day the loan stands at or before another entry, or changes the past
    by its nature (a reversal, a waiver): decisions taken already must be looked at again.
    """

    retroactive: bool


class Duplicate(Struct, frozen=True):
    """The loan holds this event already; nothing changed."""


class Refused(Struct, frozen=True):
    """The event contradicts the loan; nothing changed. The message names fields, never their values."""

    reason: str
    message: str


Outcome = Applied | Duplicate | Refused
DUPLICATE = Duplicate()


def digest_but_id(event: wire.Inbound) -> int:
    """32 bits over the known fields of a decoded event except its event id: equal for the same thing told twice.

    Absent fields do not count, so that an optional field that a later version adds leaves old digests alone.
    """
    return content_digest(msgspec.structs.replace(event, event_id=""))


def conflict(field: str) -> Refused:
    return Refused("conflicting_duplicate", f"{field}: was used for other content; send a correction under a new id")


def changed(loan: Loan, day: int, by_nature: bool) -> Applied:
    """Note a change from a business date on; derived fields that reach beyond it are computed again when next asked."""
    if day < loan.as_of_day:
        loan.applied = NONE
        return Applied(True)
    return Applied(by_nature)


def enter(
    loan: Loan, event: wire.Inbound, numbers: tuple[int, int, int, int], ref: str, schedule: list[int] | None = None
) -> Outcome:
    """Put an entry (kind, value day, amount, detail) in its place."""
    kind, day, amount, detail = numbers
    entry = [kind, day, event.at_ms - day * DAY_MS, amount, detail]
    index = place(loan, entry, event.event_id)
    at = index * ENTRY
    version = 0
    if schedule is not None:
        version = 1 + reschedules_before(loan, index)
    if (
        index < len(loan.entry_ids)
        and loan.entry_ids[index] == event.event_id
        and loan.journal[at + DAY : at + OFFSET + 1] == entry[DAY : OFFSET + 1]
    ):
        same = loan.journal[at : at + ENTRY] == entry and loan.entry_refs[index] == ref
        if same and (schedule is None or loan.schedules[version] == schedule):
            return DUPLICATE
        return conflict("event_id")
    newest = index == len(loan.entry_ids)
    if schedule is not None:
        loan.schedules.insert(version, schedule)
    loan.journal[at:at] = entry
    loan.entry_ids.insert(index, event.event_id)
    loan.entry_refs.insert(index, ref)
    if loan.applied != NONE and index < loan.applied:
        loan.applied = NONE
    return changed(loan, max(day, loan.disbursed_day), not newest or kind in (REVERSAL, WAIVER))


def place(loan: Loan, entry: list[int], event_id: str) -> int:
    """Where an entry belongs: before the first one whose key is not smaller."""
    journal = loan.journal
    index = len(loan.entry_ids)
    key = (entry[DAY], entry[OFFSET], event_id)
    while index > 0:
        at = (index - 1) * ENTRY
        if (journal[at + DAY], journal[at + OFFSET], loan.entry_ids[index - 1]) < key:
            break
        index -= 1
    return index


def reschedules_before(loan: Loan, index: int) -> int:
    return loan.journal[KIND : index * ENTRY : ENTRY].count(RESCHEDULE)


def seen_payment(loan: Loan, ref: str, is_payment: bool, digest: int) -> Outcome | None:
    """The verdict on a payment id that the loan knows from an event of the same type, None if it does not."""
    if ref not in loan.entry_refs:
        return None
    for index, known in enumerate(loan.entry_refs):
        if known == ref and (loan.journal[index * ENTRY] < REVERSAL) == is_payment:
            return DUPLICATE if loan.journal[index * ENTRY + DETAIL] == digest else conflict("payment_id")
    return None
