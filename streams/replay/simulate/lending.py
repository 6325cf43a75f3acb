"""A borrower's debts on a day: being debited, failing, paying late, being helped, given up on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.engine.calendar import DAY_MS, iso_day
from streams.replay.simulate.borrowing import deceive, on_wire, reckon, want
from streams.replay.simulate.debt import Loan, Row, schedule
from streams.replay.simulate.population import Borrower, Drift

if TYPE_CHECKING:
    from streams.replay.simulate.world import World

RETRY_DAYS = (1, 2, 3, 4, 7)
"""Days between a failed debit and the next: the last one repeats."""
_DEBIT_FROM, _DEBIT_UNTIL = 9 * 60, 11 * 60
_EVENING, _NIGHT = 18 * 60, 23 * 60


def live(world: World, borrower: Borrower) -> None:
    """One day of the debts of `borrower`."""
    day = world.day
    if borrower.ring is not None:
        deceive(world, borrower)
    elif day >= borrower.quiet_until_day:
        want(world, borrower)
    ended = False
    for loan in borrower.loans:
        if day >= loan.action_day:
            _bounce(world, borrower, loan)
            _collect(world, borrower, loan)
            ended |= loan.action_day < 0
    if ended:
        borrower.loans = [loan for loan in borrower.loans if loan.action_day >= 0]


def _collect(world: World, borrower: Borrower, loan: Loan) -> None:
    """What the lender and the borrower do about `loan` on a day on which something is to be done."""
    day, dice = world.day, world.dice
    row = loan.oldest()
    if row is None:
        if loan.bounces:
            loan.action_day = loan.bounces[0][0]
            return
        _end(world, borrower, loan, "loan_closed")
        return
    behind_days = day - row.due_day
    if behind_days < 0:
        loan.action_day = row.due_day if not loan.bounces else min(row.due_day, loan.bounces[0][0])
        return
    note(borrower, loan, day)
    drift = borrower.drifting(day)
    if behind_days >= 5 and day - loan.charged_day >= 30:
        _penalise(world, borrower, loan, row)
    if behind_days >= 185 and dice.roll() < 0.4:
        _give_up(world, borrower, loan)
        return
    if behind_days >= 35 and not loan.helped and _may_be_helped(borrower, drift) and dice.roll() < 0.12:
        _help(world, borrower, loan, distressed=behind_days >= 60)
        return
    if _pays(world, borrower, loan, drift, behind_days):
        loan.attempts = 0
        reckon(borrower)
    else:
        loan.attempts += 1
    row = loan.oldest()
    wait_days = RETRY_DAYS[min(loan.attempts, len(RETRY_DAYS)) - 1] if loan.attempts else 1
    loan.action_day = max(loan.action_day, day + wait_days) if row is None or row.due_day <= day else row.due_day
    if loan.bounces:
        loan.action_day = min(loan.action_day, loan.bounces[0][0])


def _pays(world: World, borrower: Borrower, loan: Loan, drift: Drift | None, behind_days: int) -> bool:
    """A debit or a payment by hand; whether money came."""
    dice = world.dice
    due_minor = loan.due_minor(world.day)
    refuses = borrower.ring is not None or (drift is not None and drift.walks_away)
    if loan.auto_debit and not loan.written_off:
        at_ms = world.moment(_DEBIT_FROM, _DEBIT_UNTIL)
        down = world.outage(loan.channel, at_ms)
        if down is not None:
            borrower.outage_touched = True
            _fail(world, borrower, loan, due_minor, at_ms, down[1])
            at_ms = down[0] + dice.between(600_000, 3_600_000)
            if world.day_of(at_ms) > world.day:
                # action_day is only ever moved forward from here: the retry waits for the outage's end.
                loan.action_day = world.day_of(at_ms)
                loan.attempts = 0
                return False
        if refuses:
            _fail(world, borrower, loan, due_minor, at_ms, dice.pick(("debit_refused", "card_closed")))
            return False
        slips = behind_days == 0 and dice.roll() * 10_000 >= borrower.segment.reliable_bp
        if borrower.balance_minor >= due_minor and not slips:
            _receive(world, borrower, loan, due_minor, "auto_debit", at_ms)
            return True
        _fail(world, borrower, loan, due_minor, at_ms, "insufficient_funds")
    if refuses or (loan.auto_debit and behind_days == 0):
        return False
    if borrower.balance_minor >= due_minor and dice.roll() < (0.7 if drift is None else 0.2):
        method = "manual" if dice.roll() < 0.7 else "transfer"
        _receive(world, borrower, loan, due_minor, method, world.moment(_EVENING, _NIGHT))
        return True
    part_minor = due_minor * dice.between(2, 6) // 10
    if behind_days >= 3 and 0 < part_minor <= borrower.balance_minor and dice.roll() < 0.2:
        _receive(world, borrower, loan, part_minor, "manual", world.moment(_EVENING, _NIGHT))
        return True
    return False


def _fail(world: World, borrower: Borrower, loan: Loan, amount_minor: int, at_ms: int, code: str) -> None:
    row = loan.oldest()
    attempt_id = world.number("try")
    world.send(
        "repayments",
        borrower,
        "repayment_failed",
        at_ms,
        attempt_id=attempt_id,
        loan_id=loan.id,
        instalment_no=None if row is None else row.no,
        amount_minor=amount_minor,
        method="auto_debit",
        channel=loan.channel,
        code=code,
    )
    if code == "timeout" and world.dice.roll() < 0.1:
        world.send(
            "repayments",
            borrower,
            "failure_reattributed",
            at_ms + 2 * DAY_MS,
            attempt_id=attempt_id,
            loan_id=loan.id,
            attribution="platform",
        )


def _receive(world: World, borrower: Borrower, loan: Loan, amount_minor: int, method: str, at_ms: int) -> None:
    dice = world.dice
    payment_id = world.number("pay")
    fields: dict[str, object] = {}
    known_ms = at_ms
    if method == "transfer" and dice.roll() < 0.3:
        # The bank tells days later what was paid when.
        known_ms = at_ms + dice.between(1, 4) * DAY_MS
        fields["value_on"] = iso_day(world.day)
    world.send(
        "repayments",
        borrower,
        "repayment_received",
        known_ms,
        payment_id=payment_id,
        loan_id=loan.id,
        amount_minor=amount_minor,
        method=method,
        channel=loan.channel,
        **fields,
    )
    loan.pay(payment_id, amount_minor)
    borrower.balance_minor -= amount_minor
    if method != "auto_debit" and dice.roll() < 0.04:
        loan.bounces.append((world.day + dice.between(5, 8), payment_id, amount_minor))


def _bounce(world: World, borrower: Borrower, loan: Loan) -> None:
    """Take back the payments that turn out not to be covered."""
    while loan.bounces and loan.bounces[0][0] <= world.day:
        _, payment_id, amount_minor = loan.bounces.pop(0)
        loan.take_back(payment_id)
        borrower.balance_minor += amount_minor
        world.send(
            "repayments",
            borrower,
            "repayment_reversed",
            world.moment(6 * 60, 8 * 60),
            payment_id=payment_id,
            loan_id=loan.id,
            code="not_covered",
        )


def _penalise(world: World, borrower: Borrower, loan: Loan, row: Row) -> None:
    amount_minor = max(100, (row.owed_minor - row.paid_minor) // 100)
    at_ms = world.moment(60, 5 * 60)
    common = {"loan_id": loan.id, "instalment_no": row.no, "component": "penalty", "amount_minor": amount_minor}
    world.send("repayments", borrower, "charge_added", at_ms, **common)
    if world.dice.roll() < 0.15:
        world.send("repayments", borrower, "amount_waived", at_ms + 5 * 3_600_000, **common)
    else:
        loan.charge(row, amount_minor)
    loan.charged_day = world.day


def _may_be_helped(borrower: Borrower, drift: Drift | None) -> bool:
    return borrower.hardship_day is not None or (drift is not None and drift.name in ("job_loss", "loan_stacking"))


def _help(world: World, borrower: Borrower, loan: Loan, distressed: bool) -> None:
    """A new schedule with smaller instalments, by the lender or as a plan that the borrower accepts; or a pause."""
    dice = world.dice
    at_ms = world.moment(_DEBIT_UNTIL, _EVENING)
    if dice.roll() < 0.2:
        loan.helped = True
        loan.action_day = world.day + 20
        until_on = iso_day(loan.action_day)
        world.send(
            "repayments", borrower, "pause_set", at_ms, loan_id=loan.id, from_on=iso_day(world.day), until_on=until_on
        )
        return
    instalments = dice.between(6, 12)
    first_no = max(row.no for row in loan.rows) + 1
    rows = schedule(loan.unpaid_minor(), 0, 0, instalments, world.day + 30, 30, first_no)
    loan.replace(rows)
    loan.action_day = rows[0].due_day
    plan_id = world.number("plan")
    fields: dict[str, object] = {"loan_id": loan.id, "plan_id": plan_id, "schedule": on_wire(rows)}
    if dice.roll() < 0.5:
        world.send("reviews", borrower, "plan_accepted", at_ms, until_on=iso_day(rows[-1].due_day), **fields)
    else:
        world.send("repayments", borrower, "loan_rescheduled", at_ms, distressed=distressed, **fields)
    reckon(borrower)


def _give_up(world: World, borrower: Borrower, loan: Loan) -> None:
    at_ms = world.moment(60, 5 * 60)
    loan.written_off = True
    if world.dice.roll() < 0.2:
        # What a collector still gets, months later.
        part_minor = max(1, loan.due_minor(world.day) * 3 // 10)
        _receive(world, borrower, loan, part_minor, "settlement", at_ms + 6 * 3_600_000)
    loan.bounces.clear()
    _end(world, borrower, loan, "loan_written_off", at_ms)


def _end(world: World, borrower: Borrower, loan: Loan, kind: str, at_ms: int | None = None) -> None:
    world.send(
        "repayments", borrower, kind, world.moment(_EVENING, _NIGHT) if at_ms is None else at_ms, loan_id=loan.id
    )
    loan.action_day = -1
    reckon(borrower)


def note(borrower: Borrower, loan: Loan, day: int) -> None:
    """Keep the first day on which `borrower` was 30, 60 and 90 days behind, as far as `day` shows it."""
    for days, reached_day in loan.milestones(day):
        borrower.reached[days] = min(reached_day, borrower.reached.get(days, reached_day))
