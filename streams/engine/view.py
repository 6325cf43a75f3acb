"""What a judgement looks at: the borrower's loans as of one moment, the score, and questions asked of both.

Conditions on DPD are asked loan by loan: contractual DPD, managed DPD, materiality and the offered plan of one
condition must hold for the same loan.
"""

from collections.abc import Sequence

from msgspec import Struct

from streams.engine.arrears import late_days
from streams.engine.behaviour import Windows
from streams.engine.delinquency import Position
from streams.engine.feature import Value
from streams.engine.loan import Loan, instalments
from streams.engine.score import Scored
from streams.engine.score_fall import fallen
from streams.engine.standing import Ground, LoanStanding
from streams.engine.tightening import MacroFactor
from streams.policy.model import LEVELS, STATUSES, Condition, Restoration, WarningLevel

_FROZEN = STATUSES.index("frozen")
NEVER_BELOW = -(1 << 30)
"""No score is below it."""


class LoanView(Struct, gc=False):
    """One loan of a borrower: `position` at the moment of the view."""

    loan: Loan
    position: Position
    standing: LoanStanding


class View(Struct, gc=False):
    """A borrower at one moment. `loans` are those still open; `episodes` counts overdue episodes of 30 and more
    managed days in the last 365; `distressed_from` is the day from which the longer probation after a distressed
    restructure of any loan counts, None without one. `score_but_arrears` is the score with the best points for all that
    the ledger says. `level` is the warning level in force, `pressing` the highest level up to it that is not only
    waiting out its dwell time, `called` the highest that would be raised now but for its cool-down (0 where there is
    nothing that could be given back). `episode_proof` are the disbursements of the loans that had the episodes. `peaks`
    are the highest scores of the days before (`score_fall.peaks_of`). `shift_points` are added to thresholds on the
    score, because of `factors`. `levels` are the policy's warning levels, from the lowest up.

    `others_points`: by how many points the score would be higher if all that others say (bureaus, listings, links) were
    unknown; 0 where that costs nothing. `own_level`: the highest level that would press without it.

    What people have decided: no rung from `rung_below` and no level from `level_below` up is taken by the policy, for
    confirmed fraud none from `fraud_rung_below`, for a suspicion nothing is frozen where that is `suspicion_barred`.
    Nothing changes the limit while it is `limit_held`, nothing at all is said while it is `silent`, and `cleared`
    restrictions are on their way back. `zero_asked`: a zeroing waits for a person."""

    as_of_ms: int
    day: int
    loans: list[LoanView]
    windows: Windows
    scored: Scored
    features: list[int | None]
    level: int
    episodes: int
    fraud_event_id: str | None
    plan_kept: bool
    score_but_arrears: int
    distressed_from: int | None
    pressing: int
    episode_proof: list[str]
    segment: str
    peaks: tuple[Value, Value]
    factors: list[MacroFactor]
    shift_points: int
    levels: tuple[WarningLevel, ...]
    others_points: int = 0
    own_level: int = len(LEVELS)
    called: int = 0
    rung_below: int = len(STATUSES)
    fraud_rung_below: int = len(STATUSES)
    suspicion_barred: bool = False
    level_below: int = len(LEVELS)
    limit_held: bool = False
    silent: bool = False
    cleared: bool = False
    zero_asked: bool = False

    @property
    def worst(self) -> LoanView | None:
        """The open loan with the highest managed DPD, then contractual DPD; None where nothing is overdue."""
        worst: LoanView | None = None
        for candidate in self.loans:
            if candidate.position.contractual == 0:
                continue
            if worst is None or _dpd_key(candidate) > _dpd_key(worst):
                worst = candidate
        return worst

    @property
    def managed(self) -> int:
        """The borrower's managed DPD: the worst of its loans."""
        return max((view.position.managed for view in self.loans), default=0)

    @property
    def own_score(self) -> int:
        """The score with what others say taken as unknown, where that is better."""
        return self.scored.score + self.others_points

    def score_for(self, rung: int) -> int:
        """The score that a step to a rung is judged by: what others say alone never freezes or zeroes anyone."""
        return self.own_score if rung >= _FROZEN else self.scored.score

    def level_for(self, rung: int, level: int) -> int:
        """As `score_for`, a warning level."""
        return min(level, self.own_level) if rung >= _FROZEN else level

    @property
    def falls(self) -> tuple[Value, Value]:
        """How far the score has fallen within 7 and 30 days; None where no earlier score is known."""
        week, month = self.peaks
        return fallen(week, self.scored.score), fallen(month, self.scored.score)

    def probation_end_day(self, rules: Restoration, start_day: int) -> int:
        """The first business date after a probation that starts on a day, if nothing goes wrong."""
        end = start_day + rules.probation_days
        if self.distressed_from is None:
            return end
        return max(end, self.distressed_from + rules.distressed_probation_days)

    def overdue_minor(self) -> dict[str, int]:
        """What is overdue on the open loans, by currency; none where nothing is."""
        overdue: dict[str, int] = {}
        for view in self.loans:
            amount = sum(view.position.overdue)
            if amount > 0:
                overdue[view.loan.currency] = overdue.get(view.loan.currency, 0) + amount
        return overdue

    def on_time_since(self, day: int) -> int:
        """How many instalments that fell due after `day` were fully paid on time; an incident's grace is on time."""
        paid = 0
        for view in self.loans:
            for instalment in instalments(view.loan):
                if not day < instalment.due_day <= self.day or instalment.paid_day < 0:
                    continue
                if late_days(view.loan, instalment.due_day, instalment.paid_day) == 0:
                    paid += 1
        return paid

    def next_paid_due_day(self) -> int | None:
        """The next due date of an instalment that is paid already: it counts as paid on time from then on."""
        coming = [
            instalment.due_day
            for view in self.loans
            for instalment in instalments(view.loan)
            if instalment.due_day > self.day and instalment.paid_day >= 0
        ]
        return min(coming, default=None)


def _dpd_key(view: LoanView) -> tuple[int, int]:
    return view.position.managed, view.position.contractual


def loan_holds(condition: Condition, view: LoanView, day: int) -> bool:
    position = view.position
    if condition.managed_dpd_from is not None and position.managed < condition.managed_dpd_from:
        return False
    if condition.contractual_dpd_from is not None and position.contractual < condition.contractual_dpd_from:
        return False
    if condition.material and position.material == 0:
        return False
    offered = view.standing.offered_day
    return not condition.plan_offered or (offered is not None and offered < day)


def _asks_of_a_loan(condition: Condition) -> bool:
    return (
        condition.managed_dpd_from is not None
        or condition.contractual_dpd_from is not None
        or condition.material
        or condition.plan_offered
    )


def score_bounds(rule: Condition | WarningLevel, view: View) -> list[int]:
    """The scores below which the terms of a rule on the score hold, one per term.

    With the highest score of the days before, a fall is a threshold like any other: the score is below so much less.
    """
    bounds = [] if rule.score_below is None else [rule.score_below + view.shift_points]
    week, month = view.peaks
    if rule.score_fall_7d_from is not None:
        bounds.append(NEVER_BELOW if week is None else week - rule.score_fall_7d_from + 1)
    if rule.score_fall_30d_from is not None:
        bounds.append(NEVER_BELOW if month is None else month - rule.score_fall_30d_from + 1)
    return bounds


def leave_bounds(rule: WarningLevel, view: View) -> list[int]:
    """The scores from which a level may be left, one per term on the score: all must be reached."""
    bounds = [] if rule.leave_score_from is None else [rule.leave_score_from + view.shift_points]
    week, month = view.peaks
    if rule.leave_score_fall_7d_below is not None and week is not None:
        bounds.append(week - rule.leave_score_fall_7d_below + 1)
    if rule.leave_score_fall_30d_below is not None and month is not None:
        bounds.append(month - rule.leave_score_fall_30d_below + 1)
    return bounds


def holds(condition: Condition, view: View, rung: int, level: int) -> bool:
    """Whether every term of a condition of the step to `rung` holds at a warning level; a plan counts as offered from
    the day after."""
    if condition.on_score and view.score_for(rung) >= min(score_bounds(condition, view)):
        return False
    if condition.level_from is not None and view.level_for(rung, level) < LEVELS.index(condition.level_from):
        return False
    if condition.fraud_confirmed and view.fraud_event_id is None:
        return False
    if condition.overdue_episodes_from is not None and view.episodes < condition.overdue_episodes_from:
        return False
    several = condition.several_loans
    if several is not None:
        reached = sum(1 for loan in view.loans if loan.position.managed >= several.managed_dpd_from)
        if reached < several.loans:
            return False
    return not _asks_of_a_loan(condition) or any(loan_holds(condition, loan, view.day) for loan in view.loans)


def ground_of(condition: Condition, view: View, rung: int) -> Ground:
    """The terms of a condition of the step to `rung` that has just held."""
    several = condition.several_loans
    score_below = min(score_bounds(condition, view), default=None)
    level_from = 0 if condition.level_from is None else LEVELS.index(condition.level_from)
    return Ground(
        managed_from=condition.managed_dpd_from or 0,
        contractual_from=condition.contractual_dpd_from or 0,
        material=condition.material,
        loans=0 if several is None else several.loans,
        loans_managed_from=0 if several is None else several.managed_dpd_from,
        episodes=condition.overdue_episodes_from or 0,
        score_below=score_below,
        arrears_dpd=arrears_behind(score_below, view, rung),
        level_from=level_from,
        other=condition.fraud_confirmed,
        level_dpd=_arrears_behind_level(level_from, view, rung) if level_from else 0,
    )


def arrears_behind(score_below: int | None, view: View, rung: int = 0) -> int:
    """The managed DPD to which alone it is due that the score is below a threshold; 0 where it is not."""
    if score_below is None or view.score_but_arrears - view.scored.score + view.score_for(rung) < score_below:
        return 0
    return view.managed


def _arrears_behind_level(level_from: int, view: View, rung: int) -> int:
    """The least managed DPD to which alone it is due that a level from `level_from` up has not been left behind; 0
    where that does not need arrears."""
    least, score = 0, view.score_for(rung)
    for rule in view.levels[level_from - 1 : view.pressing]:
        carrying = []
        if rule.managed_dpd_from is not None and view.managed >= rule.managed_dpd_from:
            carrying.append(rule.managed_dpd_from)
        elif rule.leave_managed_dpd_below is not None and view.managed >= rule.leave_managed_dpd_below:
            carrying.append(rule.leave_managed_dpd_below)
        carrying += [arrears_behind(bound, view, rung) for bound in leave_bounds(rule, view) if score < bound]
        if 0 in carrying:
            return 0
        least = min([*carrying, least] if least else carrying, default=least)
    return least


def _ledger_true(ground: Ground, positions: Sequence[Position], episodes: int) -> bool:
    if ground.loans:
        reached = sum(1 for position in positions if position.managed >= ground.loans_managed_from)
        if reached < ground.loans:
            return False
    if ground.episodes and episodes < ground.episodes:
        return False
    if not (ground.managed_from or ground.contractual_from or ground.material):
        return True
    return any(
        position.managed >= ground.managed_from
        and position.contractual >= ground.contractual_from
        and (position.material > 0 or not ground.material)
        for position in positions
    )


class Hindsight(Struct, gc=False):
    """What is known today of the day of a decision, and what today's judgement is.

    `positions` are the loans as of that day and `episodes` the overdue episodes in the 365 days before it, both with
    all that is known today. `score` and `level` are today's, as the decision looks at them; `level_undone` is the
    highest warning level that the same late facts have just undone (0: none).
    """

    positions: list[Position]
    episodes: int
    score: int
    level: int
    level_undone: int


def overturned(grounds: Sequence[Ground], hindsight: Hindsight) -> bool:
    """Whether late facts have undone a decision that rests on `grounds`, the conditions that held when it was made.

    It is undone when arrears that carried it were not there on its own day, directly or through score or level, and
    nothing else carries it. What rests on other features is judged from now on, not in the past: it carries a decision
    for as long as today's score would.
    """
    undone = False
    worst = max((position.managed for position in hindsight.positions), default=0)
    for ground in grounds:
        if ground.rests_on_ledger and not _ledger_true(ground, hindsight.positions, hindsight.episodes):
            undone = True
        elif ground.score_below is not None and hindsight.score >= ground.score_below:
            undone = undone or worst < ground.arrears_dpd
        elif hindsight.level < ground.level_from and (
            worst < ground.level_dpd or ground.level_from <= hindsight.level_undone
        ):
            undone = True
        else:
            return False
    return undone
