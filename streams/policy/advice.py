"""What a policy may say, but hardly means: rules that nothing reaches, and thresholds that flap.

None of it keeps a policy from running; `duewatch policy lint` lists it. Every piece of advice is (path, what is odd and
what to do), as in `checks`.
"""

from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from streams.engine.directions import CODES
from streams.engine.score_fall import REASONS as FALL_REASONS
from streams.policy.checks import Finding, Path
from streams.policy.ladder_checks import ladders
from streams.policy.model import Condition, Policy, WarningLevel
from streams.policy.warning_checks import falls_of

SCORE_GAP = 10
"""Points between raising and leaving a level below which one transaction can move a borrower to and fro."""


def advice(policy: Policy) -> Iterator[Finding]:
    """All there is to advise on a policy that `findings` has accepted, in no particular order."""
    least, most = score_range(policy)
    yield from _tiers(policy, least, most)
    for at, level in enumerate(policy.warnings):
        yield from _level(level, ("warnings", at), least, most)
        yield from _tightened(policy, level, most)
    yield from _steps(policy, least, most)
    yield from _way_back(policy)
    yield from _texts(policy)


def score_range(policy: Policy) -> tuple[int, int]:
    """The lowest and the highest score that the card can give."""
    points = [[factor.unknown, *(band.points for band in factor.bands)] for factor in policy.score.factors]
    return policy.score.base + sum(map(min, points)), policy.score.base + sum(map(max, points))


# --- what nothing reaches -----------------------------------------------------------------------------------------


def _tiers(policy: Policy, least: int, most: int) -> Iterator[Finding]:
    for at, tier in enumerate(policy.score.tiers):
        path: Path = ("score", "tiers", at, "from_score")
        if tier.from_score is not None and tier.from_score > most:
            yield path, f"no score reaches {tier.name}: the highest the card gives is {most}; lower it"
        above = policy.score.tiers[at - 1].from_score if at else None
        if above is not None and above <= least:
            yield path[:-1], f"no score falls to {tier.name}: the lowest the card gives is {least}; remove the tier"


def _level(level: WarningLevel, path: Path, least: int, most: int) -> Iterator[Finding]:
    if level.score_below is not None and level.score_below <= least:
        yield (*path, "score_below"), f"no score is below {level.score_below}: the lowest the card gives is {least}"
    if level.leave_score_from is not None and level.leave_score_from > most:
        yield (
            (*path, "leave_score_from"),
            f"{level.level} is never left: the highest score the card gives is {most}; lower it",
        )
    yield from _flapping(level, path)
    yield from _level_falls(level, path, most - least)


def _tightened(policy: Policy, level: WarningLevel, most: int) -> Iterator[Finding]:
    shift = 0 if policy.macro is None else max((band.points for band in policy.macro.bands), default=0)
    leave = level.leave_score_from
    if leave is not None and leave <= most < leave + shift:
        yield (
            ("macro", "bands"),
            f"{shift} points lift leave_score_from of {level.level} to {leave + shift}: the highest score is {most}",
        )


def _level_falls(level: WarningLevel, path: Path, most: int) -> Iterator[Finding]:
    for raising, drop, leaving, leave in falls_of(level):
        if drop is not None and drop > most:
            yield (*path, raising), f"no score falls by {drop}: the card spans {most} points; lower it"
        if drop is not None and leave is not None and drop - leave < SCORE_GAP:
            yield (
                (*path, leaving),
                f"only {drop - leave} points below {raising} {drop}: the level would flap; keep {SCORE_GAP} or more",
            )
    week, month = level.score_fall_7d_from, level.score_fall_30d_from
    if week is not None and month is not None and month <= week:
        yield (
            (*path, "score_fall_7d_from"),
            f"is never needed: who falls by {week} in 7 days has fallen by {month} in 30; give it less, or remove it",
        )


def _steps(policy: Policy, least: int, most: int) -> Iterator[Finding]:
    for table, steps in ladders(policy):
        for number, step in enumerate(steps):
            yield from _conditions(step.when, (*table, number, "when"), least, most)


def _conditions(when: tuple[Condition, ...], table: Path, least: int, most: int) -> Iterator[Finding]:
    for at, condition in enumerate(when):
        path: Path = (*table, at)
        if condition.score_below is not None and condition.score_below <= least:
            yield (*path, "score_below"), f"never holds: the lowest score the card gives is {least}; remove it"
        for name in ("score_fall_7d_from", "score_fall_30d_from"):
            drop = getattr(condition, name)
            if drop is not None and drop > most - least:
                yield (*path, name), f"never holds: the card spans {most - least} points; remove it"
        for other, milder in enumerate(when):
            if other != at and implies(condition, milder) and (other < at or not implies(milder, condition)):
                yield path, f"is never needed: whenever it holds, when[{other}] holds too; remove one of the two"
                break


def implies(stricter: Condition, milder: Condition) -> bool:
    """Whether `milder` holds whenever `stricter` does, by its own terms, and leads to as much."""
    if stricter.blacklists and not milder.blacklists:
        return False
    for name in milder.__struct_fields__:
        wanted, given = getattr(milder, name), getattr(stricter, name)
        if wanted is None or wanted is False:
            continue
        if not _at_least(name, given, wanted):
            return False
    return True


def _at_least(name: str, given: Any, wanted: Any) -> bool:
    if given is None or given is False:
        return False
    if name == "score_below":
        return bool(given <= wanted)
    if name.endswith("_from") and isinstance(wanted, int):
        return bool(given >= wanted)
    if name == "several_loans":
        return bool(given.loans >= wanted.loans and given.managed_dpd_from >= wanted.managed_dpd_from)
    return bool(given == wanted)


def _texts(policy: Policy) -> Iterator[Finding]:
    used = {*_words(policy), *CODES, *_fall_codes(policy)}
    for code in policy.reasons:
        if code not in used:
            yield ("reasons", code), "no rule gives this reason; remove the text, or name it in a rule"


def _fall_codes(policy: Policy) -> Iterator[str]:
    """The reasons that falls of the score are given as."""
    for level in policy.warnings:
        for (_, drop, _, _), code in zip(falls_of(level), FALL_REASONS, strict=True):
            if drop is not None:
                yield code


def _words(part: Any) -> Iterator[str]:
    """Every text in a part of a policy, but the reasons' own."""
    if isinstance(part, str):
        yield part
    elif isinstance(part, tuple):
        for item in part:
            yield from _words(item)
    elif isinstance(part, dict):
        for item in part.values():
            yield from _words(item)
    elif isinstance(part, Struct):
        for name in part.__struct_fields__:
            if not (isinstance(part, Policy) and name == "reasons"):
                yield from _words(getattr(part, name))


# --- what flaps ---------------------------------------------------------------------------------------------------


def _flapping(level: WarningLevel, path: Path) -> Iterator[Finding]:
    if level.dwell_days == 0:
        yield (*path, "dwell_days"), f"0 lets {level.level} end the moment it may: it would flap; give it some days"
    if level.cool_down_days == 0:
        yield (
            (*path, "cool_down_days"),
            f"0 lets {level.level} be raised again the moment it was left: it would flap; give it some days",
        )
    below, leave = level.score_below, level.leave_score_from
    if below is not None and leave is not None and leave - below < SCORE_GAP:
        yield (
            (*path, "leave_score_from"),
            f"only {leave - below} points above score_below {below}: the level would flap; keep {SCORE_GAP} or more",
        )


def _way_back(policy: Policy) -> Iterator[Finding]:
    restoration = policy.limits.restoration
    if restoration.probation_days == 0:
        yield (
            ("limits", "restoration", "probation_days"),
            "0 gives the limit back on the day arrears are cleared, and takes it again with the next: it would flap",
        )
    if restoration.stage_days == 0 and len(restoration.stages_bp) > 1:
        yield ("limits", "restoration", "stage_days"), "0 passes every stage at once; give each some days"
