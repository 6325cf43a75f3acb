"""What must hold of reminders."""

from collections.abc import Iterator

from streams.policy.model import LEVELS, Policy, ReminderChannels

Path = tuple[str | int, ...]
Finding = tuple[Path, str]


def findings(policy: Policy) -> Iterator[Finding]:
    """All flaws of the section, in no particular order."""
    rules = policy.reminders
    if rules is None:
        return
    path: Path = ("reminders",)
    for at, days in enumerate(rules.before_due_days):
        if days in rules.before_due_days[:at]:
            yield (*path, "before_due_days", at), f"{days} is listed twice; keep one of the two"
    for at, attribution in enumerate(rules.after_failure):
        if attribution in rules.after_failure[:at]:
            yield (*path, "after_failure", at), f"{attribution} is listed twice; keep one of the two"
    if rules.check_in is not None and rules.check_in.level_from == "none":
        yield (
            (*path, "check_in", "level_from"),
            f"none would reach everyone; use one of: {', '.join(LEVELS[1:])}",
        )
    yield from _channels(policy, rules.channels)


def _channels(policy: Policy, rows: tuple[ReminderChannels, ...]) -> Iterator[Finding]:
    path: Path = ("reminders", "channels")
    if not rows:
        yield path, "is empty; one row without segments and tiers is for everybody"
    named = [tier.name for tier in policy.score.tiers]
    for at, row in enumerate(rows):
        if not row.channels:
            yield (*path, at, "channels"), "is empty; name at least one channel"
        for number, tier in enumerate(row.tiers):
            if tier not in named:
                yield (*path, at, "tiers", number), f"{tier!r} is no tier; use one of: {', '.join(named)}"
        fits_all, last = not row.segments and not row.tiers, at == len(rows) - 1
        if last and not fits_all:
            yield (*path, at), "the last row must be for everybody; remove segments and tiers, or add a row"
        if fits_all and not last:
            yield (*path, at), "is for everybody: the rows after it are never reached; move it to the end"
