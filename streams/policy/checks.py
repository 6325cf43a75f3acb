"""What must hold between the parts of a policy. The types have been checked before; nothing here can raise.

Every check yields (path, what is wrong and what to do) for each flaw it finds.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from zoneinfo import ZoneInfo

from streams.engine.arrears import MATERIAL_RUN_DAYS
from streams.engine.features import FEATURE_INDEX, FEATURES
from streams.engine.score_fall import FEATURES as FALLS
from streams.policy import ladder_checks, reminder_checks, review_checks, warning_checks
from streams.policy.ladder_checks import untold as _reason
from streams.policy.model import Band, Factor, Policy, Tightening

Path = tuple[str | int, ...]
Finding = tuple[Path, str]
FALL_NAMES = [feature.name for feature in FALLS]
SUBTOTAL_OF = {"other_lenders": "external", "listings": "external", "links": "links"}
"""Groups of features that say what others have told, and the subtotal of each."""


def findings(policy: Policy) -> Iterator[Finding]:
    """All flaws of a well-typed policy, in no particular order."""
    yield from _facts(policy)
    yield from _buckets(policy)
    yield from _regulatory(policy)
    yield from _scorecard(policy)
    yield from _tiers(policy)
    yield from warning_checks.findings(policy)
    yield from ladder_checks.findings(policy)
    yield from review_checks.findings(policy)
    yield from reminder_checks.findings(policy)
    if policy.macro is not None:
        yield from _macro(policy.macro, ("macro",))


def _repeated(values: Sequence[str], path: Path, what: str) -> Iterator[Finding]:
    for at, value in enumerate(values):
        if value in values[:at]:
            yield (*path, at), f"{what} {value!r} is listed twice; keep one of the two"


def _facts(policy: Policy) -> Iterator[Finding]:
    facts = policy.facts
    zone = facts.calendar.zone
    # Names without an area (EST, PRC, localtime) are legacy links or the machine's own setting.
    if not _zone_exists(zone):
        yield (
            ("facts", "calendar", "zone"),
            f"{zone[:40]!r} is not an IANA time zone; write Area/City as in Asia/Shanghai, or UTC",
        )
    orders: list[tuple[Path, tuple[str, ...], tuple[str, ...]]] = []
    default: Path = ("facts", "allocation", "default")
    orders.append((default, facts.allocation.default.groups, facts.allocation.default.components))
    for method, order in facts.allocation.by_method.items():
        orders.append((("facts", "allocation", "by_method", method), order.groups, order.components))
    for path, groups, components in orders:
        yield from _repeated(groups, (*path, "groups"), "group")
        if "past_due" not in groups:
            yield (*path, "groups"), "past_due is missing: such money would never reach arrears; add it"
        if sorted(components) != ["fee", "interest", "penalty", "principal"]:
            yield (*path, "components"), "list each of penalty, fee, interest, principal once"
    for currency in facts.material.absolute_minor:
        if len(currency) != 3 or not currency.isascii() or not currency.isupper():
            yield ("facts", "material", "absolute_minor", currency), "is not an ISO 4217 code; write one such as CNY"
    attribution = facts.attribution
    yield from _repeated(attribution.platform, ("facts", "attribution", "platform"), "code")
    yield from _repeated(attribution.borrower, ("facts", "attribution", "borrower"), "code")
    for at, code in enumerate(attribution.borrower):
        if code in attribution.platform:
            yield (
                ("facts", "attribution", "borrower", at),
                f"code {code!r} is under platform too; a failure has one cause, keep one of the two",
            )

    incidents = facts.incidents
    yield from _repeated(incidents.attributions, ("facts", "incidents", "attributions"), "attribution")
    if not incidents.attributions and incidents.reach == "failed":
        yield (
            ("facts", "incidents", "attributions"),
            "is empty: no failure would ever get grace; list platform, and unknown unless you have reasons not to",
        )


def _zone_exists(zone: str) -> bool:
    if "/" not in zone and zone != "UTC":
        return False
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        return False
    return True


def _buckets(policy: Policy) -> Iterator[Finding]:
    buckets = policy.buckets
    if not buckets:
        yield ("buckets",), "is empty; the first bucket is C from day 0"
        return
    if buckets[0].from_day != 0:
        yield ("buckets", 0, "from_day"), f"the first bucket starts at {buckets[0].from_day}; it must start at 0"
    if buckets[0].name != "C":
        yield ("buckets", 0, "name"), f"the first bucket is {buckets[0].name!r}; it must be C (current)"
    yield from (
        ((*path[:-1], path[-1], "name"), what)
        for path, what in _repeated([b.name for b in buckets], ("buckets",), "bucket")
    )
    for at, bucket in enumerate(buckets):
        last = at == len(buckets) - 1
        if bucket.to_day is None:
            if not last:
                yield ("buckets", at, "to_day"), f"missing in {bucket.name}; only the last bucket is open"
            continue
        if last:
            yield ("buckets", at, "to_day"), f"the last bucket, {bucket.name}, must be open; remove to_day"
        if bucket.to_day < bucket.from_day:
            yield ("buckets", at, "to_day"), f"{bucket.to_day} lies before from_day {bucket.from_day}"
        elif not last:
            yield from _meets(bucket.to_day + 1, buckets[at + 1].from_day, ("buckets", at + 1, "from_day"), "day")


def _meets(expected: int, found: int, path: Path, unit: str) -> Iterator[Finding]:
    if found > expected:
        yield path, f"leaves a gap: {unit} {expected} belongs to none; start at {expected}"
    elif found < expected:
        yield path, f"overlaps the one before; start at {expected}"


def _regulatory(policy: Policy) -> Iterator[Finding]:
    rules = policy.regulatory
    root: Path = ("regulatory",)
    scales: list[tuple[Path, tuple[tuple[str, int], ...]]] = [
        ((*root, part), tuple((name, getattr(rule, name)) for name in rule.__struct_fields__))
        for part, rule in (("ifrs9", rules.ifrs9), ("five_tier", rules.five_tier))
    ]
    for name, ends in (("closed_end", rules.ffiec.closed_end), ("open_end", rules.ffiec.open_end)):
        days = (("substandard_from_day", ends.substandard_from_day), ("loss_from_day", ends.loss_from_day))
        scales.append(((*root, "ffiec", name), days))
    for path, scale in scales:
        for (milder, milder_day), (name, day) in pairwise(scale):
            if day <= milder_day:
                yield (*path, name), f"{day} is not after {milder} {milder_day}; the harsher class begins later"
    yield from _repeated(rules.ffiec.open_end_products, (*root, "ffiec", "open_end_products"), "product")
    default = rules.default
    if default.material_from_day <= MATERIAL_RUN_DAYS:
        yield (
            (*root, "default", "material_from_day"),
            f"{default.material_from_day} is no default yet; it begins after more than {MATERIAL_RUN_DAYS} days",
        )
    if default.distressed_probation_days < default.probation_days:
        yield (
            (*root, "default", "distressed_probation_days"),
            f"{default.distressed_probation_days} is shorter than probation_days {default.probation_days}; raise it",
        )


def _scorecard(policy: Policy) -> Iterator[Finding]:
    seen: set[str] = set()
    for at, factor in enumerate(policy.score.factors):
        path: Path = ("score", "factors", at)
        if factor.feature in FALL_NAMES:
            yield (
                (*path, "feature"),
                f"{factor.feature} is made of the score itself; watch it in warnings instead",
            )
        elif factor.feature not in FEATURE_INDEX:
            yield (*path, "feature"), f"unknown feature {factor.feature!r}; use one of: {', '.join(FEATURE_INDEX)}"
        if factor.feature in seen:
            yield (*path, "feature"), f"{factor.feature!r} is scored twice; keep one of the two"
        seen.add(factor.feature)
        yield from _reason(policy, factor.reason, (*path, "reason"))
        yield from _bands(factor.bands, (*path, "bands"))
        for segment, points in factor.segments.items():
            yield from _bands(points.bands, (*path, "segments", segment, "bands"))
        yield from _of_others(factor, path)


def _of_others(factor: Factor, path: Path) -> Iterator[Finding]:
    """What others say must be known as such: a decision to freeze or zero leaves these subtotals out."""
    index = FEATURE_INDEX.get(factor.feature)
    wanted = None if index is None else SUBTOTAL_OF.get(FEATURES[index].group)
    if wanted is not None and factor.subtotal != wanted:
        yield (*path, "subtotal"), f"{factor.feature} comes from others, not from the borrower; write {wanted}"


def _bands(bands: tuple[Band, ...], path: Path) -> Iterator[Finding]:
    if not bands:
        yield path, "is empty; one band without bounds covers every value"
        return
    if bands[0].lower is not None:
        yield (*path, 0, "lower"), "the first band must be open below; remove lower"
    for at, band in enumerate(bands):
        if at == len(bands) - 1:
            if band.upper is not None:
                yield (*path, at, "upper"), "the last band must be open above; remove upper"
        elif band.upper is None:
            yield (*path, at, "upper"), "missing; only the last band is open above"
        elif bands[at + 1].lower is None:
            yield (*path, at + 1, "lower"), f"missing; continue at {band.upper}"
        if band.lower is not None and band.upper is not None and band.upper <= band.lower:
            yield (*path, at, "upper"), f"{band.upper} is not above lower {band.lower}; bands go upwards"
        elif at + 1 < len(bands) and band.upper is not None:
            following = bands[at + 1].lower
            if following is not None:
                yield from _meets(band.upper, following, (*path, at + 1, "lower"), "value")


def _macro(rules: Tightening, root: Path) -> Iterator[Finding]:
    bands, path = rules.bands, (*root, "bands")
    yield from _bands(bands, path)
    for at, band in enumerate(bands):
        if at > 0 and band.points < bands[at - 1].points:
            yield (*path, at, "points"), f"{band.points} is below {bands[at - 1].points} of a lower factor; points rise"
        if abs(band.points) > rules.most_points:
            yield (*path, at, "points"), f"{band.points} is more than most_points {rules.most_points}; raise that"
        from_zero, past_zero = band.lower is None or band.lower <= 0, band.upper is None or band.upper > 0
        if from_zero and past_zero and band.points != 0:
            yield (*path, at, "points"), "a factor of 0 lies here, which shifts nothing; write 0"


def _tiers(policy: Policy) -> Iterator[Finding]:
    tiers = policy.score.tiers
    if not tiers:
        yield ("score", "tiers"), "is empty; one tier without from_score covers every score"
        return
    for at, tier in enumerate(tiers):
        path: Path = ("score", "tiers", at)
        if tier.name in [t.name for t in tiers[:at]]:
            yield (*path, "name"), f"tier {tier.name!r} is listed twice; keep one of the two"
        if at == len(tiers) - 1:
            if tier.from_score is not None:
                yield (*path, "from_score"), "scores below it belong to no tier; remove from_score from the last tier"
        elif tier.from_score is None:
            yield (*path, "from_score"), "missing; only the last tier is open below"
        if at == 0:
            continue
        above = tiers[at - 1]
        if tier.from_score is not None and above.from_score is not None and tier.from_score >= above.from_score:
            yield (*path, "from_score"), f"{tier.from_score} is not below {above.from_score} of the tier before"
        if tier.probability_bp < above.probability_bp:
            yield (*path, "probability_bp"), f"{tier.probability_bp} is below {above.probability_bp} of the better tier"
