"""What one policy holds of one borrower: warning level, place on the limit ladder, and what those decisions rest on.

Facts never depend on standing. Each decision in force keeps its *grounds*, so that it can be asked again, as of its own
day, whether it was true when facts arrive late.
"""

from msgspec import Struct, field

CURRENT = "C"
"""The first bucket of every policy: nothing past due."""


class Ground(Struct, array_like=True, gc=False):
    """The terms of one condition that held; 0, False or None where the condition has no such term.

    `arrears_dpd`: the borrower's managed DPD of the moment, where the score was below `score_below` only because of
    arrears (0 where it would have been without them too). `other`: the condition rests on something that late facts of
    the ledger do not undo. `level_dpd`: the least managed DPD without which no level from `level_from` up would have
    been in force (0 where one would have been without any).
    """

    managed_from: int = 0
    contractual_from: int = 0
    material: bool = False
    loans: int = 0
    loans_managed_from: int = 0
    episodes: int = 0
    score_below: int | None = None
    arrears_dpd: int = 0
    level_from: int = 0
    other: bool = False
    level_dpd: int = 0

    @property
    def rests_on_ledger(self) -> bool:
        """Whether a term asks the ledger itself."""
        return bool(self.managed_from or self.contractual_from or self.material or self.loans or self.episodes)


class WarningDecision(Struct, array_like=True, gc=False):
    """A raise or escalation in force. `by_others`: so many levels, from its own down, have been called for only with
    what others say, then and since."""

    event_id: str
    day: int
    level: int
    previous_level: int
    grounds: list[Ground]
    at_ms: int = 0
    by_others: int = 0


class LimitDecision(Struct, array_like=True, gc=False):
    """A restriction in force; `rung` 0 is no restriction. `previous_since_*` is when the rung it left had begun,
    `previous_stage` the stage of restoration it interrupted. `rule` is the reason code of the rule that made it;
    `until_ms` is when it ends by itself (0: it does not)."""

    event_id: str
    day: int
    rung: int
    previous_rung: int
    from_minor: int
    to_minor: int
    grounds: list[Ground]
    at_ms: int = 0
    previous_since_ms: int = 0
    previous_since_day: int = 0
    rule: str = ""
    until_ms: int = 0
    previous_stage: int = 0


class Shift(Struct, array_like=True, frozen=True, gc=False):
    """A due date that was told to be shifted by an incident, and the event that told it."""

    incident_id: str
    no: int
    due_day: int
    to_day: int
    event_id: str


class LoanStanding(Struct, array_like=True):
    """What was last reported of a loan: the bucket by its name, which another policy may give to other days.
    `offered_day`: the day a plan was offered in the present arrears episode. `shifts` of due dates in force;
    `waivers_proposed` are the penalty charges of which a waiver was proposed."""

    bucket: str = CURRENT
    balance_minor: int = 0
    offered_day: int | None = None
    counted: bool = False
    """Whether the loan is among the open ones that the task's gauges count."""
    classified: int = 0
    """The regulatory classification last reported (see regulatory); 0 is current, not in default."""
    shifts: list[Shift] = []
    waivers_proposed: list[str] = []


class Limit(Struct, array_like=True):
    """The limit chain. `base_minor` is the limit before the first restriction in force, to which stages restore.

    `stage` counts restoration stages passed; `since_ms` and `since_day` are when the present rung or stage began.
    """

    minor: int
    currency: str
    seq: int = 0
    rung: int = 0
    base_minor: int = 0
    since_ms: int = 0
    since_day: int = 0
    stage: int = 0
    decisions: list[LimitDecision] = field(default_factory=list)
    counted: bool = False
    """Whether the task's gauges count this limit."""
    told_minor: int = 0
    """What the last profile said the limit was."""


class Proposal(Struct, array_like=True, gc=False):
    """What approving a review leads to: `zero`, `list`, `set_limit` (by `reviewer`, until `until_ms`) or `clear`."""

    action: str
    limit_minor: int = 0
    until_ms: int = 0
    reviewer: str = ""
    decided_id: str = ""


class Review(Struct, array_like=True):
    """A review that nobody has decided yet. `event_ids` are its requests: the first, then one per escalation. `froze`:
    new draws have been frozen for some days for what it is about."""

    event_ids: list[str]
    why: str
    about: str
    opened_ms: int
    proposal: Proposal | None = None
    froze: bool = False


class Entry(Struct, array_like=True, gc=False):
    """A published entry of the blacklist: its event, the token it names and the key the token was made with."""

    event_id: str
    token: str
    key_id: str


class Listing(Struct, array_like=True):
    """Why and until when a borrower is listed. No entry: it has expired, and is not issued again."""

    entries: list[Entry]
    reason: str
    expires_day: int
    day: int
    at_ms: int
    grounds: list[Ground]


class Bar(Struct, array_like=True, gc=False):
    """What a reviewer keeps the policy from until `until_ms`: no rung, or no level, from `at` up.

    A bar of rungs does not hold back fraud confirmed since: `fraud_id` is the report known then (empty: none). One that
    `exempts` does. One of a `suspicion` only holds back further freezes for suspicions.
    """

    at: int
    until_ms: int
    fraud_id: str = ""
    exempts: bool = False
    suspicion: bool = False


class Oversight(Struct, array_like=True):
    """What there is of a borrower of whom a person was asked, or who was listed.

    `limit_until_ms`: until then the limit is as a reviewer has set it (0: none has). `rung_bars` and `level_bars` are
    in force each until its own end, whatever else was decided. `unlisted_until_ms`: until then the borrower is not
    listed. `held`: the hold at the last judgement. `cleared`: a reviewer has cleared the restrictions in force;
    `cleared_day`: the day of the last `clear`, before which overdue episodes do not count; `absolved_id`: the report of
    fraud that was found to be wrong. `asked_day`: when the review at the end of probation was asked for.
    """

    reviews: list[Review] = field(default_factory=list)
    limit_until_ms: int = 0
    rung_bars: list[Bar] = field(default_factory=list)
    level_bars: list[Bar] = field(default_factory=list)
    unlisted_until_ms: int = 0
    held: int = 0
    cleared: bool = False
    cleared_day: int | None = None
    absolved_id: str = ""
    asked_day: int | None = None
    listing: Listing | None = None


class Standing(Struct, array_like=True):
    """`below_since_ms[level]`: since when the conditions to leave that level have held without a break (0: they do
    not). `left_at_ms[level]`: when it was last left (0: never). `clean_since_day`: since when nothing has been in
    arrears. `judged_by`: the digest of the policy of the last judgement (empty: never judged), `managed` and
    `contractual` the borrower's DPD at that moment (None: no open loan)."""

    score: int = 0
    tier: int = 0
    level: int = 0
    below_since_ms: list[int] = field(default_factory=lambda: [0, 0, 0, 0, 0])
    left_at_ms: list[int] = field(default_factory=lambda: [0, 0, 0, 0, 0])
    warnings: list[WarningDecision] = field(default_factory=list)
    limit: Limit | None = None
    clean_since_day: int | None = None
    loans: dict[str, LoanStanding] = field(default_factory=dict)
    level_day: int = 0
    """The day the present level was reached."""
    judged_by: str = ""
    managed: int | None = None
    contractual: int | None = None
    oversight: Oversight | None = None
    decide_ms: int | None = None
    """The next moment at which time alone may change a decision; the wake-up may be earlier, for a reminder."""
    reminded_ms: list[int] = field(default_factory=list)
    """When reminders were sent, of the last 7 days."""
    budget_ms: int = 0
    card: int = 0
    """The scorecard of the scores here (see `Compiled.card`)."""
    score_day: int = -1
    """The day of the score, -1 before the first by this scorecard."""
    peaks: list[int] = field(default_factory=list)
    """Earlier scores after which none was as high, of the last 30 days: the last day of each, and the score."""
    shift_points: int = 0
    """By how many points the thresholds on the score were shifted at the last judgement (see tightening)."""
    others_points: int = 0
    """By how many points what others say lowered the score at the last judgement."""
