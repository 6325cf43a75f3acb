"""Reminders: before a due date, after a failed payment, to who is at risk, and about the budget.

They rest on facts and standing and change neither: what is due, what is paid, the level in force. The moments are the
policy's (an hour of the lender's day, so many days before a due date), each asked for as a wake-up; where a late tick
has passed several of one instalment or of one kind, only the newest is told, if it is still true.
"""

from collections.abc import Sequence

from schemas import outbound
from schemas.inbound import RepaymentFailed
from streams.engine import loan_facts
from streams.engine.arrears import day_of_managed, graced_days, oldest_due
from streams.engine.calendar import DAY_MS, HOUR_MS, Calendar, iso_day
from streams.engine.cases import Case
from streams.engine.directions import LEGAL_HOLD, hold_on
from streams.engine.encode import Emitter
from streams.engine.features import FEATURE_INDEX, evaluate
from streams.engine.loan import CELLS, DUE, FOREVER_DAY, PAID_DAY, ROW, UNPAID, Loan, is_ended, row_no, unapplied_minor
from streams.engine.standing import Standing
from streams.policy.model import LEVELS, STATUSES, Condition, LimitStep, Policy
from streams.policy.model import Reminders as Rules

TOPIC = "reminders"
WEEK_MS = 7 * DAY_MS
_INCOME, _DUE_TO_INCOME = FEATURE_INDEX["income_30d_minor"], FEATURE_INDEX["due_to_income_bp"]
_WHAT = {"draws_restricted": "draws_restricted", "decreased": "limit_decreased", "frozen": "limit_frozen"} | {
    "zeroed": "limit_zeroed"
}


class Reminding:
    """The reminders of one policy."""

    def __init__(self, policy: Policy, rules: Rules, calendar: Calendar) -> None:
        self._rules = rules
        self._calendar = calendar
        self._tiers = [tier.name for tier in policy.score.tiers]
        self._stages = sorted(rules.before_due_days, reverse=True)
        self._warnings = [
            (level, rule.managed_dpd_from) for level, rule in enumerate(policy.warnings, 1) if rule.managed_dpd_from
        ]
        self._rungs = {"": _rungs(policy.limits.steps)}
        for segment, steps in policy.limits.by_segment.items():
            self._rungs[segment] = _rungs(steps)

    # --- when ---------------------------------------------------------------------------------------------------------

    def _moment(self, day: int) -> int:
        return self._calendar.start_ms(day) + self._rules.at_hour * HOUR_MS

    def next_ms(self, case: Case, as_of_ms: int) -> int | None:
        """The next moment at which a reminder may be due."""
        day = self._calendar.day(as_of_ms)
        moments = [self._next_before_due(loan, day, as_of_ms) for loan in case.borrower.facts.loans.values()]
        moments.append(self._next_check_in(case.borrower.standing, day, as_of_ms))
        return min((moment for moment in moments if moment is not None), default=None)

    def _next_before_due(self, loan: Loan, day: int, as_of_ms: int) -> int | None:
        if not self._stages or is_ended(loan, day):
            return None
        rows, credit, best = loan.rows, unapplied_minor(loan), None
        for at in range(loan.first * ROW, len(rows), ROW):
            if rows[at + PAID_DAY] != UNPAID:
                continue
            credit -= sum(rows[at + CELLS : at + ROW])
            due = rows[at + DUE]
            if due < day or credit >= 0:
                continue
            for stage in self._stages:
                moment = self._moment(due - stage)
                if moment > as_of_ms:
                    best = moment if best is None else min(best, moment)
                    break
            if due - self._stages[0] > day:
                break
        return best

    def _next_check_in(self, standing: Standing, day: int, as_of_ms: int) -> int | None:
        rule = self._rules.check_in
        if rule is None or standing.level < LEVELS.index(rule.level_from):
            return None
        since = max(day - standing.level_day, 0)
        coming = standing.level_day + max(since // rule.every_days, 1) * rule.every_days
        while self._moment(coming) <= as_of_ms:
            coming += rule.every_days
        return self._moment(coming)

    # --- what ---------------------------------------------------------------------------------------------------------

    def at_wake(self, case: Case, as_of_ms: int, clock_ms: int, emitter: Emitter) -> None:
        """Tell what is due at the moment of a wake-up; `clock_ms` is the tick that fires it, maybe much later."""
        day = self._calendar.day(as_of_ms)
        if as_of_ms != self._moment(day):
            return
        first_stage = False
        for loan in case.borrower.facts.loans.values():
            first_stage |= self._before_due(case, loan, day, clock_ms, emitter)
        if first_stage:
            self._budget(case, as_of_ms, emitter)
        self._check_in(case, day, clock_ms, emitter)

    def _before_due(self, case: Case, loan: Loan, day: int, clock_ms: int, emitter: Emitter) -> bool:
        """Whether the first reminder of an instalment was due."""
        if is_ended(loan, day):
            return False
        rows, credit, first_stage = loan.rows, unapplied_minor(loan), False
        for at in range(loan.first * ROW, len(rows), ROW):
            if rows[at + PAID_DAY] != UNPAID:
                continue
            unpaid = sum(rows[at + CELLS : at + ROW])
            covered, credit = min(max(credit, 0), unpaid), credit - unpaid
            due = rows[at + DUE]
            if due > day + self._stages[0]:
                break
            if due - day not in self._stages or credit >= 0:
                continue
            newer = [stage for stage in self._stages if stage < due - day]
            if newer and self._moment(due - newer[0]) <= clock_ms:
                continue
            first_stage |= due - day == self._stages[0]
            self._send(
                case, emitter, "before_due",
                loan_id=loan.loan_id, instalment_no=row_no(loan, rows[at]), due_on=iso_day(due),
                days_to_due=due - day, amount_minor=unpaid - covered,
                consequences=self._consequences(case, loan, due, day),
            )  # fmt: skip
        return first_stage

    def _budget(self, case: Case, as_of_ms: int, emitter: Emitter) -> None:
        """What falls due in 30 days against the income of 30 days, with the first reminder of an instalment."""
        rule, facts, standing = self._rules.budget, case.borrower.facts, case.borrower.standing
        if rule is None or as_of_ms < standing.budget_ms + rule.every_days * DAY_MS:
            return
        values = evaluate(
            facts.windows, facts.loans.values(), as_of_ms, self._calendar, standing.managed, standing.contractual,
            case.features,
        )  # fmt: skip
        income, share, due = values[_INCOME], values[_DUE_TO_INCOME], case.features.due_minor
        if income is None or share is None or due is None or share < rule.due_to_income_bp_from:
            return
        if self._send(
            case, emitter, "education", topic_code="budget", due_30d_minor=due, income_30d_minor=income, consequences=[]
        ):
            standing.budget_ms = as_of_ms

    def _check_in(self, case: Case, day: int, clock_ms: int, emitter: Emitter) -> None:
        rule, standing = self._rules.check_in, case.borrower.standing
        if rule is None or standing.level < LEVELS.index(rule.level_from):
            return
        since = day - standing.level_day
        if since <= 0 or since % rule.every_days or self._moment(day + rule.every_days) <= clock_ms:
            return
        late = [loan for loan in case.borrower.facts.loans.values() if _is_late(loan, day)]
        worst = min(late, key=oldest_due, default=None)
        consequences = [] if worst is None else self._consequences(case, worst, oldest_due(worst), day)
        self._send(case, emitter, "check_in", consequences=consequences)

    def after_failure(self, case: Case, event: RepaymentFailed, as_of_ms: int, emitter: Emitter) -> None:
        """Follow a failed payment while what was to be paid is still due, unless an incident gives grace for it."""
        loan, day = case.borrower.facts.loans.get(event.loan_id), self._calendar.day(as_of_ms)
        if loan is None or self._calendar.day(event.at_ms) < day - 1 or is_ended(loan, day):
            return
        if loan_facts.attribution_now(loan, event.attempt_id) not in self._rules.after_failure:
            return
        at = _row_tried(loan, event, day)
        if at is None or graced_days(loan, day - 1, day):
            return
        due = loan.rows[at + DUE]
        self._send(
            case, emitter, "payment_failed",
            loan_id=loan.loan_id, instalment_no=row_no(loan, loan.rows[at]), due_on=iso_day(due),
            days_to_due=due - day, amount_minor=sum(loan.rows[at + CELLS : at + ROW]),
            consequences=self._consequences(case, loan, due, day),
        )  # fmt: skip

    # --- how ----------------------------------------------------------------------------------------------------------

    def _send(self, case: Case, emitter: Emitter, kind: str, **fields: object) -> bool:
        """Send a reminder unless the week is full or a legal hold is on; what is left out is not made up for."""
        standing, as_of_ms = case.borrower.standing, emitter.as_of_ms
        if hold_on(case.borrower.facts.directions) == LEGAL_HOLD:
            return False
        recent = [sent_ms for sent_ms in standing.reminded_ms if sent_ms > as_of_ms - WEEK_MS]
        if len(recent) >= self._rules.weekly_max:
            return False
        standing.reminded_ms = [*recent, as_of_ms]
        emitter.emit(TOPIC, outbound.ReminderDue, kind, kind=kind, channels=self._channels(case), **fields)
        return True

    def _segment(self, case: Case) -> str:
        profile = case.borrower.facts.profile
        return "other" if profile is None else profile.segment

    def _channels(self, case: Case) -> list[str]:
        segment, tier = self._segment(case), self._tiers[case.borrower.standing.tier]
        for row in self._rules.channels:
            if (not row.segments or segment in row.segments) and (not row.tiers or tier in row.tiers):
                return list(row.channels)
        return []

    def _consequences(self, case: Case, loan: Loan, due: int, day: int) -> list[outbound.Consequence]:
        """What staying late would lead to, each on the first day it can come: the next warning, then the ladder.

        Counted from the oldest due date of the loan, since that is what days past due are counted from.
        """
        base, standing = min(due, oldest_due(loan)), case.borrower.standing
        found: list[tuple[int, str]] = []
        ahead = [dpd for level, dpd in self._warnings if level > standing.level]
        if ahead:
            found.append((day_of_managed(loan, base, ahead[0], day), "warning"))
        limit, reached = standing.limit, day
        rungs = self._rungs.get(self._segment(case), self._rungs[""])
        for rung, after_days, dpd in [] if limit is None else rungs:
            if limit is not None and rung <= limit.rung:
                reached = self._calendar.day(limit.since_ms)
                continue
            reached = max(day_of_managed(loan, base, dpd, day), reached + after_days)
            found.append((reached, _WHAT[STATUSES[rung]]))
        return [outbound.Consequence(on=iso_day(on), what=what) for on, what in sorted(found) if day < on < FOREVER_DAY]


def _is_late(loan: Loan, day: int) -> bool:
    return not is_ended(loan, day) and 0 <= oldest_due(loan) < day


def _row_tried(loan: Loan, event: RepaymentFailed, day: int) -> int | None:
    """Where the row stands that a failed payment was for: the one it names, else the oldest; None if it is paid or not
    due yet."""
    named, rows = event.instalment_no, loan.rows
    for at in range(loan.first * ROW, len(rows), ROW):
        if rows[at + PAID_DAY] != UNPAID or rows[at + DUE] > day:
            continue
        if not isinstance(named, int) or row_no(loan, rows[at]) == named:
            return at
    return None


def _rungs(steps: Sequence[LimitStep]) -> list[tuple[int, int, int]]:
    """Rung, days on the rung before, managed DPD, of the steps to which days past due lead."""
    days = [(STATUSES.index(step.status), step.after_days, _by_days_alone(step.when)) for step in steps]
    return [(rung, after_days, dpd) for rung, after_days, dpd in days if dpd is not None]


def _by_days_alone(when: Sequence[Condition]) -> int | None:
    """The lowest managed DPD from which days past due lead to a step: alone, or with what follows from them."""
    days = [
        condition.managed_dpd_from
        for condition in when
        if condition.managed_dpd_from is not None
        and not condition.on_score
        and condition.level_from is None
        and condition.several_loans is None
        and condition.overdue_episodes_from is None
        and not condition.fraud_confirmed
    ]
    return min(days, default=None)
