"""Every way of getting a policy wrong is told in one line that names the line of the file."""

import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.policy import loader
from streams.policy.loader import PolicyError, body, digest, load, loads

STANDARD = loader.SHIPPED["standard"].read_text(encoding="utf-8")
# All but the first two factors: what is wrong with one is wrong with all, and reading less is quicker.
SHORT = STANDARD[: STANDARD.index("    - feature: mean_lateness_days")] + STANDARD[STANDARD.index("  # Best tier") :]
HERE = "▶"
"""Marks, in the texts below, the line that the error must name."""

# What of the standard policy is replaced | by what | the error.
WRONG = [
    # --- YAML itself
    (
        "id: standard\n",
        "id: standard\n\tbad: 1▶\n",
        "not YAML (while scanning for the next token found character '\\t'",
    ),
    ("  base: 650\n", "▶  base: 650: 1\n", "not YAML (mapping values are not allowed here); mend the syntax here"),
    ("id: standard\n", "id: standard\n▶id: other\n", "id: given twice, first in line 7; keep one of the two"),
    ("      CNY: 80000\n", "      CNY: 80000\n▶      CNY: 1\n", "CNY: given twice, first in line 27"),
    ("zone: Asia/Shanghai", "▶zone: &z Asia/Shanghai", "YAML anchors and aliases are not read; write the value out"),
    ("zone: Asia/Shanghai", "▶zone: *z", "YAML anchors and aliases are not read; write the value out in full"),
    ("zone: Asia/Shanghai", "▶zone: !!python/object:os.system x", "YAML tags are not read; remove the tag"),
    ("by_method: {} ", "▶by_method: " + "[" * 30 + "]" * 30, "nested more than 24 levels deep"),
    ("  base: 650\n", "  base: 650\n▶  ? [a]\n  : 1\n", "score: a field name must be plain text"),
    ("id: standard\n", "id: standard\n▶---\n", "not YAML (expected a single document"),
    ("id: standard\n", "▶id: stan\x07dard\n", "character U+0007 is not allowed; remove it"),
    # --- fields and types
    ("  base: 650\n", "▶  bias: 650\n", "score.bias: unknown field; use one of: base, factors, tiers"),
    ("  base: 650\n  factors:", "▶  factors:", "score.base: missing; add this field"),
    ("  base: 650\n", "▶  base: 6.5\n", "score.base: expected a whole number, found '6.5'"),
    ("  base: 650\n", "▶  base: '650'\n", "score.base: expected a whole number, found '650'"),
    ("  base: 650\n", "▶  base: 0650\n", "score.base: expected a whole number, found '0650'"),
    ("  base: 650\n", "▶  base: 10:50\n", "score.base: expected a whole number, found '10:50'"),
    ("  base: 650\n", "▶  base:\n", "score.base: expected a whole number, found nothing"),
    ("  base: 650\n", "  base:\n▶    - 1\n", "score.base: expected a whole number, found a list"),
    ("  base: 650\n", "▶  base: 10001\n", "score.base: 10001 is above the greatest value allowed, 10000"),
    ("absolute_minor: 10000", "▶absolute_minor: -1", "default_absolute_minor: -1 is below the least value allowed, 0"),
    ("zone: Asia/Shanghai", "▶zone: no", "facts.calendar.zone: expected text, found 'no'; if text is meant, quote it"),
    ("zone: Asia/Shanghai", "▶zone: 2026-01-01", "facts.calendar.zone: expected text, found '2026-01-01'; if text"),
    ("      direct: true\n", "▶      direct: yes\n", "limits.steps[3].direct: expected true or false, found 'yes'"),
    ("counts_as: 0 ", "▶counts_as: 2 ", "facts.dpd.due_date_counts_as: expected one of 0, 1, found '2'"),
    ("  - level: watch", "▶  - level: yellow", "warnings[0].level: expected one of amber, critical, none, red, watch"),
    ("  by_method: {}", "▶  by_method: {cheque: {}}", "facts.allocation.by_method.cheque: expected one of auto_debit"),
    ("zone: Asia/Shanghai", "▶zone: {a: 1}", "facts.calendar.zone: expected text, found fields"),
    ("  calendar:\n", "▶  calendar: 8\n  extra:\n", "facts.calendar: expected fields (name: value), found '8'"),
    (
        "stages_bp: [2500, 5000, 10000]",
        "▶stages_bp: 5000",
        "limits.restoration.stages_bp: expected a list, found '5000'",
    ),
    ("reason: arrears_now", "▶reason: Arrears-Now", "reason: 'Arrears-Now' does not have the form ^[a-z][a-z0-9_]*$"),
    ("    en: A payment is overdue.", "▶    en: ''", "reasons.arrears_now.en: must not be empty"),
    (
        "    en: A payment is overdue.",
        "▶    en: " + "x" * 301,
        "reasons.arrears_now.en: is 301 characters long; shorten it",
    ),
    ("    en: A payment is overdue.", '▶    en: "two\\nlines"', "reasons.arrears_now.en: holds a line break"),
    ("    zh: 有款项已逾期。\n", "", "reasons.arrears_now.zh: missing; add this field"),
    # --- facts
    (
        "zone: Asia/Shanghai",
        "▶zone: Asia/Shangri_La",
        "facts.calendar.zone: 'Asia/Shangri_La' is not an IANA time zone",
    ),
    ("zone: Asia/Shanghai", "▶zone: localtime", "facts.calendar.zone: 'localtime' is not an IANA time zone"),
    (
        "zone: Asia/Shanghai",
        "▶zone: ../../etc/passwd",
        "facts.calendar.zone: '../../etc/passwd' is not an IANA time zone",
    ),
    ("groups: [past_due, due_today, in_advance]", "▶groups: [due_today]", "default.groups: past_due is missing"),
    (
        "groups: [past_due, due_today, in_advance]",
        "▶groups: [past_due, due_today, past_due]",
        "facts.allocation.default.groups[2]: group 'past_due' is listed twice",
    ),
    (
        "components: [penalty, fee, interest, principal]",
        "▶components: [penalty, fee, interest]",
        "facts.allocation.default.components: list each of penalty, fee, interest, principal once",
    ),
    ("      CNY: 80000", "▶      cny: 80000", "facts.material.absolute_minor.cny: is not an ISO 4217 code"),
    (
        "      - insufficient_funds\n",
        "▶      - timeout\n",
        "facts.attribution.borrower[0]: code 'timeout' is under platform too; a failure has one cause",
    ),
    ("      - congestion\n", "▶      - timeout\n", "facts.attribution.platform[3]: code 'timeout' is listed twice"),
    # --- buckets
    (
        "{name: C, from_day: 0, to_day: 0}",
        "▶{name: C, from_day: 1, to_day: 0}",
        "buckets[0].from_day: the first bucket",
    ),
    ("{name: C, from_day: 0", "▶{name: M0, from_day: 0", "buckets[0].name: the first bucket is 'M0'; it must be C"),
    (
        "{name: M2, from_day: 31",
        "▶{name: M2, from_day: 30",
        "buckets[2].from_day: overlaps the one before; start at 31",
    ),
    (
        "{name: M2, from_day: 31",
        "▶{name: M2, from_day: 33",
        "buckets[2].from_day: leaves a gap: day 31 belongs to none; start at 31",
    ),
    ("{name: M2, from_day: 31", "▶{name: M1, from_day: 31", "buckets[2].name: bucket 'M1' is listed twice"),
    ("{name: M7, from_day: 181}", "▶{name: M7, from_day: 181, to_day: 200}", "buckets[7].to_day: the last bucket, M7"),
    ("from_day: 31, to_day: 60}", "▶from_day: 31}", "buckets[2].to_day: missing in M2; only the last bucket is open"),
    ("from_day: 31, to_day: 60}", "▶from_day: 31, to_day: 30}", "buckets[2].to_day: 30 lies before from_day 31"),
    # --- scorecard
    (
        "feature: worst_managed_dpd",
        "▶feature: worst_dpd",
        "factors[0].feature: unknown feature 'worst_dpd'; use one of:",
    ),
    (
        "feature: on_time_ratio_bp",
        "▶feature: worst_managed_dpd",
        "score.factors[1].feature: 'worst_managed_dpd' is scored",
    ),
    (
        "reason: arrears_now",
        "▶reason: arrears_then",
        "factors[0].reason: reason 'arrears_then' has no text; add it under",
    ),
    (
        "{lower: 8, upper: 15, points: -80}",
        "▶{lower: 9, upper: 15, points: -80}",
        "score.factors[0].bands[2].lower: leaves a gap: value 8 belongs to none; start at 8",
    ),
    (
        "{lower: 8, upper: 15, points: -80}",
        "▶{lower: 7, upper: 15, points: -80}",
        "score.factors[0].bands[2].lower: overlaps the one before; start at 8",
    ),
    (
        "{lower: 8, upper: 15, points: -80}",
        "▶{lower: 8, upper: 8, points: -80}",
        "score.factors[0].bands[2].upper: 8 is not above lower 8; bands go upwards",
    ),
    ("{lower: 8, upper: 15,", "▶{upper: 15,", "score.factors[0].bands[2].lower: missing; continue at 8"),
    ("{lower: 8, upper: 15,", "▶{lower: 8,", "score.factors[0].bands[2].upper: missing; only the last band is open"),
    ("{lower: 90, points", "▶{lower: 90, upper: 99, points", "bands[6].upper: the last band must be open above"),
    (
        "        - {upper: 1, points: 10}",
        "▶        - {lower: 0, upper: 1, points: 10}",
        "bands[0].lower: the first band",
    ),
    # --- tiers
    (
        "name: B, from_score: 620",
        "▶name: B, from_score: 680",
        "score.tiers[1].from_score: 680 is not below 680 of the tier",
    ),
    (
        "name: B, from_score",
        "▶name: A, from_score",
        "score.tiers[1].name: tier 'A' is listed twice; keep one of the two",
    ),
    (
        "from_score: 620, probability_bp: 300",
        "▶from_score: 620, probability_bp: 90",
        "tiers[1].probability_bp: 90 is below",
    ),
    (
        "{name: E, probability_bp: 5000}",
        "▶{name: E, from_score: 1, probability_bp: 5000}",
        "scores below it belong to no",
    ),
    ("name: B, from_score: 620,", "▶name: B,", "score.tiers[1].from_score: missing; only the last tier is open below"),
    # --- warnings
    (
        "  - level: watch",
        "▶  - level: amber",
        "warnings[0].level: amber is out of order, expected watch; write watch, amber",
    ),
    (
        "leave_score_from: 600",
        "▶leave_score_from: 580",
        "warnings[0].leave_score_from: 580 is not above score_below 580",
    ),
    (
        "leave_managed_dpd_below: 8\n",
        "▶leave_managed_dpd_below: 15\n",
        "warnings[1].leave_managed_dpd_below: 15 is not below managed_dpd_from 15: the level would flap; lower it",
    ),
    ("leave_score_from: 600", "▶leave_score_from: null", "score_below and leave_score_from go together; give both"),
    (
        "    leave_score_fall_7d_below: 60\n",
        "▶    leave_score_fall_7d_below: 100\n",
        "warnings[0].leave_score_fall_7d_below: 100 is not below score_fall_7d_from 100: the level would",
    ),
    (
        "    leave_score_fall_30d_below: 80\n",
        "▶    leave_score_fall_30d_below: null\n",
        "score_fall_30d_from and leave_score_fall_30d_below go together; give both or neither",
    ),
    (
        "    leave_score_from: 540\n",
        "    leave_score_from: 540\n▶    score_fall_7d_from: 100\n    leave_score_fall_7d_below: 60\n",
        "warnings[1].score_fall_7d_from: 100 is not above 100 of watch; raise it",
    ),
    (
        "  score_fell_7d:",
        "  score_fell_8d:",
        "warnings[0].score_fall_7d_from: reason 'score_fell_7d' has no text",
    ),
    (
        "feature: on_time_ratio_bp",
        "▶feature: score_fall_7d",
        "score.factors[1].feature: score_fall_7d is made of the score itself; watch it in warnings instead",
    ),
    (
        "    score_below: 510",
        "▶    score_below: 580",
        "warnings[1].score_below: 580 is not below 580 of watch; lower it",
    ),
    ("managed_dpd_from: 31\n", "▶managed_dpd_from: 15\n", "warnings[2].managed_dpd_from: 15 is not above 15 of amber"),
    ("reason: arrears_started", "▶reason: arrears_began", "warnings[0].reason: reason 'arrears_began' has no text"),
    # --- macro
    (
        "- {lower: 5000, points: 40}",
        "▶- {lower: 5000, points: 10}",
        "macro.bands[3].points: 10 is below 20 of a lower factor; points rise",
    ),
    (
        "- {lower: 5000, points: 40}",
        "▶- {lower: 5000, points: 50}",
        "macro.bands[3].points: 50 is more than most_points 40; raise that",
    ),
    (
        "- {lower: -4999, upper: 2000, points: 0}",
        "▶- {lower: -4999, upper: 2000, points: 5}",
        "macro.bands[1].points: a factor of 0 lies here, which shifts nothing; write 0",
    ),
    (
        "- {lower: 2000, upper: 5000, points: 20}",
        "▶- {lower: 2100, upper: 5000, points: 20}",
        "macro.bands[2].lower: leaves a gap: value 2000 belongs to none",
    ),
    # --- limits
    (
        "    - status: decreased",
        "▶    - status: draws_restricted",
        "limits.steps[1].status: draws_restricted is out of order",
    ),
    ("    - status: decreased", "▶    - status: normal", "limits.steps[1].status: normal is the ground, not a step"),
    ("      keep_bp: 7000", "▶      keep_bp: 10000", "limits.steps[1].keep_bp: 10000 keeps the whole limit"),
    ("      keep_bp: 0", "▶      keep_bp: 5", "limits.steps[3].keep_bp: 5 is left of a zeroed limit; write 0"),
    ("reason: limit_frozen", "▶reason: limit_iced", "limits.steps[2].reason: reason 'limit_iced' has no text"),
    (
        "- {level_from: red}",
        "▶- {level_from: red, blacklists: true}",
        "limits.steps[1].when[1].blacklists: only who is zeroed is listed, not who is decreased; remove it",
    ),
    ("      draws_min_gap_h: 72\n", "", "limits.steps[0]: draws_max_30d and draws_min_gap_h go together"),
    ("      times: 3 ", "      times: 1 ", "again_after_days: means nothing for a step taken once; remove it"),
    ("escalate_after_days: [3, 7, 14]", "▶escalate_after_days: []", "is empty: a review left lying would never be"),
    (
        "escalate_after_days: [3, 7, 14]",
        "▶escalate_after_days: [3, 3]",
        "escalate_after_days[1]: 3 is not after 3",
    ),
    (
        "listed_elsewhere: {reason: listed_elsewhere, review: true}",
        "▶listed_elsewhere: {reason: listed_elsewhere, review: true, freeze_days: 3}",
        "suspicions.listed_elsewhere.freeze_days: a listing elsewhere alone freezes nobody; write 0",
    ),
    (
        "{reason: fraud_suspected,",
        "▶{reason: hearsay,",
        "suspicions.fraud.reason: reason 'hearsay' has no text",
    ),
    (
        "  reason: long_overdue\n",
        "▶  reason: manual_decision\n",
        "blacklist.reason: 'manual_decision' says that a person was asked or has decided; take a code of its own",
    ),
    ("  breaker_open:\n", "  breaker_opened:\n", "reasons: breaker_open is missing: every policy says it in en and zh"),
    (
        "suspended: [spend_24h_deviations]",
        "▶suspended: [spending]",
        "suspended[0]: unknown feature 'spending'",
    ),
    ("- {fraud_confirmed: true}", "▶- {}", "limits.steps[3].when[3]: is empty: it would hold for everyone"),
    (
        "- {fraud_confirmed: true}",
        "▶- {score_below: 100}",
        "limits.steps[3].when[3]: is not enough to zero a limit; give",
    ),
    (", plan_offered: true, blacklists", "▶, blacklists", "limits.steps[3].when[0]: is not enough to zero a limit"),
    (", material: true, plan", "▶, plan", "limits.steps[3].when[0]: is not enough to zero a limit"),
    (", contractual_dpd_from: 90", "▶", "limits.steps[3].when[0]: is not enough to zero a limit"),
    ("- {level_from: amber}", "▶- {level_from: none}", "limits.steps[0].when[1].level_from: none holds for everyone"),
    (
        "- {managed_dpd_from: 90, contractual",
        "▶- {managed_dpd_from: 60, contractual",
        "limits.steps[3].when[0].managed_dpd_from: 60 is not after the plan is offered, at managed DPD 60; raise it",
    ),
    ("[2500, 5000, 10000]", "▶[2500, 2500, 10000]", "limits.restoration.stages_bp[1]: 2500 is not above 2500; stages"),
    (
        "[2500, 5000, 10000]",
        "▶[2500, 5000]",
        "limits.restoration.stages_bp[1]: the last stage is 5000; it must be 10000",
    ),
    ("[2500, 5000, 10000]", "▶[]", "limits.restoration.stages_bp: is empty; the last stage is 10000"),
    # --- the regulatory view
    ("stage3_from_day: 90", "▶stage3_from_day: 31", "stage3_from_day: 31 is not after stage2_from_day 31"),
    ("doubtful_from_day: 271", "▶doubtful_from_day: 91", "doubtful_from_day: 91 is not after substandard_from_day 91"),
    ("loss_from_day: 120", "▶loss_from_day: 90", "closed_end.loss_from_day: 90 is not after substandard_from_day 90"),
    ("products: [credit_card]", "▶products: [a, a]", "open_end_products[1]: product 'a' is listed twice"),
    ("material_from_day: 91 ", "▶material_from_day: 30 ", "30 is no default yet; it begins after more than 30 days"),
    ("_days: 365   # from", "▶_days: 89   # from", "distressed_probation_days: 89 is shorter than probation_days 90"),
    ("stage2_from_day: 31 ", "▶stage2_from_day: 0 ", "stage2_from_day: 0 is below the least value allowed, 1"),
    (
        "    distressed_probation_days: 365\n",
        "▶    distressed_probation_days: 89\n",
        "89 is shorter than probation_days 90",
    ),
    # --- offers
    (
        "{kind: instalments, months: 12}",
        "▶{kind: instalments}",
        "offers.options[0].months: missing; over how many months",
    ),
    (
        "{kind: deferral, defer_days: 60}",
        "▶{kind: deferral}",
        "offers.options[1].defer_days: missing; by how many days",
    ),
    (
        "{kind: deferral, defer_days: 60}",
        "▶{kind: deferral, defer_days: 60, months: 2}",
        "options[1].months: means nothing",
    ),
    (
        "{kind: instalments, months: 12}",
        "▶{kind: instalments, months: 9, defer_days: 9}",
        "options[0].defer_days: means",
    ),
    # --- incidents
    (
        "attributions: [platform, unknown]",
        "▶attributions: [platform, platform]",
        "facts.incidents.attributions[1]: attribution 'platform' is listed twice; keep one of the two",
    ),
    (
        "attributions: [platform, unknown]",
        "▶attributions: []",
        "facts.incidents.attributions: is empty: no failure would ever get grace; list platform",
    ),
    # --- reminders
    ("before_due_days: [7, 3, 1, 0]", "▶before_due_days: [7, 3, 7]", "before_due_days[2]: 7 is listed twice; keep one"),
    ("level_from: amber, every", "▶level_from: none, every", "check_in.level_from: none would reach everyone"),
    ("tiers: [D, E], channels", "▶tiers: [D, X], channels", "channels[1].tiers[1]: 'X' is no tier; use one of: A, B"),
    ("channels: [app_push, email]", "▶channels: []", "reminders.channels[2].channels: is empty; name at least one"),
    (
        "    - {channels: [app_push]}",
        "▶    - {tiers: [A], channels: [app_push]}",
        "reminders.channels[3]: the last row must be for everybody; remove segments and tiers, or add a row",
    ),
    (
        "{segments: [student], channels",
        "▶{channels",
        "reminders.channels[0]: is for everybody: the rows after it are never reached; move it to the end",
    ),
]


def marked(text: str) -> tuple[str, int | None]:
    """The text without its mark, and the line the mark stands in."""
    at = text.find(HERE)
    return text.replace(HERE, ""), None if at < 0 else text.count("\n", 0, at) + 1


@pytest.mark.parametrize(("old", "new", "expected"), WRONG, ids=[row[2][:60] for row in WRONG])
def test_names_the_line_of_what_is_wrong(old: str, new: str, expected: str) -> None:
    assert old in SHORT
    text, line = marked(SHORT.replace(old, new, 1))
    with pytest.raises(PolicyError) as caught:
        loads(text, "my.yaml")
    message = str(caught.value)
    assert "\n" not in message
    prefix, _, rest = message.partition(": ")
    assert prefix == f"my.yaml:{line}" if line is not None else prefix.startswith("my.yaml:")
    assert expected in rest


def test_a_level_left_out_is_missing() -> None:
    start = SHORT.index("  - level: critical")
    text = SHORT[:start] + SHORT[SHORT.index("# ---", start) :]
    with pytest.raises(PolicyError, match=r"^x:\d+: warnings: critical is missing; write watch, amber, red, critical$"):
        loads(text, "x")


def test_a_level_needs_a_threshold() -> None:
    text = SHORT.replace(
        "    score_below: 580\n    leave_score_from: 600\n", "    score_below: null\n    leave_score_from: null\n"
    )
    loads(text, "one threshold is enough")
    text = text.replace(
        "managed_dpd_from: 1\n    leave_managed_dpd_below: 1",
        "managed_dpd_from: null\n    leave_managed_dpd_below: null",
    )
    loads(text, "a fall of the score is a threshold too")
    text = "".join(line for line in text.splitlines(keepends=True) if "score_fall_" not in line)
    with pytest.raises(PolicyError, match=r"warnings\[0\]: watch has no threshold"):
        loads(text, "x")


def test_a_step_needs_a_condition() -> None:
    text = SHORT.replace(
        "      when:\n        - {managed_dpd_from: 31}\n        - {level_from: critical}\n", "      when: []\n"
    )
    with pytest.raises(PolicyError, match=r"limits\.steps\[2\]\.when: is empty: the step would never be taken"):
        loads(text, "x")


def test_draws_are_restricted_somehow_and_only_where_there_are_any() -> None:
    text = SHORT.replace("      draws_max_30d: 2\n      draws_min_gap_h: 72\n", "")
    with pytest.raises(PolicyError, match=r"limits\.steps\[0\]: draws_restricted restricts nothing"):
        loads(text, "x")
    text = SHORT.replace("      reason: limit_frozen\n", "      reason: limit_frozen\n      draws_max_30d: 1\n")
    with pytest.raises(PolicyError, match=r"limits\.steps\[2\]: no draws are left when frozen"):
        loads(text, "x")


@pytest.mark.parametrize(
    ("part", "path"),
    [("buckets", "buckets: is empty"), ("tiers", "score.tiers: is empty"), ("options", "offers.options: is empty")],
)
def test_lists_that_must_not_be_empty(part: str, path: str) -> None:
    plain = json.loads(body(load("standard")))
    owner = {"buckets": plain, "tiers": plain["score"], "options": plain["offers"]}[part]
    owner[part] = []
    with pytest.raises(PolicyError) as caught:
        loads(json.dumps(plain), "x")
    assert path in str(caught.value)


def test_a_factor_needs_a_band() -> None:
    plain = json.loads(body(load("standard")))
    plain["score"]["factors"][3]["bands"] = []
    with pytest.raises(PolicyError, match=r"score\.factors\[3\]\.bands: is empty"):
        loads(json.dumps(plain), "x")


@pytest.mark.parametrize("text", ["", "# nothing but a remark\n"])
def test_an_empty_document(text: str) -> None:
    with pytest.raises(PolicyError, match=r"^x:1: the document is empty; start from the shipped standard.yaml$"):
        loads(text, "x")


def test_every_flaw_is_found_in_the_order_of_the_file() -> None:
    text = (
        SHORT.replace("points: -430", "points: many")
        .replace("zone: Asia/Shanghai", "zone: 8")
        .replace("keep_bp: 7000", "keep: 1")
    )
    with pytest.raises(PolicyError) as caught:
        loads(text, "x")
    found = caught.value.all_errors
    assert str(caught.value) == found[0]
    lines = [int(error.split(":")[1]) for error in found]
    assert lines == sorted(lines)
    assert [error.split(": ")[1] for error in found] == [
        "facts.calendar.zone",
        "score.factors[0].bands[6].points",
        "limits.steps[1].keep_bp",
        "limits.steps[1].keep",
    ]


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(
        PolicyError, match=r"nowhere\.yaml: cannot be read \(No such file or directory\); give the path"
    ):
        load(str(tmp_path / "nowhere.yaml"))
    latin = tmp_path / "latin.yaml"
    latin.write_bytes("id: standard\n# caf\xe9\n".encode("latin-1"))
    with pytest.raises(PolicyError, match=r"latin\.yaml:2: not UTF-8; save the file in that encoding"):
        load(str(latin))
    huge = tmp_path / "huge.yaml"
    huge.write_text("#" * (loader.MAX_BYTES + 1))
    with pytest.raises(PolicyError, match=r"huge\.yaml:1: longer than"):
        load(str(huge))


def test_the_name_and_the_file_are_the_same_policy(tmp_path: Path) -> None:
    copy = tmp_path / "copy.yaml"
    copy.write_text("\ufeff" + STANDARD, encoding="utf-8")
    assert load(str(copy)) == load("standard")


def test_the_canonical_text_is_the_policy() -> None:
    policy = load("standard")
    assert loads(body(policy), "body") == policy
    assert body(loads(body(policy), "body")) == body(policy)
    assert digest(policy) == "sha256:" + hashlib.sha256(body(policy).encode()).hexdigest()


def test_the_digest_is_of_what_is_said_not_of_how() -> None:
    policy = load("standard")
    spelled = STANDARD.replace("direct: true", "direct: true\n      after_days: 0", 1).replace(
        "id: standard", "id: 'standard'  # mine"
    )
    assert digest(loads(spelled, "x")) == digest(policy)
    assert digest(loads(STANDARD.replace("base: 650", "base: 651"), "x")) != digest(policy)


def test_the_standard_policy_is_what_it_says() -> None:
    policy = load("standard")
    assert policy.facts.calendar.zone == "Asia/Shanghai"
    assert [(b.name, b.from_day, b.to_day) for b in policy.buckets] == [
        ("C", 0, 0),
        ("M1", 1, 30),
        ("M2", 31, 60),
        ("M3", 61, 90),
        ("M4", 91, 120),
        ("M5", 121, 150),
        ("M6", 151, 180),
        ("M7", 181, None),
    ]
    assert policy.facts.material.absolute_minor == {"CNY": 80_000, "EUR": 10_000}
    assert policy.facts.material.relative_bp == 100
    zeroed = policy.limits.steps[-1]
    assert (zeroed.status, zeroed.direct, zeroed.keep_bp) == ("zeroed", True, 0)
    first = zeroed.when[0]
    assert (first.managed_dpd_from, first.contractual_dpd_from, first.material, first.plan_offered) == (
        90,
        90,
        True,
        True,
    )
    assert policy.offers.managed_dpd_from == 60
    assert policy.limits.restoration.stages_bp == (2_500, 5_000, 10_000)
    assert all(factor.unknown == 0 for factor in policy.score.factors)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_any_damage_is_refused_in_one_line_or_is_still_a_policy(data: st.DataObject) -> None:
    """Cut, doubled and swapped stretches of the small head of a policy never end in anything but PolicyError."""
    lines = SHORT[: SHORT.index("  parked_bytes_max")].splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    cut = data.draw(st.integers(0, len(lines[at])))
    noise = data.draw(st.text(alphabet="[]{}:,-#'\"&*!|>%@ \t\n1ax\u3000", max_size=6))
    lines[at] = lines[at][:cut] + noise + lines[at][cut:]
    with pytest.raises(PolicyError) as caught:
        loads("\n".join(lines), "x")
    assert str(caught.value).startswith("x:")
    assert "\n" not in str(caught.value)
