"""Explain: one borrower out of a recording, as of a moment, with all that was decided and why."""

from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from schemas.outbound import Amounts, Cause, DpdDetail, Macro, Subtotals
from streams.engine import delinquency, features
from streams.engine.blacklist import Signer
from streams.engine.calendar import iso_day
from streams.engine.decide import Judge
from streams.engine.delinquency import Position
from streams.engine.features import FEATURES
from streams.engine.limits import status_of
from streams.engine.loan import UNPAID, Loan, instalments
from streams.engine.score import scored
from streams.engine.score_fall import FEATURES as FALLS
from streams.engine.score_fall import fallen, peaks_of
from streams.engine.shadows import SHADOW_DECISIONS
from streams.engine.standing import Standing
from streams.engine.state import Borrower
from streams.engine.tightening import macro_of
from streams.policy.compiler import SUBTOTALS, bands_of
from streams.policy.model import LEVELS, Band
from streams.replay.explained_people import PeopleShown, people
from streams.replay.found import Found, Refusals, find
from streams.replay.moment import iso_moment
from streams.replay.outputs import PolicyUsed


class InstalmentShown(Struct, frozen=True):
    """One row of a schedule; `paid_on` is the day it became fully paid, `set_by` the event that set the row."""

    no: int
    due_on: str
    status: Literal["unpaid", "paid", "replaced"]
    paid_on: str | None
    unpaid: Amounts
    set_by: str


class ClassificationShown(Struct, frozen=True):
    """The regulatory view of an open loan, None for one that has ended."""

    contractual_bucket: str
    ifrs9_stage: int
    five_tier: str
    ffiec: str
    default_flag: bool


class LoanShown(Struct, frozen=True):
    loan_id: str
    product: str
    pool_id: str | None
    currency: str
    status: Literal["open", "closed", "written_off"]
    disbursed_on: str
    bucket: str
    dpd: DpdDetail
    classification: ClassificationShown | None
    outstanding: Amounts
    overdue: Amounts
    unapplied_minor: int
    received_minor: int
    reversed_minor: int
    allocated_minor: int
    instalments: list[InstalmentShown]


class BandShown(Struct, frozen=True):
    """lower <= value < upper; None is open. Both are None where the value is unknown."""

    lower: int | None
    upper: int | None


class FactorShown(Struct, frozen=True):
    factor: str
    reason: str
    subtotal: str
    value: int | None
    band: BandShown
    points: int


class ScoreShown(Struct, frozen=True):
    """The score of the features shown: `base` and the points of all factors."""

    score: int
    tier: str
    probability_bp: int
    base: int
    subtotals: Subtotals
    factors: list[FactorShown]


class StandingShown(Struct, frozen=True):
    """As of the last judgement: a borrower is judged after its own events and at its own wake-ups, so that `score` may
    be older than the score of the features shown. `own_score` is the score with what others say taken as unknown, where
    that is better: by it a borrower is frozen or zeroed. Scores and `tier` are None before the first, limit fields
    without a limit."""

    level: str
    score: int | None
    own_score: int | None
    tier: str | None
    limit_status: str | None
    limit_minor: int | None
    limit_seq: int | None
    currency: str | None


class ErasedShown(Struct, frozen=True):
    """When the borrower was last erased, and by which event."""

    at: str
    cause: Cause


class RefusedEventShown(Struct, frozen=True):
    topic: str
    partition: int
    offset: int
    at: str
    reason: str
    message: str


class RefusedShown(Struct, frozen=True):
    """How many records under the borrower's key became dead letters, and the `newest` of them, at most 20."""

    count: int
    newest: list[RefusedEventShown]


class Explained(Struct, frozen=True):
    """A borrower as of a moment. `zone` is that of the dates, `clock` the moment of the last tick; `decisions` are all
    events emitted for the borrower until then, as a replay writes them, `shadow_decisions` those of shadow policies;
    none from before it was `erased`. Nothing of what was `refused` counts in any of this. `macro` is what shifts the
    thresholds on the score then, None where nothing does."""

    borrower_id: str
    as_of: str
    zone: str
    business_date: str
    clock: str | None
    policy: PolicyUsed
    segment: str | None
    loans: list[LoanShown]
    features: dict[str, int | None]
    score: ScoreShown
    standing: StandingShown
    macro: Macro | None
    people: PeopleShown
    erased: ErasedShown | None
    refused: RefusedShown
    decisions: list[msgspec.Raw]
    shadow_decisions: list[msgspec.Raw]


def explain(
    source: str | Path,
    borrower_id: str,
    at_ms: int | None = None,
    policy: str = "standard",
    signer: Signer | None = None,
) -> Explained:
    """The borrower after every record with an order time up to `at_ms` (None: of the whole recording).

    Args:
        signer: makes the subject tokens of the blacklist; None: placeholders.

    Raises:
        ExplainError: nothing is known of the borrower, then or at all.
        PolicyError, RecordingError, CommitLogError: the policy, the recording or its commit log cannot be used.
    """
    return explained(borrower_id, find(source, borrower_id, at_ms, policy, signer))


def explained(borrower_id: str, found: Found) -> Explained:
    """What is shown of a borrower that was found."""
    borrower, task, as_of_ms, erased = found.borrower, found.task, found.as_of_ms, found.erased
    judge = task.engine.judge_of(task.task)
    day = judge.calendar.day(as_of_ms)
    zone = ZoneInfo(judge.calendar.zone)
    loans = borrower.facts.loans
    positions = {name: delinquency.position(loan, day, judge.policy.facts) for name, loan in loans.items()}
    still_open = [position for position in positions.values() if not position.ended]
    values = features.evaluate(
        borrower.facts.windows,
        loans.values(),
        as_of_ms,
        judge.calendar,
        max((position.managed for position in still_open), default=None),
        max((position.contractual for position in still_open), default=None),
    )
    values = judge.scorable(borrower.facts, values, as_of_ms)
    profile = borrower.facts.profile
    factors, points = judge.tightening(borrower, as_of_ms, day, task.task)
    score = _score(values, judge, "" if profile is None else profile.segment)
    clock_ms = task.task.clock_ms
    return Explained(
        borrower_id=borrower_id,
        as_of=iso_moment(as_of_ms, zone),
        zone=judge.calendar.zone,
        business_date=iso_day(day),
        clock=None if clock_ms is None else iso_moment(clock_ms, zone),
        policy=PolicyUsed(judge.policy.id, judge.digest),
        segment=None if profile is None else profile.segment,
        loans=[_loan(loan, positions[name], day, judge, borrower) for name, loan in loans.items()],
        features={feature.name: value for feature, value in zip(FEATURES, values, strict=True)}
        | _falls(borrower.standing, judge, score.score, day),
        score=score,
        standing=_standing(borrower.standing, task.engine.judge_by(borrower.standing.judged_by)),
        macro=macro_of(factors, points) or None,
        people=people(borrower.standing.oversight, borrower.facts.directions, as_of_ms, zone),
        erased=None if erased is None else ErasedShown(iso_moment(erased.at_ms, zone), erased.cause),
        refused=_refused(found.refused, zone),
        decisions=[msgspec.Raw(output.value) for output in found.told if output.topic != SHADOW_DECISIONS],
        shadow_decisions=[msgspec.Raw(output.value) for output in found.told if output.topic == SHADOW_DECISIONS],
    )


def _refused(refused: Refusals, zone: ZoneInfo) -> RefusedShown:
    return RefusedShown(
        refused.total,
        [
            RefusedEventShown(
                one.topic, one.partition, one.offset, iso_moment(one.at_ms, zone), one.reason, one.message
            )
            for one in refused.newest
        ],
    )


def _amounts(cells: tuple[int, int, int, int]) -> Amounts:
    penalty, fee, interest, principal = cells
    return Amounts(principal_minor=principal, interest_minor=interest, fee_minor=fee, penalty_minor=penalty)


def _classification(
    loan: Loan, position: Position, day: int, judge: Judge, borrower: Borrower
) -> ClassificationShown | None:
    if position.ended:
        return None
    loans, clean_since_day = borrower.facts.loans.values(), borrower.standing.clean_since_day
    code = judge.regulator.code(loan, position, day, loans, clean_since_day)
    return ClassificationShown(**judge.regulator.named(code)._asdict())


def _loan(loan: Loan, position: Position, day: int, judge: Judge, borrower: Borrower) -> LoanShown:
    return LoanShown(
        loan_id=loan.loan_id,
        product=loan.product,
        pool_id=loan.pool_id or None,
        currency=loan.currency,
        status=_status(loan, day),
        disbursed_on=iso_day(loan.disbursed_day),
        bucket=judge.policy.buckets[judge.compiled.bucket_index(position.managed)].name,
        dpd=DpdDetail(
            contractual=position.contractual,
            managed=position.managed,
            material=position.material,
            principal=position.principal,
            interest=position.interest,
        ),
        classification=_classification(loan, position, day, judge, borrower),
        outstanding=_amounts(position.outstanding),
        overdue=_amounts(position.overdue),
        unapplied_minor=position.unapplied_minor,
        received_minor=loan.received_minor,
        reversed_minor=loan.reversed_minor,
        allocated_minor=loan.allocated_minor,
        instalments=[
            InstalmentShown(
                no=row.no,
                due_on=iso_day(row.due_day),
                status="paid" if row.paid_day >= 0 else "unpaid" if row.paid_day == UNPAID else "replaced",
                paid_on=iso_day(row.paid_day) if row.paid_day >= 0 else None,
                unpaid=_amounts(row.unpaid),
                set_by=row.set_by,
            )
            for row in instalments(loan)
        ],
    )


def _status(loan: Loan, day: int) -> Literal["open", "closed", "written_off"]:
    if 0 <= loan.written_off_day <= day:
        return "written_off"
    return "closed" if 0 <= loan.closed_day <= day else "open"


def _score(values: list[int | None], judge: Judge, segment: str) -> ScoreShown:
    card = judge.policy.score
    result = scored(judge.compiled, values, segment)
    shown = []
    for at, factor in enumerate(card.factors):
        value = values[judge.compiled.factor_features[at]]
        band = _band(bands_of(factor, segment).bands, value)
        shown.append(FactorShown(factor.feature, factor.reason, factor.subtotal, value, band, result.points[at]))
    return ScoreShown(
        score=result.score,
        tier=card.tiers[result.tier].name,
        probability_bp=card.tiers[result.tier].probability_bp,
        base=card.base,
        subtotals=Subtotals(**dict(zip(SUBTOTALS, result.subtotals, strict=True))),
        factors=shown,
    )


def _falls(standing: Standing, judge: Judge, score: int, day: int) -> dict[str, int | None]:
    """How far the score shown is below the highest of the days before; unknown under another scorecard than theirs."""
    peaks = peaks_of(standing, day) if standing.card == judge.compiled.card else (None, None)
    return {feature.name: fallen(peak, score) for feature, peak in zip(FALLS, peaks, strict=True)}


def _band(bands: tuple[Band, ...], value: int | None) -> BandShown:
    if value is None:
        return BandShown(None, None)
    band = next(band for band in bands if band.upper is None or value < band.upper)
    return BandShown(band.lower, band.upper)


def _standing(standing: Standing, judge: Judge | None) -> StandingShown:
    """`judge` is that of the last judgement, which may have been under the policy before; None where there was none."""
    limit = standing.limit
    return StandingShown(
        level=LEVELS[standing.level],
        score=None if judge is None else standing.score,
        own_score=None if judge is None else standing.score + standing.others_points,
        tier=None if judge is None else judge.policy.score.tiers[standing.tier].name,
        limit_status=None if limit is None else status_of(limit.rung),
        limit_minor=None if limit is None else limit.minor,
        limit_seq=None if limit is None else limit.seq,
        currency=None if limit is None else limit.currency,
    )
