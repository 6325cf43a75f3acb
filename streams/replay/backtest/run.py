"""`duewatch backtest`: one policy, or two side by side, on a recording."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Struct

from schemas.topics import INPUTS
from streams.engine.calendar import Calendar, iso_day
from streams.policy.loader import digest
from streams.replay.backtest.dates import period_of
from streams.replay.backtest.decisions import Period, people_of, put_decisions
from streams.replay.backtest.figures import Figure, Sheet
from streams.replay.backtest.outcomes import OUTCOMES, Histories
from streams.replay.backtest.scores import put_scores
from streams.replay.backtest.watch import Watched, watch
from streams.replay.manifest import RecordingError
from streams.replay.outputs import PolicyUsed, new_folder
from streams.replay.progress import progress
from streams.replay.recording import Recording
from streams.replay.replay import RECORDED, Rules, rules_of

REPORT, FIGURES = "report.json", "figures.csv"
EVERYBODY = "all"


class Report(Struct, frozen=True):
    """A back-test. `policies` by the names that `figures` call them, the first one's ledger tells the outcomes.

    Decisions count from `decisions_from_on`; those up to `decisions_until_on` can be followed for `horizon_days`, which
    ends on `ends_on`. `borrowers` are those whose outcome is known, `left_out` those of whom it is not: erased, or in
    quarantine.
    """

    recording: str
    policies: dict[str, PolicyUsed]
    outcomes_dpd: list[int]
    horizon_days: int
    observed_on: list[str]
    decisions_from_on: str
    decisions_until_on: str
    ends_on: str
    borrowers: int
    left_out: int
    figures: list[Figure]


def backtest(
    source: Path, policy: str, against: str | None, out: Path, horizon_days: int, observe_on: list[str]
) -> Report:
    """Test one policy, or two, and write `report.json` and `figures.csv` into the folder `out`.

    Args:
        policy, against: `standard`, a path, or `recorded`.
        observe_on: dates as people write them; none: the first of each month that leaves room on both sides.

    Raises:
        PolicyError: there is no such policy, or it is refused.
        RecordingError, CommitLogError: the recording cannot be used or is too short for these dates, or `out` exists or
            cannot be made.
    """
    chosen = _named([rules_of(name) for name in (policy, against) if name is not None])
    facts = next(iter(chosen.values())).policy.facts
    calendar = Calendar(facts.calendar.zone)
    with new_folder(out) as folder, Recording.open(source) as recording:
        observed, period = period_of(recording, calendar, observe_on, horizon_days)
        histories = Histories(facts, period.ends_day)
        watched = _watch(recording, chosen, calendar, observed, histories)
        if not any(name in histories.of for one in watched.values() for at_date in one.scores for name in at_date):
            days = ", ".join(map(iso_day, observed))
            raise RecordingError(f"{source}: nobody had an open loan on {days}: give another --observe-on")
        report = _report(source, chosen, watched, histories, observed, period)
        _write(folder, report)
    return report


def _named(chosen: Sequence[Rules]) -> dict[str, Rules]:
    """The policies by id, and by digest too where two share one id."""
    names = [RECORDED if rules.recorded else rules.policy.id for rules in chosen]
    if len(set(names)) == len(names):
        return dict(zip(names, chosen, strict=True))
    digests = [digest(rules.policy) for rules in chosen]
    if len(set(digests)) < len(digests):
        raise RecordingError("--against is the policy itself: give another one, or leave it out")
    return {f"{name} {known[:15]}": rules for name, known, rules in zip(names, digests, chosen, strict=True)}


def _watch(
    recording: Recording, chosen: dict[str, Rules], calendar: Calendar, observed: list[int], histories: Histories
) -> dict[str, Watched]:
    """Each policy in a fold of its own, so that its decisions are those of a replay; the first one takes histories."""
    records = sum(entry.records for entry in recording.manifest.files if entry.topic in INPUTS)
    watched: dict[str, Watched] = {}
    for name, rules in chosen.items():
        at_end = (lambda _: None) if watched else histories.take
        with progress(f"deciding under {name}", records or None) as advance:
            watched[name] = watch(recording, rules, calendar, observed, advance, at_end)
    return watched


def _report(
    source: Path,
    chosen: dict[str, Rules],
    watched: dict[str, Watched],
    histories: Histories,
    observed: list[int],
    period: Period,
) -> Report:
    heard = {name for one in watched.values() for name in one.signals}
    heard.update(name for one in watched.values() for at_date in one.scores for name in at_date)
    return Report(
        recording=str(source),
        policies={name: PolicyUsed(rules.policy.id, digest(rules.policy)) for name, rules in chosen.items()},
        outcomes_dpd=list(OUTCOMES),
        horizon_days=period.horizon_days,
        observed_on=[iso_day(day) for day in observed],
        decisions_from_on=iso_day(period.from_day),
        decisions_until_on=iso_day(period.until_day),
        ends_on=iso_day(period.ends_day),
        borrowers=len(histories.of),
        left_out=len((heard - histories.of.keys()) | histories.left_out),
        figures=_figures(watched, histories, observed, period),
    )


def _figures(watched: dict[str, Watched], histories: Histories, observed: list[int], period: Period) -> list[Figure]:
    """All figures of each policy, of everybody first and then of each segment."""
    segments = [EVERYBODY, *sorted({history.segment for history in histories.of.values()})]
    figures: list[Figure] = []
    with progress("measuring", len(watched) * len(segments)) as advance:
        for name, one in watched.items():
            for segment in segments:
                group = {
                    borrower: history
                    for borrower, history in histories.of.items()
                    if segment in (EVERYBODY, history.segment)
                }
                sheet = Sheet(name, segment)
                put_scores(sheet, one.scores, observed, group, period.horizon_days)
                put_decisions(sheet, people_of(one, group), period, one.policy, histories.facts)
                figures += sheet.figures
                advance(1)
    return figures


def _write(folder: Path, report: Report) -> None:
    (folder / REPORT).write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=2) + b"\n")
    names = Figure.__struct_fields__
    lines = io.StringIO()
    table = csv.writer(lines, lineterminator="\n")
    table.writerow(names)
    table.writerows([getattr(figure, name) for name in names] for figure in report.figures)
    (folder / FIGURES).write_text(lines.getvalue(), encoding="utf-8")
