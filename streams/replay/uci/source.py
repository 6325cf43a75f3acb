"""The data set's file: one customer a row, six months of bills, payments and repayment status."""

import csv
import gzip
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import IO, cast

from msgspec import Struct

from streams.replay.manifest import RecordingError

# Oldest first: April to September 2005. The file counts backwards and calls September's status PAY_0.
STATUS = ("PAY_6", "PAY_5", "PAY_4", "PAY_3", "PAY_2", "PAY_0")
BILLS = tuple(f"BILL_AMT{n}" for n in range(6, 0, -1))
PAYMENTS = tuple(f"PAY_AMT{n}" for n in range(6, 0, -1))
MONTHS = len(STATUS)
_NEEDED = ("ID", "LIMIT_BAL", *STATUS, *BILLS, *PAYMENTS)
_LABEL = "defaultpaymentnextmonth"


class Customer(Struct, frozen=True):
    """One row. Amounts are minor units of TWD (hundredths), months April to September 2005.

    `status`: -2 no consumption, -1 paid in full, 0 revolving credit, 1 to 9 months of delay. `rounded` is how many
    figures are written with an exponent, so that digits may be lost.
    """

    id: int
    limit_minor: int
    status: tuple[int, ...]
    bills_minor: tuple[int, ...]
    payments_minor: tuple[int, ...]
    defaults_next_month: bool
    rounded: int


def read_customers(path: Path, limit: int | None = None) -> Iterator[Customer]:
    """The customers of a `.csv` or `.csv.gz` file, at most `limit`. Sex, education, marriage and age are not read.

    Raises:
        RecordingError: the file cannot be read, lacks a column, or holds a figure that is none, as FILE:LINE.
    """
    try:
        with _text(path) as file:
            rows = csv.reader(file)
            columns = _columns(path, next(rows, []))
            for count, row in enumerate(rows):
                if count == limit:
                    return
                if row:
                    yield _customer(path, rows.line_num, columns, row)
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        told = getattr(error, "strerror", None) or error
        raise RecordingError(f"{path}: {told}: give the data set as .csv or .csv.gz") from None


def _text(path: Path) -> IO[str]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    if packed:
        return cast(IO[str], gzip.open(path, "rt", encoding="utf-8-sig", newline=""))
    return path.open(encoding="utf-8-sig", newline="")


def _columns(path: Path, header: list[str]) -> dict[str, int]:
    columns = {name.strip().upper(): at for at, name in enumerate(header)}
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise RecordingError(f"{path}:1: no column {missing[0]}: give the data set's own file, header first")
    for name, at in list(columns.items()):
        if "".join(letter for letter in name.lower() if letter.isalpha()) == _LABEL:
            columns[_LABEL] = at
    if _LABEL not in columns:
        raise RecordingError(f"{path}:1: no column 'default payment next month': give the data set's own file")
    return columns


def _customer(path: Path, line_no: int, columns: dict[str, int], row: list[str]) -> Customer:
    rounded = 0

    def figure(name: str) -> int:
        nonlocal rounded
        text = row[columns[name]].strip() if columns[name] < len(row) else ""
        rounded += "e" in text.lower()
        try:
            value = Decimal(text)
            if value == value.to_integral_value():
                return int(value)
        except InvalidOperation:
            pass
        raise RecordingError(f"{path}:{line_no}: {name} is not a whole number: mend or remove the row")

    customer_id = figure("ID")
    status = tuple(figure(name) for name in STATUS)
    payments = tuple(figure(name) for name in PAYMENTS)
    limit = figure("LIMIT_BAL")
    if min(status) < -2 or max(status) > 9 or min(payments) < 0 or limit < 0:
        raise RecordingError(
            f"{path}:{line_no}: a status outside -2 to 9, or a payment or limit below zero: mend the row"
        )
    return Customer(
        id=customer_id,
        limit_minor=limit * 100,
        status=status,
        bills_minor=tuple(figure(name) * 100 for name in BILLS),
        payments_minor=tuple(amount * 100 for amount in payments),
        defaults_next_month=figure(_LABEL) == 1,
        rounded=rounded,
    )
