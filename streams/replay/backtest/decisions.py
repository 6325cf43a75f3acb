"""How well a policy's warnings and restrictions met those who became late, and whom else they met."""

from collections.abc import Callable, Sequence

from msgspec import Struct

from streams.policy.model import STATUSES, Facts, Policy
from streams.replay.backtest.exposure import owed, saved
from streams.replay.backtest.figures import Sheet
from streams.replay.backtest.outcomes import OUTCOMES, OVERDUE, History
from streams.replay.backtest.signals import EASIER, HARDER, Change, Signals, first_day, in_force
from streams.replay.backtest.watch import Watched


class Period(Struct, frozen=True):
    """Business dates. Decisions count from `from_day`; up to `until_day` they can be followed for `horizon_days`, which
    ends on `ends_day`, the last one that is over in the recording."""

    from_day: int
    ends_day: int
    horizon_days: int

    @property
    def until_day(self) -> int:
        return self.ends_day - self.horizon_days


class Person(Struct, frozen=True):
    """What one policy has said of a borrower, and what became of the borrower."""

    signals: Signals
    history: History


def _warnings(signals: Signals) -> list[Change]:
    return signals.warnings


def _limits(signals: Signals) -> list[Change]:
    return signals.limits


SIGNALS: tuple[tuple[str, Callable[[Signals], list[Change]], int], ...] = (
    ("warned", _warnings, 1),
    ("restricted", _limits, 1),
    ("cut", _limits, STATUSES.index("decreased")),
)
"""What is looked for: in which changes, and from which level or rung up. Restricted draws restrict, and cut nothing."""
RESTRICTIONS = SIGNALS[1:]


def people_of(watched: Watched, histories: dict[str, History]) -> list[Person]:
    silent = Signals()
    return [Person(watched.signals.get(name, silent), history) for name, history in sorted(histories.items())]


def put_decisions(sheet: Sheet, people: Sequence[Person], period: Period, policy: Policy, facts: Facts) -> None:
    """All figures about the decisions of a policy on a group of people; `facts` are those of the outcomes."""
    for dpd in OUTCOMES:
        new = [person for person in people if not person.history.is_at(dpd, period.from_day)]
        put_catches(sheet, new, period, dpd)
        for name, changes_of, place in RESTRICTIONS:
            put_false(sheet, name, [(changes_of(p.signals), p.history) for p in new], place, period, dpd)
        put_exposure(sheet, new, period, dpd, facts)
    put_flaps(sheet, people, period, policy)


def put_catches(sheet: Sheet, people: Sequence[Person], period: Period, dpd: int) -> None:
    """Of those who became so late: who had been warned or restricted before that day, who before the arrears began,
    and how long before that day."""
    late = [
        (person, day)
        for person in people
        if (day := person.history.reached(dpd, period.from_day, period.ends_day)) is not None
    ]
    for name, changes_of, place in SIGNALS:
        caught = [
            (standing.since_day, person.history.overdue_since(day), day)
            for person, day in late
            if (standing := in_force(changes_of(person.signals), day, place)) is not None
        ]
        sheet.share(f"caught_{name}", len(caught), len(late), dpd=dpd)
        sheet.share(f"caught_{name}_early", sum(since < began for since, began, _ in caught), len(late), dpd=dpd)
        sheet.quartiles(f"lead_{name}", [day - since for since, _, day in caught], dpd=dpd)


def put_false(
    sheet: Sheet, name: str, people: Sequence[tuple[Sequence[Change], History]], place: int, period: Period, dpd: int
) -> None:
    """Of those restricted before they became so late, who did not within the horizon; and how many cannot be followed
    for so long, because the recording ends. `people`: the changes of their limits, and what became of them."""
    followed = false = censored = 0
    for changes, history in people:
        day = first_day(changes, period.from_day, place)
        if day is None or day > period.ends_day or history.was_at(dpd, period.from_day, day):
            continue
        if day > period.until_day:
            censored += 1
            continue
        followed += 1
        false += history.reached(dpd, day, day + period.horizon_days) is None
    sheet.share(f"false_{name}", false, followed, dpd=dpd)
    sheet.put(f"{name}_not_followed", followed + censored, censored, "count", dpd=dpd)


def put_exposure(sheet: Sheet, people: Sequence[Person], period: Period, dpd: int, facts: Facts) -> None:
    """What was owed by those who became so late, on that day; what of it would not have been drawn; and what had been
    taken off the limit by then. By currency."""
    owing: dict[str, list[int]] = {}
    kept: dict[str, int] = {}
    cut: dict[str, list[int]] = {}
    for person in people:
        day, limits = person.history.reached(dpd, period.from_day, period.ends_day), person.signals.limits
        if day is None:
            continue
        for currency, minor in owed(person.history.loans, day, facts).items():
            owing.setdefault(currency, []).append(minor)
        for currency, minor in saved(person.history.loans, limits, period.from_day, day, facts).items():
            kept[currency] = kept.get(currency, 0) + minor
        standing = in_force(limits, day)
        if standing is not None:
            cut.setdefault(standing.currency, []).append(standing.from_minor - standing.to_minor)
    for currency, amounts in sorted(owing.items()):
        sheet.put("exposure", len(amounts), sum(amounts), currency, dpd=dpd)
        sheet.put("exposure_saved", len(amounts), kept.get(currency, 0), currency, dpd=dpd)
    for currency, amounts in sorted(cut.items()):
        sheet.put("limit_cut", len(amounts), sum(amounts), currency, dpd=dpd)


def put_flaps(sheet: Sheet, people: Sequence[Person], period: Period, policy: Policy) -> None:
    """Of what was given back: how much was taken again within its dwell time on the score alone, without arrears."""
    dwells = [0, *(rule.dwell_days for rule in policy.warnings)]
    stage_days = policy.limits.restoration.stage_days
    for name, changes_of, _ in SIGNALS[:2]:
        returned = flaps = 0
        for person in people:
            changes = changes_of(person.signals)
            for at, change in enumerate(changes):
                dwell_days = dwells[change.previous] if name == "warned" else stage_days
                if change.kind not in EASIER or change.undoes or change.day < period.from_day:
                    continue
                if change.day + dwell_days <= period.ends_day:
                    returned += 1
                    flaps += any(_takes_back(change, later, dwell_days, person.history) for later in changes[at + 1 :])
        sheet.put(f"flaps_{name}", returned, flaps, "count")


def _takes_back(given: Change, later: Change, dwell_days: int, history: History) -> bool:
    """Whether what was given back is taken again too soon and with no new cause: neither arrears nor a report."""
    if later.kind not in HARDER or not later.by_score or later.day > given.day + dwell_days:
        return False
    return not history.was_at(OVERDUE, given.day, later.day)
