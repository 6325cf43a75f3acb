"""The typed policy: everything a risk analyst decides, as one document.

A policy has a `facts` section, on which ledger and windows depend, and decision sections (buckets, score, warnings,
limits, offers, texts), on which only standing depends. Two policies with equal `facts` can be run over one fold of the
facts. Amounts are minor units, ratios basis points (`_bp`, 10,000 = 1), durations civil days unless named otherwise.
"""

from typing import Annotated, Literal

from msgspec import Meta, Struct

Name = Annotated[str, Meta(min_length=1, max_length=64, pattern="^[a-z][a-z0-9_]*$")]
Days = Annotated[int, Meta(ge=0, le=3_660)]
DpdFrom = Annotated[int, Meta(ge=1, le=3_660)]
Points = Annotated[int, Meta(ge=-1_000, le=1_000)]
Score = Annotated[int, Meta(ge=-10_000, le=10_000)]
Fall = Annotated[int, Meta(ge=1, le=10_000)]
Bp = Annotated[int, Meta(ge=0, le=10_000)]
Minor = Annotated[int, Meta(ge=0, le=10**15)]

Group = Literal["past_due", "due_today", "in_advance"]
Component = Literal["penalty", "fee", "interest", "principal"]
Method = Literal["auto_debit", "manual", "transfer", "settlement"]
Level = Literal["none", "watch", "amber", "red", "critical"]
Status = Literal["normal", "draws_restricted", "decreased", "frozen", "zeroed"]
Segment = Literal["worker", "student", "freelancer", "small_business", "other"]
Subtotal = Literal["ability", "willingness", "behaviour", "external", "links"]

LEVELS: tuple[Level, ...] = ("none", "watch", "amber", "red", "critical")
STATUSES: tuple[Status, ...] = ("normal", "draws_restricted", "decreased", "frozen", "zeroed")


class Model(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Base of every part: a misspelt field is an error, not a silently unused one."""


# --- facts --------------------------------------------------------------------------------------------------------


class Calendar(Model, frozen=True):
    zone: str


class AllocationOrder(Model, frozen=True):
    """In which order one kind of payment is allocated (groups of instalments, then components inside an instalment)."""

    groups: tuple[Group, ...] = ("past_due", "due_today", "in_advance")
    components: tuple[Component, ...] = ("penalty", "fee", "interest", "principal")


class Allocation(Model, frozen=True):
    default: AllocationOrder
    by_method: dict[Method, AllocationOrder] = {}


class Dpd(Model, frozen=True):
    """`due_date_counts_as`: DPD of an unpaid instalment on its due date, 0 (default) or 1 (RBI IRAC)."""

    due_date_counts_as: Literal[0, 1] = 0


class Material(Model, frozen=True):
    """Materiality of arrears (CRR Article 178, Delegated Regulation 2018/171): above both thresholds."""

    absolute_minor: dict[str, Minor]
    default_absolute_minor: Minor
    relative_bp: Bp = 100


class Attribution(Model, frozen=True):
    """Failure codes by who caused them; a code in neither list is `unknown`."""

    platform: tuple[str, ...]
    borrower: tuple[str, ...]


Attributed = Literal["unknown", "borrower", "platform"]


class IncidentRules(Model, frozen=True):
    """Whom an incident reaches, of those in its scope.

    `reach`: loans on which a payment `failed` inside it, or every loan of which an instalment was `due` inside, tried
    or not. `attributions`: the failures that count; one that the borrower caused has nothing to do with an incident.
    `remember_days`: for so long after its grace an incident may still be told or corrected and finds at once whom it
    touched.
    """

    reach: Literal["failed", "due"] = "failed"
    attributions: tuple[Attributed, ...] = ("platform", "unknown")
    remember_days: Annotated[int, Meta(ge=30, le=3_660)] = 400


class Facts(Model, frozen=True):
    calendar: Calendar
    allocation: Allocation
    dpd: Dpd
    material: Material
    attribution: Attribution
    incidents: IncidentRules = IncidentRules()
    allowed_lateness_days: Days = 7
    duplicate_days: Annotated[int, Meta(ge=1, le=30)] = 7
    parked_events_max: Annotated[int, Meta(ge=1, le=1_000)] = 32
    parked_bytes_max: Annotated[int, Meta(ge=1_024, le=1_048_576)] = 65_536


# --- decisions ----------------------------------------------------------------------------------------------------


class Bucket(Model, frozen=True):
    """Managed DPD `from_day` to `to_day`, both included; the last bucket has no `to_day`."""

    name: Annotated[str, Meta(min_length=1, max_length=16)]
    from_day: Days
    to_day: Days | None = None


class Band(Model, frozen=True):
    """lower <= value < upper; a missing bound is open."""

    points: Points
    lower: int | None = None
    upper: int | None = None


class SegmentPoints(Model, frozen=True):
    """What a factor is worth for one segment instead."""

    bands: tuple[Band, ...]
    unknown: Points


class Factor(Model, frozen=True):
    """One feature in the scorecard. `reason` is the code given when its points count against the borrower. `segments`
    have bands and points of their own; every other one, and a borrower without a profile, has those of the factor."""

    feature: Name
    subtotal: Subtotal
    bands: tuple[Band, ...]
    unknown: Points
    reason: Name
    segments: dict[Segment, SegmentPoints] = {}


class Tier(Model, frozen=True):
    """Scores from `from_score` up; the lowest tier has none."""

    name: Annotated[str, Meta(min_length=1, max_length=8)]
    probability_bp: Bp
    from_score: Score | None = None


class Scorecard(Model, frozen=True):
    base: Score
    factors: tuple[Factor, ...]
    tiers: tuple[Tier, ...]


class WarningLevel(Model, frozen=True):
    """When a level is raised, and when it may be left.

    Raised if the score is below `score_below`, or managed DPD is at least `managed_dpd_from`, or the score has fallen
    by `score_fall_7d_from` (`score_fall_30d_from`) points from the highest that stood at the end of one of the 7 (30)
    days before. Left for a lower level only after the score has been at least `leave_score_from`, managed DPD below
    `leave_managed_dpd_below` and each fall below its `leave_score_fall_*_below` for `dwell_days` (hysteresis). Once
    left, it is not raised again within `cool_down_days`. `reason` is the code given when DPD raised it; a fall is given
    as score_fell_7d or score_fell_30d.
    """

    level: Level
    score_below: Score | None
    managed_dpd_from: DpdFrom | None
    leave_score_from: Score | None
    leave_managed_dpd_below: DpdFrom | None
    dwell_days: Days
    cool_down_days: Days
    reason: Name
    score_fall_7d_from: Fall | None = None
    leave_score_fall_7d_below: Fall | None = None
    score_fall_30d_from: Fall | None = None
    leave_score_fall_30d_below: Fall | None = None


class SeveralLoans(Model, frozen=True):
    """At least `loans` loans at managed DPD `managed_dpd_from` or more at the same time."""

    loans: Annotated[int, Meta(ge=2, le=100)]
    managed_dpd_from: DpdFrom


class Condition(Model, frozen=True):
    """All of the fields given must hold. A condition on DPD alone is a *ledger condition*: it can turn out false later.

    `score_fall_7d_from` and `score_fall_30d_from`: the score has fallen by so many points, as in warnings.
    `overdue_episodes_from` counts the separate overdue episodes of 30 and more managed days in 365 days. `blacklists`
    asks for nothing: who is zeroed while such a condition holds is listed too.
    """

    score_below: Score | None = None
    level_from: Level | None = None
    managed_dpd_from: DpdFrom | None = None
    contractual_dpd_from: DpdFrom | None = None
    material: bool = False
    plan_offered: bool = False
    several_loans: SeveralLoans | None = None
    overdue_episodes_from: Annotated[int, Meta(ge=1, le=100)] | None = None
    fraud_confirmed: bool = False
    blacklists: bool = False
    score_fall_7d_from: Fall | None = None
    score_fall_30d_from: Fall | None = None

    @property
    def on_score(self) -> bool:
        """Whether a term asks for the score."""
        terms = (self.score_below, self.score_fall_7d_from, self.score_fall_30d_from)
        return any(term is not None for term in terms)


class Tightening(Model, frozen=True):
    """What the factors told by `macro_set` do: each has the points of its band, on the factor in basis points, and all
    that are about a borrower add up, to `most_points` up or down. So many points are added to every threshold on the
    score, of warnings and of the ladder; tiers and thresholds on days, levels and falls stay."""

    bands: tuple[Band, ...]
    most_points: Annotated[int, Meta(ge=0, le=1_000)]


class LimitStep(Model, frozen=True):
    """One rung of the limit ladder.

    Taken when any of `when` holds and the borrower has stood on the rung below for `after_days` (0 = at once; a rung
    marked `direct` is taken from any lower rung). `keep_bp` of the limit in force is kept. `draws_max_30d` and
    `draws_min_gap_h` limit new draws where the rung restricts them. A decrease may be taken up to `times`, each again
    after `again_after_days`, while its conditions hold and no harder rung is called for.
    """

    status: Status
    when: tuple[Condition, ...]
    keep_bp: Bp
    reason: Name
    after_days: Days = 0
    direct: bool = False
    draws_max_30d: Annotated[int, Meta(ge=0, le=1_000)] | None = None
    draws_min_gap_h: Annotated[int, Meta(ge=0, le=8_760)] | None = None
    times: Annotated[int, Meta(ge=1, le=20)] = 1
    again_after_days: Days = 0


class Restoration(Model, frozen=True):
    """The way back: after cure and `probation_days` clean (after a distressed restructure at the earliest
    `distressed_probation_days` after the latest of restructure, default and end of grace), the limit returns in
    `stages_bp` of the earlier limit, each stage after `stage_days` and `stage_on_time` instalments paid on time since
    the last one."""

    probation_days: Days
    distressed_probation_days: Days
    stages_bp: tuple[Bp, ...]
    stage_days: Days
    stage_on_time: Annotated[int, Meta(ge=0, le=100)]


class Breaker(Model, frozen=True):
    """At most `per_hour` zeroings, and as many listings, per segment in an hour of the business clock, over all
    partitions together; `by_segment` for segments with a number of their own."""

    per_hour: Annotated[int, Meta(ge=0, le=1_000_000)]
    by_segment: dict[Segment, Annotated[int, Meta(ge=0, le=1_000_000)]] = {}

    def most(self, segment: str) -> int:
        """The number of a segment."""
        return self.by_segment.get(segment, self.per_hour)  # type: ignore[call-overload, no-any-return]


class Limits(Model, frozen=True):
    """The ladder is `steps`, but for segments with a table of their own in `by_segment`."""

    steps: tuple[LimitStep, ...]
    restoration: Restoration
    breaker: Breaker
    by_segment: dict[Segment, tuple[LimitStep, ...]] = {}

    def all_steps(self) -> list[LimitStep]:
        """The steps of every table."""
        return [*self.steps, *(step for table in self.by_segment.values() for step in table)]

    def steps_of(self, segment: str) -> tuple[LimitStep, ...]:
        """The ladder of a segment; that of all where it has none of its own, or is not known."""
        return self.by_segment.get(segment, self.steps) if self.by_segment else self.steps  # type: ignore[call-overload]


class Blacklist(Model, frozen=True):
    """The consortium's blacklist: what is given as reason, and how long a listing lasts."""

    reason: Name
    expires_days: DpdFrom


class Suspicion(Model, frozen=True):
    """What an unproven report leads to beside its points: a review, new draws frozen for `freeze_days` at most, or
    nothing. `reason` is the code it is given as."""

    reason: Name
    review: bool
    freeze_days: Annotated[int, Meta(ge=0, le=30)] = 0


class Suspicions(Model, frozen=True):
    """Unconfirmed fraud, a violation of rules (not confirmed, confirmed), a listing elsewhere."""

    fraud: Suspicion
    violation: Suspicion
    violation_confirmed: Suspicion
    listed_elsewhere: Suspicion


class Reviews(Model, frozen=True):
    """What people decide: for how long, where the reviewer gives no expiry (`decision_days`); the cut from which a
    second reviewer must agree, as a share of the limit in force; after how many days a review left lying escalates."""

    decision_days: DpdFrom
    second_reviewer_cut_bp: Bp
    escalate_after_days: tuple[DpdFrom, ...]


class PlanOption(Model, frozen=True):
    """A hardship plan: `instalments` spreads what is unpaid over `months`; `deferral` moves unpaid due dates by
    `defer_days`; `partner_refinance` is repaid to the partner in `months`."""

    kind: Literal["instalments", "deferral", "partner_refinance"]
    months: Annotated[int, Meta(ge=1, le=120)] | None = None
    defer_days: Annotated[int, Meta(ge=1, le=366)] | None = None


class Hardship(Model, frozen=True):
    """A hardship reported by the borrower: for `days` (where the report gives no end) the points of these features are
    suspended, so that what illness or a lost job makes one spend does not count."""

    days: DpdFrom
    suspended: tuple[Name, ...]


class Offers(Model, frozen=True):
    """A plan is offered when a loan reaches `managed_dpd_from`, once per arrears episode of the loan, and when hardship
    is reported. The options are `options`, but for segments with their own in `by_segment`."""

    managed_dpd_from: DpdFrom
    options: tuple[PlanOption, ...]
    hardship: Hardship
    by_segment: dict[Segment, tuple[PlanOption, ...]] = {}

    def options_of(self, segment: str) -> tuple[PlanOption, ...]:
        """The options of a segment; those of all where it has none of its own, or is not known."""
        return self.by_segment.get(segment, self.options)  # type: ignore[call-overload, no-any-return]


class Ifrs9(Model, frozen=True):
    """The rebuttable presumptions of IFRS 9 (5.5.11, B5.5.37): contractual DPD from which a loan's credit risk has
    risen significantly (stage 2), and from which it is in default (stage 3)."""

    stage2_from_day: DpdFrom
    stage3_from_day: DpdFrom


class DefaultFlag(Model, frozen=True):
    """The default flag of CRR Article 178 is set at `material_from_day` consecutive days of material arrears.

    It lifts after cure of all the borrower's loans and `probation_days` clean; after a distressed restructure at the
    earliest `distressed_probation_days` after the latest of restructure, default and end of grace (EBA/GL/2016/07).
    """

    material_from_day: DpdFrom
    probation_days: Days
    distressed_probation_days: Days


class FiveTier(Model, frozen=True):
    """Contractual DPD from which a loan is at best in each tier (China, order 1 of 2023)."""

    special_mention_from_day: DpdFrom
    substandard_from_day: DpdFrom
    doubtful_from_day: DpdFrom
    loss_from_day: DpdFrom


class RetailClasses(Model, frozen=True):
    """Contractual DPD from which a retail loan is substandard, and loss."""

    substandard_from_day: DpdFrom
    loss_from_day: DpdFrom


class Ffiec(Model, frozen=True):
    """FFIEC retail classification; products in `open_end_products` are open-end credit, all others closed-end."""

    closed_end: RetailClasses
    open_end: RetailClasses
    open_end_products: tuple[Annotated[str, Meta(min_length=1, max_length=64)], ...] = ()


class Regulatory(Model, frozen=True):
    """How supervisors and accountants class a loan, jurisdiction by jurisdiction, on days that nothing pauses."""

    ifrs9: Ifrs9
    default: DefaultFlag
    five_tier: FiveTier
    ffiec: Ffiec


ReminderChannel = Literal["app_push", "in_app", "sms", "email"]


class ReminderChannels(Model, frozen=True):
    """How borrowers of these segments and tiers are reached; empty: of any. The first row that fits is taken."""

    channels: tuple[ReminderChannel, ...]
    segments: tuple[Segment, ...] = ()
    tiers: tuple[str, ...] = ()


class CheckIn(Model, frozen=True):
    """A borrower at warning level `level_from` or above hears from the lender every `every_days`."""

    level_from: Level
    every_days: Annotated[int, Meta(ge=1, le=366)]


class Budget(Model, frozen=True):
    """Told beside the first reminder of an instalment, at most once in `every_days`, to whom so much of the income of
    30 days falls due in 30 days."""

    due_to_income_bp_from: Annotated[int, Meta(ge=0, le=100_000)]
    every_days: Annotated[int, Meta(ge=1, le=366)]


class Reminders(Model, frozen=True):
    """`before_due_days`: how many days before a due date, each once per instalment, at `at_hour` of the zone's day. At
    most `weekly_max` reminders of any kind in 7 days. `after_failure`: after failed payments so attributed."""

    at_hour: Annotated[int, Meta(ge=0, le=23)]
    before_due_days: tuple[Annotated[int, Meta(ge=0, le=90)], ...]
    weekly_max: Annotated[int, Meta(ge=1, le=50)]
    channels: tuple[ReminderChannels, ...]
    after_failure: tuple[Attributed, ...] = ()
    check_in: CheckIn | None = None
    budget: Budget | None = None


class Text(Model, frozen=True):
    en: Annotated[str, Meta(min_length=1, max_length=300)]
    zh: Annotated[str, Meta(min_length=1, max_length=300)]


class Approval(Model, frozen=True):
    """Who may put another policy in the place of this one: `two_persons`, author and approver are not the same."""

    two_persons: bool = True


class Policy(Model, frozen=True):
    id: Annotated[str, Meta(min_length=1, max_length=64)]
    facts: Facts
    buckets: tuple[Bucket, ...]
    regulatory: Regulatory
    score: Scorecard
    warnings: tuple[WarningLevel, ...]
    limits: Limits
    offers: Offers
    reviews: Reviews
    suspicions: Suspicions
    blacklist: Blacklist
    reasons: dict[Name, Text]
    reminders: Reminders | None = None
    macro: Tightening | None = None
    approval: Approval = Approval()
