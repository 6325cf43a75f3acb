"""An explanation for the eye of a collections officer."""

import json

import msgspec
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streams.engine.features import FEATURE_INDEX, FEATURES
from streams.engine.score_fall import FEATURES as FALLS
from streams.engine.score_fall import SPANS
from streams.replay.explain import Explained, LoanShown, RefusedShown
from streams.replay.explained_decisions import Telling, classed
from streams.replay.explained_people import in_words
from streams.replay.found import Found, place
from streams.replay.quantities import money, quantity

_DIGEST_SHOWN = len("sha256:") + 8


def render(shown: Explained, found: Found) -> RenderableType:
    """The explanation as rich text; `found` is what it was made of."""
    parts: list[RenderableType] = [*_heading(shown)]
    for loan in shown.loans:
        parts += [Text(), *_loan(loan)]
    parts += [Text(), _score(shown), Text(), *_decisions(shown, found)]
    return Group(*parts)


def _heading(found: Explained) -> list[RenderableType]:
    standing = found.standing
    clock = "no tick yet: nothing has been judged" if found.clock is None else f"last tick {found.clock}"
    lines = [
        f"Borrower {found.borrower_id}" + (f", {found.segment}" if found.segment else ""),
        f"as of {found.as_of} (business date {found.business_date}; {clock}); policy {found.policy.id}",
        f"warning level: {standing.level}",
    ]
    if standing.limit_minor is not None and standing.currency is not None:
        lines.append(f"limit: {money(standing.limit_minor, standing.currency)}, {standing.limit_status}")
    if standing.score != standing.own_score:
        lines.append(
            f"a freeze is judged by a score of {standing.own_score}, without what others say ({standing.score})"
        )
    if found.macro is not None:
        behind = [f"{factor.indicator or factor.event_id} {factor.factor:+}" for factor in found.macro.factors]
        lines.append(f"thresholds on the score shifted by {found.macro.shift_points:+}: {', '.join(behind)}")
    lines += in_words(found.people)
    if found.erased is not None:
        by = found.erased.cause
        lines.append(
            f"erased on {found.erased.at} by {by.event_id} ({place(by.topic, by.partition, by.offset)}): nothing from "
            "before is shown"
        )
    lines += _refused(found.refused)
    return [Text(lines[0], style="bold"), *(Text(line) for line in lines[1:])]


def _refused(refused: RefusedShown) -> list[str]:
    if not refused.count:
        return []
    shown = len(refused.newest)
    which = "" if shown == refused.count else f", the newest {shown} of them"
    return [f"refused, so that it counts for nothing here: {refused.count} of this borrower's events{which}"] + [
        f"    {place(one.topic, one.partition, one.offset)}, {one.at}: {one.reason} ({one.message})"
        for one in refused.newest
    ]


def _loan(loan: LoanShown) -> list[RenderableType]:
    dpd = loan.dpd
    title = (
        f"Loan {loan.loan_id} ({loan.product}, {loan.status}): {loan.bucket}, "
        f"{dpd.contractual} days past due (managed {dpd.managed}, material {dpd.material}; "
        f"principal {dpd.principal}, interest {dpd.interest})"
    )
    view = loan.classification
    table = Table("", "principal", "interest", "fee", "penalty", box=None, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, amounts in (("outstanding", loan.outstanding), ("overdue", loan.overdue)):
        cells = (amounts.principal_minor, amounts.interest_minor, amounts.fee_minor, amounts.penalty_minor)
        table.add_row(name, *(money(minor, loan.currency) for minor in cells))
    unpaid = [row for row in loan.instalments if row.status == "unpaid"]
    received, back = money(loan.received_minor, loan.currency), money(loan.reversed_minor, loan.currency)
    lines = [
        *([] if view is None else [classed(view)]),
        f"received {received}, reversed {back}, not yet applied {money(loan.unapplied_minor, loan.currency)}",
        f"instalments: {len(unpaid)} of {len(loan.instalments)} unpaid"
        + (f", the oldest due on {unpaid[0].due_on}" if unpaid else ""),
    ]
    return [Text(title, style="bold"), table, *(Text(line) for line in lines)]


def _score(found: Explained) -> RenderableType:
    score = found.score
    falls = [(span, found.features[feature.name]) for span, feature in zip(SPANS, FALLS, strict=True)]
    fell = [f"{fall} within {span} days" for span, fall in falls if fall is not None and fall > 0]
    title = f"Score {score.score}, tier {score.tier}{''.join(f', fell by {told}' for told in fell)}: {score.base} and"
    table = Table("", "value", "band", "points", title=title, title_justify="left", box=None, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    for factor in sorted(score.factors, key=lambda factor: factor.points):
        if factor.points == 0:
            continue
        unit = FEATURES[FEATURE_INDEX[factor.factor]].unit
        table.add_row(
            FEATURES[FEATURE_INDEX[factor.factor]].meaning.partition(";")[0],
            "unknown" if factor.value is None else quantity(factor.value, unit),
            _band(factor.band.lower, factor.band.upper, unit),
            f"{factor.points:+}",
        )
    return table


def _band(lower: int | None, upper: int | None, unit: str) -> str:
    if lower is None:
        return "" if upper is None else f"below {quantity(upper, unit)}"
    if upper is None:
        return f"from {quantity(lower, unit)}"
    return f"{quantity(lower, unit)} to below {quantity(upper, unit)}"


def _decisions(shown: Explained, found: Found) -> list[RenderableType]:
    telling = Telling(shown, found)
    parts: list[RenderableType] = [Text("Decisions", style="bold"), *telling.lines(shown.decisions)]
    if not shown.decisions:
        parts = [Text("Nothing was decided.")]
    shadows: dict[tuple[str, str], list[msgspec.Raw]] = {}
    for raw in shown.shadow_decisions:
        policy = json.loads(bytes(raw))["policy"]
        shadows.setdefault((policy["id"], policy["digest"]), []).append(raw)
    for (name, digest), decisions in shadows.items():
        versions = sum(1 for other, _ in shadows if other == name)
        which = name if versions == 1 else f"{name} ({digest[:_DIGEST_SHOWN]})"
        parts += [Text(), Text(f"shadow {which} would have", style="bold"), *telling.lines(decisions)]
    return parts
