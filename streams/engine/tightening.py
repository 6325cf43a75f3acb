"""Tightening by circumstances: factors told on `control` shift the thresholds on the score, for those they are about.

    macro_set ── the task's list of factors ── those about a borrower ── the policy's table ── points, added up

A factor of its scope and indicator replaces the one told before; a factor of 0 lifts it. It acts from its place in the
log on, whenever a borrower is judged next, until the business clock reaches its end: it judges nobody by itself.
"""

from collections.abc import Collection, Sequence
from typing import Final

from msgspec import UNSET, Struct, UnsetType

from schemas import outbound
from schemas.inbound import MacroScope, MacroSet, given
from streams.engine.calendar import DAY_MS
from streams.engine.loan import FOREVER_DAY, Loan, is_ended
from streams.engine.profile import Profile
from streams.policy.model import Tightening

FACTORS_MAX: Final = 64
"""Factors of one task that are remembered at most."""


class MacroFactor(Struct, array_like=True, frozen=True, gc=False):
    """A factor from -1.0 (ease) to 1.0 (tighten), as it was last told. An empty string: the scope does not ask for it,
    or no indicator was given. It ends before `until_ms`."""

    event_id: str
    factor: float
    until_ms: int
    product: str
    segment: str
    industry: str
    region: str
    indicator: str
    value: float | None


def changed_by(event: MacroSet, factors: Sequence[MacroFactor], clock_ms: int | None) -> list[MacroFactor]:
    """The factors after an event, without those that have ended; `clock_ms` is the business clock."""
    until_ms = given(event.until_ms)
    scope = given(event.scope) or MacroScope()
    told = MacroFactor(
        event.event_id,
        event.factor,
        FOREVER_DAY * DAY_MS if until_ms is None else until_ms,
        given(scope.product) or "",
        given(scope.segment) or "",
        given(scope.industry) or "",
        given(scope.region) or "",
        given(event.indicator) or "",
        given(event.value),
    )
    kept = [factor for factor in factors if _about(factor) != _about(told)]
    return not_ended([*kept, told] if event.factor != 0 else kept, clock_ms or 0)


def _about(factor: MacroFactor) -> tuple[str, str, str, str, str]:
    return factor.product, factor.segment, factor.industry, factor.region, factor.indicator


def not_ended(factors: Sequence[MacroFactor], as_of_ms: int) -> list[MacroFactor]:
    return [factor for factor in factors if as_of_ms < factor.until_ms]


def fitting(
    factors: Sequence[MacroFactor], profile: Profile | None, loans: Collection[Loan], as_of_ms: int, day: int
) -> list[MacroFactor]:
    """The factors in force for a borrower: all that the scope names must fit, a product by an open loan of it."""
    own = ("", "", "") if profile is None else (profile.segment, profile.industry, profile.region)
    found: list[MacroFactor] = []
    for factor in not_ended(factors, as_of_ms):
        asked = factor.segment, factor.industry, factor.region
        if any(wanted not in ("", has) for wanted, has in zip(asked, own, strict=True)):
            continue
        product = factor.product
        if not product or any(loan.product == product and not is_ended(loan, day) for loan in loans):
            found.append(factor)
    return found


def shift_points(rules: Tightening, factors: Sequence[MacroFactor]) -> int:
    """What factors come to together, in points of the score."""
    total = sum(_points_of(rules, round(factor.factor * 10_000)) for factor in factors)
    return max(-rules.most_points, min(rules.most_points, total))


def _points_of(rules: Tightening, factor_bp: int) -> int:
    return next(band.points for band in rules.bands if band.upper is None or factor_bp < band.upper)


def macro_of(factors: Sequence[MacroFactor], points: int) -> outbound.Macro | UnsetType:
    """How a decision tells what shifted its thresholds; unset where nothing is in force."""
    if not factors:
        return UNSET
    return outbound.Macro(
        shift_points=points,
        factors=[
            outbound.MacroFactor(
                event_id=factor.event_id,
                factor=factor.factor,
                indicator=factor.indicator or UNSET,
                value=UNSET if factor.value is None else factor.value,
            )
            for factor in factors
        ],
    )
