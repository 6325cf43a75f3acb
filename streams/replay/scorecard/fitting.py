"""`duewatch scorecard fit`: points from outcomes, judged on borrowers and on a time they were not set on."""

import json
from collections.abc import Sequence
from hashlib import blake2b
from pathlib import Path

import msgspec
import yaml
from msgspec import Struct

from streams.engine.features import FEATURE_INDEX
from streams.policy.loader import body, digest, loads
from streams.policy.model import Policy, Scorecard, Tier
from streams.replay.manifest import RecordingError
from streams.replay.outputs import new_folder
from streams.replay.recording import Recording
from streams.replay.replay import rules_of
from streams.replay.scorecard.additive import direction, fit, scores_of
from streams.replay.scorecard.measure import Power, auc_of, power
from streams.replay.scorecard.sample import (
    DELAY_DPD,
    WITHIN_DAYS,
    Sample,
    by_ledger,
    is_late,
    labelled,
    observe,
    part,
)
from streams.replay.scorecard.sample import read_labels as labels_of

REPEATS = 5
"""How often the borrowers are cut in halves, each of which is scored with points set on the other."""
SCORECARD, POLICY, REPORT = "scorecard.yaml", "policy.yaml", "report.json"


class BandShown(Struct, frozen=True):
    """lower <= value < upper, None is open; both None is the unknown. `bad_rate` is None where nobody is in it."""

    lower: int | None
    upper: int | None
    unknown: bool
    points: int
    borrowers: int
    bad_rate: float | None


class FactorShown(Struct, frozen=True):
    """`auc`: of this factor's points alone. `direction`: 1 where more is worse, -1 where less is, 0 where it turns."""

    feature: str
    reason: str
    direction: int
    fitted: bool
    auc: float
    bands: list[BandShown]


class TierShown(Struct, frozen=True):
    """Borrowers by tier of the fitted score, each scored with points set on others."""

    name: str
    borrowers: int
    bad_rate: float | None
    probability_bp: int


class FitReport(Struct, frozen=True):
    """Powers of several scores on the same borrowers, where nothing else is said.

    `given`: the policy's points as they were. `fitted`: each borrower scored with points set on the other half; its
    intervals are those of the first cut in halves, `fitted_aucs` and `fitted_kss` hold all cuts. `within`: points set
    and measured on the same borrowers, for comparison alone. `out_of_time`: points set on half of the borrowers at the
    earlier moment by what the ledger told since, measured at the later one on those of the other half who were not more
    than a month late; `given_out_of_time`: the policy's points there.
    """

    recording: str
    policy: str
    policy_digest: str
    moment: str
    outcome: str
    given: Power
    fitted: Power
    fitted_aucs: list[float]
    fitted_kss: list[float]
    within: Power
    out_of_time: Power | None
    given_out_of_time: Power | None
    earlier: str | None
    tiers: list[TierShown]
    factors: list[FactorShown]


def in_half(borrower_id: str, cut: int) -> bool:
    """Which half of a cut a borrower is in: by its id alone, so that anybody comes to the same."""
    return blake2b(f"{cut}|{borrower_id}".encode(), digest_size=1).digest()[0] % 2 == 1


def only(sample: Sample, cut: int, half: bool) -> Sample:
    return part(sample, [in_half(name, cut) is half for name in sample.borrowers])


def not_late(sample: Sample) -> Sample:
    return part(sample, [not is_late(values) for values in sample.values])


def cross_scores(policy: Policy, sample: Sample, cut: int) -> list[int]:
    """The score of each borrower, with points set on the half that it is not in."""
    by_name: dict[str, int] = {}
    for half in (False, True):
        card = fit(policy, only(sample, cut, not half))
        tested = only(sample, cut, half)
        by_name.update(zip(tested.borrowers, scores_of(policy, card, tested.values), strict=True))
    return [by_name[name] for name in sample.borrowers]


def fit_recording(
    source: Path,
    out: Path,
    policy_name: str,
    labels: Path | None,
    at_ms: int | None,
    earlier_ms: int | None,
    moments: tuple[str, str | None],
) -> FitReport:
    """Set points by a recording, and write `scorecard.yaml`, `policy.yaml` and `report.json` into the folder `out`.

    Args:
        labels: outcomes by borrower; None: what the ledger tells in the two months after the moment.
        at_ms: the moment, None for the end of the recording.
        earlier_ms: a moment before it, for the check out of time; None for none.
        moments: both as the report shall tell them.

    Raises:
        RecordingError: recording or labels cannot be used, or `out` exists or cannot be made.
        PolicyError: there is no such policy.
    """
    if labels is None and at_ms is None:
        raise RecordingError("no outcomes: give --labels, or --at a moment two months before the recording ends")
    if earlier_ms is not None and at_ms is not None and earlier_ms >= at_ms:
        raise RecordingError("--earlier is not before --at: give an earlier moment")
    policy = rules_of(policy_name).policy
    known = None if labels is None else labels_of(labels)
    with new_folder(out) as folder:
        with Recording.open(source) as recording:
            seen = observe(recording, policy, [at_ms] if earlier_ms is None else [earlier_ms, at_ms])
        sample = by_ledger(seen.at[-1], seen.reported, at_ms or 0) if known is None else labelled(seen.at[-1], known)
        if not sample.borrowers and known:
            raise RecordingError(
                f"{labels}: none of the {len(known):,} labelled borrowers is in the recording: are the ids those of it?"
            )
        if min(sum(sample.bad), len(sample.bad) - sum(sample.bad)) < 100:
            raise RecordingError(
                f"{source}: {sum(sample.bad)} of {len(sample.bad)} borrowers went bad: give at least 100 of either kind"
            )
        before = None if earlier_ms is None else by_ledger(seen.at[0], seen.reported, earlier_ms)
        card, report = _fitted(policy, sample, before, str(source), moments, known is not None)
        _write(folder, policy, card, report)
    return report


def _fitted(
    policy: Policy, sample: Sample, before: Sample | None, source: str, moments: tuple[str, str | None], labelled: bool
) -> tuple[Scorecard, FitReport]:
    crossed = [cross_scores(policy, sample, cut) for cut in range(REPEATS)]
    powers = [power(scores, sample.bad) for scores in crossed]
    card = fit(policy, sample)
    tiers = _tiers(card, crossed, sample.bad)
    card = msgspec.structs.replace(card, tiers=tuple(tier for tier, _ in tiers))
    later = given_later = None
    if before is not None:
        tested = not_late(only(sample, 0, True))
        early = fit(policy, only(before, 0, False))
        later = power(scores_of(policy, early, tested.values), tested.bad)
        given_later = power(scores_of(policy, policy.score, tested.values), tested.bad)
    outcome = f"contractual DPD of {DELAY_DPD} or more within {WITHIN_DAYS} days"
    report = FitReport(
        recording=source,
        policy=policy.id,
        policy_digest=digest(policy),
        moment=moments[0],
        outcome="label" if labelled else outcome,
        given=power(scores_of(policy, policy.score, sample.values), sample.bad),
        fitted=powers[0],
        fitted_aucs=[found.auc.value for found in powers],
        fitted_kss=[found.ks.value for found in powers],
        within=power(scores_of(policy, card, sample.values), sample.bad),
        out_of_time=later,
        given_out_of_time=given_later,
        earlier=moments[1],
        tiers=[shown for _, shown in tiers],
        factors=_factors(policy.score, card, sample),
    )
    return card, report


def _tiers(card: Scorecard, crossed: Sequence[Sequence[int]], bad: Sequence[bool]) -> list[tuple[Tier, TierShown]]:
    """The tiers with the share that went bad in each, over all cuts; no tier's is below that of a better one."""
    found: list[tuple[Tier, TierShown]] = []
    above: int | None = None
    floor_bp = 0
    for tier in card.tiers:
        inside = [
            outcome
            for scores in crossed
            for score, outcome in zip(scores, bad, strict=True)
            if (tier.from_score is None or score >= tier.from_score) and (above is None or score < above)
        ]
        rate = sum(inside) / len(inside) if len(inside) >= 100 * len(crossed) else None
        floor_bp = max(floor_bp, tier.probability_bp if rate is None else round(rate * 10_000))
        told = TierShown(tier.name, len(inside) // len(crossed), None if rate is None else round(rate, 4), floor_bp)
        found.append((msgspec.structs.replace(tier, probability_bp=floor_bp), told))
        above = tier.from_score
    return found


def _factors(given: Scorecard, card: Scorecard, sample: Sample) -> list[FactorShown]:
    shown: list[FactorShown] = []
    for before, factor in zip(given.factors, card.factors, strict=True):
        column = [row[FEATURE_INDEX[factor.feature]] for row in sample.values]
        if all(value is None for value in column):
            continue
        places = [
            None
            if value is None
            else next(at for at, b in enumerate(factor.bands) if b.upper is None or value < b.upper)
            for value in column
        ]
        worth = [factor.unknown if place is None else factor.bands[place].points for place in places]
        bands = []
        for at, (lower, upper, points) in enumerate((band.lower, band.upper, band.points) for band in factor.bands):
            bands.append(_band(lower, upper, False, points, places, at, sample.bad))
        bands.append(_band(None, None, True, factor.unknown, places, None, sample.bad))
        shown.append(
            FactorShown(
                factor.feature,
                factor.reason,
                direction(before),
                factor != before,
                round(auc_of(worth, sample.bad), 4),
                [band for band in bands if band.borrowers or not band.unknown],
            )
        )
    return shown


def _band(
    lower: int | None,
    upper: int | None,
    unknown: bool,
    points: int,
    places: Sequence[int | None],
    place: int | None,
    bad: Sequence[bool],
) -> BandShown:
    inside = [outcome for found, outcome in zip(places, bad, strict=True) if found == place]
    rate = round(sum(inside) / len(inside), 4) if inside else None
    return BandShown(lower, upper, unknown, points, len(inside), rate)


def _write(folder: Path, policy: Policy, card: Scorecard, report: FitReport) -> None:
    """The files; the policy is read back by the loader, so that what is written is one that lint accepts."""
    whole = json.loads(body(msgspec.structs.replace(policy, id=f"{policy.id}-fitted"[:64], score=card)))
    heading = f"# Points set by `duewatch scorecard fit` on {report.recording} as of {report.moment}.\n"
    text = heading + yaml.safe_dump(whole, allow_unicode=True, sort_keys=False, width=110)
    loads(text, POLICY)
    (folder / POLICY).write_text(text, encoding="utf-8")
    section = yaml.safe_dump({"score": whole["score"]}, sort_keys=False, width=110)
    (folder / SCORECARD).write_text(heading + section, encoding="utf-8")
    (folder / REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
