"""What arrears mean on a day, and the stretches of days that are counted while time passes.

Between two entries arrears only grow, and only on the day after a due date; so a stretch can begin or end only there,
on an entry's day, where credit is drawn, where a pause takes effect or where the loan ends.

Sources: materiality CRR Article 178 and Delegated Regulation (EU) 2018/171; pauses lower managed DPD alone.
"""

from typing import Final

from streams.engine.allocation import draw_credit
from streams.engine.loan import CELLS, DUE, NONE, PAID_DAY, ROW, UNPAID, Loan, ended_day, is_ended
from streams.policy.model import Facts

ABSOLUTE: Final = 0
RELATIVE: Final = 1
COUNTS_AS: Final = 2
EPISODE_DPD: Final = 30
"""An overdue episode in the sense of the limits: managed DPD reached 30 before the loan was clear again."""
MATERIAL_RUN_DAYS: Final = 30
"""A stretch of material arrears that is over is kept when it was at least this long; no default is defined by less."""


def basis_of(facts: Facts, currency: str) -> list[int]:
    """Absolute threshold (minor units), relative threshold (basis points), DPD of an instalment on its due date."""
    material = facts.material
    return [
        material.absolute_minor.get(currency, material.default_absolute_minor),
        material.relative_bp,
        facts.dpd.due_date_counts_as,
    ]


def oldest_due(loan: Loan) -> int:
    """Due day of the oldest row with anything unpaid, NONE if there is none."""
    at = loan.first * ROW
    return loan.rows[at + DUE] if at < len(loan.rows) else NONE


def overdue_minor(loan: Loan, day: int) -> list[int]:
    """Unpaid penalty, fee, interest, principal of the rows due before a day."""
    rows = loan.rows
    overdue = [0, 0, 0, 0]
    for at in range(loan.first * ROW, len(rows), ROW):
        if rows[at + DUE] >= day:
            break
        if rows[at + PAID_DAY] == UNPAID:
            for component in range(4):
                overdue[component] += rows[at + CELLS + component]
    return overdue


def is_material(arrears_minor: int, outstanding_minor: int, basis: list[int]) -> bool:
    """Arrears above both the absolute and the relative threshold."""
    return arrears_minor > basis[ABSOLUTE] and arrears_minor * 10_000 > basis[RELATIVE] * outstanding_minor


def contractual_dpd(loan: Loan, due: int, day: int) -> int:
    return max(0, day - due + loan.basis[COUNTS_AS]) if day >= due else 0


def _stops(loan: Loan) -> list[int]:
    """What managed DPD does not count: first day, last day, day from which that is known; sorted by first day.

    Pauses count from the day they were set; an incident's grace as if it had always been known.
    """
    if not loan.graces:
        return loan.pauses
    pauses, graces = loan.pauses, loan.graces
    stops = [(pauses[at], pauses[at + 1], pauses[at + 2]) for at in range(0, len(pauses), 3)]
    stops += [(graces[at], graces[at + 1], NONE) for at in range(0, len(graces), 2)]
    return [number for stop in sorted(stops) for number in stop]


def graced_days(loan: Loan, after_day: int, day: int) -> int:
    """Days in the union of the graces that lie in (after_day, day]."""
    graces = loan.graces
    counted = 0
    covered = after_day
    for at in range(0, len(graces), 2):
        start = max(graces[at], covered + 1)
        end = min(graces[at + 1], day)
        if end >= start:
            counted += end - start + 1
            covered = end
    return counted


def late_days(loan: Loan, due: int, paid_day: int) -> int:
    """How many days after its due date something was paid, those of an incident's grace left out."""
    return max(0, paid_day - due - graced_days(loan, due, paid_day))


def paused_days(loan: Loan, due: int, day: int) -> int:
    """Days in the union of graces and of the pauses known by `day` that lie in (due, day]."""
    pauses = _stops(loan)
    counted = 0
    covered = due
    for at in range(0, len(pauses), 3):
        if pauses[at + 2] <= day:
            start = max(pauses[at], covered + 1)
            end = min(pauses[at + 1], day)
            if end >= start:
                counted += end - start + 1
                covered = end
    return counted


def managed_dpd(loan: Loan, due: int, day: int) -> int:
    contractual = contractual_dpd(loan, due, day)
    return max(0, contractual - paused_days(loan, due, day)) if contractual > 0 else 0


def day_of_managed(loan: Loan, due: int, target: int, known_day: int) -> int:
    """The first day on which managed DPD is at least `target` (1 or more), with the pauses known on `known_day`."""
    pauses = _stops(loan)
    reached = due + target - loan.basis[COUNTS_AS]
    covered = due
    for at in range(0, len(pauses), 3):
        start = max(pauses[at], covered + 1)
        if start > reached:
            break
        end = pauses[at + 1]
        if pauses[at + 2] <= known_day and end >= start:
            reached += end - start + 1
            covered = end
    return reached


def next_change_day(loan: Loan, day: int) -> int:
    """The first day after `day` on which, with no further entry, arrears, credit, pauses or the loan's end change
    something; NONE if nothing will."""
    rows = loan.rows
    credit = len(loan.credits) > 0
    change = NONE
    for at in range(loan.first * ROW, len(rows), ROW):
        if rows[at + PAID_DAY] == UNPAID and rows[at + DUE] >= day:
            change = rows[at + DUE] if credit and rows[at + DUE] > day else rows[at + DUE] + 1
            break
    for at in range(2, len(loan.pauses), 3):
        change = _earlier(change, loan.pauses[at], day)
    return _earlier(change, ended_day(loan), day)


def _earlier(change: int, candidate: int, day: int) -> int:
    if candidate > day and (change == NONE or candidate < change):
        return candidate
    return change


def close_days(loan: Loan, until_day: int) -> None:
    """Bring a loan forward from its day to the beginning of `until_day`: count the days that end, draw credit."""
    while loan.as_of_day < until_day:
        day = loan.as_of_day
        due = oldest_due(loan)
        if len(loan.credits) == 0 and (due == NONE or due >= until_day):
            # Nothing is or falls overdue before `until_day`.
            _end_material(loan)
            loan.in_episode = 0
            loan.as_of_day = until_day
            return
        change = next_change_day(loan, day)
        if change == NONE or change > until_day:
            change = until_day
        _count_days(loan, due, day, change - 1)
        loan.as_of_day = change
        if len(loan.credits) > 0:
            draw_credit(loan, change)


def _count_days(loan: Loan, due: int, first_day: int, last_day: int) -> None:
    """Count the days first_day to last_day, during which nothing changes but the date."""
    if due == NONE or is_ended(loan, first_day):
        _end_material(loan)
        loan.in_episode = 0
        return
    if not is_material(sum(overdue_minor(loan, first_day)), sum(loan.outstanding), loan.basis):
        _end_material(loan)
    elif loan.material_from == NONE:
        loan.material_from = first_day
    if contractual_dpd(loan, due, first_day) == 0:
        loan.in_episode = 0
    if loan.in_episode == 0 and managed_dpd(loan, due, last_day) >= EPISODE_DPD:
        loan.episodes.append(max(first_day, day_of_managed(loan, due, EPISODE_DPD, first_day)))
        loan.in_episode = 1


def _end_material(loan: Loan) -> None:
    """No stretch of material arrears runs through the day the loan stands at."""
    first = loan.material_from
    if first != NONE:
        if loan.as_of_day - first >= MATERIAL_RUN_DAYS:
            loan.material_runs += (first, loan.as_of_day - 1)
        loan.material_from = NONE
