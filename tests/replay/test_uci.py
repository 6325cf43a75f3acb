"""The import of the UCI credit card data: what is written, and whether the ledger arrives back at the status."""

import gzip
import json
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from schemas import inbound
from streams.engine.calendar import day_of
from streams.engine.decode import BadInput, decode
from streams.replay.recording import Recording, RecordingError
from streams.replay.uci import import_uci, table
from streams.replay.uci.months import compared_day, month_day
from streams.replay.uci.plan import least_due_minor

DATA = Path(__file__).parents[2] / "data" / "uci-default" / "odd.csv.gz"
HEADER = (
    "ID,LIMIT_BAL,SEX,EDUCATION,MARRIAGE,AGE,PAY_0,PAY_2,PAY_3,PAY_4,PAY_5,PAY_6,"
    "BILL_AMT1,BILL_AMT2,BILL_AMT3,BILL_AMT4,BILL_AMT5,BILL_AMT6,"
    "PAY_AMT1,PAY_AMT2,PAY_AMT3,PAY_AMT4,PAY_AMT5,PAY_AMT6,default.payment.next.month"
)
BILLED = (30_000,) * 6
PAID = (1_500,) * 6


def row(
    status: tuple[int, ...],
    bills: tuple[int, ...] = BILLED,
    paid: tuple[int, ...] = PAID,
    label: int = 0,
    number: int = 1,
) -> str:
    """A row of the file; months are given April first, and stand in the file September first."""
    figures = (number, "5.00E+05", 2, 2, 1, "nan", *status[::-1], *bills[::-1], *paid[::-1], label)
    return ",".join(str(figure) for figure in figures)


def imported(tmp_path: Path, *rows: str) -> tuple[Any, list[dict[str, Any]], list[inbound.Inbound]]:
    """The report, the customer-months and the events of an import of `rows`."""
    source = tmp_path / "data.csv"
    source.write_text("\n".join([HEADER, *rows]) + "\n")
    report = import_uci(source, tmp_path / "r", partitions=2)
    return report, pq.read_table(tmp_path / "r" / "round_trip.parquet").to_pylist(), events(tmp_path / "r")


def events(path: Path) -> list[inbound.Inbound]:
    found: list[inbound.Inbound] = []
    with Recording.open(path) as recording:
        for topic in ("signals", "repayments"):
            for partition in recording.partitions(topic):
                for record in recording.records(topic, partition):
                    event = decode(topic, record.key, record.value, record.timestamp)
                    assert not isinstance(event, BadInput), event
                    found.append(event)
    return found


@pytest.mark.parametrize(
    ("status", "paid", "dpds"),
    [
        # April's status is compared at the end of May, and so on; instalments fall due on the 15th.
        ((0, 0, 0, 0, 0, 0), PAID, (0, 0, 0, 0, 0, 0)),
        ((1, 2, 3, 4, 5, 6), (0,) * 6, (16, 46, 77, 108, 138, 169)),
        ((0, 1, 0, 0, 1, 2), PAID, (0, 15, 0, 0, 15, 46)),
        ((1, 2, 2, 2, 1, 0), PAID, (16, 46, 46, 47, 15, 0)),
        ((3, 3, 2, 0, 0, 0), PAID, (77, 76, 46, 0, 0, 0)),
        ((8, 7, 7, 7, 7, 7), PAID, (228, 197, 197, 197, 199, 199)),
    ],
)
def test_the_ledger_arrives_at_the_status(
    tmp_path: Path, status: tuple[int, ...], paid: tuple[int, ...], dpds: tuple[int, ...]
) -> None:
    report, months, _ = imported(tmp_path, row(status, paid=paid))
    assert tuple(month["dpd"] for month in months) == dpds
    assert (report.arrived, report.customers_whole) == (6, 1)
    assert [month["reason"] for month in months] == [None] * 6
    assert [month["compared_on"] for month in months][::5] == [date(2005, 5, 31), date(2005, 10, 31)]
    assert [month["implied"] for month in months] == [False] * 5 + [True]


@pytest.mark.parametrize(
    ("status", "bills", "paid", "reasons"),
    [
        ((0, 0, 2, 2, 0, 0), BILLED, PAID, {3: "two_after_none"}),
        ((0, 0, 3, 3, 0, 0), BILLED, PAID, {3: "jump", 4: "carried_over"}),
        ((1, 2, 2, 0, 0, 0), BILLED, (0, 0, 0, 0, 1_500, 1_500), {3: "nothing_paid"}),
        ((0, 1, 0, 0, 0, 0), (0, -50, 0, 0, 0, 0), (0,) * 6, {2: "nothing_billed"}),
        ((0, 1, 0, 0, 0, 0), BILLED, (0, 0, 90_000, 0, 0, 0), {2: "overpaid"}),
    ],
)
def test_what_a_ledger_cannot_represent_is_told(
    tmp_path: Path, status: tuple[int, ...], bills: tuple[int, ...], paid: tuple[int, ...], reasons: dict[int, str]
) -> None:
    report, months, _ = imported(tmp_path, row(status, bills, paid))
    found = {number: month["reason"] for number, month in enumerate(months, 1) if month["reason"] is not None}
    assert found == reasons
    assert {name: count for name, count in report.reasons.items() if count} == {
        name: list(reasons.values()).count(name) for name in reasons.values()
    }
    assert report.arrived == 6 - len(reasons)


def test_what_falls_due_is_paid_with_the_real_payments_and_never_more_than_billed(tmp_path: Path) -> None:
    paid = (1_000, 2_000, 3_000, 0, 9_000, 6_000)
    _, months, found = imported(tmp_path, row((0, 0, 1, 1, 0, 0), paid=paid))
    assert all(month["reason"] is None for month in months)
    received = [event for event in found if isinstance(event, inbound.RepaymentReceived)]
    assert [event.amount_minor for event in received if event.channel == "card_account"] == [
        amount * 100 for amount in paid if amount > 0
    ]
    assert [event.amount_minor for event in received if event.channel == "implied"] == [least_due_minor(3_000_000)]
    loans = [event for event in found if isinstance(event, inbound.LoanDisbursed)]
    assert [item.due_on for item in loans[0].schedule] == [date(2005, 4 + n, 15) for n in range(7)]
    assert max(item.principal_minor for item in loans[0].schedule) <= 3_000_000
    assert (loans[0].currency, loans[0].product) == ("TWD", "credit_card")


def test_statements_carry_the_bills_as_they_are(tmp_path: Path) -> None:
    bills = (100, -200, 300, 0, 500, 600)
    _, _, found = imported(tmp_path, row((-2,) * 6, bills))
    statements = [event for event in found if isinstance(event, inbound.StatementIssued)]
    assert [event.balance_minor for event in statements] == [bill * 100 for bill in bills]
    assert [event.billed_minor for event in statements] == [bill * 100 for bill in (100, 100, -200, 300, 0, 500)]
    assert {event.paid_minor for event in statements} == {150_000}
    assert {event.limit_minor for event in statements} == {50_000_000}
    profile = next(event for event in found if isinstance(event, inbound.ProfileSet))
    assert (profile.segment, profile.limit_minor, profile.currency) == ("other", 50_000_000, "TWD")


def test_who_never_owed_has_no_loan(tmp_path: Path) -> None:
    report, months, found = imported(tmp_path, row((-2,) * 6, (0,) * 6, (0, 5, 0, 0, 0, 0)))
    assert not [event for event in found if isinstance(event, inbound.LoanDisbursed | inbound.RepaymentReceived)]
    assert {month["bucket"] for month in months} == {"C"}
    assert report.notes["customers_who_paid_though_never_billed"] == 1
    assert (report.notes["bills_of_zero"], report.notes["figures_with_an_exponent"]) == (6, 1)


def test_the_label_and_who_someone_is_never_enter_an_event(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    for folder, label in ((first, 0), (second, 1)):
        folder.mkdir()
        imported(folder, row((0, 1, 2, 0, 0, 0), label=label))
        assert pq.read_table(folder / "r" / "labels.parquet").to_pylist() == [
            {"borrower_id": "uci-00001", "default_next_month": label == 1}
        ]
    names = [file.name for file in (first / "r").glob("*") if file.name != "labels.parquet"]
    assert len(names) > 5
    for name in names:
        assert (first / "r" / name).read_bytes() == (second / "r" / name).read_bytes()
    bodies = b"".join(
        record.value or b""
        for record in Recording.open(first / "r").records(
            "signals", Recording.open(first / "r").partitions("signals")[0]
        )
    )
    assert not any(word in bodies for word in (b"sex", b"age", b"education", b"marriage"))


def test_ticks_are_daily_in_taipei(tmp_path: Path) -> None:
    imported(tmp_path, row((0,) * 6))
    with Recording.open(tmp_path / "r") as recording:
        ticks = [json.loads(record.value or b"") for record in recording.records("control", 1)]
        stamps = [record.timestamp for record in recording.records("control", 1)]
    assert [tick["at_ms"] for tick in ticks] == stamps
    assert stamps[0] == 1_112_284_800_000  # 2005-04-01 00:00 +08:00
    assert {later - earlier for earlier, later in pairwise(stamps)} == {86_400_000}
    assert len(stamps) == day_of(date(2005, 11, 1)) - day_of(date(2005, 3, 31))


def test_every_delay_falls_into_its_bucket_on_every_day_it_is_compared_on() -> None:
    for month in range(1, 7):
        day = compared_day(month)
        for delay in range(1, 7):
            dpd = day - month_day(month - delay + 2, 15)
            assert 30 * (delay - 1) < dpd <= 30 * delay


def test_the_copied_data_arrive_as_the_docs_say(tmp_path: Path) -> None:
    report = import_uci(DATA, tmp_path / "r", limit=400, partitions=3)
    assert (report.customers, report.months) == (400, 2_400)
    assert report.arrived / report.months > 0.92
    assert sum(report.reasons.values()) == report.months - report.arrived
    assert all(line.arrived == line.months for status, line in report.by_status.items() if int(status) <= 0)
    Recording.open(tmp_path / "r").verify()
    assert json.loads((tmp_path / "r" / "round_trip.json").read_bytes())["arrived"] == report.arrived
    assert [column.header for column in table(report)[0].columns][:2] == ["status", "months"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", ":1: no column ID"),
        (HEADER.replace("PAY_3", "PAY_X") + "\n", ":1: no column PAY_3"),
        (HEADER.replace("default.payment.next.month", "y") + "\n", ":1: no column 'default payment next month'"),
        (HEADER + "\n" + row((0,) * 6).replace("30000", "many", 1) + "\n", ":2: BILL_AMT1 is not a whole number"),
        (HEADER + "\n" + row((0,) * 6) + "\n" + row((12,) + (0,) * 5) + "\n", ":3: a status outside"),
        (HEADER + "\n1,2\n", ":2: PAY_6 is not a whole number"),
    ],
)
def test_a_file_that_is_not_the_data_is_named_by_line(tmp_path: Path, text: str, says: str) -> None:
    source = tmp_path / "data.csv.gz"
    source.write_bytes(gzip.compress(text.encode()))
    with pytest.raises(RecordingError) as caught:
        import_uci(source, tmp_path / "r")
    assert str(caught.value).startswith(f"{source}{says}")
    assert not (tmp_path / "r").exists()


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    source = tmp_path / "data.csv"
    with pytest.raises(RecordingError, match="No such file"):
        import_uci(source, tmp_path / "r")
    source.write_bytes(b"\x1f\x8b broken")
    with pytest.raises(RecordingError, match=r"give the data set as \.csv"):
        import_uci(source, tmp_path / "r")
