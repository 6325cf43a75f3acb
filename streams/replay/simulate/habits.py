"""What a borrower does on a day: log in, earn, spend; and what is reported about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streams.engine.calendar import DAY_MS, date_of, iso_day
from streams.replay.simulate.population import CURRENCY, DEVICE_CHANNELS, Borrower, Drift

if TYPE_CHECKING:
    from streams.replay.simulate.world import World

_MORNING, _NOON, _EVENING, _NIGHT = 7 * 60, 12 * 60, 18 * 60, 23 * 60
_REPORT_EVERY_DAYS = 30


def live(world: World, borrower: Borrower) -> None:
    """One day of `borrower`, debts apart."""
    day = world.day
    if day == borrower.join_day:
        _join(world, borrower)
    drift = borrower.drifting(day)
    if drift is not None and day == borrower.drift_day:
        _begin_drift(world, borrower, drift)
    _log_in(world, borrower, drift)
    earned_minor = _earn(world, borrower, drift)
    _spend(world, borrower, drift)
    if drift is not None and drift.leak is not None:
        _leak(world, borrower, drift, earned_minor)
    if (day - borrower.join_day) % _REPORT_EVERY_DAYS == 3:
        _report(world, borrower, drift)
    if borrower.hardship_day == day:
        until_ms = world.moment(_NOON, _EVENING) + world.dice.between(30, 120) * DAY_MS
        kind = "lost_job" if drift is not None and drift.name == "job_loss" else "illness"
        world.send(
            "signals", borrower, "hardship_reported", world.moment(_MORNING, _EVENING), kind=kind, until_ms=until_ms
        )
    if world.dice.roll() < 0.0006:
        _rarely(world, borrower)


def _join(world: World, borrower: Borrower) -> None:
    world.send(
        "signals",
        borrower,
        "profile_set",
        world.moment(0, 30),
        segment=borrower.segment.name,
        limit_minor=borrower.limit_minor,
        currency=CURRENCY,
        onboarded_on=iso_day(borrower.join_day),
        identity_token=borrower.identity_token,
        industry=borrower.industry,
        region=borrower.region,
    )


def _begin_drift(world: World, borrower: Borrower, drift: Drift) -> None:
    if drift.name == "job_loss":
        world.send("signals", borrower, "profile_changed", world.moment(_MORNING, _EVENING), field="employer")
        if world.dice.roll() < 0.45:
            borrower.hardship_day = world.day + world.dice.between(5, 30)


def _log_in(world: World, borrower: Borrower, drift: Drift | None) -> None:
    dice = world.dice
    rate = borrower.segment.logins_a_day * (10_000 if drift is None else drift.logins_bp) / 10_000
    if dice.roll() >= rate:
        return
    at_ms = world.moment(_MORNING, _NIGHT)
    device = borrower.device
    if dice.roll() < 0.004:
        device = borrower.device = f"d{borrower.id[1:]}-{int(dice.roll() * 1_000_000):06d}"
    down = world.outage(borrower.channel, at_ms)
    outcome = "failed" if dice.roll() < (0.03 if down is None else 0.25) else "ok"
    world.send(
        "logins", borrower, "login", at_ms, outcome=outcome, device_id=device, channel=dice.pick(DEVICE_CHANNELS)
    )
    if outcome == "failed":
        world.send(
            "logins", borrower, "login", at_ms + 45_000, outcome="ok", device_id=device, channel=DEVICE_CHANNELS[0]
        )


def move(world: World, borrower: Borrower, amount_minor: int, category: str, at_ms: int) -> None:
    """Money into the account (`amount_minor` above zero) or out of it, and the transaction that tells of it."""
    borrower.balance_minor += amount_minor
    world.send(
        "transactions",
        borrower,
        "transaction",
        at_ms,
        transaction_id=world.number("t"),
        direction="in" if amount_minor > 0 else "out",
        amount_minor=abs(amount_minor),
        currency=CURRENCY,
        category=category,
    )


def _earn(world: World, borrower: Borrower, drift: Drift | None) -> int:
    """What it earns today, in minor units."""
    dice = world.dice
    times = borrower.segment.incomes_a_month
    if times == 1:
        if date_of(world.day).day != borrower.payday:
            return 0
        amount_minor = borrower.income_minor * dice.between(97, 103) // 100
    else:
        if dice.roll() * 30 >= times:
            return 0
        amount_minor = borrower.income_minor * dice.between(40, 160) // 100 // times
    if drift is not None:
        amount_minor = amount_minor * drift.income_bp // 10_000
    if amount_minor > 0:
        move(world, borrower, amount_minor, "income", world.moment(_MORNING, _MORNING + 90))
    return amount_minor


def _spend(world: World, borrower: Borrower, drift: Drift | None) -> None:
    dice, segment = world.dice, borrower.segment
    times = int(segment.spends_a_day * 2 * dice.roll() + 0.5)
    if drift is None:
        # Who is not in trouble spends what is left after the instalments, and keeps those back.
        kept_minor = borrower.due_minor
        budget_minor = max(borrower.income_minor - kept_minor, borrower.income_minor // 4)
    else:
        kept_minor = 0
        budget_minor = borrower.income_minor * drift.spend_bp // 10_000
    monthly_minor = budget_minor * segment.spend_bp // 10_000
    for _ in range(times):
        amount_minor = int(monthly_minor / (30 * segment.spends_a_day) * (dice.roll() + dice.roll()))
        if 0 < amount_minor <= borrower.balance_minor - kept_minor:
            move(world, borrower, -amount_minor, dice.weighted(segment.mix), world.moment(_NOON, _NIGHT))


def _leak(world: World, borrower: Borrower, drift: Drift, earned_minor: int) -> None:
    """Gambling or hoarding: a large part of what came in, within hours, and more on other days."""
    dice = world.dice
    amount_minor = earned_minor * drift.leak_bp // 10_000
    if amount_minor == 0 and dice.roll() < 0.2:
        amount_minor = borrower.balance_minor * dice.between(2, 8) // 10
    if 0 < amount_minor <= borrower.balance_minor:
        move(world, borrower, -amount_minor, drift.leak or "other", world.moment(_MORNING + 90, _NOON - 180))


def _report(world: World, borrower: Borrower, drift: Drift | None) -> None:
    """What bureaus, employers and shops report every month."""
    dice = world.dice
    stacks = drift is not None and drift.stacks
    lenders = dice.between(4, 9) if stacks else dice.between(0, 3)
    at_ms = world.moment(_MORNING, _EVENING)
    world.send(
        "signals",
        borrower,
        "bureau_reported",
        at_ms,
        active_lenders=lenders,
        enquiries_30d=dice.between(3, 12) if stacks else dice.between(0, 2),
        external_balance_minor=lenders * borrower.income_minor // 2,
        external_overdue=drift is not None and dice.roll() < 0.35,
        external_score=dice.between(420, 590) if drift is not None else dice.between(560, 800),
    )
    month = iso_day(world.day - 28)[:7]
    earned_minor = borrower.income_minor if drift is None else borrower.income_minor * drift.income_bp // 10_000
    if borrower.segment.name == "worker":
        world.send(
            "signals", borrower, "income_reported", at_ms, amount_minor=earned_minor, period=month, kind="salary"
        )
    if borrower.segment.name == "small_business":
        world.send(
            "signals",
            borrower,
            "business_reported",
            at_ms,
            turnover_minor=earned_minor * dice.between(11, 15) // 10,
            orders=dice.between(40, 400),
            receivables_minor=earned_minor * dice.between(1, 8) // 10,
            period=month,
        )
    if dice.roll() < 0.1:
        value_minor = borrower.income_minor * dice.between(2, 30)
        world.send(
            "signals", borrower, "assets_reported", at_ms, kind="savings", value_minor=value_minor, pledged=False
        )


def _rarely(world: World, borrower: Borrower) -> None:
    """Things that happen to anyone once in some years."""
    dice = world.dice
    at_ms = world.moment(_MORNING, _EVENING)
    what = dice.pick(("changed", "changed", "link", "hold", "violation", "limit"))
    if what == "changed":
        field = dice.pick(("employer", "phone", "address", "bank_account"))
        world.send("signals", borrower, "profile_changed", at_ms, field=field)
    elif what == "link":
        other = dice.pick(world.people)
        relation, status = dice.pick(("contact", "guarantor", "account")), dice.pick(("clear", "overdue", "abnormal"))
        world.send(
            "signals", borrower, "link_reported", at_ms, linked_borrower_id=other.id, relation=relation, status=status
        )
    elif what == "hold":
        world.send("reviews", borrower, "hold_set", at_ms, kind="legal", reviewer="reviewer-1")
        lifted_ms = at_ms + dice.between(3 * DAY_MS, 20 * DAY_MS)
        world.send("reviews", borrower, "hold_lifted", lifted_ms, kind="legal", reviewer="reviewer-2")
    elif what == "violation":
        confirmed = dice.roll() < 0.5
        world.send("signals", borrower, "violation_reported", at_ms, kind="purpose", confirmed=confirmed)
    else:
        borrower.limit_minor = borrower.limit_minor * dice.between(9, 13) // 10
        _join(world, borrower)
