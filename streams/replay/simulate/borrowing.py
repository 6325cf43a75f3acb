"""How a borrower comes to a loan: applying, being granted or refused, and the loans of those who never mean to pay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from streams.engine.calendar import iso_day
from streams.replay.simulate.debt import Loan, Row, schedule
from streams.replay.simulate.habits import move
from streams.replay.simulate.population import CURRENCY, RING_SIZE, Borrower

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
BURDEN_BP, STACKED_BURDEN_BP = 3_000, 11_000
"""How much of a month's income may fall due in a month for a new loan to be granted, and what stackers find."""
_EVENING, _NIGHT = 18 * 60, 23 * 60


def want(world: World, borrower: Borrower) -> None:
    """Now and then, and much oftener by who stacks loans, an application; granted if the income carries it."""
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
    reckon(borrower)
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
        schedule=on_wire(rows),
        **fields,
    )
    # Most of it goes at once to what it was borrowed for.
    drift = borrower.drifting(world.day)
    use = "purchase" if drift is None or drift.leak is None else drift.leak
    move(world, borrower, -(principal_minor * dice.between(6, 9) // 10), use, at_ms + dice.between(600_000, 86_400_000))


def on_wire(rows: list[Row]) -> list[dict[str, object]]:
    """Rows as the `schedule` of an event."""
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


def reckon(borrower: Borrower) -> None:
    """What falls due in a month, from the next unpaid row of each loan."""
    due_minor = 0
    for loan in borrower.loans:
        row = loan.oldest()
        if row is not None:
            twice = 2 if loan.product == BUY_LATER.name else 1
            due_minor += (row.owed_minor - row.paid_minor) * twice
    borrower.due_minor = due_minor


def deceive(world: World, borrower: Borrower) -> None:
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
