"""What an outage has left behind on a borrower at the end of the year."""

from collections.abc import Iterator, Mapping

from streams.policy.model import LEVELS
from tests.laws.year.arrears import Arrears
from tests.laws.year.reasons import Recount
from tests.laws.year.told import DAY_MS, Event, Tellers, Told, in_force, levels_in_force

OF_FAILURES = "failed_debits_30d"
FAILURE_DAYS = 31
CLEAN: Mapping[str, int] = {"on_time_ratio_bp": 10_000, "mean_lateness_days": 0, "overdue_episodes_365d": 0}
"""The features of lateness, and what they are of one who was never late."""


def marks(
    told: Told,
    tellers: Tellers,
    arrears: Arrears,
    explained: set[str],
    features: Mapping[str, int | None],
    recount: Recount,
    end_ms: int,
) -> Iterator[str]:
    """In words, each mark that has no other reason than the outage."""
    calendar = tellers.calendar
    for decision in [*in_force(told.limits), *levels_in_force(told.warnings, LEVELS)]:
        day = calendar.day(decision["at_ms"])
        if all(recount.of_outage(reason, arrears, explained, day) for reason in decision["reasons"]):
            yield f"{decision['type']} {decision['event_id']} is in force"
    for day in told.listed_days:
        if arrears.managed(day, morning=True) < recount.listed_from:
            yield "a listing is in force"
    yield from _counts(told, tellers, arrears, features, end_ms)


def _counts(
    told: Told, tellers: Tellers, arrears: Arrears, features: Mapping[str, int | None], end_ms: int
) -> Iterator[str]:
    failures: list[Event] = tellers.own(told)
    if not any(failed["at_ms"] > end_ms - FAILURE_DAYS * DAY_MS for failed in failures) and features[OF_FAILURES]:
        yield f"{OF_FAILURES} is {features[OF_FAILURES]}"
    if not arrears.late_by(tellers.calendar.day(end_ms)):
        for name, clean in CLEAN.items():
            if features[name] not in (None, clean):
                yield f"{name} is {features[name]}"
