"""The customers' events, in the order of their moments, as a recording; labels and round trip beside it."""

from pathlib import Path

import msgspec
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.partitioning import partition_of
from schemas.topics import CONTROL, DEFAULT_PARTITIONS, INPUTS
from streams.engine.calendar import day_of, iso_day
from streams.engine.order import LogRecord
from streams.replay.progress import progress
from streams.replay.recording import RecordingWriter, beside
from streams.replay.uci.months import (
    DUE_DAY,
    FIRST_ON,
    LAST_ON,
    LATE_DAY,
    ON_TIME_DAY,
    instant_ms,
    month_day,
    month_end,
    month_name,
)
from streams.replay.uci.plan import Plan, plan
from streams.replay.uci.round_trip import Report, RoundTrip
from streams.replay.uci.source import MONTHS, Customer, read_customers

CURRENCY = "TWD"
LABELS, ROUND_TRIP, ROUND_TRIP_ROWS = "labels.parquet", "round_trip.json", "round_trip.parquet"
_DATA_SET = "UCI 350, default of credit card clients, doi:10.24432/C55S3H, CC BY 4.0"

_Event = tuple[int, str, dict[str, object]]
"""(at_ms, topic, the fields beyond the common ones)"""


def import_uci(
    path: str | Path,
    out: str | Path,
    limit: int | None = None,
    partitions: int = DEFAULT_PARTITIONS,
    policy: str = "standard",
) -> Report:
    """Write the data set at `path` as a recording at `out`, and check it with the ledger on the way.

    Beside the recording: `labels.parquet` (borrower_id, default_next_month), which never enters an event;
    `round_trip.parquet` (one row per customer and month) and `round_trip.json` (the report returned).

    Args:
        limit: how many customers at most; None: all.
        policy: whose facts and buckets the round trip is made with.

    Raises:
        RecordingError: the file is not the data set, or something is already at `out`.
        streams.policy.loader.PolicyError: there is no such policy.
    """
    path, out = Path(path), Path(out)
    round_trip = RoundTrip(policy)
    events: list[tuple[int, int, LogRecord]] = []
    labels: dict[str, list[object]] = {"borrower_id": [], "default_next_month": []}
    source: dict[str, str | int] = {"data_set": _DATA_SET, "file": path.name}
    with RecordingWriter(out, dict.fromkeys(INPUTS, partitions), source) as writer:
        with progress("customers", limit) as advance:
            for customer in read_customers(path, limit):
                planned = plan(customer)
                records = _records(customer, planned, partitions)
                round_trip.add(customer, planned, records)
                events += [(record.timestamp, len(events) + at, record) for at, record in enumerate(records)]
                labels["borrower_id"].append(borrower_of(customer))
                labels["default_next_month"].append(customer.defaults_next_month)
                advance(1)
        events += [(record.timestamp, -1, record) for record in _ticks(partitions)]
        events.sort(key=lambda event: event[:2])
        for _, _, record in events:
            writer.append(record.topic, record.partition, record.timestamp, record.key, record.value)
    pq.write_table(pa.table(labels), beside(out, LABELS), compression="zstd")
    pq.write_table(round_trip.rows(), beside(out, ROUND_TRIP_ROWS), compression="zstd")
    report = round_trip.report(len(events))
    beside(out, ROUND_TRIP).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    return report


def borrower_of(customer: Customer) -> str:
    return f"uci-{customer.id:05d}"


def _records(customer: Customer, planned: Plan, partitions: int) -> list[LogRecord]:
    """The events of a customer as records, in the order of their timestamps."""
    borrower_id = borrower_of(customer)
    key = borrower_id.encode()
    partition = partition_of(key, partitions)
    first_ms = instant_ms(day_of(FIRST_ON), 8)
    events = [
        _profile(customer),
        *_loan(planned, borrower_id),
        *_statements(customer),
        *_payments(planned, borrower_id),
    ]
    records: list[LogRecord] = []
    for at_ms, topic, fields in sorted(events, key=lambda event: event[0]):
        event_id = f"{borrower_id}-{len(records):02d}"
        body = {"event_id": event_id, "at_ms": at_ms, "borrower_id": borrower_id, **fields}
        # What was so before the recording begins is delivered when it begins.
        records.append(LogRecord(topic, partition, 0, max(first_ms, at_ms), key, orjson.dumps(body)))
    return records


def _profile(customer: Customer) -> _Event:
    profile: dict[str, object] = {
        "type": "profile_set",
        "segment": "other",
        "limit_minor": customer.limit_minor,
        "currency": CURRENCY,
        "onboarded_on": FIRST_ON.isoformat(),
    }
    return instant_ms(day_of(FIRST_ON), 0), "signals", profile


def _card(borrower_id: str) -> str:
    return f"{borrower_id}-card"


def _loan(planned: Plan, borrower_id: str) -> list[_Event]:
    """The card account as a loan: what fell due of it. None for who never owed anything."""
    if not planned.dues:
        return []
    schedule = [
        {
            "no": number,
            "due_on": iso_day(month_day(due.month + 1, DUE_DAY)),
            "principal_minor": due.amount_minor,
            "interest_minor": 0,
            "fee_minor": 0,
        }
        for number, due in enumerate(planned.dues, 1)
    ]
    disbursed_day = min(day_of(FIRST_ON), month_day(planned.dues[0].month, DUE_DAY))
    loan: dict[str, object] = {
        "type": "loan_disbursed",
        "loan_id": _card(borrower_id),
        "product": "credit_card",
        "currency": CURRENCY,
        "principal_minor": sum(due.amount_minor for due in planned.dues),
        "schedule": schedule,
    }
    return [(instant_ms(disbursed_day, 1), "repayments", loan)]


def _statements(customer: Customer) -> list[_Event]:
    """A statement at the end of each month: the balance, what the one before asked for, and what was paid since."""
    statements: list[_Event] = []
    for month in range(1, MONTHS + 1):
        statement: dict[str, object] = {
            "type": "statement_issued",
            "balance_minor": customer.bills_minor[month - 1],
            # March's bill is not in the data; April's stands for it.
            "billed_minor": customer.bills_minor[max(month - 2, 0)],
            "paid_minor": customer.payments_minor[month - 1],
            "limit_minor": customer.limit_minor,
        }
        statements.append((instant_ms(month_end(month), 20), "signals", statement))
    return statements


def _payments(planned: Plan, borrower_id: str) -> list[_Event]:
    payments: list[_Event] = []
    for payment in planned.payments:
        day = month_day(payment.month + 1, ON_TIME_DAY if payment.on_time else LATE_DAY)
        received: dict[str, object] = {
            "type": "repayment_received",
            "payment_id": f"{borrower_id}-{month_name(payment.month + 1)}",
            "loan_id": _card(borrower_id),
            "amount_minor": payment.amount_minor,
            "method": "manual",
            "channel": "implied" if payment.implied else "card_account",
        }
        payments.append((instant_ms(day, 12), "repayments", received))
    return payments


def _ticks(partitions: int) -> list[LogRecord]:
    """A tick on every partition at the start of each day, the first one after the recording begins."""
    ticks: list[LogRecord] = []
    for day in range(day_of(FIRST_ON) + 1, day_of(LAST_ON) + 1):
        at_ms = instant_ms(day, 0)
        value = orjson.dumps({"type": "tick", "event_id": f"tick-{at_ms}", "at_ms": at_ms})
        ticks += [LogRecord(CONTROL, partition, 0, at_ms, None, value) for partition in range(partitions)]
    return ticks
