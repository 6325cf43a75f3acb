"""How money finds what is owed: groups of instalments, then components inside an instalment, as pinned to the loan.

The order is that of the policy (`facts.allocation`): default past due oldest first, due today, in advance; inside an
instalment penalty, fee, interest, principal. A group left out is not paid; that money waits as credit and is drawn
when the instalment moves into a group its method pays.
"""

from itertools import permutations
from typing import Final

from streams.engine.loan import CELLS, COMPONENTS, DUE, METHODS, NONE, PAID_DAY, ROW, UNPAID, Loan
from streams.policy.model import Allocation

GROUPS = ("past_due", "due_today", "in_advance")
_PAST_DUE: Final = 0
_DUE_TODAY: Final = 1


def _codes(count: int) -> dict[int, tuple[int, ...]]:
    """Every order of every subset of `count` things, by its digits: (0, 2) is 13."""
    orders: dict[int, tuple[int, ...]] = {}
    for length in range(count + 1):
        for order in permutations(range(count), length):
            code = 0
            for item in order:
                code = code * 10 + item + 1
            orders[code] = order
    return orders


_GROUP_ORDERS = _codes(len(GROUPS))
_COMPONENT_ORDERS = _codes(len(COMPONENTS))


def pinned_orders(allocation: Allocation) -> list[int]:
    """Per method (in the order of METHODS) the codes of its groups and of its components."""
    pinned: list[int] = []
    for method in METHODS:
        order = allocation.by_method.get(method, allocation.default)  # type: ignore[call-overload]
        groups = components = 0
        for group in order.groups:
            groups = groups * 10 + GROUPS.index(group) + 1
        for component in order.components:
            components = components * 10 + COMPONENTS.index(component) + 1
        pinned += (groups, components)
    return pinned


def allocate(loan: Loan, method: int, amount: int, day: int) -> int:
    """Pay rows on a business date and return what is left over."""
    rows = loan.rows
    end = len(rows)
    start = loan.first * ROW
    components = _COMPONENT_ORDERS[loan.orders[2 * method + 1]]
    left = amount
    for group in _GROUP_ORDERS[loan.orders[2 * method]]:
        if left == 0:
            break
        for at in range(start, end, ROW):
            due = rows[at + DUE]
            if group == _PAST_DUE:
                if due >= day:
                    break
            elif group == _DUE_TODAY:
                if due > day:
                    break
                if due < day:
                    continue
            elif due <= day:
                continue
            if rows[at + PAID_DAY] == UNPAID:
                left = _pay_row(loan, at, components, left, day)
                if left == 0:
                    break
    loan.allocated_minor += amount - left
    skip_paid(loan)
    return left


def _pay_row(loan: Loan, at: int, components: tuple[int, ...], amount: int, day: int) -> int:
    rows = loan.rows
    left = amount
    for component in components:
        cell = at + CELLS + component
        paid = rows[cell]
        if paid == 0:
            continue
        if paid > left:
            paid = left
        rows[cell] -= paid
        loan.outstanding[component] -= paid
        left -= paid
        if left == 0:
            break
    if rows[at + 3] == 0 and rows[at + 4] == 0 and rows[at + 5] == 0 and rows[at + 6] == 0:
        rows[at + PAID_DAY] = day
    return left


def skip_paid(loan: Loan) -> None:
    """Move `first` on to the first row that is not fully paid."""
    rows = loan.rows
    at = loan.first * ROW
    end = len(rows)
    while at < end and rows[at + PAID_DAY] != UNPAID:
        at += ROW
    loan.first = at // ROW


def add_credit(loan: Loan, method: int, amount: int) -> None:
    """Keep what could not be allocated, behind what waits already."""
    waiting = loan.credits
    if len(waiting) > 0 and waiting[-2] == method:
        waiting[-1] += amount
    else:
        waiting += (method, amount)


def draw_credit(loan: Loan, day: int) -> None:
    """Allocate what waits, oldest payment first, to whatever it may pay on a business date."""
    waiting = loan.credits
    loan.credits = []
    for at in range(0, len(waiting), 2):
        left = allocate(loan, waiting[at], waiting[at + 1], day)
        if left > 0:
            add_credit(loan, waiting[at], left)


def next_draw_day(loan: Loan, day: int) -> int:
    """The first business date after `day` on which an unpaid row moves into another group, NONE if none will."""
    rows = loan.rows
    for at in range(loan.first * ROW, len(rows), ROW):
        if rows[at + PAID_DAY] == UNPAID:
            due = rows[at + DUE]
            if due > day:
                return due
            if due == day:
                return due + 1
    return NONE


def draw_between(loan: Loan, after_day: int, through_day: int) -> None:
    """Draw credit on every business date in (after_day, through_day] on which a row changes its group."""
    day = after_day
    while len(loan.credits) > 0:
        day = next_draw_day(loan, day)
        if day == NONE or day > through_day:
            return
        draw_credit(loan, day)
