"""What is kept of a borrower's behaviour: sums per whole business hour or day, as `windows` fills them.

Shapes alone, flat lists of integers beside each other, because a borrower's state is packed at every commit.
"""

from typing import Final

from msgspec import Struct

from streams.engine.signals import Signals

NONE: Final = -1
"""A day that there is none of."""


class Proof(Struct, array_like=True):
    """The latest events of one kind, oldest first. `keys` names what an event is about, where it can be taken back."""

    at_ms: list[int] = []
    event_ids: list[str] = []
    keys: list[int] = []


class Logins(Struct, array_like=True):
    """Successful logins by day, failed ones by hour.

    `devices` has DEVICE integers for each, sorted by digest: digest, instant and day of its first login, day of its
    last; `device_event_ids` beside it has the id of that first login. `skips` are first and last hour of each incident
    that kept the borrower out, `channels` those logged in over.
    """

    first_day: int = NONE
    last_day: int = NONE
    days: list[int] = []
    counts: list[int] = []
    failed_hours: list[int] = []
    failed: list[int] = []
    devices: list[int] = []
    device_event_ids: list[str] = []
    seen: Proof | None = None
    refused: Proof | None = None
    skips: list[int] = []
    channels: list[str] = []


class Borrowing(Struct, array_like=True):
    """Loans taken by day; hours in which credit flowed in; money repaid by hour."""

    days: list[int] = []
    counts: list[int] = []
    credit_hours: list[int] = []
    repaid_hours: list[int] = []
    repaid: list[int] = []
    taken: Proof | None = None
    repayments: Proof | None = None


class Spending(Struct, array_like=True):
    """Outflow by day: all, of which repaid credit, cash and transfers; all but repaid credit by hour."""

    first_day: int = NONE
    days: list[int] = []
    out: list[int] = []
    credit: list[int] = []
    cash: list[int] = []
    transfer: list[int] = []
    hours: list[int] = []
    spent: list[int] = []
    spends: Proof | None = None
    withdrawals: Proof | None = None
    transfers: Proof | None = None


class Income(Struct, array_like=True):
    """Income by day and civil month (year * 12 + month - 1); inflow other than borrowed money by day."""

    first_day: int = NONE
    days: list[int] = []
    amounts: list[int] = []
    months: list[int] = []
    by_month: list[int] = []
    inflow_first_day: int = NONE
    inflow_days: list[int] = []
    inflow: list[int] = []
    paid: Proof | None = None


class Activity(Struct, array_like=True):
    """Events of any kind by day. `last` is the last event of all, where it is later than every event that is kept as
    proof of something else; None where it is not."""

    first_day: int = NONE
    days: list[int] = []
    counts: list[int] = []
    last: Proof | None = None


class Windows(Struct, array_like=True):
    """All windows of a borrower; a group is absent until its first event. `currency` is empty until it is known."""

    currency: str = ""
    logins: Logins | None = None
    borrowing: Borrowing | None = None
    spending: Spending | None = None
    income: Income | None = None
    activity: Activity | None = None
    failed_debits: Proof | None = None
    signals: Signals | None = None
