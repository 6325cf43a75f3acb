"""What a borrower has done lately: sums per whole business hour or day, in event time.

The windows are a function of the set of events seen: a late event lands in its own hour or day, and order inside one
does not matter. Each is bounded by its span, however busy the borrower, and costs nothing before its first event.
Amounts are minor units of the borrower's home currency; other currencies count as activity and are not summed.

Every `observe_*` takes O(1) amortised time and returns the features that may have changed, as a set of bits.
"""

from bisect import bisect_left, bisect_right
from datetime import date
from typing import Final
from zlib import crc32

from schemas.inbound import Login, RepaymentReceived, Transaction
from streams.engine.behaviour import NONE, Activity, Borrowing, Income, Logins, Proof, Spending, Windows
from streams.engine.calendar import DAY_MS, Calendar, date_of, day_of
from streams.engine.loan import AMOUNT, DAY, ENTRY, KIND, OFFSET, REVERSAL, Loan
from streams.engine.signals import AT_MS

LOGINS: Final = 1
BORROWING: Final = 2
SPENDING: Final = 4
INCOME: Final = 8
ACTIVITY: Final = 16
LOANS: Final = 32
OUTFLOW: Final = 64
EVERYTHING: Final = 127
"""OUTFLOW is outflow against inflow, which changes with SPENDING and with INCOME."""

# How much is kept, counted back from the newest entry. The newest may be a day ahead of the business clock, and the
# hours of a day begin before it: two more than the longest window that is asked for.
LOGIN_DAYS: Final = 35 + 2
SPEND_DAYS: Final = 91 + 2
INCOME_DAYS: Final = 120 + 2
INCOME_MONTHS: Final = 9
INFLOW_DAYS: Final = 30 + 2
ACTIVITY_DAYS: Final = 120 + 2
LOAN_DAYS: Final = 90 + 2
REPAID_HOURS: Final = (90 + 2) * 24
CREDIT_HOURS: Final = REPAID_HOURS + 48
RECENT_HOURS: Final = 24 + 24
HOURS_MAX: Final = 256
"""Of credit inflows and of repayments so many hours are kept at most, the newest."""
DEVICE: Final = 4
FIRST_MS: Final = 1
FIRST_DAY: Final = 2
LAST_DAY: Final = 3
DEVICES_MAX: Final = 16
PROOF_MAX: Final = 3


def observe_currency(windows: Windows, currency: str) -> int:
    """The home currency, from the borrower's profile. Sums in another one mean nothing any more and are dropped."""
    if windows.currency == currency:
        return 0
    if windows.currency != "":
        windows.spending = None
        windows.income = None
        borrowing = windows.borrowing
        if borrowing is not None:
            borrowing.repaid_hours, borrowing.repaid = [], []
    windows.currency = currency
    return BORROWING | SPENDING | INCOME | LOANS


def observe_activity(windows: Windows, day: int, at_ms: int, event_id: str) -> int:
    """Any event of the borrower's own, on its business day; told when all else that it says has been observed."""
    activity = windows.activity
    if activity is None:
        activity = windows.activity = Activity()
    activity.first_day = _first(activity.first_day, day)
    at = _slot(activity.days, day, ACTIVITY_DAYS, (activity.counts,))
    if at != NONE:
        activity.counts[at] += 1
    last = activity.last
    if _proved_since(windows, at_ms):
        if last is not None and last.at_ms[0] <= at_ms:
            activity.last = None
    elif last is None or (last.at_ms[0], last.event_ids[0]) < (at_ms, event_id):
        activity.last = Proof([at_ms], [event_id], [0])
    return ACTIVITY


def _proved_since(windows: Windows, at_ms: int) -> bool:
    """Whether an event of that instant or a later one is kept as proof of something."""
    for kept in _proofs(windows):
        if kept is not None and kept.at_ms and kept.at_ms[-1] >= at_ms:
            return True
    signals = windows.signals
    if signals is not None:
        for reports in signals.reports:
            for row in reports.rows:
                if row[AT_MS] >= at_ms:
                    return True
    return False


def observe_login(windows: Windows, calendar: Calendar, event: Login) -> int:
    logins = windows.logins
    if logins is None:
        logins = windows.logins = Logins()
    hour = calendar.hour(event.at_ms)
    if event.outcome == "failed":
        at = _slot(logins.failed_hours, hour, RECENT_HOURS, (logins.failed,))
        if at != NONE:
            logins.failed[at] += 1
        logins.refused = _prove(logins.refused, event.at_ms, event.event_id)
        return LOGINS
    day = hour // 24
    logins.first_day = _first(logins.first_day, day)
    if day > logins.last_day:
        logins.last_day = day
    at = _slot(logins.days, day, LOGIN_DAYS, (logins.counts,))
    if at != NONE:
        logins.counts[at] += 1
    logins.seen = _prove(logins.seen, event.at_ms, event.event_id)
    _note_device(logins, event, day)
    return LOGINS


def observe_transaction(windows: Windows, calendar: Calendar, event: Transaction) -> int:
    hour = calendar.hour(event.at_ms)
    changed = 0
    if event.category == "credit_inflow" and event.direction == "in":
        changed = BORROWING
        _note_credit(_borrowing(windows), hour)
    if event.currency != windows.currency:
        return changed
    if event.direction == "in":
        return changed if changed != 0 else _observe_inflow(windows, hour // 24, event)
    return _observe_outflow(windows, hour, event)


def _observe_inflow(windows: Windows, day: int, event: Transaction) -> int:
    income = windows.income
    if income is None:
        income = windows.income = Income()
    income.inflow_first_day = _first(income.inflow_first_day, day)
    at = _slot(income.inflow_days, day, INFLOW_DAYS, (income.inflow,))
    if at != NONE:
        income.inflow[at] += event.amount_minor
    if event.category != "income":
        return INCOME
    income.first_day = _first(income.first_day, day)
    at = _slot(income.days, day, INCOME_DAYS, (income.amounts,))
    if at != NONE:
        income.amounts[at] += event.amount_minor
    at = _slot(income.months, month_of(day), INCOME_MONTHS, (income.by_month,))
    if at != NONE:
        income.by_month[at] += event.amount_minor
    income.paid = _prove(income.paid, event.at_ms, event.event_id)
    return INCOME


def _observe_outflow(windows: Windows, hour: int, event: Transaction) -> int:
    spending = windows.spending
    if spending is None:
        spending = windows.spending = Spending()
    day, amount, category = hour // 24, event.amount_minor, event.category
    spending.first_day = _first(spending.first_day, day)
    at = _slot(spending.days, day, SPEND_DAYS, (spending.out, spending.credit, spending.cash, spending.transfer))
    if at != NONE:
        spending.out[at] += amount
        column = {"credit_outflow": spending.credit, "cash": spending.cash, "transfer": spending.transfer}.get(category)
        if column is not None:
            column[at] += amount
    if category == "credit_outflow":
        return SPENDING
    at = _slot(spending.hours, hour, RECENT_HOURS, (spending.spent,))
    if at != NONE:
        spending.spent[at] += amount
    spending.spends = _prove(spending.spends, event.at_ms, event.event_id)
    if category == "cash":
        spending.withdrawals = _prove(spending.withdrawals, event.at_ms, event.event_id)
    elif category == "transfer":
        spending.transfers = _prove(spending.transfers, event.at_ms, event.event_id)
    return SPENDING


def observe_loan_taken(windows: Windows, calendar: Calendar, at_ms: int, event_id: str) -> int:
    """A loan was paid out."""
    borrowing = _borrowing(windows)
    hour = calendar.hour(at_ms)
    at = _slot(borrowing.days, hour // 24, LOAN_DAYS, (borrowing.counts,))
    if at != NONE:
        borrowing.counts[at] += 1
    borrowing.taken = _prove(borrowing.taken, at_ms, event_id)
    _note_credit(borrowing, hour)
    return BORROWING | LOANS


def observe_repayment(windows: Windows, calendar: Calendar, event: RepaymentReceived, loan: Loan) -> int:
    """A payment that the loan has just taken; one whose reversal came before it changes nothing."""
    if loan.entry_refs.count(event.payment_id) == 1:
        borrowing = _borrowing(windows)
        if loan.currency == windows.currency:
            _add_repaid(borrowing, calendar.hour(event.at_ms), event.amount_minor)
        borrowing.repayments = _prove(borrowing.repayments, event.at_ms, event.event_id)
    return BORROWING | LOANS


def observe_repayment_reversed(windows: Windows, calendar: Calendar, payment_id: str, loan: Loan) -> int:
    """A reversal that the loan has just taken: the money did not stay."""
    borrowing = _borrowing(windows)
    for index, ref in enumerate(loan.entry_refs):
        entry = index * ENTRY
        if ref == payment_id and loan.journal[entry + KIND] < REVERSAL:
            at_ms = loan.journal[entry + DAY] * DAY_MS + loan.journal[entry + OFFSET]
            hour, amount = calendar.hour(at_ms), loan.journal[entry + AMOUNT]
            at = bisect_left(borrowing.repaid_hours, hour)
            # The hour may be past its span, or of sums in another currency that were dropped.
            if at < len(borrowing.repaid) and borrowing.repaid_hours[at] == hour and borrowing.repaid[at] >= amount:
                borrowing.repaid[at] -= amount
            _disprove(borrowing.repayments, loan.entry_ids[index])
    return BORROWING | LOANS


def observe_failed_debit(
    windows: Windows, at_ms: int, event_id: str, loan_id: str, attempt_id: str, by_borrower: bool
) -> int:
    """A failed debit, or a new attribution of one, as the loan has it now. The loan counts; this keeps the proof."""
    key = crc32(f"{loan_id}/{attempt_id}".encode())
    proof = windows.failed_debits
    if proof is not None and key in proof.keys:
        _drop(proof, proof.keys.index(key))
    if by_borrower:
        windows.failed_debits = _prove(proof, at_ms, event_id, key)
    return LOANS


def proof(windows: Windows, kind: str, days: int, day: int) -> list[str]:
    """Ids of the latest events of a kind in the `days` up to a business date, at most PROOF_MAX and newest first.

    `days` 0: however old. None for a kind that windows do not keep (the loans prove it, or time alone has brought it
    about).
    """
    kept = _proof_of(windows, kind)
    if kept is None:
        return []
    # A business day begins up to 14 hours before the day of the same number in UTC.
    oldest_ms = (day - days) * DAY_MS if days > 0 else 0
    found = [event_id for at_ms, event_id in zip(kept.at_ms, kept.event_ids, strict=True) if at_ms >= oldest_ms]
    return found[::-1]


def _proof_of(windows: Windows, kind: str) -> Proof | None:
    logins, borrowing, spending, income = windows.logins, windows.borrowing, windows.spending, windows.income
    if logins is not None and kind in ("login", "failed_login"):
        return {"login": logins.seen, "failed_login": logins.refused}[kind]
    if logins is not None and kind == "new_device":
        return _first_logins(logins)
    if borrowing is not None and kind in ("loan", "repayment"):
        return {"loan": borrowing.taken, "repayment": borrowing.repayments}[kind]
    if spending is not None and kind in ("spend", "cash", "transfer"):
        return {"spend": spending.spends, "cash": spending.withdrawals, "transfer": spending.transfers}[kind]
    if income is not None and kind == "income":
        return income.paid
    if kind == "any":
        return _latest(windows)
    return windows.failed_debits if kind == "failed_debit" else None


def _proofs(windows: Windows) -> list[Proof | None]:
    """What is kept as proof, by kind; of transactions without what is kept of their categories again."""
    kept: list[Proof | None] = []
    if windows.logins is not None:
        kept += [windows.logins.seen, windows.logins.refused]
    if windows.spending is not None:
        kept.append(windows.spending.spends)
    if windows.income is not None:
        kept.append(windows.income.paid)
    if windows.borrowing is not None:
        kept += [windows.borrowing.taken, windows.borrowing.repayments]
    kept.append(windows.failed_debits)
    return kept


def _latest(windows: Windows) -> Proof | None:
    """The latest events of all kinds that are kept, and the last of all."""
    found = [one for part in _proofs(windows) if part is not None for one in _told(part)]
    if windows.activity is not None and windows.activity.last is not None:
        found += _told(windows.activity.last)
    if windows.signals is not None:
        for reports in windows.signals.reports:
            found += [(row[AT_MS], event_id) for row, event_id in zip(reports.rows, reports.event_ids, strict=True)]
    latest: Proof | None = None
    for at_ms, event_id in sorted(set(found))[-PROOF_MAX:]:
        latest = _prove(latest, at_ms, event_id)
    return latest


def _told(proof: Proof) -> list[tuple[int, str]]:
    return list(zip(proof.at_ms, proof.event_ids, strict=True))


# --- parts --------------------------------------------------------------------------------------------------------


def month_of(day: int) -> int:
    """The civil month of a day: year * 12 + month - 1."""
    on = date_of(day)
    return on.year * 12 + on.month - 1


def first_day_of(month: int) -> int:
    """The first day of a civil month (year * 12 + month - 1)."""
    return day_of(date(month // 12, month % 12 + 1, 1))


def _borrowing(windows: Windows) -> Borrowing:
    if windows.borrowing is None:
        windows.borrowing = Borrowing()
    return windows.borrowing


def _first(first_day: int, day: int) -> int:
    return day if first_day == NONE or day < first_day else first_day


def _slot(keys: list[int], key: int, span: int, columns: tuple[list[int], ...]) -> int:
    """Index of `key` in the sorted `keys`, made where it is missing; NONE if it lies `span` or more before the newest.

    What a newer key leaves behind by `span` is dropped, here and in the columns beside.
    """
    size = len(keys)
    if size == 0:
        keys.append(key)
        for column in columns:
            column.append(0)
        return 0
    newest = keys[-1]
    if key == newest:
        return size - 1
    if key > newest:
        if keys[0] <= key - span:
            cut = bisect_right(keys, key - span)
            del keys[:cut]
            for column in columns:
                del column[:cut]
        keys.append(key)
        for column in columns:
            column.append(0)
        return len(keys) - 1
    if key <= newest - span:
        return NONE
    at = bisect_left(keys, key)
    if keys[at] != key:
        keys.insert(at, key)
        for column in columns:
            column.insert(at, 0)
    return at


def _note_credit(borrowing: Borrowing, hour: int) -> None:
    hours = borrowing.credit_hours
    _slot(hours, hour, CREDIT_HOURS, ())
    if len(hours) > HOURS_MAX:
        del hours[0]


def _add_repaid(borrowing: Borrowing, hour: int, amount_minor: int) -> None:
    hours, repaid = borrowing.repaid_hours, borrowing.repaid
    at = _slot(hours, hour, REPAID_HOURS, (repaid,))
    if at != NONE:
        repaid[at] += amount_minor
        if len(hours) > HOURS_MAX:
            del hours[0], repaid[0]


def _note_device(logins: Logins, event: Login, day: int) -> None:
    """Remember the device; beyond DEVICES_MAX the one not seen for longest is forgotten."""
    devices, event_ids = logins.devices, logins.device_event_ids
    digest = crc32(event.device_id.encode())
    at = 0
    while at < len(devices) and devices[at] < digest:
        at += DEVICE
    if at == len(devices) or devices[at] != digest:
        devices[at:at] = [digest, event.at_ms, day, day]
        event_ids.insert(at // DEVICE, event.event_id)
        if len(event_ids) > DEVICES_MAX:
            last_days = devices[LAST_DAY::DEVICE]
            oldest = last_days.index(min(last_days))
            del devices[oldest * DEVICE : (oldest + 1) * DEVICE], event_ids[oldest]
        return
    if (event.at_ms, event.event_id) < (devices[at + FIRST_MS], event_ids[at // DEVICE]):
        devices[at + FIRST_MS], devices[at + FIRST_DAY] = event.at_ms, day
        event_ids[at // DEVICE] = event.event_id
    if day > devices[at + LAST_DAY]:
        devices[at + LAST_DAY] = day


def _first_logins(logins: Logins) -> Proof | None:
    """The first logins of the devices, as proof that they were new."""
    proof: Proof | None = None
    for at_ms, event_id in zip(logins.devices[FIRST_MS::DEVICE], logins.device_event_ids, strict=True):
        proof = _prove(proof, at_ms, event_id)
    return proof


def _prove(proof: Proof | None, at_ms: int, event_id: str, key: int = 0) -> Proof:
    """`proof` with one more event, of which the latest PROOF_MAX by instant and id are kept."""
    if proof is None:
        return Proof([at_ms], [event_id], [key])
    times, event_ids = proof.at_ms, proof.event_ids
    at = len(times)
    while at > 0 and (times[at - 1], event_ids[at - 1]) > (at_ms, event_id):
        at -= 1
    if len(times) == PROOF_MAX:
        if at == 0:
            return proof
        _drop(proof, 0)
        at -= 1
    times.insert(at, at_ms)
    event_ids.insert(at, event_id)
    proof.keys.insert(at, key)
    return proof


def _drop(proof: Proof, at: int) -> None:
    del proof.at_ms[at], proof.event_ids[at], proof.keys[at]


def _disprove(proof: Proof | None, event_id: str) -> None:
    if proof is not None and event_id in proof.event_ids:
        _drop(proof, proof.event_ids.index(event_id))
