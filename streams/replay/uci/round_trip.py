"""Does the ledger arrive back at the repayment status? For each customer and month, from the events as written."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, Final

import pyarrow as pa
from msgspec import Struct
from rich.table import Table

from schemas import inbound as wire
from streams.engine.calendar import Calendar, date_of
from streams.engine.decode import BadInput, decode
from streams.engine.delinquency import position
from streams.engine.ledger import Loan, Refused, apply, disburse
from streams.engine.order import LogRecord
from streams.policy.loader import load
from streams.replay.uci.months import compared_day, month_name
from streams.replay.uci.plan import Plan
from streams.replay.uci.source import MONTHS, Customer

REASONS: Final = MappingProxyType(
    {
        "two_after_none": "Two months of delay straight after none: arrears grow by one month a month.",
        "jump": "The status rises by more than one month in a month: arrears grow by one month a month.",
        "nothing_paid": "The delay stays or shrinks though nothing was paid: arrears age until money comes.",
        "nothing_billed": "A delay without a bill: where nothing is owed nothing can be overdue.",
        "overpaid": "A delay though all that was billed is covered: earlier payments were larger than what was owed.",
        "carried_over": "The ledger differed the month before, and the status moves on from where it was.",
    }
)
"""Why a ledger cannot show a status, and what each reason means."""


class StatusLine(Struct):
    """How the customer-months of one status went: how many arrived at its bucket, and the buckets they are in."""

    months: int
    arrived: int
    buckets: dict[str, int]


class Report(Struct):
    """The round trip of an import. Counts are customer-months where nothing else is said.

    `customers_whole`: customers whose every month arrived. `delayed`: months with a status of delay; `delayed_arrived`
    those of them that arrived. `implied`: months (the last of each customer) whose payment is not in the data.
    `no_delay`: months by the statuses without delay, which no arrears tell apart. `notes`: oddities of the data.
    """

    customers: int
    customers_whole: int
    records: int
    months: int
    arrived: int
    delayed: int
    delayed_arrived: int
    implied: int
    by_status: dict[str, StatusLine]
    reasons: dict[str, int]
    explanations: dict[str, str]
    no_delay: dict[str, int]
    notes: dict[str, int]


class RoundTrip:
    """Takes customers with their plans and records, one by one, and compares the ledger with the status."""

    def __init__(self, policy: str) -> None:
        live = load(policy)
        self._facts = live.facts
        self._calendar = Calendar(live.facts.calendar.zone)
        self._bucket_names = [bucket.name for bucket in live.buckets]
        self._bucket_starts = [bucket.from_day for bucket in live.buckets]
        self._columns: dict[str, list[Any]] = {name: [] for name in _ROWS.names}
        self._notes: Counter[str] = Counter()

    def add(self, customer: Customer, planned: Plan, records: Sequence[LogRecord]) -> None:
        """Compare each month's status with the arrears on the last day of the month after."""
        loan: Loan | None = None
        events = [_decoded(record) for record in records if record.topic == "repayments"]
        level = before = max(customer.status[0] - 1, 0)
        for month, status in enumerate(customer.status, 1):
            day = compared_day(month)
            while events and self._calendar.day(events[0].at_ms) <= day:
                loan = self._taken(loan, events.pop(0))
            dpd = 0 if loan is None else position(loan, day, self._facts).contractual
            wanted = max(status, 0)
            arrived = self._bucket(dpd) == min(wanted, len(self._bucket_names) - 1)
            reason = None if arrived else _reason(customer, month, level, before, dpd)
            self._keep(customer, month, day, status, dpd, reason)
            level, before = _level(dpd, day), wanted
        self._note(customer)
        self._notes["customers_who_paid_though_never_billed"] += not planned.dues and any(customer.payments_minor)

    def _taken(self, loan: Loan | None, event: wire.Inbound) -> Loan:
        if isinstance(event, wire.LoanDisbursed):
            return disburse(event, self._facts, self._calendar)
        assert loan is not None
        outcome = apply(loan, event, self._calendar, self._facts)
        assert not isinstance(outcome, Refused)
        return loan

    def _bucket(self, dpd: int) -> int:
        return bisect_right(self._bucket_starts, dpd) - 1

    def _keep(self, customer: Customer, month: int, day: int, status: int, dpd: int, reason: str | None) -> None:
        row = (
            f"uci-{customer.id:05d}",
            month_name(month),
            date_of(day),
            status,
            dpd,
            self._bucket_names[self._bucket(dpd)],
            reason is None,
            reason,
            month == MONTHS,
        )
        for name, value in zip(_ROWS.names, row, strict=True):
            self._columns[name].append(value)

    def _note(self, customer: Customer) -> None:
        bills, paid = customer.bills_minor, customer.payments_minor
        self._notes["bills_of_zero"] += sum(bill == 0 for bill in bills)
        self._notes["bills_below_zero"] += sum(bill < 0 for bill in bills)
        pairs = list(zip(bills, paid[1:], customer.status, strict=False))
        self._notes["paid_more_than_billed"] += sum(amount > max(bill, 0) for bill, amount, _ in pairs)
        self._notes["billed_and_not_paid_without_delay"] += sum(
            bill > 0 and amount == 0 and status <= 0 for bill, amount, status in pairs
        )
        self._notes["figures_with_an_exponent"] += customer.rounded
        top = len(self._bucket_names) - 1
        self._notes["delays_that_share_the_last_bucket"] += sum(status >= top for status in customer.status)

    def rows(self) -> Any:
        """One row for each customer and month."""
        return pa.table(self._columns, schema=_ROWS)

    def report(self, records: int) -> Report:
        """The counts over all customers taken; `records` is how many the recording holds."""
        columns = self._columns
        by_status: dict[str, StatusLine] = {}
        for status in sorted(set(columns["status"])):
            at = [index for index, found in enumerate(columns["status"]) if found == status]
            buckets = Counter(columns["bucket"][index] for index in at)
            by_status[str(status)] = StatusLine(
                len(at),
                sum(columns["arrived"][index] for index in at),
                {name: buckets[name] for name in self._bucket_names if buckets[name]},
            )
        late = [line for status, line in by_status.items() if int(status) > 0]
        reasons = Counter(reason for reason in columns["reason"] if reason is not None)
        arrived = columns["arrived"]
        return Report(
            customers=len(arrived) // MONTHS,
            customers_whole=sum(all(arrived[at : at + MONTHS]) for at in range(0, len(arrived), MONTHS)),
            records=records,
            months=len(arrived),
            arrived=sum(arrived),
            delayed=sum(line.months for line in late),
            delayed_arrived=sum(line.arrived for line in late),
            implied=len(arrived) // MONTHS,
            by_status=by_status,
            reasons={name: reasons[name] for name in REASONS},
            explanations=dict(REASONS),
            no_delay={status: line.months for status, line in by_status.items() if int(status) <= 0},
            notes=dict(self._notes),
        )


_ROWS = pa.schema(
    [
        ("borrower_id", pa.string()),
        ("month", pa.string()),
        ("compared_on", pa.date32()),
        ("status", pa.int8()),
        ("dpd", pa.int32()),
        ("bucket", pa.string()),
        ("arrived", pa.bool_()),
        ("reason", pa.string()),
        ("implied", pa.bool_()),
    ]
)


def _decoded(record: LogRecord) -> wire.Inbound:
    event = decode(record.topic, record.key, record.value, record.timestamp)
    assert not isinstance(event, BadInput)
    return event


def _level(dpd: int, day: int) -> int:
    """Months of delay: the months from that of the oldest unpaid due date to that of `day`, both counted; 0: none."""
    if dpd == 0:
        return 0
    on, oldest = date_of(day), date_of(day - dpd)
    return (on.year - oldest.year) * 12 + on.month - oldest.month + 1


def _reason(customer: Customer, month: int, level: int, before: int, dpd: int) -> str:
    """Why the ledger, at `level` the month before when the status was `before`, did not arrive."""
    wanted = max(customer.status[month - 1], 0)
    found = _level(dpd, compared_day(month))
    unpaid = month < MONTHS and customer.payments_minor[month] == 0
    if found > wanted:
        return "nothing_paid" if unpaid and wanted <= before else "carried_over"
    if wanted > before + 1:
        return "two_after_none" if before == 0 and wanted == 2 else "jump"
    if wanted > level + 1:
        return "carried_over"
    return "nothing_billed" if customer.bills_minor[month - 1] <= 0 else "overpaid"


def table(report: Report) -> list[Table]:
    """The report for a terminal: by status, and the reasons with their meaning."""
    arrived = f"{report.arrived:,} of {report.months:,} customer-months arrive at their status"
    by_status = Table(title=arrived, title_justify="left")
    for name in ("status", "months", "arrived", "%", "ledger's buckets"):
        by_status.add_column(name, justify="left" if name.startswith("ledger") else "right")
    for status, line in sorted(report.by_status.items(), key=lambda item: int(item[0])):
        buckets = "  ".join(f"{name} {count:,}" for name, count in line.buckets.items())
        share = f"{100 * line.arrived / line.months:.1f}"
        by_status.add_row(status, f"{line.months:,}", f"{line.arrived:,}", share, buckets)
    reasons = Table(title="What a ledger cannot represent", title_justify="left")
    for name in ("reason", "months", "meaning"):
        reasons.add_column(name, justify="right" if name == "months" else "left")
    for name, count in report.reasons.items():
        reasons.add_row(name, f"{count:,}", report.explanations[name])
    return [by_status, reasons]
