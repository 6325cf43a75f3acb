"""A borrower's debts on a day: applying, being debited, failing, paying late, being helped, given up on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.engine.calendar import DAY_MS, iso_day
from streams.replay.simulate.debt import Loan, Row, schedule
from streams.replay.simulate.habits import move
from streams.replay.simulate.population import CURRENCY, RING_SIZE, Borrower, Drift

if TYPE_CHECKING:
    from streams.replay.simulate.world import World


@dataclass(frozen=True, slots=True)
class Product:
    """`size_bp`: principal in basis points of a month's income, least and greatest."""

    name: str
    instalments: tuple[int, int]
    every_days: int
    rate_bp: int
    fee_bp: int
    size_bp: tuple[int, int]


CASH_LOAN = Product("cash_loan", (6, 12), 30, 150, 100, (4_000, 18_000))
BUY_LATER = Product("buy_now_pay_later", (3, 4), 14, 0, 200, (800, 3_000))
MERCHANT = Product("merchant_credit", (6, 12), 30, 110, 50, (6_000, 20_000))
STUDY = Product("study_loan", (6, 12), 30, 60, 0, (5_000, 12_000))
PRODUCTS = {
    "worker": (CASH_LOAN, CASH_LOAN, BUY_LATER),
    "student": (STUDY, BUY_LATER, BUY_LATER),
    "freelancer": (CASH_LOAN, BUY_LATER),
    "small_business": (MERCHANT, MERCHANT, CASH_LOAN),
}
POOLS = ("abs-2026-1", "abs-2026-2", "bank-x", "own-book")
PLATFORMS = ("direct", "direct", "partner_shop", "partner_travel")
RETRY_DAYS = (1, 2, 3, 4, 7)
"""Days between a failed debit and the next: the last one repeats."""
BURDEN_BP, STACKED_BURDEN_BP = 3_000, 11_000
"""How much of a month's income may fall due in a month for a new loan to be granted, and what stackers find."""
_DEBIT_FROM, _DEBIT_UNTIL = 9 * 60, 11 * 60
_EVENING, _NIGHT = 18 * 60, 23 * 60


def live(world: World, borrower: Borrower) -> None:
    """One day of the debts of `borrower`."""
    day = world.day
    if borrower.ring is not None:
        _deceive(world, borrower)
    elif day >= borrower.quiet_until_day:
        _want(world, borrower)
    ended = False
    for loan in borrower.loans:
        if day >= loan.action_day:
            _bounce(world, borrower, loan)
            _collect(world, borrower, loan)
            ended |= loan.action_day < 0
    if ended:
        borrower.loans = [loan for loan in borrower.loans if loan.action_day >= 0]


# --- borrowing ----------------------------------------------------------------------------------------------------


def _want(world: World, borrower: Borrower) -> None:
    dice = world.dice
    drift = borrower.drifting(world.day)
    stacks = drift is not None and drift.stacks
    fresh = borrower.loans_taken == 0
    chance = 0.18 if fresh else 0.05 if stacks else 0.012 if len(borrower.loans) < 2 else 0.002
    if dice.roll() >= chance:
        return
    product = dice.pick(PRODUCTS[borrower.segment.name])
    principal_minor = borrower.income_minor * dice.between(*product.size_bp) // 10_000 // 1_000 * 1_000
    instalments = dice.between(*product.instalments)
    a_month_minor = principal_minor // instalments * 30 // product.every_days
    burden_bp = STACKED_BURDEN_BP if stacks else BURDEN_BP
    granted = (borrower.due_minor + a_month_minor) * 10_000 <= borrower.income_minor * burden_bp
    at_ms = world.moment(_EVENING, _NIGHT)
    outcome = "granted" if granted else "refused"
    world.send("signals", borrower, "loan_applied", at_ms, application_id=world.number("a"), outcome=outcome)
    borrower.quiet_until_day = world.day + (2 if stacks else 12)
    if granted:
        _disburse(world, borrower, product, principal_minor, instalments, at_ms + 120_000)
    elif stacks and dice.roll() < 0.3:
        # Refused here, found elsewhere: seen as a credit inflow and, later, in the bureau's report.
        move(world, borrower, borrower.income_minor // 3, "credit_inflow", at_ms + 3_600_000)


def _disburse(
    world: World, borrower: Borrower, product: Product, principal_minor: int, instalments: int, at_ms: int
) -> None:
    dice = world.dice
    first_day = world.day + (product.every_days if product.every_days < 30 else dice.between(25, 40))
    fee_minor = principal_minor * product.fee_bp // 10_000
    rows = schedule(principal_minor, product.rate_bp, fee_minor, instalments, first_day, product.every_days)
    loan = Loan(
        id=world.number("l"),
        product=product.name,
        platform=dice.pick(PLATFORMS),
        channel=borrower.channel,
        auto_debit=dice.roll() < 0.85,
        rows=rows,
        action_day=first_day,
    )
    borrower.loans.append(loan)
    borrower.loans_taken += 1
    borrower.balance_minor += principal_minor
    _reckon(borrower)
    fields: dict[str, object] = {}
    if dice.roll() < 0.2:
        fields["cover"] = {"party": "insurer_a", "share_bp": 8_000, "claim_after_dpd": 80}
    world.send(
        "repayments",
        borrower,
        "loan_disbursed",
        at_ms,
        loan_id=loan.id,
        product=loan.product,
        currency=CURRENCY,
        principal_minor=principal_minor,
        pool_id=dice.pick(POOLS),
        platform=loan.platform,
        schedule=_on_wire(rows),
        **fields,
    )
    # Most of it goes at once to what it was borrowed for.
    drift = borrower.drifting(world.day)
    use = "purchase" if drift is None or drift.leak is None else drift.leak
    move(world, borrower, -(principal_minor * dice.between(6, 9) // 10), use, at_ms + dice.between(600_000, 86_400_000))


def _on_wire(rows: list[Row]) -> list[dict[str, object]]:
    return [
        {
            "no": row.no,
            "due_on": iso_day(row.due_day),
            "principal_minor": row.principal_minor,
            "interest_minor": row.interest_minor,
            "fee_minor": row.fee_minor,
        }
        for row in rows
    ]


def _reckon(borrower: Borrower) -> None:
    """What falls due in a month, from the next unpaid row of each loan."""
    due_minor = 0
    for loan in borrower.loans:
        row = loan.oldest()
        if row is not None:
            twice = 2 if loan.product == BUY_LATER.name else 1
            due_minor += (row.owed_minor - row.paid_minor) * twice
    borrower.due_minor = due_minor


# --- collecting ---------------------------------------------------------------------------------------------------


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
        _reckon(borrower)
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
    fields: dict[str, object] = {"loan_id": loan.id, "plan_id": plan_id, "schedule": _on_wire(rows)}
    if dice.roll() < 0.5:
        world.send("reviews", borrower, "plan_accepted", at_ms, until_on=iso_day(rows[-1].due_day), **fields)
    else:
        world.send("repayments", borrower, "loan_rescheduled", at_ms, distressed=distressed, **fields)
    _reckon(borrower)


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
    _reckon(borrower)


def note(borrower: Borrower, loan: Loan, day: int) -> None:
    """Keep the first day on which `borrower` was 30, 60 and 90 days behind, as far as `day` shows it."""
    for days, reached_day in loan.milestones(day):
        borrower.reached[days] = min(reached_day, borrower.reached.get(days, reached_day))


# --- fraud rings --------------------------------------------------------------------------------------------------


def _deceive(world: World, borrower: Borrower) -> None:
    """A ring member borrows at once, moves the money out within hours and never pays; weeks later it is found out."""
    dice = world.dice
    age_days = world.day - borrower.join_day
    at_ms = world.moment(12 * 60, 14 * 60)
    if age_days == 1:
        _disburse(world, borrower, CASH_LOAN, borrower.income_minor * 2, 12, at_ms)
        out_minor = borrower.balance_minor * 9 // 10
        move(world, borrower, -out_minor, dice.pick(("cash", "transfer")), at_ms + dice.between(1_800_000, 14_400_000))
    elif age_days == 50:
        first = int(borrower.id[1:]) // RING_SIZE * RING_SIZE
        for other in world.people[first : first + RING_SIZE]:
            if other is not borrower:
                world.send(
                    "signals",
                    borrower,
                    "link_reported",
                    at_ms,
                    linked_borrower_id=other.id,
                    relation="device",
                    status="abnormal",
                )
    elif age_days == 58:
        world.send("signals", borrower, "fraud_reported", at_ms, kind="ring", confirmed=False)
    elif age_days == 75 and dice.roll() < 0.7:
        world.send("signals", borrower, "fraud_reported", at_ms, kind="ring", confirmed=True)
        world.send("signals", borrower, "blacklist_reported", at_ms + 3_600_000, source="consortium", listed=True)
