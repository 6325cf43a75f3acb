"""What those who became late owed, and how much of it a policy's restrictions would have kept from being drawn."""

from collections.abc import Sequence

from msgspec import Struct

from streams.engine.delinquency import position_as_of
from streams.engine.loan import Loan
from streams.policy.model import STATUSES, Facts
from streams.replay.backtest.outcomes import is_owed
from streams.replay.backtest.signals import Change, Standing, in_force

_DECREASED, _FROZEN = STATUSES.index("decreased"), STATUSES.index("frozen")


class Drawn(Struct):
    """A loan, and the part of its principal that the policy would have let be drawn, in minor units."""

    loan: Loan
    allowed_minor: int


def owed(loans: Sequence[Loan], day: int, facts: Facts) -> dict[str, int]:
    """What a borrower owed on a business date, by currency: unpaid principal, interest, fees and penalties."""
    found: dict[str, int] = {}
    for loan in loans:
        if is_owed(loan, day):
            found[loan.currency] = found.get(loan.currency, 0) + _owed(loan, day, facts)
    return found


def saved(
    loans: Sequence[Loan], limits: Sequence[Change], from_day: int, reached_day: int, facts: Facts
) -> dict[str, int]:
    """Of what was owed on the day the borrower became late, what the policy would not have let be drawn, by currency.

    A loan taken while the limit is frozen or zeroed is refused whole. While it is decreased, that part is which the
    limit before would still have had room for and the limit in force has not. Loans taken from `from_day` on count.
    """
    found: dict[str, int] = {}
    drawn: list[Drawn] = []
    for loan in sorted(loans, key=lambda loan: (loan.disbursed_ms, loan.loan_id)):
        standing = in_force(limits, loan.disbursed_day) if loan.disbursed_day >= from_day else None
        refused = 0 if standing is None else _refused(loan, standing, drawn, facts)
        drawn.append(Drawn(loan, loan.principal_minor - refused))
        if refused and is_owed(loan, reached_day):
            kept = _owed(loan, reached_day, facts) * refused // loan.principal_minor
            found[loan.currency] = found.get(loan.currency, 0) + kept
    return found


def _refused(loan: Loan, standing: Standing, drawn: Sequence[Drawn], facts: Facts) -> int:
    if standing.place >= _FROZEN:
        return loan.principal_minor
    if standing.place < _DECREASED or standing.currency != loan.currency:
        return 0
    used = sum(
        _owed(before.loan, loan.disbursed_day, facts) * before.allowed_minor // before.loan.principal_minor
        for before in drawn
        if before.loan.currency == loan.currency and is_owed(before.loan, loan.disbursed_day)
    )
    limits = standing.to_minor, standing.from_minor
    room, room_before = (min(loan.principal_minor, max(0, limit - used)) for limit in limits)
    return max(0, room_before - room)


def _owed(loan: Loan, day: int, facts: Facts) -> int:
    return sum(position_as_of(loan, day, facts).outstanding)
