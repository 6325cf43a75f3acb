"""Every event that the service sends, one message type each.

Amounts are integer minor units, instants epoch milliseconds UTC, `*_on` civil dates ``YYYY-MM-DD`` of the lender.
An optional field defaults to ``UNSET`` and is then not on the wire; any other field is always there, and ``null`` where
it has no value (a loan in no pool). Keys stand in the order of their declaration: equal events are equal bytes.
"""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field

from schemas.inbound import IncidentScope, Instalment, event_type

CivilDate = Annotated[str, Meta(pattern="^[0-9]{4}-[0-9]{2}-[0-9]{2}$", extra_json_schema={"format": "date"})]
Level = Literal["none", "watch", "amber", "red", "critical"]
Status = Literal["normal", "draws_restricted", "decreased", "frozen", "zeroed"]
Component = Literal["penalty", "fee", "interest", "principal"]
RecoveryAction = Literal[
    "pay_overdue", "pay_on_time", "complete_probation", "accept_plan", "keep_plan", "request_review"
]
"""What a borrower can do to be restored: the closed list."""


class Part(Struct, kw_only=True, gc=False):
    """Base of what is nested in events: without a type of its own."""


class PolicyRef(Part, kw_only=True, gc=False):
    id: str
    digest: str


class Cause(Part, kw_only=True, gc=False):
    """The record that led to an event: where it stands, and the `event_id` in it."""

    topic: str
    partition: int
    offset: int
    event_id: str


class Reason(Part, kw_only=True, gc=False):
    """One scored factor or rule: value seen, threshold crossed, points it cost, the events that prove it."""

    code: str
    text: str
    value: int | str | None
    threshold: int | str | None
    points: int
    evidence: list[str]


Reasons = Annotated[list[Reason], Meta(max_length=4)]


class Recovery(Part, kw_only=True, gc=False):
    """What would restore the account, and the earliest date on which it can be restored."""

    action: RecoveryAction
    amount_minor: int | UnsetType = UNSET
    by_on: CivilDate | UnsetType = UNSET
    earliest_on: CivilDate | UnsetType = UNSET


class MacroFactor(Part, kw_only=True, gc=False):
    """A factor in force, from -1.0 (ease) to 1.0 (tighten): the `macro_set` that told it, and what it said is behind
    it."""

    event_id: str
    factor: float
    indicator: str | UnsetType = UNSET
    value: float | UnsetType = UNSET


class Macro(Part, kw_only=True, gc=False):
    """What had shifted the thresholds on the score when it was decided: all together by so many points."""

    shift_points: int
    factors: list[MacroFactor]


class Amounts(Part, kw_only=True, gc=False):
    principal_minor: int
    interest_minor: int
    fee_minor: int
    penalty_minor: int


class DpdCounters(Part, kw_only=True, gc=False):
    contractual: int
    managed: int
    material: int


class DpdDetail(DpdCounters, kw_only=True, gc=False):
    """The three counters, and the contractual one of principal and of interest alone."""

    principal: int
    interest: int


class Subtotals(Part, kw_only=True, gc=False):
    """The score's parts: points by what they speak of."""

    ability: int
    willingness: int
    behaviour: int
    external: int
    links: int


class Draws(Part, kw_only=True, gc=False):
    """How many draws in 30 days, and how many hours apart."""

    max_30d: int
    min_gap_h: int


class Consequence(Part, kw_only=True, gc=False):
    """What lateness would lead to, and when."""

    on: CivilDate
    what: str


class PlanOption(Part, kw_only=True, gc=False):
    """One hardship plan on offer; its schedule would replace all rows not fully paid."""

    plan_id: str
    kind: Literal["instalments", "deferral", "partner_refinance"]
    schedule: list[Instalment]


class Outbound(Struct, kw_only=True, gc=False, tag_field="type", tag=event_type):
    """What every outbound event carries: `event_id` is derived from the cause, `at_ms` is the moment it speaks of,
    `compensates` the `event_id` of the event that this one undoes."""

    event_id: str
    at_ms: int
    policy: PolicyRef
    compensates: str | UnsetType = UNSET


class CausedEvent(Outbound, kw_only=True, gc=False):
    """An event that names the input which caused it."""

    cause: Cause


class BorrowerEvent(CausedEvent, kw_only=True, gc=False):
    """An event about one borrower; its Kafka key is `borrower_id`."""

    borrower_id: str
    reasons: Reasons | UnsetType = UNSET


# --- early-warnings -----------------------------------------------------------------------------------------------


class Judgement(BorrowerEvent, kw_only=True, gc=False):
    """An event that judges a borrower: never without its reasons."""

    reasons: Reasons
    incident_id: str | UnsetType = UNSET
    macro: Macro | UnsetType = UNSET


class WarningEvent(Judgement, kw_only=True, gc=False):
    """A change of warning level; ``none`` is the level of a borrower without a warning."""

    level: Level
    previous_level: Level
    score: int
    tier: str
    subtotals: Subtotals
    recovery: Recovery | UnsetType = UNSET


class WarningRaised(WarningEvent, kw_only=True, gc=False):
    pass


class WarningEscalated(WarningEvent, kw_only=True, gc=False):
    pass


class WarningLowered(WarningEvent, kw_only=True, gc=False):
    pass


class WarningCleared(WarningEvent, kw_only=True, gc=False):
    pass


# --- limit-adjustments --------------------------------------------------------------------------------------------


class LimitAdjustment(Judgement, kw_only=True, gc=False):
    """A link of a borrower's limit chain: `limit_seq` rises by one, `from_*` equals the last link's `to_*`."""

    limit_seq: int
    from_minor: int
    to_minor: int
    from_status: Status
    to_status: Status
    currency: str
    recovery: Recovery | UnsetType = UNSET
    draws: Draws | UnsetType = UNSET


class DrawsRestricted(LimitAdjustment, kw_only=True, gc=False):
    pass


class LimitDecreased(LimitAdjustment, kw_only=True, gc=False):
    pass


class LimitFrozen(LimitAdjustment, kw_only=True, gc=False):
    pass


class LimitZeroed(LimitAdjustment, kw_only=True, gc=False):
    pass


class LimitRestored(LimitAdjustment, kw_only=True, gc=False):
    pass


class LimitRebased(LimitAdjustment, kw_only=True, gc=False):
    """The limit was changed elsewhere and enters the chain here."""


# --- delinquency --------------------------------------------------------------------------------------------------


class LoanEvent(BorrowerEvent, kw_only=True, gc=False):
    loan_id: str


class BucketChanged(LoanEvent, kw_only=True, gc=False):
    product: str
    pool_id: str | None
    from_bucket: str = field(name="from")
    to_bucket: str = field(name="to")
    dpd: DpdCounters
    outstanding: Amounts
    overdue: Amounts


class DueDateShifted(LoanEvent, kw_only=True, gc=False):
    """Grace moves the date from which an instalment counts as overdue; its contractual due date stays."""

    instalment_no: int
    from_on: CivilDate
    to_on: CivilDate
    incident_id: str


class WaiverProposed(LoanEvent, kw_only=True, gc=False):
    instalment_no: int
    component: Component
    amount_minor: int
    incident_id: str


class ClaimDue(LoanEvent, kw_only=True, gc=False):
    """The cover's `party` owes `amount_minor`."""

    party: str
    amount_minor: int


class ClassificationChanged(LoanEvent, kw_only=True, gc=False):
    """The regulatory view, on contractual and material DPD (IFRS 9 5.5.11; PBoC/CBIRC order 1 of 2023; FFIEC)."""

    product: str
    pool_id: str | None
    contractual_bucket: str
    ifrs9_stage: Literal[1, 2, 3]
    five_tier: Literal["normal", "special_mention", "substandard", "doubtful", "loss"]
    ffiec: Literal["pass", "substandard", "loss"]
    default_flag: bool
    dpd: DpdDetail


# --- reminders, bureau-reports, offers, review-requests -----------------------------------------------------------


class ReminderDue(BorrowerEvent, kw_only=True, gc=False):
    kind: Literal["before_due", "payment_failed", "check_in", "education"]
    loan_id: str | UnsetType = UNSET
    instalment_no: int | UnsetType = UNSET
    due_on: CivilDate | UnsetType = UNSET
    days_to_due: int | UnsetType = UNSET
    amount_minor: int | UnsetType = UNSET
    channels: list[str]
    topic_code: str | UnsetType = UNSET
    consequences: list[Consequence]
    due_30d_minor: int | UnsetType = UNSET
    income_30d_minor: int | UnsetType = UNSET


class BureauStatusDue(LoanEvent, kw_only=True, gc=False):
    """What is to be reported of a loan; `corrects` is the `event_id` of the report that it replaces."""

    status: str
    dpd: int
    corrects: str | UnsetType = UNSET


class PlanOffered(BorrowerEvent, kw_only=True, gc=False):
    loan_id: str | UnsetType = UNSET
    options: list[PlanOption]


class Listing(Outbound, kw_only=True, gc=False):
    """An entry of the consortium's blacklist; its Kafka key is `subject_token`. Without borrower, cause or evidence."""

    subject_token: str
    key_id: str
    reason: str
    expires_on: CivilDate | None


class Blacklisted(Listing, kw_only=True, gc=False):
    pass


class Delisted(Listing, kw_only=True, gc=False):
    """Undoes a listing under that listing's key."""


Warnings = WarningRaised | WarningEscalated | WarningLowered | WarningCleared
LimitAdjustments = DrawsRestricted | LimitDecreased | LimitFrozen | LimitZeroed | LimitRestored | LimitRebased
Listings = Blacklisted | Delisted


class ReviewRequested(BorrowerEvent, kw_only=True, gc=False):
    """A person is to look. `proposed` is the event as it would have been, ``null`` where only a look is asked for; in a
    proposed listing that has no subject token yet, `subject_token` and `key_id` are empty."""

    proposed: (
        WarningRaised
        | WarningEscalated
        | WarningLowered
        | WarningCleared
        | DrawsRestricted
        | LimitDecreased
        | LimitFrozen
        | LimitZeroed
        | LimitRestored
        | LimitRebased
        | Blacklisted
        | Delisted
        | None
    )
    why: str


# --- incidents, portfolio -----------------------------------------------------------------------------------------


class Incident(CausedEvent, kw_only=True, gc=False):
    """A failing channel or platform; its Kafka key is `incident_id`. `baseline` is the usual failure ratio in basis
    points, ``null`` where there is too little history for one."""

    incident_id: str
    scope: IncidentScope
    failures: int
    attempts: int
    baseline: int | None


class IncidentSuspected(Incident, kw_only=True, gc=False):
    pass


class IncidentOpened(Incident, kw_only=True, gc=False):
    pass


class IncidentClosed(Incident, kw_only=True, gc=False):
    pass


class PoolEvent(CausedEvent, kw_only=True, gc=False):
    """What is known of a pool on a business date; its Kafka key is `pool_id`. `figures` are integers (minor units,
    counts, basis points, days) by name, in tables where a figure has dimensions."""

    pool_id: str
    on: CivilDate
    figures: dict[str, Any]


class PoolReported(PoolEvent, kw_only=True, gc=False):
    pass


class TriggerBreached(PoolEvent, kw_only=True, gc=False):
    pass


class PortfolioWarning(PoolEvent, kw_only=True, gc=False):
    pass


# --- portfolio-input (internal) -----------------------------------------------------------------------------------


class Internal(Struct, kw_only=True, gc=False, tag_field="type", tag=event_type):
    """What the borrower tasks tell the portfolio task."""

    event_id: str
    at_ms: int
    cause: Cause


class LoanMoved(Internal, kw_only=True, gc=False):
    """A loan's balance or bucket changed; the whole position after the change. Key: the pool, else the product."""

    borrower_id: str
    loan_id: str
    pool_id: str | None
    product: str
    currency: str
    segment: str | None
    industry: str | None
    region: str | None
    disbursed_on: CivilDate
    principal_minor: int
    previous_bucket: str | None
    bucket: str
    status: Literal["open", "closed", "written_off"]
    dpd: DpdCounters
    outstanding: Amounts
    overdue: Amounts
    probability_bp: int | None


class ChannelCounted(Internal, kw_only=True, gc=False):
    """What a task saw of a channel in the hour that began at `from_ms`. Key: the channel."""

    channel: str
    platform: str | None
    from_ms: int
    attempts: int
    failures: int
    expected: int


class Advanced(Internal, kw_only=True, gc=False):
    """The clock of a task, so that a month closes at the slowest one's. Key: the pool or channel it is for."""

    partition: int


Delinquency = BucketChanged | DueDateShifted | WaiverProposed | ClaimDue | ClassificationChanged
Incidents = IncidentSuspected | IncidentOpened | IncidentClosed
Portfolio = PoolReported | TriggerBreached | PortfolioWarning
PortfolioInput = LoanMoved | ChannelCounted | Advanced

encode = msgspec.json.Encoder().encode
"""The wire form of one event."""
