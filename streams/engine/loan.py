"""The state of one loan: what was told about it (sources) and what follows from that (derived).

Everything is flat lists of integers, because a borrower's state is packed at every commit. Sources alone decide: the
derived fields can be thrown away and computed again by :mod:`streams.engine.history`.

Layouts (stride first):

- ``schedules``: one list per schedule, in key order, of SLOT = 5 integers: no, due day, fee, interest, principal;
  sorted by due day and number.
- ``journal``: ENTRY = 5 integers: kind, value day, milliseconds from that day's 00:00 UTC to `at_ms`, amount, and one
  of: the content digest (payment, reversal), the cell (charge, waiver: component + 4 * (instalment number + 1), 0-3 for
  a waiver over all instalments). Sorted by (value day, at_ms, event_id); ``entry_ids`` and ``entry_refs`` (payment id
  or "") run beside it. The amount of a reschedule is 1 when it is a distressed restructure.
- ``rows``: ROW = 7 integers: row id, due day, day it became fully paid (or UNPAID, REPLACED), then what is unpaid of
  penalty, fee, interest, principal; sorted as row_order says. A row id is schedule index * 1,024 + slot.
- ``credits``: method, amount: money not allocated yet, oldest payment first.
- ``replaced``: one list per reschedule of 5 integers: row id and the unpaid penalty, fee, interest, principal that
  disappeared.
- ``attempts``: digest (0: not seen yet), day, attribution, at_ms of the latest revision, at_ms; ``attempt_ids``
  (sorted) and ``attempt_channels`` beside it.
- ``channels``: every channel over which something was paid or tried; ``channel_since`` beside it is the first at_ms.
- ``graces``: first day, last day of the grace that an incident gives; sorted. ``grace_ids`` (incidents) beside it. A
  function of attempts, rows and incidents (see graces).
- ``pauses``: first day, last day, day it was set; sorted.
- ``rebuttals``: stage (2, 3), day it was recorded, last day it holds; ``rebuttal_ids`` (event ids) beside it.
- ``plans``: accepted at_ms, accepted day, last day, closed at_ms, closed day, state it closed in; ``plan_ids`` beside
  it, sorted.
"""

from typing import Final

from msgspec import Struct

SLOT: Final = 5
SLOT_NO: Final = 0
SLOT_DUE: Final = 1
SLOT_FEE: Final = 2
SLOT_INTEREST: Final = 3
SLOT_PRINCIPAL: Final = 4
ENTRY: Final = 5
KIND: Final = 0
DAY: Final = 1
OFFSET: Final = 2
AMOUNT: Final = 3
DETAIL: Final = 4
ROW: Final = 7
ROW_ID: Final = 0
DUE: Final = 1
PAID_DAY: Final = 2
CELLS: Final = 3
ATTEMPT: Final = 5
ATTEMPT_DAY: Final = 1
ATTRIBUTION: Final = 2
REVISED_MS: Final = 3
ATTEMPT_MS: Final = 4
SLOTS_MAX: Final = 1_024
"""Row ids leave room for this many instalments a schedule; the wire allows 600."""

METHODS = ("auto_debit", "manual", "transfer", "settlement")
COMPONENTS = ("penalty", "fee", "interest", "principal")
ATTRIBUTIONS = ("unknown", "borrower", "platform")
PLAN_STATES = ("accepted", "declined", "broken", "completed")

# Kinds of entries: 0 to 3 are payments by method.
REVERSAL: Final = 4
CHARGE: Final = 5
WAIVER: Final = 6
RESCHEDULE: Final = 7

UNPAID: Final = -1
REPLACED: Final = -2
NONE: Final = -1
"""A day, instant or run that there is none of."""
FOREVER_DAY: Final = 1_000_000
"""The last day of what has no end yet."""


class Loan(Struct, array_like=True):
    """One loan. Days are since 1970-01-01; absent strings are empty, absent days NONE."""

    loan_id: str
    product: str
    currency: str
    principal_minor: int
    disbursed_day: int
    disbursed_ms: int
    disbursed_id: str
    content: int
    """Digest of the disbursement without its event id."""
    orders: list[int]
    """Pinned at disbursement: per method the codes of its groups and its components (see allocation)."""
    schedules: list[list[int]]

    platform: str = ""
    cover_party: str = ""
    cover_share_bp: int = 0
    cover_claim_after_dpd: int = NONE
    pool_id: str = ""
    pool_ms: int = NONE

    journal: list[int] = []
    entry_ids: list[str] = []
    entry_refs: list[str] = []
    closed_day: int = NONE
    closed_id: str = ""
    written_off_day: int = NONE
    written_off_id: str = ""
    attempts: list[int] = []
    attempt_ids: list[str] = []
    pauses: list[int] = []
    rebuttals: list[int] = []
    rebuttal_ids: list[str] = []
    plans: list[int] = []
    plan_ids: list[str] = []

    # Derived, as of the end of what is known of `as_of_day`.
    as_of_day: int = NONE
    applied: int = NONE
    """Entries of the journal that the derived fields contain, NONE when they must be computed afresh."""
    basis: list[int] = []
    """What the stretches were counted with: absolute and relative (basis points) threshold, DPD of a due date."""
    rows: list[int] = []
    first: int = 0
    """Index in `rows` of the first row that is not fully paid."""
    outstanding: list[int] = []
    """Unpaid penalty, fee, interest, principal over all rows."""
    credits: list[int] = []
    received_minor: int = 0
    reversed_minor: int = 0
    allocated_minor: int = 0
    replaced: list[list[int]] = []
    material_from: int = NONE
    """First day of the stretch of material arrears that runs through the day before `as_of_day`."""
    episodes: list[int] = []
    """Per overdue episode the day on which managed DPD reached 30."""
    in_episode: int = 0
    """1 when the episode that runs through the day before `as_of_day` is in `episodes`."""
    material_runs: list[int] = []
    """First and last day of each stretch of material arrears that is over, if it was long (see arrears)."""

    attempt_channels: list[str] = []
    channels: list[str] = []
    channel_since: list[int] = []
    graces: list[int] = []
    grace_ids: list[str] = []
    noted_due: int = NONE
    """The last due date that was put into the task's index of failures (where incidents reach what is due)."""


class Instalment(Struct, frozen=True):
    """One row of a loan as others read it. `paid_day` is UNPAID, REPLACED or the day it became fully paid."""

    no: int
    due_day: int
    paid_day: int
    unpaid: tuple[int, int, int, int]
    """Penalty, fee, interest, principal, in minor units."""
    set_by: str
    """Event id of the disbursement, reschedule or plan that set it."""


def row_no(loan: Loan, row_id: int) -> int:
    """The instalment number of a row."""
    return loan.schedules[row_id // SLOTS_MAX][row_id % SLOTS_MAX * SLOT]


def row_named(loan: Loan, number: int, version: int) -> int:
    """The row of an instalment number in the newest schedule up to `version` that has it; NONE if none has."""
    for index in range(version, -1, -1):
        schedule = loan.schedules[index]
        for at in range(0, len(schedule), SLOT):
            if schedule[at] == number:
                return index * SLOTS_MAX + at // SLOT
    return NONE


def row_order(loan: Loan, row_id: int) -> tuple[int, int, int]:
    """Rows stand and are paid by due day; on the same day by number, then the older schedule first."""
    schedule = loan.schedules[row_id // SLOTS_MAX]
    at = row_id % SLOTS_MAX * SLOT
    return schedule[at + SLOT_DUE], schedule[at], row_id


def ended_day(loan: Loan) -> int:
    """The business date from which the loan counts as ended (closed or written off), NONE while it has not."""
    if loan.closed_day == NONE:
        return loan.written_off_day
    if loan.written_off_day == NONE:
        return loan.closed_day
    return min(loan.closed_day, loan.written_off_day)


def is_ended(loan: Loan, day: int) -> bool:
    ended = ended_day(loan)
    return ended != NONE and ended <= day


def unapplied_minor(loan: Loan) -> int:
    """Money received and not allocated, in minor units."""
    return sum(loan.credits[1::2])


def schedule_setters(loan: Loan) -> list[str]:
    """Per schedule the event id that set it."""
    setters = [loan.disbursed_id]
    for index, event_id in enumerate(loan.entry_ids):
        if loan.journal[index * ENTRY] == RESCHEDULE:
            setters.append(event_id)
    return setters


def instalments(loan: Loan) -> list[Instalment]:
    """All rows, oldest due first, as of the day the loan is settled to."""
    setters = schedule_setters(loan)
    rows = loan.rows
    return [
        Instalment(
            row_no(loan, rows[at]),
            rows[at + DUE],
            rows[at + PAID_DAY],
            (rows[at + CELLS], rows[at + CELLS + 1], rows[at + CELLS + 2], rows[at + CELLS + 3]),
            setters[rows[at] // SLOTS_MAX],
        )
        for at in range(0, len(rows), ROW)
    ]
