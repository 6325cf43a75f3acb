"""What must hold of the limit ladder, the way back and the offers of plans."""

from collections.abc import Iterator

from streams.policy.model import LEVELS, STATUSES, Condition, LimitStep, Offers, PlanOption, Policy

Path = tuple[str | int, ...]
Finding = tuple[Path, str]


def findings(policy: Policy) -> Iterator[Finding]:
    """All flaws of these sections, in no particular order."""
    yield from _ladder(policy)
    yield from _way_back(policy)
    yield from _offers(policy)


def untold(policy: Policy, code: str, path: Path) -> Iterator[Finding]:
    """Whether a reason that a rule gives has no text."""
    if code not in policy.reasons:
        yield path, f"reason {code!r} has no text; add it under reasons in en and zh"


def ladders(policy: Policy) -> Iterator[tuple[Path, tuple[LimitStep, ...]]]:
    """The ladder for all, and those that segments have of their own."""
    yield ("limits", "steps"), policy.limits.steps
    for segment, steps in policy.limits.by_segment.items():
        yield ("limits", "by_segment", segment), steps


def _ladder(policy: Policy) -> Iterator[Finding]:
    for path, steps in ladders(policy):
        yield from _steps(policy, path, steps)


def _steps(policy: Policy, table: Path, steps: tuple[LimitStep, ...]) -> Iterator[Finding]:
    rank = -1
    for at, step in enumerate(steps):
        path: Path = (*table, at)
        position = STATUSES.index(step.status)
        if step.status == "normal":
            yield (*path, "status"), "normal is the ground, not a step; remove it"
        elif position <= rank:
            yield (*path, "status"), f"{step.status} is out of order; go down {', '.join(STATUSES[1:])}, each once"
        rank = max(rank, position)
        yield from untold(policy, step.reason, (*path, "reason"))
        yield from _rung(step, path)
        if not step.when:
            yield (*path, "when"), "is empty: the step would never be taken; give a condition or remove the step"
        for number, condition in enumerate(step.when):
            yield from _condition(step, condition, (*path, "when", number))


def _rung(step: LimitStep, path: Path) -> Iterator[Finding]:
    draws = step.draws_max_30d is not None or step.draws_min_gap_h is not None
    if step.status == "draws_restricted" and not draws:
        yield path, "draws_restricted restricts nothing; give draws_max_30d and draws_min_gap_h"
    elif step.status in ("draws_restricted", "decreased") and (step.draws_max_30d is None) != (
        step.draws_min_gap_h is None
    ):
        yield path, "draws_max_30d and draws_min_gap_h go together; give both"
    if step.times > 1 and step.status != "decreased":
        yield (*path, "times"), f"{step.status} is taken once; only decreased may be taken several times"
    if step.times == 1 and step.again_after_days:
        yield (*path, "again_after_days"), "means nothing for a step taken once; remove it, or give times"
    if step.status in ("frozen", "zeroed") and draws:
        yield path, f"no draws are left when {step.status}; remove draws_max_30d and draws_min_gap_h"
    if step.status == "decreased" and step.keep_bp == 10_000:
        yield (*path, "keep_bp"), "10000 keeps the whole limit; a decrease keeps less"
    if step.status == "zeroed" and step.keep_bp != 0:
        yield (*path, "keep_bp"), f"{step.keep_bp} is left of a zeroed limit; write 0"


def _condition(step: LimitStep, condition: Condition, path: Path) -> Iterator[Finding]:
    if condition.level_from == "none":
        yield (*path, "level_from"), f"none holds for everyone; use one of: {', '.join(LEVELS[1:])}"
    given = (
        condition.on_score
        or condition.level_from is not None
        or condition.managed_dpd_from is not None
        or condition.contractual_dpd_from is not None
        or condition.material
        or condition.plan_offered
        or condition.several_loans is not None
        or condition.overdue_episodes_from is not None
        or condition.fraud_confirmed
    )
    if condition.blacklists and step.status != "zeroed":
        yield (*path, "blacklists"), f"only who is zeroed is listed, not who is {step.status}; remove it"
    if not given:
        yield path, "is empty: it would hold for everyone; give at least one field"
    elif step.status == "zeroed" and not _may_zero(condition):
        yield (
            path,
            (
                "is not enough to zero a limit; give managed_dpd_from, contractual_dpd_from, material: true and "
                "plan_offered: true together, or several_loans, overdue_episodes_from or fraud_confirmed: true"
            ),
        )


def _may_zero(condition: Condition) -> bool:
    long_overdue = (
        condition.managed_dpd_from is not None
        and condition.contractual_dpd_from is not None
        and condition.material
        and condition.plan_offered
    )
    several = condition.several_loans is not None or condition.overdue_episodes_from is not None
    return long_overdue or several or condition.fraud_confirmed


def _way_back(policy: Policy) -> Iterator[Finding]:
    stages = policy.limits.restoration.stages_bp
    path: Path = ("limits", "restoration", "stages_bp")
    if not stages:
        yield path, "is empty; the last stage is 10000"
        return
    for at, stage in enumerate(stages):
        before = stages[at - 1] if at > 0 else 0
        if stage <= before:
            yield (*path, at), f"{stage} is not above {before}; stages rise"
    if stages[-1] != 10_000:
        yield (*path, len(stages) - 1), f"the last stage is {stages[-1]}; it must be 10000, the whole limit"
    restoration = policy.limits.restoration
    if restoration.distressed_probation_days < restoration.probation_days:
        yield (
            ("limits", "restoration", "distressed_probation_days"),
            f"{restoration.distressed_probation_days} is shorter than probation_days {restoration.probation_days}",
        )


def _offers(policy: Policy) -> Iterator[Finding]:
    offers = policy.offers
    yield from _options(offers.options, ("offers", "options"))
    for segment, options in offers.by_segment.items():
        yield from _options(options, ("offers", "by_segment", segment))
    for table, steps in ladders(policy):
        for number, step in enumerate(steps):
            yield from _after_offer(step, offers, (*table, number))


def _options(options: tuple[PlanOption, ...], table: Path) -> Iterator[Finding]:
    if not options:
        yield table, "is empty; offer at least one plan"
    for at, option in enumerate(options):
        path: Path = (*table, at)
        wants_days = option.kind == "deferral"
        if wants_days and option.defer_days is None:
            yield (*path, "defer_days"), "missing; by how many days are due dates moved?"
        if not wants_days and option.months is None:
            yield (*path, "months"), f"missing; over how many months does {option.kind} run?"
        if wants_days and option.months is not None:
            yield (*path, "months"), "means nothing for a deferral; remove it"
        if not wants_days and option.defer_days is not None:
            yield (*path, "defer_days"), f"means nothing for {option.kind}; remove it"


def _after_offer(step: LimitStep, offers: Offers, path: Path) -> Iterator[Finding]:
    for at, condition in enumerate(step.when):
        dpd = condition.managed_dpd_from
        if condition.plan_offered and dpd is not None and dpd <= offers.managed_dpd_from:
            yield (
                (*path, "when", at, "managed_dpd_from"),
                f"{dpd} is not after the plan is offered, at managed DPD {offers.managed_dpd_from}; raise it",
            )
