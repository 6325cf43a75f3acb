"""When a restriction ought to have ended: probation and stages, gone through day by day."""

from typing import NamedTuple

from streams.engine import loan_facts
from streams.policy.model import LEVELS, Policy
from tests.laws.year.arrears import NEVER, Arrears
from tests.laws.year.told import CUT, Event, Tellers, Told

LATE_DAYS = 7
_AMBER = LEVELS.index("amber")


class Spell(NamedTuple):
    """A restriction and what it came to before the next one, or the end: `until_day` is the day before that."""

    taken: Event
    from_day: int
    until_day: int
    ended: bool
    rebased: bool


def spells(told: Told, tellers: Tellers, end_day: int) -> list[Spell]:
    """The restrictions that nothing has undone, oldest first; none from the first zeroing on."""
    undone = {event["compensates"] for event in told.limits if "compensates" in event}
    day = tellers.calendar.day
    rebased = any(event["type"] == "limit_rebased" for event in told.limits)
    found: list[Spell] = []
    cuts = [at for at, event in enumerate(told.limits) if event["type"] in CUT and event["event_id"] not in undone]
    for at, until in zip(cuts, [*cuts[1:], len(told.limits)], strict=False):
        taken = told.limits[at]
        if taken["type"] == "limit_zeroed":
            break
        until_day = end_day if until == len(told.limits) else day(told.limits[until]["at_ms"])
        after = told.limits[at:until]
        ended = any(event["to_status"] == "normal" for event in after)
        found.append(Spell(taken, day(taken["at_ms"]), until_day - 1, ended, rebased))
    return found


class WayBack:
    """The rules of restoration, and one borrower's days."""

    def __init__(self, policy: Policy, told: Told, tellers: Tellers, arrears: Arrears) -> None:
        self._rules = policy.limits.restoration
        self._told = told
        self._arrears = arrears
        levels = [(tellers.calendar.day(event["at_ms"]), LEVELS.index(event["level"])) for event in told.warnings]
        # A level that is raised again when its cool-down ends was called for all the while.
        cooling_days = policy.warnings[_AMBER - 1].cool_down_days
        following = [*levels[1:], (NEVER, 0)]
        self._levels = [
            (day, level)
            for (day, level), (next_day, next_level) in zip(levels, following, strict=False)
            if not level < _AMBER <= next_level or next_day > day + cooling_days
        ]

    def end_day(self, spell: Spell) -> int:
        """The day by which the limit is restored as a whole, NEVER if that is not within the spell."""
        rules, arrears = self._rules, self._arrears
        clean: int | None = None
        stage, last, stages = 0, spell.from_day, self._stages(spell)
        for day in range(spell.from_day, spell.until_day - LATE_DAYS + 1):
            if self._distressed(day) or arrears.written_off(day):
                return NEVER
            if arrears.managed(day) or clean is None:
                clean = day if arrears.contractual(day) == 0 else None
            if clean is None or self._held(day) or self._level(day) >= _AMBER:
                continue
            if not stage:
                due = max(clean, spell.from_day) + rules.probation_days
            elif clean > last:
                due = max(last + rules.stage_days, clean + rules.probation_days)
            else:
                due = last + rules.stage_days
            if day >= due and arrears.on_time(last if stage else clean, day):
                stage, last = stage + 1, day
                if stage == stages:
                    return day
        return NEVER

    def _stages(self, spell: Spell) -> int:
        """How many stages there are: those that change the amount, and the last one; no fewer than there are."""
        base, minor = spell.taken["from_minor"], spell.taken["to_minor"]
        if spell.rebased or spell.taken["from_status"] != "normal":
            return len(self._rules.stages_bp)
        return max(1, sum(1 for stage_bp in self._rules.stages_bp if base * stage_bp // 10_000 > minor))

    def _level(self, day: int) -> int:
        """The highest level in force at any time of a day."""
        before = [level for at, level in self._levels if at < day][-1:]
        return max(before + [level for at, level in self._levels if at == day], default=0)

    def _held(self, day: int) -> bool:
        return any(
            set_day <= day and (lifted_day is None or day <= lifted_day + LATE_DAYS)
            for set_day, lifted_day in self._told.holds
        )

    def _distressed(self, day: int) -> bool:
        return any(loan_facts.distressed_day(loan.loan, day) is not None for loan in self._arrears.loans)
