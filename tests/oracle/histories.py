"""Random repayment histories of one borrower, dense in the corners where a ledger goes wrong.

Everything is drawn from the `random.Random` given, so one seed is one history.
"""

import calendar
import datetime
import random
from typing import Any

Event = dict[str, Any]
Recorded = tuple[int, Event]

DAY = datetime.timedelta(days=1)
DAY_MS = 86_400_000
HOUR_MS = 3_600_000
SHANGHAI_OFFSET_MS = 8 * HOUR_MS
EPOCH_ON = datetime.date(1970, 1, 1)

MOMENTS_OF_DAY_MS = (0, 1, 8 * HOUR_MS, 12 * HOUR_MS, 12 * HOUR_MS, 12 * HOUR_MS, DAY_MS - 1)
METHODS = ("auto_debit", "manual", "transfer", "settlement")
CHANNELS = ("app", "bank_a", "bank_b", "counter")
AMOUNT_STYLES = ("tiny", "threshold", "plain", "large")
RHYTHMS = ("weekly", "fortnightly", "monthly", "month_end")
# Per habit: chance of paying on a due day, chance a day of paying while in arrears, chance a day of paying in advance.
HABITS = {
    "reliable": (0.95, 0.5, 0.004),
    "sloppy": (0.5, 0.08, 0.004),
    "struggling": (0.25, 0.025, 0.002),
    "silent": (0.05, 0.004, 0.0),
    "eager": (0.6, 0.3, 0.03),
}


def at_ms_of(on: datetime.date, ms_of_day: int) -> int:
    """Epoch milliseconds of a moment of a civil day in Asia/Shanghai."""
    return (on - EPOCH_ON).days * DAY_MS - SHANGHAI_OFFSET_MS + ms_of_day


class _Teller:
    """Gives out event ids and keeps what was sent, with the time at which it arrives."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.sent: list[Recorded] = []
        self.count = 0

    def event(self, kind: str, loan_id: str, on: datetime.date, **fields: Any) -> Event:
        self.count += 1
        at_ms = at_ms_of(on, self.rng.choice(MOMENTS_OF_DAY_MS))
        # The leading letter makes the order of ids differ from the order in which they were given out.
        event_id = f"{self.rng.choice('abcxyz')}{self.count:04d}"
        known = {"type": kind, "event_id": event_id, "at_ms": at_ms, "borrower_id": "B1", "loan_id": loan_id}
        return known | {name: value for name, value in fields.items() if value is not None}

    def delay_ms(self) -> int:
        rng = self.rng
        draw = rng.random()
        if draw < 0.7:
            return rng.randrange(0, 5_000)
        if draw < 0.85:
            return rng.randrange(0, 3 * DAY_MS)
        if draw < 0.95:
            return rng.randrange(3 * DAY_MS, 7 * DAY_MS)
        return rng.randrange(7 * DAY_MS, 25 * DAY_MS)

    def send(self, event: Event, record_ms: int | None = None) -> int:
        arrives_ms = event["at_ms"] + self.delay_ms() if record_ms is None else record_ms
        self.sent.append((arrives_ms, event))
        return arrives_ms


class _Borrowing:
    """One loan as its borrower lives it; `scheduled` and `paid_minor` only guide what is drawn next."""

    def __init__(self, teller: _Teller, loan_id: str, disbursed_on: datetime.date, days: int) -> None:
        self.teller = teller
        self.rng = teller.rng
        self.loan_id = loan_id
        self.on = disbursed_on
        self.until_on = disbursed_on + days * DAY
        self.style = self.rng.choice(AMOUNT_STYLES)
        self.habit = self.rng.choice(tuple(HABITS))
        self.scheduled: list[tuple[datetime.date, int]] = []
        self.numbers: list[int] = []
        self.paid_minor = 0
        self.payments: list[tuple[str, int]] = []
        self.payment_count = 0
        self.is_over = False

    def amount_minor(self) -> int:
        if self.style == "tiny":
            return self.rng.randint(1, 5)
        if self.style == "threshold":
            return self.rng.choice((79_999, 80_000, 80_001, 40_000, 40_001, 26_667))
        if self.style == "large":
            return self.rng.randint(1_000_000, 30_000_000)
        return self.rng.randint(5_000, 200_000)

    def row(self, no: int, due_on: datetime.date) -> Event:
        rng = self.rng
        principal = self.amount_minor()
        interest = max(1, principal // rng.choice((3, 10, 40))) if rng.random() < 0.85 else 0
        fee = rng.choice((1, 100, 500, 2_500)) if rng.random() < 0.25 else 0
        if rng.random() < 0.12 and interest + fee > 0:
            principal = 0
        return {
            "no": no,
            "due_on": due_on.isoformat(),
            "principal_minor": principal,
            "interest_minor": interest,
            "fee_minor": fee,
        }

    def due_days(self, first_on: datetime.date, count: int) -> list[datetime.date]:
        rng = self.rng
        rhythm = rng.choice(RHYTHMS)
        days: list[datetime.date] = []
        anchor = rng.choice((first_on.day, 29, 30))
        while len(days) < count:
            index = len(days)
            if rhythm in ("weekly", "fortnightly"):
                days.append(first_on + index * (7 if rhythm == "weekly" else 14) * DAY)
            else:
                month = first_on.year * 12 + first_on.month - 1 + index
                last = calendar.monthrange(month // 12, month % 12 + 1)[1]
                wanted = last if rhythm == "month_end" else min(anchor, last)
                days.append(datetime.date(month // 12, month % 12 + 1, wanted))
            if len(days) < count and rng.random() < 0.06:
                days.append(days[-1])
        return sorted(days)

    def schedule(self, first_no: int, first_on: datetime.date, count: int) -> list[Event]:
        rows = [self.row(first_no + index, due_on) for index, due_on in enumerate(self.due_days(first_on, count))]
        if all(row["principal_minor"] == 0 for row in rows):
            rows[-1]["principal_minor"] = self.amount_minor()
        return rows

    def take_schedule(self, rows: list[Event]) -> None:
        self.numbers = sorted({row["no"] for row in rows})
        self.scheduled = [
            (
                datetime.date.fromisoformat(row["due_on"]),
                row["principal_minor"] + row["interest_minor"] + row["fee_minor"],
            )
            for row in rows
        ]

    def due_minor(self, on: datetime.date) -> int:
        return sum(amount for due_on, amount in self.scheduled if due_on <= on)

    def send(self, kind: str, **fields: Any) -> Event:
        event = self.teller.event(kind, self.loan_id, self.on, **fields)
        self.teller.send(event)
        return event

    def disburse(self) -> None:
        rng = self.rng
        rows = self.schedule(1, self.on + rng.randint(1, 35) * DAY, rng.randint(3, 12))
        self.take_schedule(rows)
        event = self.teller.event(
            "loan_disbursed",
            self.loan_id,
            self.on,
            product=rng.choice(("cash", "card")),
            currency=rng.choice(("CNY", "CNY", "CNY", "EUR", "USD")),
            principal_minor=sum(row["principal_minor"] for row in rows),
            pool_id=rng.choice((None, "pool-1")),
            schedule=rows,
        )
        arrives_ms = event["at_ms"] + rng.randrange(0, 5_000)
        if rng.random() < 0.3:
            arrives_ms = event["at_ms"] + rng.randrange(HOUR_MS, 3 * DAY_MS)
            self.live_before_the_loan_is_seen()
        self.teller.send(event, arrives_ms)
        if rng.random() < 0.15:
            self.teller.send(event, arrives_ms + rng.randrange(0, 6 * DAY_MS))
        if rng.random() < 0.1:
            other = event | {"event_id": event["event_id"] + "-2", "principal_minor": event["principal_minor"] + 1}
            self.teller.send(other, arrives_ms + rng.randrange(0, 90 * DAY_MS))

    def live_before_the_loan_is_seen(self) -> None:
        rng = self.rng
        self.pay(self.wanted_minor())
        if rng.random() < 0.5:
            self.charge()
        if rng.random() < 0.5:
            self.waive()
        if rng.random() < 0.3:
            self.fail()
        if rng.random() < 0.3:
            self.reverse()

    def wanted_minor(self) -> int:
        """An amount near something that matters: what is due now, the next instalment, all there is."""
        rng = self.rng
        due = self.due_minor(self.on) - self.paid_minor
        total = sum(amount for _, amount in self.scheduled) - self.paid_minor
        upcoming = [amount for due_on, amount in self.scheduled if due_on > self.on]
        candidates = [due, due, due, total, upcoming[0] if upcoming else total, self.scheduled[0][1]]
        base = max(1, rng.choice(candidates))
        draw = rng.random()
        if draw < 0.45:
            return base
        if draw < 0.6:
            return base + 1
        if draw < 0.75:
            return max(1, base - 1)
        if draw < 0.92:
            return rng.randint(1, base)
        return base + rng.randint(2, 2 * base + 2)

    def value_on(self) -> str | None:
        rng = self.rng
        draw = rng.random()
        if draw < 0.78:
            return None
        if draw < 0.82:
            return self.on.isoformat()
        if draw < 0.97:
            past_dues = [due_on for due_on, _ in self.scheduled if due_on <= self.on]
            if past_dues and rng.random() < 0.5:
                return (past_dues[-1] + rng.randint(-1, 1) * DAY).isoformat()
            return (self.on - rng.randint(1, 45) * DAY).isoformat()
        return (self.on + rng.randint(1, 12) * DAY).isoformat()

    def pay(self, amount_minor: int) -> None:
        rng = self.rng
        self.payment_count += 1
        payment_id = f"{self.loan_id}-p{self.payment_count}"
        event = self.teller.event(
            "repayment_received",
            self.loan_id,
            self.on,
            payment_id=payment_id,
            amount_minor=amount_minor,
            method=rng.choice(METHODS),
            channel=rng.choice(CHANNELS),
            value_on=self.value_on(),
        )
        arrives_ms = self.teller.send(event)
        self.paid_minor += amount_minor
        self.payments.append((payment_id, amount_minor))
        if rng.random() < 0.08:
            self.teller.send(event, arrives_ms + rng.randrange(0, 60 * DAY_MS))
        if rng.random() < 0.08:
            again = event | {"event_id": event["event_id"] + "-again"}
            self.teller.send(again, arrives_ms + rng.randrange(0, 60 * DAY_MS))
        if rng.random() < 0.05:
            self.teller.send(event | {"amount_minor": amount_minor + 1}, arrives_ms + rng.randrange(0, 6 * DAY_MS))
        if rng.random() < 0.05:
            other = event | {"event_id": event["event_id"] + "-other", "amount_minor": amount_minor + 1}
            self.teller.send(other, arrives_ms + rng.randrange(0, 60 * DAY_MS))

    def reverse(self) -> None:
        """Mostly a payment made lately; sometimes one never heard of, or one reversed before."""
        rng = self.rng
        if not self.payments or rng.random() < 0.1:
            self.send("repayment_reversed", payment_id=f"{self.loan_id}-nobody", code="bounced")
            return
        payment_id, amount_minor = rng.choice(self.payments[-4:])
        event = self.teller.event("repayment_reversed", self.loan_id, self.on, payment_id=payment_id, code="bounced")
        # Often at once, so that the reversal overtakes a payment that is still on its way.
        arrives_ms = event["at_ms"] + (rng.randrange(0, 1_000) if rng.random() < 0.6 else self.teller.delay_ms())
        self.teller.send(event, arrives_ms)
        self.paid_minor -= amount_minor
        if rng.random() < 0.15:
            again = event | {"event_id": event["event_id"] + "-again"}
            self.teller.send(again, arrives_ms + rng.randrange(0, 20 * DAY_MS))
        if rng.random() < 0.1:
            self.send("repayment_reversed", payment_id=payment_id, code="charged_back")

    def charge(self) -> None:
        rng = self.rng
        known = rng.random() < 0.95
        event = self.send(
            "charge_added",
            instalment_no=rng.choice(self.numbers) if known else 99,
            component=rng.choice(("fee", "penalty")),
            amount_minor=rng.choice((1, 100, 500, 2_500, self.amount_minor())),
        )
        if known and rng.random() < 0.1:
            self.teller.send(event, self.teller.sent[-1][0] + rng.randrange(0, 6 * DAY_MS))

    def waive(self) -> None:
        rng = self.rng
        event = self.send(
            "amount_waived",
            instalment_no=rng.choice(self.numbers) if rng.random() < 0.6 else None,
            component=rng.choice(("fee", "fee", "penalty", "penalty", "interest", "principal")),
            amount_minor=rng.choice((1, 100, 500, 2_500, self.amount_minor(), 3 * self.amount_minor())),
        )
        if rng.random() < 0.1:
            self.teller.send(event, self.teller.sent[-1][0] + rng.randrange(0, 6 * DAY_MS))

    def pause(self) -> None:
        rng = self.rng
        from_on = self.on + rng.randint(-20, 20) * DAY
        self.send(
            "pause_set",
            from_on=from_on.isoformat(),
            until_on=(from_on + rng.choice((0, 1, 6, 30, 60)) * DAY).isoformat(),
        )

    def reschedule(self) -> None:
        rng = self.rng
        first_no = max(self.numbers) + 1 if rng.random() < 0.7 else rng.choice((1, self.numbers[-1]))
        first_on = self.on + (rng.randint(1, 40) if rng.random() < 0.9 else rng.randint(-10, 0)) * DAY
        rows = self.schedule(first_no, first_on, rng.randint(1, 8))
        plan_id = f"plan-{first_no}"
        draw = rng.random()
        if draw < 0.3:
            until_on = rows[-1]["due_on"]
            self.send("plan_accepted", plan_id=plan_id, schedule=rows, until_on=until_on)
        elif draw < 0.6:
            self.send("loan_rescheduled", schedule=rows, distressed=True, plan_id=plan_id)
        else:
            self.send("loan_rescheduled", schedule=rows, distressed=False)
        self.take_schedule(rows)
        self.paid_minor = 0

    def fail(self) -> None:
        rng = self.rng
        event = self.send(
            "repayment_failed",
            attempt_id=f"{self.loan_id}-a{self.teller.count}",
            instalment_no=rng.choice((None, self.numbers[0])),
            amount_minor=self.scheduled[0][1] or 1,
            method="auto_debit",
            channel=rng.choice(CHANNELS),
            code=rng.choice(("insufficient_funds", "timeout", "card_closed")),
        )
        if rng.random() < 0.2:
            self.teller.send(event | {"event_id": event["event_id"] + "-again"}, self.teller.sent[-1][0] + HOUR_MS)

    def end(self) -> None:
        self.send(self.rng.choice(("loan_closed", "loan_written_off")))
        self.is_over = True

    def live_a_day(self) -> None:
        rng = self.rng
        on_due_day, in_arrears, in_advance = HABITS[self.habit]
        due_today = any(due_on == self.on for due_on, _ in self.scheduled)
        arrears = self.due_minor(self.on) - self.paid_minor
        if due_today:
            chance = on_due_day
        else:
            chance = in_arrears if arrears > 0 else in_advance
        if self.is_over:
            chance = 0.02
        if rng.random() < chance:
            self.pay(self.wanted_minor())
            if rng.random() < 0.1:
                self.pay(self.wanted_minor())
        elif due_today and rng.random() < 0.3:
            self.fail()
        if rng.random() < 0.004:
            self.habit = rng.choice(tuple(HABITS))
        # A reschedule stands alone on its day: what is charged that day would name rows not there yet.
        if rng.random() < 0.004:
            self.reschedule()
            return
        odds = ((self.reverse, 0.012), (self.charge, 0.02), (self.waive, 0.012), (self.pause, 0.008))
        for act, odd in odds:
            if rng.random() < odd:
                act()
        if not self.is_over and rng.random() < 0.0012:
            self.end()

    def live(self) -> None:
        self.disburse()
        while self.on < self.until_on:
            self.on += DAY
            self.live_a_day()


def random_history(rng: random.Random, *, loans: int = 2, days: int = 400) -> list[Recorded]:
    """One borrower's `repayments` events (and `plan_accepted`) as (record_ms, event), in order of arrival.

    1 to `loans` loans, each followed for up to `days` days. Days are civil days of Asia/Shanghai and most histories
    include a 29 February. No event arrives before it happened; a loan is seen at most 3 days after it was paid out.
    """
    teller = _Teller(rng)
    first_on = datetime.date(2023, 6, 1) + rng.randrange(0, 250) * DAY
    for index in range(rng.randint(1, loans)):
        disbursed_on = first_on + (rng.randrange(0, max(1, days // 2)) if index else 0) * DAY
        left = days - (disbursed_on - first_on).days
        _Borrowing(teller, f"L{index + 1}", disbursed_on, left).live()
    return sorted(teller.sent, key=lambda recorded: recorded[0])
