"""The simulator's own view of a loan: what is truly unpaid, oldest instalment first.

It is written apart from the engine's ledger on purpose: what is true of a borrower must not depend on the code that is
to find it out.
"""

from dataclasses import dataclass, field

MILESTONES_DAYS = (30, 60, 90)


@dataclass(slots=True)
class Row:
    """An instalment; `owed_minor` includes charges, less what was waived."""

    no: int
    due_day: int
    principal_minor: int
    interest_minor: int
    fee_minor: int
    owed_minor: int
    paid_minor: int = 0


@dataclass(slots=True)
class Loan:
    """A loan with its rows and, since the schedule was last replaced, its payments by id in the order of time."""

    id: str
    product: str
    platform: str
    channel: str
    auto_debit: bool
    rows: list[Row]
    action_day: int
    payments: dict[str, int] = field(default_factory=dict)
    credit_minor: int = 0
    attempts: int = 0
    charged_day: int = 0
    charges: list[tuple[int, int]] = field(default_factory=list)
    bounces: list[tuple[int, str, int]] = field(default_factory=list)
    """(day, payment, amount) of payments that will be taken back."""
    helped: bool = False
    """Rescheduled, or on a plan."""
    written_off: bool = False

    def oldest(self) -> Row | None:
        """The first row with anything unpaid."""
        for row in self.rows:
            if row.paid_minor < row.owed_minor:
                return row
        return None

    def due_minor(self, day: int) -> int:
        """What has fallen due by `day` and is unpaid."""
        return sum(row.owed_minor - row.paid_minor for row in self.rows if row.due_day <= day)

    def unpaid_minor(self) -> int:
        return sum(row.owed_minor - row.paid_minor for row in self.rows)

    def pay(self, payment_id: str, amount_minor: int) -> None:
        self.payments[payment_id] = amount_minor
        self._allocate(amount_minor)

    def take_back(self, payment_id: str) -> None:
        """Undo a payment: the others are allocated again in their order."""
        del self.payments[payment_id]
        self.credit_minor = 0
        for row in self.rows:
            row.paid_minor = 0
        for amount_minor in self.payments.values():
            self._allocate(amount_minor)

    def charge(self, row: Row, amount_minor: int) -> None:
        row.owed_minor += amount_minor

    def replace(self, rows: list[Row]) -> None:
        """Put `rows` in the place of every row not fully paid; earlier payments are settled for good."""
        self.rows = [row for row in self.rows if row.paid_minor >= row.owed_minor]
        for row in self.rows:
            row.owed_minor = row.paid_minor = 0
        self.rows += rows
        self.payments.clear()
        self.bounces.clear()
        self.helped = True

    def _allocate(self, amount_minor: int) -> None:
        left = amount_minor
        for row in self.rows:
            part = min(left, row.owed_minor - row.paid_minor)
            row.paid_minor += part
            left -= part
            if left == 0:
                return
        self.credit_minor += left

    def milestones(self, day: int) -> list[tuple[int, int]]:
        """(days behind, the day it was that) for what `day` has passed, of the oldest unpaid row."""
        row = self.oldest()
        if row is None or day - row.due_day < MILESTONES_DAYS[0]:
            return []
        return [(days, row.due_day + days) for days in MILESTONES_DAYS if day - row.due_day >= days]


def schedule(
    principal_minor: int,
    rate_bp: int,
    fee_minor: int,
    instalments: int,
    first_day: int,
    every_days: int,
    first_no: int = 1,
) -> list[Row]:
    """Equal principal, interest on what is left at `rate_bp` an instalment, a fee with the first one."""
    rows: list[Row] = []
    left = principal_minor
    for n in range(instalments):
        principal = left if n == instalments - 1 else principal_minor // instalments
        interest = left * rate_bp // 10_000
        fee = fee_minor if n == 0 else 0
        left -= principal
        owed = principal + interest + fee
        rows.append(Row(first_no + n, first_day + n * every_days, principal, interest, fee, owed))
    return rows
