"""The judgement of one borrower: after every event of its own, at every wake-up of its own, and never otherwise.

    facts ── positions of the loans, features ── score ── view
                                                           │
        bucket changes ── overturned decisions ── what people decided ── warnings ── offers ── limit ── listing, reviews
                                                                                                 │
                                                                                           next wake-up

One order of steps for every borrower, so that a replay writes the same events in the same order.
"""

from bisect import bisect_right
from typing import ClassVar

from msgspec import UNSET

from schemas import outbound
from schemas.outbound import Cause, PolicyRef
from streams.engine import delinquency, limits, loan_facts, offers, reviews, score_fall, warnings
from streams.engine.blacklist import Signer, Unsigned
from streams.engine.calendar import DAY_MS, Calendar
from streams.engine.cases import Case
from streams.engine.chunk import Output, TaskState
from streams.engine.delinquency import Position
from streams.engine.encode import Emitter
from streams.engine.features import FEATURE_INDEX, evaluate
from streams.engine.loan import DUE, PAID_DAY, ROW, Loan
from streams.engine.reasons import Reasoner
from streams.engine.regulatory import Regulator
from streams.engine.relief import tell_relief
from streams.engine.reminders import Reminding
from streams.engine.score import Scored, scored
from streams.engine.score_edges import ScoreEdges
from streams.engine.standing import LimitDecision, Listing, LoanStanding, Standing, WarningDecision
from streams.engine.state import Borrower, Facts
from streams.engine.tightening import MacroFactor, fitting, shift_points
from streams.engine.view import Hindsight, LoanView, View, overturned
from streams.engine.windows import LOANS
from streams.policy.compiler import Compiled, bands_of
from streams.policy.model import LEVELS

DELINQUENCY = "delinquency"
ARREARS_FEATURES = frozenset(
    ("worst_managed_dpd", "worst_contractual_dpd", "on_time_ratio_bp", "mean_lateness_days", "overdue_episodes_365d")
)
"""Features that the ledger alone decides."""


class Judge:
    """One policy's judgement. It keeps no state of any borrower."""

    emitter: ClassVar[type[Emitter]] = Emitter

    def __init__(self, compiled: Compiled, signer: Signer | None = None, partitions: int | None = None) -> None:
        self.compiled = compiled
        self.policy = compiled.policy
        self.digest = compiled.digest
        self.calendar = Calendar(compiled.policy.facts.calendar.zone)
        self.ref = PolicyRef(id=compiled.policy.id, digest=compiled.digest)
        self._reasoner = Reasoner(compiled)
        self.regulator = Regulator(compiled.policy)
        self._office = reviews.Office(
            compiled.policy, self.calendar, self._reasoner, signer or Unsigned(), partitions or 1
        )
        self._suspended = [FEATURE_INDEX[name] for name in compiled.policy.offers.hardship.suspended]
        reminders = compiled.policy.reminders
        self.reminding = None if reminders is None else Reminding(compiled.policy, reminders, self.calendar)
        self._for_arrears = [
            (at, factor)
            for at, factor in enumerate(compiled.policy.score.factors)
            if factor.feature in ARREARS_FEATURES
        ]
        self._score_edges = ScoreEdges(compiled.policy)

    def judge(self, case: Case, as_of_ms: int, cause: Cause, outputs: list[Output], task: TaskState) -> None:
        """Judge `case` as of a moment: append what it leads to, move its standing, set its next wake-up."""
        borrower = case.borrower
        standing = borrower.standing
        day = self.calendar.day(as_of_ms)
        emitter = self.emitter(outputs, self.ref, case.borrower_id, cause, as_of_ms)
        if any(delinquency.learns_past(loan, day) for loan in borrower.facts.loans.values()):
            case.retroactive = True
        score_fall.keep_to(standing, self.compiled.card)
        every = self._loan_views(case, day, emitter, task)
        view = self._view(case, every, as_of_ms, day, task)
        level, rung = standing.level, 0 if standing.limit is None else standing.limit.rung
        view.own_level = warnings.note_own(self.policy.warnings, standing, view)
        cured = self._note_clean(standing, every, day)
        desk = reviews.Desk(self._office, case, view, emitter, task)
        desk.begin()
        if borrower.facts.profile is not None and (standing.limit is None or (case.new_profile and not desk.silent)):
            limits.rebase(standing, borrower.facts.profile, view, emitter)
        if case.retroactive and not desk.silent:
            self._overturn(borrower, view, emitter, desk, case.relieved_by)
        for loan_view in every:
            if loan_view.loan.grace_ids or loan_view.standing.shifts:
                tell_relief(loan_view.loan, loan_view.standing, emitter)
        if case.retroactive or cured:
            self._look_back_for_cure(borrower, view)
        self._classify(borrower, view, emitter)
        case.new_profile = case.retroactive = case.more_than_windows = False
        case.relieved_by = ""
        desk.act()
        if desk.overturned:
            # What lay beneath it was not asked while that stood.
            self._overturn(borrower, view, emitter, desk, "")
        if desk.silent:
            warnings.note_dwell(self.policy.warnings, standing, view)
        else:
            warnings.judge_warnings(self.policy.warnings, standing, view, emitter, self._reasoner)
        view.pressing = warnings.pressing_level(self.policy.warnings, standing, view)
        # Levels have moved since, and what people have barred is known.
        view.own_level = warnings.note_own(self.policy.warnings, standing, view)
        if standing.limit is not None and standing.limit.rung > 0:
            view.called = warnings.called_level(self.policy.warnings, view, view.scored.score)
        offers.judge_offers(self.policy.offers, view, emitter)
        limits.judge_limit(self.policy.limits, standing, view, emitter, self._reasoner, desk)
        desk.close()
        self._count_standing(standing, level, rung, task)
        score_fall.note(standing, view.scored.score, view.scored.tier, day)
        standing.shift_points, standing.others_points = view.shift_points, view.others_points
        standing.managed, standing.contractual = worst_dpd(every)
        standing.judged_by = self.digest
        case.wake_ms = self._next_wake(borrower, view, desk)

    def still_stands(self, case: Case, as_of_ms: int, task: TaskState) -> bool:
        """Whether a judgement now would change nothing but the score: the score is noted, and that is all."""
        return self._only_windows_moved(case, as_of_ms) and self._same_band(case, as_of_ms, task)

    def _only_windows_moved(self, case: Case, as_of_ms: int) -> bool:
        """Whether nothing but the windows can have changed since the last judgement.

        The next wake-up is the first moment at which time alone can change a decision; before it, DPD and what follows
        from it stand in the same bands, and an event of the windows can matter only through the score.
        """
        return (
            not case.more_than_windows
            and case.borrower.standing.judged_by == self.digest
            and (case.wake_ms is None or as_of_ms < case.wake_ms)
        )

    def _same_band(self, case: Case, as_of_ms: int, task: TaskState) -> bool:
        """Score again; whether the score is between the same thresholds as before, so that every decision stands."""
        facts, standing, features = case.borrower.facts, case.borrower.standing, case.features
        values = evaluate(
            facts.windows,
            facts.loans.values(),
            as_of_ms,
            self.calendar,
            standing.managed,
            standing.contractual,
            features,
        )
        score, tier = standing.score, standing.tier
        if features.scored.get(self.digest) != features.version:
            values = self.scorable(facts, values, as_of_ms)
            segment = _segment_of(case.borrower)
            score, subtotals, tier, _ = self.compiled.score_of(segment)(values)
            if self.compiled.others_points(segment, subtotals) != standing.others_points:
                return False
        day = self.calendar.day(as_of_ms)
        _, shift_points = self.tightening(case.borrower, as_of_ms, day, task)
        if not self._score_edges.keep(standing, score, tier, day, shift_points):
            return False
        features.scored[self.digest] = features.version
        return True

    def tightening(self, borrower: Borrower, as_of_ms: int, day: int, task: TaskState) -> tuple[list[MacroFactor], int]:
        """The factors in force for a borrower, and by how many points they shift the thresholds on the score."""
        rules = self.policy.macro
        if rules is None or not task.factors:
            return [], 0
        facts = borrower.facts
        factors = fitting(task.factors, facts.profile, facts.loans.values(), as_of_ms, day)
        return factors, shift_points(rules, factors)

    def _view(self, case: Case, every: list[LoanView], as_of_ms: int, day: int, task: TaskState) -> View:
        facts, rules = case.borrower.facts, self.policy.facts
        managed, contractual = worst_dpd(every)
        values = evaluate(
            facts.windows, facts.loans.values(), as_of_ms, self.calendar, managed, contractual, case.features
        )
        values = self.scorable(facts, values, as_of_ms)
        episode_days = _episode_days(case.borrower.standing, day)
        episode_proof: list[str] = []
        plan_kept = False
        distressed = False
        reached: list[int] = []
        for loan_view in every:
            loan = loan_view.loan
            # Without an entry nothing was ever paid: there are no arrears but those of today.
            if loan.journal or loan_view.position.managed:
                of_loan = delinquency.episode_days(loan, day, episode_days, rules)
                if of_loan:
                    reached += of_loan
                    episode_proof.append(loan.disbursed_id)
            if loan.journal:
                distressed = distressed or loan_facts.distressed_day(loan, day) is not None
            if loan.plan_ids and not loan_view.position.ended and loan_facts.plan_kept(loan, day) is not None:
                plan_kept = True
        segment = _segment_of(case.borrower)
        result = scored(self.compiled, values, segment)
        case.features.scored[self.digest] = case.features.version
        factors, points = self.tightening(case.borrower, as_of_ms, day, task)
        return View(
            as_of_ms=as_of_ms,
            day=day,
            loans=[loan_view for loan_view in every if not loan_view.position.ended],
            windows=facts.windows,
            scored=result,
            features=values,
            level=case.borrower.standing.level,
            episodes=delinquency.separate_episodes(reached),
            fraud_event_id=_fraud(facts, case.borrower.standing),
            plan_kept=plan_kept,
            score_but_arrears=self._score_but_arrears(result, segment) if managed else result.score,
            distressed_from=self._distressed_from(every, day) if distressed else None,
            pressing=case.borrower.standing.level,
            episode_proof=episode_proof,
            segment=segment,
            peaks=score_fall.peaks_of(case.borrower.standing, day),
            factors=factors,
            shift_points=points,
            levels=self.policy.warnings,
            others_points=self.compiled.others_points(segment, result.subtotals),
        )

    def _distressed_from(self, every: list[LoanView], day: int) -> int | None:
        loans = ((view.loan, view.position) for view in every)
        days = self.policy.limits.restoration.distressed_probation_days
        return self.regulator.distressed_from_day(loans, day, days)

    def scorable(self, facts: Facts, values: list[int | None], as_of_ms: int) -> list[int | None]:
        """While a reported hardship lasts, what it makes a borrower do is not scored: such features are unknown."""
        directions = facts.directions
        if directions is None or as_of_ms >= reviews.hardship_until(directions, self.policy):
            return values
        # A list of its own: the one given is kept, and may serve other policies too.
        left = values[:]
        for at in self._suspended:
            left[at] = None
        return left

    # --- loans --------------------------------------------------------------------------------------------------------

    def _loan_views(self, case: Case, day: int, emitter: Emitter, task: TaskState) -> list[LoanView]:
        """Where every loan stands on `day`; says which changed their bucket, and keeps the task's gauges."""
        borrower = case.borrower
        rules, reported = self.policy.facts, borrower.standing.loans
        views: list[LoanView] = []
        for loan in borrower.facts.loans.values():
            if loan.as_of_day < day or loan.applied < len(loan.entry_ids):
                case.dirty(LOANS)
            position = delinquency.position(loan, day, rules)
            standing = reported.get(loan.loan_id)
            if standing is None:
                standing = reported[loan.loan_id] = LoanStanding()
            bucket = self.policy.buckets[bisect_right(self.compiled.bucket_starts, position.managed) - 1].name
            if bucket != standing.bucket and not position.ended:
                self._report_bucket(loan, position, standing.bucket, bucket, emitter)
            balance_minor, counted = sum(position.outstanding), not position.ended
            if (bucket, balance_minor, counted) != (standing.bucket, standing.balance_minor, standing.counted):
                if standing.counted:
                    self._count_loan(task, loan.currency, standing.bucket, -1, -standing.balance_minor)
                if counted:
                    self._count_loan(task, loan.currency, bucket, 1, balance_minor)
                standing.bucket, standing.balance_minor, standing.counted = bucket, balance_minor, counted
            views.append(LoanView(loan, position, standing))
        return views

    def _count_loan(self, task: TaskState, currency: str, bucket: str, loans: int, balance_minor: int) -> None:
        pair = task.loans.setdefault(currency, {}).setdefault(bucket, [0, 0])
        pair[0] += loans
        pair[1] += balance_minor

    def _report_bucket(
        self, loan: Loan, position: Position, from_bucket: str, to_bucket: str, emitter: Emitter
    ) -> None:
        emitter.emit(
            DELINQUENCY,
            outbound.BucketChanged,
            to_bucket,
            loan_id=loan.loan_id,
            product=loan.product,
            pool_id=loan.pool_id or None,
            from_bucket=from_bucket,
            to_bucket=to_bucket,
            dpd=outbound.DpdCounters(
                contractual=position.contractual, managed=position.managed, material=position.material
            ),
            outstanding=_amounts(position.outstanding),
            overdue=_amounts(position.overdue),
        )

    def _classify(self, borrower: Borrower, view: View, emitter: Emitter) -> None:
        """Say which open loans are classed otherwise than last reported."""
        loans, clean_since_day = borrower.facts.loans.values(), borrower.standing.clean_since_day
        for loan_view in view.loans:
            loan, position, standing = loan_view.loan, loan_view.position, loan_view.standing
            code = self.regulator.code(loan, position, view.day, loans, clean_since_day)
            if code == standing.classified:
                continue
            standing.classified = code
            named = self.regulator.named(code)
            emitter.emit(
                DELINQUENCY,
                outbound.ClassificationChanged,
                named.five_tier,
                loan_id=loan.loan_id,
                product=loan.product,
                pool_id=loan.pool_id or None,
                **named._asdict(),
                dpd=outbound.DpdDetail(
                    contractual=position.contractual,
                    managed=position.managed,
                    material=position.material,
                    principal=position.principal,
                    interest=position.interest,
                ),
            )

    # --- standing -----------------------------------------------------------------------------------------------------

    def _note_clean(self, standing: Standing, views: list[LoanView], day: int) -> bool:
        """Keep the day of cure; whether that is now. Arrears under grace do not break a cure, nor do they begin one."""
        if standing.clean_since_day is None:
            if all(_is_clean(view.loan, view.position, day) for view in views):
                standing.clean_since_day = day
                return True
        elif not all(_stays_clean(view.loan, view.position, day) for view in views):
            standing.clean_since_day = None
        return False

    def _look_back_for_cure(self, borrower: Borrower, view: View) -> None:
        """Cure is of the day on which the arrears ended, though it was told later: probation is not longer for it, nor
        shorter for arrears that were told later."""
        standing, limit = borrower.standing, borrower.standing.limit
        rules, loans = self.policy.facts, borrower.facts.loans.values()
        # Before these days it makes no difference: a probation begins with the restriction, or with the default's end.
        floors = [] if limit is None or limit.rung == 0 else [limit.since_day]
        for loan_view in view.loans:
            loan, position, since = loan_view.loan, loan_view.position, standing.clean_since_day
            ended_day = self.regulator.default_ended_day(loan, position, view.day)
            if ended_day is not None and self.regulator.in_default(loan, position, view.day, loans, since):
                floors.append(ended_day)
        if not floors:
            return
        if standing.clean_since_day is None:
            since = view.day + 1
        else:
            since = standing.clean_since_day = self._cured_again_day(borrower, standing.clean_since_day)
        for before in range(since - 1, min(floors) - 1, -1):
            then = [(loan, delinquency.position_as_of(loan, before, rules)) for loan in loans]
            if not all(_stays_clean(loan, position, before) for loan, position in then):
                return
            if all(_is_clean(loan, position, before) for loan, position in then):
                standing.clean_since_day = before

    def _cured_again_day(self, borrower: Borrower, cured_day: int) -> int:
        """The day of cure with what is known now: later than `cured_day` if there were arrears in between after all."""
        for loan in borrower.facts.loans.values():
            for due_day, paid_day in zip(loan.rows[DUE::ROW], loan.rows[PAID_DAY::ROW], strict=True):
                if paid_day > max(due_day, cured_day):
                    then = delinquency.position_as_of(loan, paid_day - 1, self.policy.facts)
                    if not _stays_clean(loan, then, paid_day - 1):
                        cured_day = paid_day
        return cured_day

    def _overturn(self, borrower: Borrower, view: View, emitter: Emitter, desk: reviews.Desk, incident_id: str) -> None:
        """Undo, newest first, the decisions whose arrears were not there on their own day; `incident_id` names the
        incident whose grace has just changed, "" for none. Beneath what stays zeroed there is nothing to give back."""
        standing = borrower.standing
        before = standing.level
        while standing.warnings:
            raised = standing.warnings[-1]
            if not overturned(raised.grounds, self._hindsight(borrower, raised, view, 0)):
                break
            because = incident_id or _incident_behind(borrower, raised.day, desk)
            if warnings.undo_warning(self.policy.warnings, standing, view, emitter, self._reasoner, because):
                break
        level_undone = before if standing.level < before else 0
        limit = standing.limit
        if limit is not None and not view.limit_held:
            for at in range(len(limit.decisions) - 1, -1, -1):
                taken = limit.decisions[at]
                if overturned(taken.grounds, self._hindsight(borrower, taken, view, level_undone, taken.rung)):
                    because = incident_id or _incident_behind(borrower, taken.day, desk)
                    limits.lift(
                        self.policy.limits, limit, at, view, emitter, self._reasoner,
                        compensates=taken.event_id, incident_id=because or UNSET,
                    )  # fmt: skip
                elif taken.rung == limits.ZEROED:
                    break
        desk.undo_listing(
            lambda listing: overturned(listing.grounds, self._hindsight(borrower, listing, view, 0, limits.ZEROED))
        )

    def _hindsight(
        self,
        borrower: Borrower,
        decision: WarningDecision | LimitDecision | Listing,
        view: View,
        level_undone: int,
        rung: int = 0,
    ) -> Hindsight:
        rules, day = self.policy.facts, decision.day
        end_ms = self.calendar.start_ms(day + 1)
        loans = [
            delinquency.before_payments_of_the_day(loan, day, decision.at_ms, end_ms)
            for loan in borrower.facts.loans.values()
        ]
        positions = [delinquency.position_as_of(loan, day, rules) for loan in loans]
        episode_days = _episode_days(borrower.standing, day)
        reached = [of_loan for loan in loans for of_loan in delinquency.episode_days(loan, day, episode_days, rules)]
        episodes = delinquency.separate_episodes(reached)
        return Hindsight(positions, episodes, view.score_for(rung), view.level_for(rung, view.level), level_undone)

    def _score_but_arrears(self, result: Scored, segment: str) -> int:
        """The score with the best points in every factor that the ledger decides."""
        better = 0
        for at, factor in self._for_arrears:
            better += max(band.points for band in bands_of(factor, segment).bands) - result.points[at]
        return result.score + better

    def _count_standing(self, standing: Standing, level: int, rung: int, task: TaskState) -> None:
        """Keep the task's counts of borrowers by level and by limit status."""
        if not standing.judged_by:
            _add(task.levels, LEVELS[standing.level], 1)
        elif level != standing.level:
            _add(task.levels, LEVELS[level], -1)
            _add(task.levels, LEVELS[standing.level], 1)
        limit = standing.limit
        if limit is None or (limit.counted and limit.rung == rung):
            return
        if limit.counted:
            _add(task.statuses, limits.status_of(rung), -1)
        _add(task.statuses, limits.status_of(limit.rung), 1)
        limit.counted = True

    # --- time ---------------------------------------------------------------------------------------------------------

    def _next_wake(self, borrower: Borrower, view: View, desk: reviews.Desk) -> int | None:
        """The next moment at which time alone can change anything, after that of the view."""
        rules, standing = self.policy.facts, borrower.standing
        edges = self.compiled.edges
        days: list[int] = []
        for loan in borrower.facts.loans.values():
            edge = delinquency.next_edge_day(loan, view.day, edges.managed, edges.contractual, rules, edges.material)
            if edge is not None:
                days.append(edge)
            if loan.plan_ids:
                plan_day = loan_facts.plan_change_day(loan, view.day)
                if plan_day is not None:
                    days.append(plan_day)
        every = borrower.facts.loans.values()
        for loan_view in view.loans:
            loan = loan_view.loan
            if loan.rebuttals or loan_view.standing.classified & 1:
                classed_day = self.regulator.next_day(
                    loan, loan_view.position, view.day, every, standing.clean_since_day
                )
                if classed_day is not None:
                    days.append(classed_day)
            if loan_view.standing.offered_day == view.day:
                days.append(view.day + 1)
        look_day = warnings.next_look_day(self.policy.warnings, standing, view)
        if look_day is not None:
            days.append(look_day)
        rung_ms, stage_day = limits.next_limit_wake(self.policy.limits, standing, view)
        if stage_day is not None:
            days.append(stage_day)
        moments = [self.calendar.start_ms(day) for day in days if day > view.day] + desk.moments()
        if rung_ms is not None:
            moments.append(rung_ms)
        warning_ms = warnings.next_warning_wake(self.policy.warnings, standing, view)
        if warning_ms is not None:
            moments.append(warning_ms)
        for parked in borrower.facts.parked:
            moments.append(parked.parked_ms + rules.allowed_lateness_days * DAY_MS)
        return min((moment for moment in moments if moment > view.as_of_ms), default=None)


def _segment_of(borrower: Borrower) -> str:
    """The borrower's segment, empty before its first profile."""
    profile = borrower.facts.profile
    return "" if profile is None else profile.segment


def _is_clean(loan: Loan, position: Position, day: int) -> bool:
    """Whether a loan does not stand in the way of cure: nothing past due on it; once it is written off, no principal or
    interest left of it at all. A loan that was closed is settled."""
    if loan_facts.is_written_off(loan, day):
        return position.outstanding[2] == 0 and position.outstanding[3] == 0
    return position.ended or (position.managed == 0 and position.overdue[2] == 0 and position.overdue[3] == 0)


def _stays_clean(loan: Loan, position: Position, day: int) -> bool:
    """Whether a loan does not break a cure: managed days past due are none, whatever is overdue under grace."""
    if loan_facts.is_written_off(loan, day):
        return position.outstanding[2] == 0 and position.outstanding[3] == 0
    return position.ended or position.managed == 0


def _episode_days(standing: Standing, day: int) -> int:
    """How far back overdue episodes count: 365 days, but not behind the day on which a reviewer has cleared them."""
    oversight = standing.oversight
    if oversight is None or oversight.cleared_day is None:
        return 365
    return min(365, max(0, day - oversight.cleared_day))


def _incident_behind(borrower: Borrower, day: int, desk: reviews.Desk) -> str:
    """The incident whose grace covers a day, where decisions that a hold has kept in force are looked at again; else
    empty."""
    covering = [
        incident_id
        for loan in borrower.facts.loans.values()
        for at, incident_id in enumerate(loan.grace_ids)
        if loan.graces[2 * at] <= day <= loan.graces[2 * at + 1]
    ]
    return min(covering, default="") if desk.catching_up else ""


def _fraud(facts: Facts, standing: Standing) -> str | None:
    """The report that confirmed fraud, unless a reviewer has found it wrong."""
    oversight = standing.oversight
    return None if oversight is not None and oversight.absolved_id == facts.fraud_event_id else facts.fraud_event_id


def worst_dpd(views: list[LoanView]) -> tuple[int | None, int | None]:
    """Managed and contractual DPD of the borrower: the worst of its open loans, None without one."""
    managed: int | None = None
    contractual: int | None = None
    for view in views:
        position = view.position
        if not position.ended:
            managed = position.managed if managed is None else max(managed, position.managed)
            contractual = position.contractual if contractual is None else max(contractual, position.contractual)
    return managed, contractual


def _amounts(cells: tuple[int, int, int, int]) -> outbound.Amounts:
    penalty, fee, interest, principal = cells
    return outbound.Amounts(principal_minor=principal, interest_minor=interest, fee_minor=fee, penalty_minor=penalty)


def _add(counts: dict[str, int], name: str, change: int) -> None:
    counts[name] = counts.get(name, 0) + change
