"""A second, deliberately slow ledger, written from the rules of credit alone.

It shares no code with the product. Every answer is worked out again from the set of accepted entries, so that
reading it top to bottom is enough to check it. Money is integer minor units, days are civil dates of one zone.
"""

import datetime
import zoneinfo
from collections.abc import Iterable, Mapping
from typing import Any

Event = dict[str, Any]
Key = tuple[datetime.date, int, str]

DAY = datetime.timedelta(days=1)
WEEK_MS = 7 * 86_400_000
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
BEGINNING: Key = (datetime.date.min, -1, "")

COMPONENTS = ("penalty", "fee", "interest", "principal")
ALL_GROUPS = ("past_due", "due_today", "in_advance")
COUNTERS = ("contractual", "managed", "material", "principal", "interest")
MATERIAL_ABSOLUTE_MINOR = {"CNY": 80000, "EUR": 10000}
BUCKETS = ((0, "C"), (30, "M1"), (60, "M2"), (90, "M3"), (120, "M4"), (150, "M5"), (180, "M6"))

COMMON_FIELDS = ("type", "event_id", "at_ms", "borrower_id", "loan_id")
SCHEDULE_FIELDS = ("no", "due_on", "principal_minor", "interest_minor", "fee_minor")
COVER_FIELDS = ("party", "share_bp", "claim_after_dpd")
FIELDS = {
    "loan_disbursed": ("product", "currency", "principal_minor", "pool_id", "platform", "cover", "schedule"),
    "repayment_received": ("payment_id", "amount_minor", "method", "channel", "value_on"),
    "repayment_failed": ("attempt_id", "instalment_no", "amount_minor", "method", "channel", "code"),
    "repayment_reversed": ("payment_id", "code"),
    "charge_added": ("instalment_no", "component", "amount_minor"),
    "amount_waived": ("instalment_no", "component", "amount_minor"),
    "loan_rescheduled": ("schedule", "distressed", "plan_id"),
    "plan_accepted": ("plan_id", "schedule", "until_on"),
    "loan_written_off": (),
    "loan_closed": (),
    "pause_set": ("from_on", "until_on"),
    "failure_reattributed": ("attempt_id", "attribution"),
    "pool_assigned": ("pool_id",),
    "presumption_rebutted": ("which", "evidence", "until_on"),
}
RESCHEDULES = ("loan_rescheduled", "plan_accepted")
ENDINGS = ("loan_closed", "loan_written_off")


def known_content(event: Event) -> Event:
    """The fields of an event that mean something; an absent optional field is the same as null."""
    content = {name: event.get(name) for name in (*COMMON_FIELDS, *FIELDS[event["type"]])}
    schedule, cover = content.get("schedule"), content.get("cover")
    if schedule is not None:
        content["schedule"] = [{name: row[name] for name in SCHEDULE_FIELDS} for row in schedule]
    if cover is not None:
        content["cover"] = {name: cover.get(name) for name in COVER_FIELDS}
    return content


def without_event_id(content: Event) -> Event:
    return {name: value for name, value in content.items() if name != "event_id"}


def bucket_of(managed_days: int) -> str:
    for last_day, name in BUCKETS:
        if managed_days <= last_day:
            return name
    return "M7"


class Row:
    """One instalment. `owed` lists, per component, (key from which it is owed, amount), oldest first."""

    def __init__(self, fields: Event, version: int, owed_from: Key) -> None:
        self.no: int = fields["no"]
        self.due_on = datetime.date.fromisoformat(fields["due_on"])
        self.version = version
        self.owed: dict[str, list[tuple[Key, int]]] = {
            "penalty": [],
            "fee": [(owed_from, fields["fee_minor"])],
            "interest": [(owed_from, fields["interest_minor"])],
            "principal": [(owed_from, fields["principal_minor"])],
        }

    def owed_at(self, component: str, key: Key) -> int:
        return sum(amount for owed_from, amount in self.owed[component] if owed_from <= key)

    def total_owed(self, component: str) -> int:
        return sum(amount for _, amount in self.owed[component])

    def lower(self, component: str, amount: int) -> None:
        """Lower what is owed as if it had never been: at every past moment by `amount`, never below nothing."""
        lowered = []
        for owed_from, piece in self.owed[component]:
            taken = min(piece, amount)
            amount -= taken
            lowered.append((owed_from, piece - taken))
        self.owed[component] = lowered

    def keep_only(self, component: str, amount: int) -> None:
        """Let no more than `amount` be owed at any moment."""
        kept = []
        for owed_from, piece in self.owed[component]:
            taken = min(piece, amount)
            amount -= taken
            kept.append((owed_from, taken))
        self.owed[component] = kept


class Loan:
    def __init__(self, disbursed: Event) -> None:
        self.disbursed = disbursed
        self.currency: str = disbursed["currency"]
        self.entries: list[tuple[Key, Event]] = []
        self.numbered: dict[tuple[str, str], Event] = {}
        self.known_days: dict[tuple[datetime.date, datetime.date], Money] = {}


class Money:
    """The ledger of one loan at the end of one day."""

    def __init__(self, rows: list[Row], paid: dict[tuple[int, str], int], unapplied: int) -> None:
        self.rows = rows
        self.unpaid = {
            (index, component): row.total_owed(component) - paid[index, component]
            for index, row in enumerate(rows)
            for component in COMPONENTS
        }
        self.allocated = sum(paid.values())
        self.unapplied = unapplied

    def outstanding(self, component: str) -> int:
        return sum(self.unpaid[index, component] for index in range(len(self.rows)))

    def overdue(self, component: str, on: datetime.date) -> int:
        return sum(self.unpaid[index, component] for index, row in enumerate(self.rows) if row.due_on < on)

    def oldest_unpaid_due_on(self, components: Iterable[str]) -> datetime.date | None:
        dues = [
            row.due_on
            for index, row in enumerate(self.rows)
            if any(self.unpaid[index, component] > 0 for component in components)
        ]
        return min(dues) if dues else None


class NaiveLedger:
    """The credit ledger and the days past due of one borrower."""

    def __init__(
        self,
        zone: str = "Asia/Shanghai",
        *,
        due_date_counts_as: int = 0,
        material_absolute_minor: Mapping[str, int] = MATERIAL_ABSOLUTE_MINOR,
        material_default_minor: int = 10000,
        material_relative_bp: int = 100,
        groups_by_method: Mapping[str, tuple[str, ...]] | None = None,
        component_order: tuple[str, ...] = COMPONENTS,
    ) -> None:
        self.zone = zoneinfo.ZoneInfo(zone)
        self.due_date_counts_as = due_date_counts_as
        self.material_absolute_minor = material_absolute_minor
        self.material_default_minor = material_default_minor
        self.material_relative_bp = material_relative_bp
        self.groups_by_method = {} if groups_by_method is None else groups_by_method
        self.component_order = component_order
        self._loans: dict[str, Loan] = {}
        self._seen: dict[str, tuple[int, Event]] = {}
        self._parked: dict[str, list[Event]] = {}
        self.unparked: list[tuple[Event, str]] = []

    def accept(self, event: Event, record_ms: int) -> str:
        """Take one event in; returns accepted, duplicate, parked or the reason why it is a dead letter."""
        content = known_content(event)
        event_id = event["event_id"]
        if event_id in self._seen:
            seen_ms, seen_content = self._seen[event_id]
            if abs(record_ms - seen_ms) <= WEEK_MS:
                return "duplicate" if content == seen_content else "conflicting_duplicate"
        loan = self._loans.get(event["loan_id"])
        if event["type"] == "loan_disbursed":
            if loan is not None:
                return "duplicate" if content == loan.disbursed else "conflicting_duplicate"
            self._seen[event_id] = (record_ms, content)
            self._open_loan(content)
            return "accepted"
        if loan is None:
            self._seen[event_id] = (record_ms, content)
            self._parked.setdefault(event["loan_id"], []).append(event)
            return "parked"
        verdict = self._enter(loan, event)
        if verdict == "accepted":
            self._seen[event_id] = (record_ms, content)
        return verdict

    def _open_loan(self, disbursed: Event) -> None:
        loan = self._loans[disbursed["loan_id"]] = Loan(disbursed)
        for event in self._parked.pop(disbursed["loan_id"], []):
            verdict = self._enter(loan, event)
            self.unparked.append((event, verdict))
            if verdict not in ("accepted", "duplicate"):
                del self._seen[event["event_id"]]

    def _enter(self, loan: Loan, event: Event) -> str:
        content = known_content(event)
        number = content.get("payment_id") or content.get("attempt_id")
        if number is not None:
            first = loan.numbered.get((event["type"], number))
            if first is not None:
                return "duplicate" if first == without_event_id(content) else "conflicting_duplicate"
        if event.get("currency", loan.currency) != loan.currency:
            return "currency_mismatch"
        key = self._key(content)
        if event["type"] == "charge_added" and content["instalment_no"] not in self._numbers_before(loan, key):
            return "unknown_instalment"
        if number is not None:
            loan.numbered[event["type"], number] = without_event_id(content)
        loan.entries.append((key, content))
        loan.known_days.clear()
        return "accepted"

    def _date(self, at_ms: int) -> datetime.date:
        return (EPOCH + datetime.timedelta(milliseconds=at_ms)).astimezone(self.zone).date()

    def _key(self, content: Event) -> Key:
        value_on = content.get("value_on")
        day = self._date(content["at_ms"]) if value_on is None else datetime.date.fromisoformat(value_on)
        return day, content["at_ms"], content["event_id"]

    def _numbers_before(self, loan: Loan, key: Key) -> set[int]:
        schedules = [loan.disbursed["schedule"]]
        schedules += [entry["schedule"] for at, entry in loan.entries if entry["type"] in RESCHEDULES and at < key]
        return {row["no"] for schedule in schedules for row in schedule}

    @staticmethod
    def _entries_until(loan: Loan, on: datetime.date) -> list[tuple[Key, Event]]:
        in_effect = [(key, entry) for key, entry in loan.entries if key[0] <= on]
        return sorted(in_effect, key=lambda keyed: keyed[0])

    @staticmethod
    def _payments(entries: list[tuple[Key, Event]]) -> list[tuple[Key, Event]]:
        return [(key, entry) for key, entry in entries if entry["type"] == "repayment_received"]

    @staticmethod
    def _reversed_ids(entries: list[tuple[Key, Event]]) -> set[str]:
        return {entry["payment_id"] for _, entry in entries if entry["type"] == "repayment_reversed"}

    def _standing_payments(self, entries: list[tuple[Key, Event]]) -> list[tuple[Key, Event]]:
        gone = self._reversed_ids(entries)
        return [(key, entry) for key, entry in self._payments(entries) if entry["payment_id"] not in gone]

    def _money(self, loan: Loan, on: datetime.date, known_on: datetime.date) -> Money:
        """The ledger at the end of `on`, from the entries in effect by then, as `known_on`, that day or a later one,
        sees it: what is reversed by then was never paid, what is waived by then was never owed."""
        on, known_on = self._last_stir(loan, on), self._last_stir(loan, known_on)
        if (on, known_on) not in loan.known_days:
            entries, hindsight = self._entries_until(loan, on), self._hindsight(loan, on, known_on)
            rows = self._rows(loan, entries)
            for entry in hindsight:
                if entry["type"] == "amount_waived":
                    self._waive(rows, entry)
            payments = self._payments_standing(entries, hindsight)
            loan.known_days[on, known_on] = self._allocate(rows, payments, (on + DAY, -1, ""))
        return loan.known_days[on, known_on]

    def _hindsight(self, loan: Loan, on: datetime.date, known_on: datetime.date) -> list[Event]:
        """The reversals and waivers after `on`, up to `known_on`."""
        later = self._entries_until(loan, known_on)[len(self._entries_until(loan, on)) :]
        return [entry for _, entry in later if entry["type"] in ("repayment_reversed", "amount_waived")]

    def _payments_standing(self, entries: list[tuple[Key, Event]], hindsight: list[Event]) -> list[tuple[Key, Event]]:
        gone = {entry["payment_id"] for entry in hindsight if entry["type"] == "repayment_reversed"}
        return [(key, entry) for key, entry in self._standing_payments(entries) if entry["payment_id"] not in gone]

    @staticmethod
    def _last_stir(loan: Loan, on: datetime.date) -> datetime.date:
        """The last day up to `on` that had an entry, a due date or the day after one: none since moved money."""
        schedules = [loan.disbursed["schedule"]]
        schedules += [entry["schedule"] for _, entry in loan.entries if entry["type"] in RESCHEDULES]
        dues = {datetime.date.fromisoformat(row["due_on"]) for schedule in schedules for row in schedule}
        stirs = {key[0] for key, _ in loan.entries} | dues | {due_on + DAY for due_on in dues}
        return max((day for day in stirs if day <= on), default=datetime.date.min)

    def _rows(self, loan: Loan, entries: list[tuple[Key, Event]]) -> list[Row]:
        """The instalments and what is owed on them, charges, waivers and reschedules taken in order of key."""
        rows = [Row(fields, 0, BEGINNING) for fields in loan.disbursed["schedule"]]
        for position, (key, entry) in enumerate(entries):
            if entry["type"] == "charge_added":
                row = max((row for row in rows if row.no == entry["instalment_no"]), key=lambda row: row.version)
                row.owed[entry["component"]].append((key, entry["amount_minor"]))
            elif entry["type"] == "amount_waived":
                self._waive(rows, entry)
            elif entry["type"] in RESCHEDULES:
                self._reschedule(rows, key, entry, entries[:position])
        return rows

    @staticmethod
    def _in_due_order(rows: list[Row]) -> list[Row]:
        return sorted(rows, key=lambda row: (row.due_on, row.no, row.version))

    def _waive(self, rows: list[Row], waiver: Event) -> None:
        if waiver["instalment_no"] is None:
            reached = self._in_due_order(rows)
        else:
            same_number = [row for row in rows if row.no == waiver["instalment_no"]]
            reached = sorted(same_number, key=lambda row: row.version)[-1:]
        left = waiver["amount_minor"]
        for row in reached:
            taken = min(left, row.total_owed(waiver["component"]))
            row.lower(waiver["component"], taken)
            left -= taken

    def _reschedule(self, rows: list[Row], key: Key, entry: Event, before: list[tuple[Key, Event]]) -> None:
        """Keep of each row what was paid on it when the reschedule came (all of it, if it was fully paid)."""
        then = self._allocate(rows, self._standing_payments(before), key)
        for index, row in enumerate(rows):
            for component in COMPONENTS:
                row.keep_only(component, row.total_owed(component) - then.unpaid[index, component])
        version = 1 + max(row.version for row in rows)
        rows += [Row(fields, version, key) for fields in entry["schedule"]]

    def _allocate(self, rows: list[Row], payments: list[tuple[Key, Event]], before: Key) -> Money:
        """Walk through time up to the moment `before`. Money comes in as credit; at every moment at which money
        comes, something new is owed, an instalment falls due or becomes past due, credit is used, oldest first."""
        moments = {key for key, _ in payments}
        moments |= {owed_from for row in rows for pieces in row.owed.values() for owed_from, _ in pieces}
        moments |= {(row.due_on, -1, "") for row in rows}
        moments |= {(row.due_on + DAY, -1, "") for row in rows}
        paid = {(index, component): 0 for index in range(len(rows)) for component in COMPONENTS}
        credit: list[tuple[str, int]] = []
        for moment in sorted(moment for moment in moments if moment < before):
            credit += [(entry["method"], entry["amount_minor"]) for key, entry in payments if key == moment]
            left = [(method, self._pay(rows, paid, method, amount, moment)) for method, amount in credit]
            credit = [(method, amount) for method, amount in left if amount > 0]
        return Money(rows, paid, sum(amount for _, amount in credit))

    def _pay(self, rows: list[Row], paid: dict[tuple[int, str], int], method: str, amount: int, moment: Key) -> int:
        """Use `amount` on what is owed at `moment`; returns what is left over."""
        index_of = {id(row): index for index, row in enumerate(rows)}
        for group in self.groups_by_method.get(method, ALL_GROUPS):
            for row in self._in_due_order(rows):
                if group != self._group(row, moment[0]):
                    continue
                for component in self.component_order:
                    place = (index_of[id(row)], component)
                    part = min(amount, row.owed_at(component, moment) - paid[place])
                    paid[place] += part
                    amount -= part
        return amount

    @staticmethod
    def _group(row: Row, on: datetime.date) -> str:
        if row.due_on < on:
            return "past_due"
        return "due_today" if row.due_on == on else "in_advance"

    def _days_past_due(self, due_on: datetime.date | None, on: datetime.date) -> int:
        if due_on is None or due_on > on:
            return 0
        return (on - due_on).days + self.due_date_counts_as

    def _pause_days(self, loan: Loan, after: datetime.date, on: datetime.date) -> int:
        pauses = [
            (datetime.date.fromisoformat(entry["from_on"]), datetime.date.fromisoformat(entry["until_on"]))
            for _, entry in self._entries_until(loan, on)
            if entry["type"] == "pause_set"
        ]
        days = 0
        day = after + DAY
        while day <= on:
            if any(first <= day <= last for first, last in pauses):
                days += 1
            day += DAY
        return days

    def _is_material(self, loan: Loan, on: datetime.date, known_on: datetime.date) -> bool:
        money = self._money(loan, on, known_on)
        arrears = sum(money.overdue(component, on) for component in COMPONENTS)
        outstanding = sum(money.outstanding(component) for component in COMPONENTS)
        absolute = self.material_absolute_minor.get(loan.currency, self.material_default_minor)
        return arrears > absolute and arrears * 10000 > self.material_relative_bp * outstanding

    def _dpd(self, loan: Loan, on: datetime.date, known_on: datetime.date) -> dict[str, int]:
        if self._is_ended(loan, on):
            return dict.fromkeys(COUNTERS, 0)
        money = self._money(loan, on, known_on)
        oldest = money.oldest_unpaid_due_on(COMPONENTS)
        contractual = self._days_past_due(oldest, on)
        managed = contractual
        if oldest is not None:
            managed = max(0, contractual - self._pause_days(loan, oldest, on))
        material = 0
        while self._is_material(loan, on - material * DAY, known_on):
            material += 1
        return {
            "contractual": contractual,
            "managed": managed,
            "material": material,
            "principal": self._days_past_due(money.oldest_unpaid_due_on(["principal"]), on),
            "interest": self._days_past_due(money.oldest_unpaid_due_on(["interest"]), on),
        }

    def _is_ended(self, loan: Loan, on: datetime.date) -> bool:
        return any(entry["type"] in ENDINGS for _, entry in self._entries_until(loan, on))

    def loans(self, on: datetime.date, known_on: datetime.date | None = None) -> list[dict[str, Any]]:
        """Every known loan as of the end of business date `on`, as that day or a later one sees it, by loan_id."""
        known_on = on if known_on is None else known_on
        return [self._loan(loan_id, self._loans[loan_id], on, known_on) for loan_id in sorted(self._loans)]

    def _loan(self, loan_id: str, loan: Loan, on: datetime.date, known_on: datetime.date) -> dict[str, Any]:
        entries = self._entries_until(loan, on)
        standing = {key for key, _ in self._payments_standing(entries, self._hindsight(loan, on, known_on))}
        money = self._money(loan, on, known_on)
        dpd = self._dpd(loan, on, known_on)
        return {
            "loan_id": loan_id,
            "bucket": bucket_of(dpd["managed"]),
            "dpd": dpd,
            "outstanding": {f"{component}_minor": money.outstanding(component) for component in COMPONENTS},
            "overdue": {f"{component}_minor": money.overdue(component, on) for component in COMPONENTS},
            "unapplied_minor": money.unapplied,
            "received_minor": sum(entry["amount_minor"] for _, entry in self._payments(entries)),
            "reversed_minor": sum(
                entry["amount_minor"] for key, entry in self._payments(entries) if key not in standing
            ),
            "allocated_minor": money.allocated,
        }

    def borrower_dpd(self, on: datetime.date) -> dict[str, int]:
        """The worst of the loans that have not ended (an ended loan counts 0 throughout)."""
        counters = [self._dpd(loan, on, on) for loan in self._loans.values()]
        return {
            name: max((dpd[name] for dpd in counters), default=0) for name in ("contractual", "managed", "material")
        }
