"""What must hold of what people decide, of suspicions, of the blacklist and of hardship."""

from collections.abc import Iterator

from streams.engine.directions import CODES
from streams.engine.features import FEATURE_INDEX
from streams.policy.model import Policy

Path = tuple[str | int, ...]
Finding = tuple[Path, str]


def findings(policy: Policy) -> Iterator[Finding]:
    """All flaws of these sections, in no particular order."""
    yield from _texts(policy)
    yield from _escalation(policy)
    suspicions: Path = ("suspicions", "listed_elsewhere", "freeze_days")
    if policy.suspicions.listed_elsewhere.freeze_days:
        yield suspicions, "a listing elsewhere alone freezes nobody; write 0, and let it score or ask for a review"
    hardship: Path = ("offers", "hardship", "suspended")
    for at, name in enumerate(policy.offers.hardship.suspended):
        if name not in FEATURE_INDEX:
            yield (*hardship, at), f"unknown feature {name!r}; use one of: {', '.join(FEATURE_INDEX)}"


def _texts(policy: Policy) -> Iterator[Finding]:
    for code in CODES:
        if code not in policy.reasons:
            yield ("reasons",), f"{code} is missing: every policy says it in en and zh; add it"
    named: list[tuple[Path, str]] = [(("blacklist", "reason"), policy.blacklist.reason)]
    for kind in policy.suspicions.__struct_fields__:
        named.append((("suspicions", kind, "reason"), getattr(policy.suspicions, kind).reason))
    for path, code in named:
        if code not in policy.reasons:
            yield path, f"reason {code!r} has no text; add it under reasons in en and zh"
        elif code in CODES:
            yield path, f"{code!r} says that a person was asked or has decided; take a code of its own"


def _escalation(policy: Policy) -> Iterator[Finding]:
    days = policy.reviews.escalate_after_days
    path: Path = ("reviews", "escalate_after_days")
    if not days:
        yield path, "is empty: a review left lying would never be asked for again; give days, as in [2, 5]"
    for at in range(1, len(days)):
        if days[at] <= days[at - 1]:
            yield (*path, at), f"{days[at]} is not after {days[at - 1]}; days rise"
