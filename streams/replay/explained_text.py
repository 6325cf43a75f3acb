"""An explanation for the eye of a collections officer."""

import json
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from streams.engine.features import FEATURE_INDEX, FEATURES
from streams.engine.score_fall import FEATURES as FALLS
from streams.engine.score_fall import SPANS
from streams.replay.explain import ClassificationShown, Explained, LoanShown, RefusedShown
from streams.replay.explained_people import in_words
from streams.replay.found import place
from streams.replay.moment import iso_moment

_FRACTION_DIGITS = {
    **dict.fromkeys(("CLP", "ISK", "JPY", "KRW", "PYG", "UGX", "VND", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}
"""ISO 4217: digits after the point, where they are not two."""


def money(minor: int, currency: str) -> str:
    """An amount as people write it: 1,200.00 CNY."""
    digits = _FRACTION_DIGITS.get(currency, 2)
    return f"{Decimal(minor).scaleb(-digits):,.{digits}f} {currency}"


def render(found: Explained) -> RenderableType:
    """The explanation as rich text."""
    parts: list[RenderableType] = [*_heading(found)]
    for loan in found.loans:
        parts += [Text(), *_loan(loan)]
    parts += [Text(), _score(found), Text(), *_decisions(found)]
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
    classed = loan.classification
    table = Table("", "principal", "interest", "fee", "penalty", box=None, header_style="dim")
    for column in table.columns[1:]:
        column.justify = "right"
    for name, amounts in (("outstanding", loan.outstanding), ("overdue", loan.overdue)):
        cells = (amounts.principal_minor, amounts.interest_minor, amounts.fee_minor, amounts.penalty_minor)
        table.add_row(name, *(money(minor, loan.currency) for minor in cells))
    unpaid = [row for row in loan.instalments if row.status == "unpaid"]
    received, back = money(loan.received_minor, loan.currency), money(loan.reversed_minor, loan.currency)
    lines = [
        *([] if classed is None else [_classed(classed)]),
        f"received {received}, reversed {back}, not yet applied {money(loan.unapplied_minor, loan.currency)}",
        f"instalments: {len(unpaid)} of {len(loan.instalments)} unpaid"
        + (f", the oldest due on {unpaid[0].due_on}" if unpaid else ""),
    ]
    return [Text(title, style="bold"), table, *(Text(line) for line in lines)]


_CLASSES = ClassificationShown.__struct_fields__


def _classed(classed: ClassificationShown) -> str:
    default = "in default" if classed.default_flag else "not in default"
    tier = classed.five_tier.replace("_", " ")
    return f"IFRS 9 stage {classed.ifrs9_stage}, five tiers {tier}, FFIEC {classed.ffiec}, {default}"


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
            "unknown" if factor.value is None else _quantity(factor.value, unit),
            _band(factor.band.lower, factor.band.upper, unit),
            f"{factor.points:+}",
        )
    return table


def _quantity(value: int, unit: str) -> str:
    if unit == "bp":
        return f"{value / 100:,.1f} %"
    return f"{value:,}" if unit == "count" else f"{value:,} {unit}"


def _band(lower: int | None, upper: int | None, unit: str) -> str:
    if lower is None:
        return "" if upper is None else f"below {_quantity(upper, unit)}"
    if upper is None:
        return f"from {_quantity(lower, unit)}"
    return f"{_quantity(lower, unit)} to below {_quantity(upper, unit)}"


def _decisions(found: Explained) -> list[RenderableType]:
    if not found.decisions:
        return [Text("Nothing was decided.")]
    zone = ZoneInfo(found.zone)
    currency = next((loan.currency for loan in found.loans), "")
    parts: list[RenderableType] = [Text("Decisions", style="bold")]
    for raw in found.decisions:
        event = json.loads(bytes(raw))
        parts.append(Text(f"{iso_moment(event['at_ms'], zone)}  {_what(event)}"))
        for reason in event.get("reasons", []):
            parts.append(Text(f"    {_reason(reason)}", style="dim"))
        if "recovery" in event:
            parts.append(Text(f"    way back: {_recovery(event, currency)}", style="dim"))
        cause = event.get("cause")
        if cause is not None:
            where = place(cause["topic"], cause["partition"], cause["offset"])
            parts.append(Text(f"    because of {cause['event_id']} ({where})", style="dim"))
    return parts


def _what(event: dict[str, Any]) -> str:
    kind = event["type"]
    told = ""
    if "limit_seq" in event:
        currency = event["currency"]
        told = f": {money(event['from_minor'], currency)} to {money(event['to_minor'], currency)}, {event['to_status']}"
    elif "previous_level" in event:
        told = f": {event['previous_level']} to {event['level']}, score {event['score']}, tier {event['tier']}"
    elif kind == "bucket_changed":
        told = f": loan {event['loan_id']} from {event['from']} to {event['to']}"
    elif kind == "classification_changed":
        told = f": loan {event['loan_id']}, {_classed(ClassificationShown(*(event[name] for name in _CLASSES)))}"
    elif "loan_id" in event:
        told = f": loan {event['loan_id']}"
    undone = f" (undoes {event['compensates']})" if "compensates" in event else ""
    return f"{kind.replace('_', ' ')}{told}{undone}"


def _reason(reason: dict[str, Any]) -> str:
    threshold = "" if reason["threshold"] is None else f", threshold {reason['threshold']}"
    points = f", {reason['points']:+} points" if reason["points"] else ""
    proof = f", proof {', '.join(reason['evidence'])}" if reason["evidence"] else ""
    return f"{reason['text']} ({reason['code']}: {reason['value']}{threshold}{points}{proof})"


def _recovery(event: dict[str, Any], currency: str) -> str:
    recovery = event["recovery"]
    told = str(recovery["action"]).replace("_", " ")
    if "amount_minor" in recovery:
        told += f" {money(recovery['amount_minor'], currency)}"
    if "by_on" in recovery:
        told += f" by {recovery['by_on']}"
    return told + (f"; restored from {recovery['earliest_on']}" if "earliest_on" in recovery else "")
