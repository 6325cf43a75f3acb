"""What fell due for a customer, and when it was paid, so that arrears follow the repayment status.

What is billed in month m falls due in month m + 1, and the status of month m tells how that went: it goes with the
payment of month m + 1 (docs/uci-credit.md shows how the figures themselves say so). The payments are the real ones; the
instalments are chosen so that these pay each of them when the status says it was paid, and never exceed the bill.
"""

from itertools import accumulate, pairwise

from msgspec import Struct

from streams.replay.uci.source import MONTHS, Customer

LEAST_DUE_MINOR = 1_000_00
"""What at least falls due of a bill, in minor units (NT$ 1,000), if the bill is as much."""
DUE_SHARE = 10
"""One part in so many of a bill falls due, where no payment says how much it was."""
_NEVER = 99


class Due(Struct):
    """An instalment: of the bill of `month`, due in the month after."""

    month: int
    amount_minor: int


class Payment(Struct):
    """Money that came in for the bill of `month`, in the month after. `on_time`: before the due date.

    `implied`: the data end before it; it is written so that the last status is reached.
    """

    month: int
    amount_minor: int
    on_time: bool
    implied: bool


class Plan(Struct):
    """`levels`: months of delay after each month 1 to 6 that the plan aims at."""

    dues: list[Due]
    payments: list[Payment]
    levels: list[int]


def least_due_minor(bill_minor: int) -> int:
    """The least amount that falls due of a bill: a tenth, at least NT$ 1,000, at most the bill."""
    return max(0, min(bill_minor, max(LEAST_DUE_MINOR, bill_minor // DUE_SHARE)))


def plan(customer: Customer) -> Plan:
    """The instalments and payments of a customer."""
    opening = max(customer.status[0] - 1, 0)
    # Paid for the bills of months 0 to 5; for the bill of month 6 the data hold no payment.
    paid = customer.payments_minor
    sums = list(accumulate(paid))
    # Bills before April are not in the data: arrears that were there at the start are measured by April's.
    months = list(range(1 - opening, MONTHS + 1))
    bills = {month: max(0, customer.bills_minor[max(month, 1) - 1]) for month in months}
    levels, cleared = _levels(customer, opening, bills, sums)
    totals, implied_minor = _totals(bills, cleared, sums)
    dues = [Due(-opening, paid[0])] if paid[0] > 0 else []
    for month, (before, total) in zip(months, pairwise([paid[0], *totals]), strict=True):
        if total > before:
            dues.append(Due(month, total - before))
    amounts = [*paid, implied_minor]
    payments = [
        Payment(month, amount, _on_time(levels, opening, month), implied=month == MONTHS)
        for month, amount in enumerate(amounts)
        if amount > 0
    ]
    # Money of a customer who is never billed anything has no loan to go to; the statements tell of it.
    return Plan(dues, payments if dues else [], levels)


def _on_time(levels: list[int], opening: int, month: int) -> bool:
    """Whether there was no delay before and after the payment for the bill of `month`."""
    around = [opening, opening, *levels][month : month + 2]
    return not any(around)


def _levels(
    customer: Customer, opening: int, bills: dict[int, int], sums: list[int]
) -> tuple[list[int], dict[int, int]]:
    """Months of delay after each month as far as a ledger can follow the status, and when each instalment is paid."""
    levels: list[int] = []
    cleared: dict[int, int] = {}
    level = opening
    oldest = 1 - opening
    # The most that can have fallen due up to the instalment before `oldest`.
    most = sums[0]
    for month, status in enumerate(customer.status, 1):
        nothing_paid = month < MONTHS and customer.payments_minor[month] == 0
        # Without money nothing is cleared; and arrears grow by one month a month at most.
        level = level + 1 if nothing_paid and level > 0 else min(max(status, 0), level + 1)
        received = sums[min(month, MONTHS - 1)]
        # What all the money received covers whatever was billed is cleared, too.
        while oldest <= month and (oldest <= month - level or most + bills[oldest] <= received):
            cleared[oldest] = month
            most = min(received, most + bills[oldest])
            oldest += 1
        level = month - oldest + 1
        levels.append(level)
    return levels, cleared


def _totals(bills: dict[int, int], cleared: dict[int, int], sums: list[int]) -> tuple[list[int], int]:
    """What has fallen due in all up to each month's instalment, and the payment implied after the last month."""
    totals: list[int] = []
    total = sums[0]
    for month, bill_minor in bills.items():
        when = cleared.get(month, _NEVER)
        wished = total + least_due_minor(bill_minor)
        if when < MONTHS:
            # The last of those cleared together takes all that was paid, so that none of it is left over.
            last = cleared.get(month + 1, _NEVER) > when
            wished = sums[when] if last else min(wished, sums[when])
        if when > month:
            # Unpaid for a while: more than all that was paid until then.
            wished = max(wished, sums[min(when, MONTHS) - 1] + 1)
        total = max(total, min(wished, total + bill_minor))
        totals.append(total)
    at_the_end = [due for month, due in zip(bills, totals, strict=True) if cleared.get(month) == MONTHS]
    return totals, max(0, at_the_end[-1] - sums[-1]) if at_the_end else 0
