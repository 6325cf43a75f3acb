"""Every event that reaches the service, one message type each.

Amounts are integer minor units, instants epoch milliseconds UTC, `*_on` civil dates in the lender's zone. A field that
a producer may leave out defaults to ``UNSET`` and may also be ``null``, which means the same: read it with `given`.
What is absent stays distinguishable from zero. Ranges stand in the annotations, so that decoding refuses what lies
outside them. Fields not listed are ignored.
"""

import re
from datetime import date
from typing import Annotated, Literal, TypeVar

from msgspec import UNSET, Meta, Struct, UnsetType

MAX_MINOR = 10**15
"""Largest amount of money accepted, in minor units: sums of thousands of them still fit 64 bits."""
MAX_AT_MS = 253_402_300_799_999
"""The last millisecond of the year 9999: the largest instant a civil date can be given for."""

Id = Annotated[str, Meta(min_length=1, max_length=64)]
Word = Annotated[str, Meta(min_length=1, max_length=64)]
Instant = Annotated[int, Meta(ge=0, le=MAX_AT_MS)]
Minor = Annotated[int, Meta(ge=0, le=MAX_MINOR)]
PositiveMinor = Annotated[int, Meta(ge=1, le=MAX_MINOR)]
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
BasisPoints = Annotated[int, Meta(ge=0, le=10_000)]
InstalmentNo = Annotated[int, Meta(ge=0, le=10_000)]
# Python's `$` also matches before a final line break, which the look-ahead excludes.
Currency = Annotated[str, Meta(pattern=r"^[A-Z]{3}(?!\n)$")]
Month = Annotated[str, Meta(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])(?!\n)$")]
Channel = Word

_T = TypeVar("_T")


def given(value: _T | UnsetType | None) -> _T | None:
    """The value of a field that a producer may leave out, None where it is absent or ``null``."""
    return None if value is UNSET else value


def event_type(class_name: str) -> str:
    """The `type` on the wire of a message class: ``RepaymentReceived`` is ``repayment_received``."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", class_name).lower()


class Inbound(Struct, frozen=True, kw_only=True, gc=False, tag_field="type", tag=event_type):
    """What every inbound event carries."""

    event_id: Id
    at_ms: Instant


class BorrowerEvent(Inbound, frozen=True, kw_only=True, gc=False):
    """An event about one borrower; its Kafka key is `borrower_id`."""

    borrower_id: Id


class LoanEvent(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    """An event about one loan. `currency`, where a producer sends it, must be the loan's."""

    loan_id: Id
    currency: Currency | UnsetType | None = UNSET


# --- repayments ---------------------------------------------------------------------------------------------------


class Instalment(Struct, frozen=True, gc=False):
    no: InstalmentNo
    due_on: date
    principal_minor: Minor
    interest_minor: Minor
    fee_minor: Minor


Schedule = Annotated[list[Instalment], Meta(min_length=1, max_length=600)]


class Cover(Struct, frozen=True, gc=False):
    """An insurer's or guarantor's share of a loan and the DPD from which a claim is due."""

    party: Word
    share_bp: BasisPoints
    claim_after_dpd: Count


class LoanDisbursed(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    loan_id: Id
    product: Word
    currency: Currency
    principal_minor: PositiveMinor
    schedule: Schedule
    pool_id: Id | UnsetType | None = UNSET
    platform: Word | UnsetType | None = UNSET
    cover: Cover | UnsetType | None = UNSET


RepaymentMethod = Literal["auto_debit", "manual", "transfer", "settlement"]


class RepaymentReceived(LoanEvent, frozen=True, kw_only=True, gc=False):
    payment_id: Id
    amount_minor: PositiveMinor
    method: RepaymentMethod
    channel: Channel
    value_on: date | UnsetType | None = UNSET


class RepaymentFailed(LoanEvent, frozen=True, kw_only=True, gc=False):
    attempt_id: Id
    amount_minor: PositiveMinor
    method: RepaymentMethod
    channel: Channel
    code: Word
    instalment_no: InstalmentNo | UnsetType | None = UNSET


class RepaymentReversed(LoanEvent, frozen=True, kw_only=True, gc=False):
    payment_id: Id
    code: Word


class ChargeAdded(LoanEvent, frozen=True, kw_only=True, gc=False):
    instalment_no: InstalmentNo
    component: Literal["fee", "penalty"]
    amount_minor: PositiveMinor


class AmountWaived(LoanEvent, frozen=True, kw_only=True, gc=False):
    component: Literal["penalty", "fee", "interest", "principal"]
    amount_minor: PositiveMinor
    instalment_no: InstalmentNo | UnsetType | None = UNSET


class LoanRescheduled(LoanEvent, frozen=True, kw_only=True, gc=False):
    schedule: Schedule
    distressed: bool
    plan_id: Id | UnsetType | None = UNSET


class LoanWrittenOff(LoanEvent, frozen=True, kw_only=True, gc=False):
    pass


class LoanClosed(LoanEvent, frozen=True, kw_only=True, gc=False):
    pass


class PauseSet(LoanEvent, frozen=True, kw_only=True, gc=False):
    """Managed DPD does not count the days `from_on` to `until_on`, both included."""

    from_on: date
    until_on: date


class FailureReattributed(LoanEvent, frozen=True, kw_only=True, gc=False):
    attempt_id: Id
    attribution: Literal["platform", "borrower", "unknown"]


class PoolAssigned(LoanEvent, frozen=True, kw_only=True, gc=False):
    pool_id: Id


class PresumptionRebutted(LoanEvent, frozen=True, kw_only=True, gc=False):
    """Recorded evidence against the presumption of an IFRS 9 stage (5.5.11, B5.5.37), valid until `until_on`."""

    which: Literal["stage2", "stage3"]
    evidence: Word
    until_on: date


# --- logins, transactions -----------------------------------------------------------------------------------------


class Login(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    outcome: Literal["ok", "failed"]
    device_id: Id
    channel: Channel


class Transaction(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    transaction_id: Id
    direction: Literal["in", "out"]
    amount_minor: Minor
    currency: Currency
    category: Literal[
        "purchase", "cash", "transfer", "income", "credit_inflow", "credit_outflow", "investment", "gambling", "other"
    ]
    counterparty_id: Id | UnsetType | None = UNSET


# --- signals ------------------------------------------------------------------------------------------------------


class ProfileSet(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    segment: Literal["worker", "student", "freelancer", "small_business", "other"]
    limit_minor: Minor
    currency: Currency
    onboarded_on: date
    identity_token: Annotated[str, Meta(min_length=1, max_length=256)] | UnsetType | None = UNSET
    industry: Word | UnsetType | None = UNSET
    region: Word | UnsetType | None = UNSET


class ProfileChanged(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    field: Literal["employer", "phone", "address", "bank_account"]


class LoanApplied(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    application_id: Id
    outcome: Literal["open", "granted", "refused"]


class StatementIssued(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    """A revolving account's statement; a balance in the customer's favour is negative."""

    balance_minor: Annotated[int, Meta(ge=-MAX_MINOR, le=MAX_MINOR)]
    billed_minor: Annotated[int, Meta(ge=-MAX_MINOR, le=MAX_MINOR)]
    paid_minor: Minor
    limit_minor: Minor


class HardshipReported(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    kind: Word
    until_ms: Instant | UnsetType | None = UNSET


class ViolationReported(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    kind: Word
    confirmed: bool


class BlacklistReported(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    source: Word
    listed: bool
    expires_on: date | UnsetType | None = UNSET


class BusinessReported(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    turnover_minor: Minor
    orders: Count
    receivables_minor: Minor
    period: Word


class AssetsReported(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    kind: Word
    value_minor: Minor
    pledged: bool


class BureauReported(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    active_lenders: Count
    enquiries_30d: Count
    external_balance_minor: Minor
    external_overdue: bool
    source: Word | UnsetType | None = UNSET
    external_score: Count | UnsetType | None = UNSET
    adverse_events: Count | UnsetType | None = UNSET


class IncomeReported(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    amount_minor: Minor
    period: Month
    kind: Word


class LinkReported(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    linked_borrower_id: Id
    relation: Literal["device", "contact", "guarantor", "account", "business_owner"]
    status: Literal["clear", "overdue", "fraud", "blacklisted", "abnormal", "adverse"]


class FraudReported(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    kind: Word
    confirmed: bool


# --- reviews ------------------------------------------------------------------------------------------------------


class AppealFiled(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    about_event_id: Id
    text_code: Word


class ReviewDecided(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    decision: Literal["approve", "uphold", "overturn", "set_limit", "clear", "exempt"]
    reviewer: Id
    about_event_id: Id | UnsetType | None = UNSET
    limit_minor: Minor | UnsetType | None = UNSET
    expires_at_ms: Instant | UnsetType | None = UNSET


class HoldSet(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    kind: Literal["legal", "manual"]
    reviewer: Id


class HoldLifted(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    kind: Literal["legal", "manual"]
    reviewer: Id


class BorrowerErased(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    """All that is kept of the borrower goes. What comes later is of a new one."""

    reviewer: Id


class PlanAccepted(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    loan_id: Id
    plan_id: Id
    schedule: Schedule
    until_on: date


class PlanDeclined(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    loan_id: Id
    plan_id: Id


class PlanBroken(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    loan_id: Id
    plan_id: Id


class PlanCompleted(BorrowerEvent, frozen=True, kw_only=True, gc=False):
    loan_id: Id
    plan_id: Id


# --- control ------------------------------------------------------------------------------------------------------


class Tick(Inbound, frozen=True, kw_only=True, gc=False):
    """The business clock: its `at_ms` is the time."""


class PolicyActivated(Inbound, frozen=True, kw_only=True, gc=False):
    policy_id: Id
    digest: Annotated[str, Meta(min_length=1, max_length=128)]
    mode: Literal["live", "shadow", "retired"]
    body: Annotated[str, Meta(min_length=1, max_length=900 * 1024)]
    author: Id
    approver: Id


class DealSet(Inbound, frozen=True, kw_only=True, gc=False):
    pool_id: Id
    triggers: list[dict[str, str | int]]
    coupon_bp: Count
    fees_bp: Count


class MacroScope(Struct, frozen=True, gc=False, omit_defaults=True):
    product: Word | UnsetType | None = UNSET
    segment: Word | UnsetType | None = UNSET
    industry: Word | UnsetType | None = UNSET
    region: Word | UnsetType | None = UNSET


class MacroSet(Inbound, frozen=True, kw_only=True, gc=False):
    factor: Annotated[float, Meta(ge=-1.0, le=1.0)]
    until_ms: Instant | UnsetType | None = UNSET
    scope: MacroScope | UnsetType | None = UNSET
    indicator: Word | UnsetType | None = UNSET
    value: float | UnsetType | None = UNSET


class IncidentScope(Struct, frozen=True, gc=False, omit_defaults=True):
    channel: Word | UnsetType | None = UNSET
    platform: Word | UnsetType | None = UNSET
    product: Word | UnsetType | None = UNSET
    all: bool | UnsetType | None = UNSET


class IncidentOpened(Inbound, frozen=True, kw_only=True, gc=False):
    incident_id: Id
    scope: IncidentScope
    from_ms: Instant
    grace_days: Annotated[int, Meta(ge=0, le=366)]
    cause: Word
    until_ms: Instant | UnsetType | None = UNSET


class IncidentClosed(Inbound, frozen=True, kw_only=True, gc=False):
    incident_id: Id
    until_ms: Instant


Repayments = (
    LoanDisbursed
    | RepaymentReceived
    | RepaymentFailed
    | RepaymentReversed
    | ChargeAdded
    | AmountWaived
    | LoanRescheduled
    | LoanWrittenOff
    | LoanClosed
    | PauseSet
    | FailureReattributed
    | PoolAssigned
    | PresumptionRebutted
)
Signals = (
    ProfileSet
    | ProfileChanged
    | LoanApplied
    | StatementIssued
    | HardshipReported
    | ViolationReported
    | BlacklistReported
    | BusinessReported
    | AssetsReported
    | BureauReported
    | IncomeReported
    | LinkReported
    | FraudReported
)
Reviews = (
    AppealFiled
    | ReviewDecided
    | HoldSet
    | HoldLifted
    | BorrowerErased
    | PlanAccepted
    | PlanDeclined
    | PlanBroken
    | PlanCompleted
)
Control = Tick | PolicyActivated | DealSet | MacroSet | IncidentOpened | IncidentClosed
