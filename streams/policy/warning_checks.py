"""What must hold of the warning levels, and between them."""

from collections.abc import Iterator

from streams.engine.score_fall import REASONS as FALL_REASONS
from streams.policy.ladder_checks import Finding, Path, untold
from streams.policy.model import LEVELS, Policy, WarningLevel


def findings(policy: Policy) -> Iterator[Finding]:
    """All flaws of the levels, in no particular order."""
    warnings = policy.warnings
    wanted = LEVELS[1:]
    named = [warning.level for warning in warnings]
    for at, level in enumerate(named):
        if at >= len(wanted) or level != wanted[at]:
            expected = f"expected {wanted[at]}" if at < len(wanted) else "no level is left"
            yield ("warnings", at, "level"), f"{level} is out of order, {expected}; write {', '.join(wanted)}"
            return
    if len(named) < len(wanted):
        yield ("warnings",), f"{wanted[len(named)]} is missing; write {', '.join(wanted)}"
    for at, warning in enumerate(warnings):
        yield from _hysteresis(warning, ("warnings", at))
        yield from _falls(policy, warning, ("warnings", at))
        yield from untold(policy, warning.reason, ("warnings", at, "reason"))
        if at > 0:
            yield from _stricter(warnings[at - 1], warning, ("warnings", at))


def _hysteresis(warning: WarningLevel, path: Path) -> Iterator[Finding]:
    """A level left on the threshold that raises it would flap."""
    below, leave = warning.score_below, warning.leave_score_from
    dpd, leave_dpd = warning.managed_dpd_from, warning.leave_managed_dpd_below
    if below is None and dpd is None and not any(drop is not None for _, drop, _, _ in falls_of(warning)):
        yield path, f"{warning.level} has no threshold; give score_below, managed_dpd_from or score_fall_7d_from"
    if (below is None) != (leave is None):
        yield (*path, "leave_score_from"), "score_below and leave_score_from go together; give both or neither"
    elif below is not None and leave is not None and leave <= below:
        yield (
            (*path, "leave_score_from"),
            f"{leave} is not above score_below {below}: the level would flap; raise it",
        )
    if (dpd is None) != (leave_dpd is None):
        yield (
            (*path, "leave_managed_dpd_below"),
            "managed_dpd_from and leave_managed_dpd_below go together; give both or neither",
        )
    # At 1 nothing stricter is left than no arrears at all, which is what "below 1" says.
    elif dpd is not None and leave_dpd is not None and leave_dpd >= dpd and (dpd, leave_dpd) != (1, 1):
        yield (
            (*path, "leave_managed_dpd_below"),
            f"{leave_dpd} is not below managed_dpd_from {dpd}: the level would flap; lower it",
        )


def falls_of(warning: WarningLevel) -> list[tuple[str, int | None, str, int | None]]:
    """The thresholds on the fall of the score: names and values of raising and of leaving."""
    return [
        (raising, getattr(warning, raising), leaving, getattr(warning, leaving))
        for raising, leaving in (
            ("score_fall_7d_from", "leave_score_fall_7d_below"),
            ("score_fall_30d_from", "leave_score_fall_30d_below"),
        )
    ]


def _falls(policy: Policy, warning: WarningLevel, path: Path) -> Iterator[Finding]:
    for (raising, drop, leaving, leave), reason in zip(falls_of(warning), FALL_REASONS, strict=True):
        if (drop is None) != (leave is None):
            yield (*path, leaving), f"{raising} and {leaving} go together; give both or neither"
        elif drop is not None and leave is not None:
            if leave >= drop:
                yield (*path, leaving), f"{leave} is not below {raising} {drop}: the level would flap; lower it"
            yield from untold(policy, reason, (*path, raising))


def _stricter(milder: WarningLevel, harsher: WarningLevel, path: Path) -> Iterator[Finding]:
    if milder.score_below is not None and harsher.score_below is not None and harsher.score_below >= milder.score_below:
        yield (
            (*path, "score_below"),
            f"{harsher.score_below} is not below {milder.score_below} of {milder.level}; lower it",
        )
    if milder.managed_dpd_from is not None and harsher.managed_dpd_from is not None:  # noqa: SIM102
        if harsher.managed_dpd_from <= milder.managed_dpd_from:
            yield (
                (*path, "managed_dpd_from"),
                f"{harsher.managed_dpd_from} is not above {milder.managed_dpd_from} of {milder.level}; raise it",
            )
    for (raising, mild, _, _), (_, drop, _, _) in zip(falls_of(milder), falls_of(harsher), strict=True):
        if mild is not None and drop is not None and drop <= mild:
            yield (*path, raising), f"{drop} is not above {mild} of {milder.level}; raise it"
