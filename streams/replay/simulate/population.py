"""Who the borrowers are: segments, ways to drift into trouble, products, and everyone's starting point.

Amounts are minor units of CNY. Every draw comes from one generator in one order and uses integers and `random()` alone,
so that a seed gives the same population on every machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeVar

from schemas.partitioning import partition_of
from streams.replay.simulate.debt import Loan

T = TypeVar("T")

CURRENCY = "CNY"


class Dice:
    """The one source of chance of a simulation."""

    __slots__ = ("roll",)

    def __init__(self, seed: int) -> None:
        self.roll = Random(seed).random
        """The next number in [0, 1)."""

    def between(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""
        return low + int(self.roll() * (high - low + 1))

    def pick(self, choices: Sequence[T]) -> T:
        return choices[int(self.roll() * len(choices))]

    def weighted(self, choices: Sequence[tuple[int, T]]) -> T:
        """One of `choices`, each as likely as its weight in percent, the first of its pair."""
        left = self.roll() * 100
        for weight, choice in choices:
            left -= weight
            if left < 0:
                return choice
        return choices[-1][1]


@dataclass(frozen=True, slots=True)
class Segment:
    """How a kind of borrower earns, spends and logs in.

    `spend_bp` is the part of income beyond instalments that is spent; `mix` weighs the categories of that spending.
    """

    name: str
    income_minor: tuple[int, int]
    incomes_a_month: int
    paydays: tuple[int, ...]
    spend_bp: int
    spends_a_day: float
    logins_a_day: float
    reliable_bp: int
    mix: tuple[tuple[int, str], ...]


SEGMENTS: tuple[tuple[int, Segment], ...] = (
    (55, Segment("worker", (600_000, 2_500_000), 1, (5, 10, 15, 25), 8_800, 1.2, 0.5, 9_700,
                 ((80, "purchase"), (8, "transfer"), (6, "cash"), (4, "other"), (2, "investment")))),
    (15, Segment("student", (150_000, 320_000), 1, (1, 2, 3), 9_500, 1.0, 0.9, 9_200,
                 ((86, "purchase"), (8, "transfer"), (2, "cash"), (4, "other")))),
    (18, Segment("freelancer", (400_000, 2_000_000), 4, (), 8_600, 1.2, 0.5, 9_300,
                 ((72, "purchase"), (14, "transfer"), (8, "cash"), (4, "other"), (2, "investment")))),
    (12, Segment("small_business", (1_500_000, 8_000_000), 18, (), 9_000, 1.6, 0.6, 9_500,
                 ((60, "purchase"), (30, "transfer"), (6, "cash"), (4, "other")))),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drift:
    """A way into trouble: what becomes of income, spending and logins, in basis points of before.

    `leak_bp` of the monthly income goes to `leak` on top of other spending. `stacks` takes loan after loan;
    `walks_away` leaves debts unpaid though there is money.
    """

    name: str
    income_bp: int
    spend_bp: int
    logins_bp: int
    leak: str | None = None
    leak_bp: int = 0
    stacks: bool = False
    walks_away: bool = False
    lasts_days: tuple[int, int] = (60, 200)
    recovers_bp: int = 5_000


DRIFTS: tuple[tuple[int, Drift], ...] = (
    (28, Drift("job_loss", 500, 7_000, 8_000, lasts_days=(60, 180), recovers_bp=7_500)),
    (22, Drift("gambling", 10_000, 9_000, 16_000, leak="gambling", leak_bp=7_000, stacks=True, recovers_bp=3_000)),
    (20, Drift("loan_stacking", 9_500, 12_500, 12_000, stacks=True, recovers_bp=3_500)),
    (16, Drift("cash_out", 9_000, 9_500, 6_000, leak="cash", leak_bp=6_000, recovers_bp=4_000)),
    (14, Drift("disengaged", 10_000, 10_500, 1_200, walks_away=True, recovers_bp=2_500)),
)
DRIFTING_BP = 2_200
"""The share of borrowers who drift, at a day drawn evenly from the first `DRIFT_WITHIN_DAYS` after they joined."""
DRIFT_WITHIN_DAYS = 180

DEVICE_CHANNELS = ("app", "app", "app", "web", "mini_program")
DEBIT_CHANNELS = ("bank_a", "bank_b", "wallet_a", "wallet_b", "card")
RING_SIZE = 5
BORROWERS_PER_RING = 150
JOIN_WITHIN_DAYS = 25


@dataclass(slots=True)
class Borrower:
    """One borrower and how things stand with it on the day that is simulated."""

    id: str
    key: bytes
    partition: int
    segment: Segment
    join_day: int
    income_minor: int
    payday: int
    limit_minor: int
    balance_minor: int
    channel: str
    device: str
    industry: str
    region: str
    identity_token: str
    drift: Drift | None
    drift_day: int
    recover_day: int | None
    ring: str | None
    stacking_appetite: bool = False
    loans: list[Loan] = field(default_factory=list)
    due_minor: int = 0
    """What falls due on its loans in a month."""
    loans_taken: int = 0
    quiet_until_day: int = 0
    hardship_day: int | None = None
    outage_touched: bool = False
    reached: dict[int, int] = field(default_factory=dict)
    """The first day on which it was 30, 60 or 90 days behind with anything."""

    def drifting(self, day: int) -> Drift | None:
        """The drift it is in on `day`."""
        if self.drift is None or day < self.drift_day or (self.recover_day is not None and day >= self.recover_day):
            return None
        return self.drift


INDUSTRIES = ("retail", "catering", "logistics", "manufacturing", "education", "software", "construction")
REGIONS = ("east", "south", "north", "west", "central")


def population(dice: Dice, borrowers: int, partitions: int, start_day: int) -> list[Borrower]:
    """`borrowers` people who join within the first weeks after `start_day`, some of them in fraud rings."""
    people: list[Borrower] = []
    rings = borrowers // BORROWERS_PER_RING
    for number in range(borrowers):
        ring = f"ring-{number // RING_SIZE:04d}" if number < rings * RING_SIZE else None
        people.append(_borrower(dice, number, partitions, start_day, ring))
    for first in range(0, rings * RING_SIZE, RING_SIZE):
        leader = people[first]
        for member in people[first : first + RING_SIZE]:
            # A ring shares two phones and appears within days.
            member.device = dice.pick((leader.device, people[first + 1].device))
            member.join_day = leader.join_day + dice.between(0, 3)
    return people


def _borrower(dice: Dice, number: int, partitions: int, start_day: int, ring: str | None) -> Borrower:
    borrower_id = f"b{number:07d}"
    key = borrower_id.encode()
    segment = dice.weighted(SEGMENTS)
    low, high = segment.income_minor
    # The lower of two draws: many earn little, few earn much.
    income_minor = min(dice.between(low, high), dice.between(low, high)) // 1_000 * 1_000
    join_day = start_day + (0 if dice.roll() < 0.5 else dice.between(1, JOIN_WITHIN_DAYS))
    drift = dice.weighted(DRIFTS) if ring is None and dice.roll() * 10_000 < DRIFTING_BP else None
    drift_day = join_day + dice.between(5, DRIFT_WITHIN_DAYS)
    recover_day = None
    if drift is not None and dice.roll() * 10_000 < drift.recovers_bp:
        recover_day = drift_day + dice.between(*drift.lasts_days)
    return Borrower(
        id=borrower_id,
        key=key,
        partition=partition_of(key, partitions),
        segment=segment,
        join_day=join_day,
        income_minor=income_minor,
        payday=dice.pick(segment.paydays) if segment.paydays else 0,
        limit_minor=income_minor * dice.between(15, 40) // 10 // 10_000 * 10_000,
        balance_minor=income_minor * dice.between(3, 12) // 10,
        channel=dice.pick(DEBIT_CHANNELS),
        device=f"d{number:07d}-0",
        industry=dice.pick(INDUSTRIES),
        region=dice.pick(REGIONS),
        identity_token=f"{int(dice.roll() * 2**53):016x}",
        drift=drift,
        drift_day=drift_day,
        recover_day=recover_day,
        ring=ring,
    )
