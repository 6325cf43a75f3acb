"""What people decide about a borrower, and what they are asked: holds, appeals, reviews, decisions by hand.

    legal hold > decision by hand, while it lasts > policy

    ask        appeal, suspicion, a breaker that has tripped, a large cut, the end of a zeroed borrower's probation
    escalate   a review left lying is asked for again
    decide     approve (do what was proposed), uphold (leave things as they are), overturn (undo a decision at once),
               set_limit, clear (zeroing is no longer permanent), exempt

A review is open until it is decided, or until what was proposed no longer holds.
"""

from typing import Any, NamedTuple

from schemas import outbound
from streams.engine import blacklist, breaker, limits, offers, warnings
from streams.engine.blacklist import Signer
from streams.engine.calendar import DAY_MS, Calendar, iso_day
from streams.engine.cases import Case
from streams.engine.chunk import TaskState
from streams.engine.directions import (
    APPEAL,
    BREAKER,
    LEGAL_HOLD,
    LYING,
    MANUAL,
    NO_HOLD,
    NO_TOKEN,
    NOTHING,
    OVERTURNED,
    PROBATION,
    SECOND,
    Directions,
    Notice,
    hold_on,
)
from streams.engine.encode import Emitter
from streams.engine.limits import DECREASED, FROZEN, ZEROED
from streams.engine.reasons import Reasoner
from streams.engine.standing import Bar, Ground, Limit, LimitDecision, Listing, Oversight, Proposal, Review
from streams.engine.view import View, ground_of, holds
from streams.policy.model import Policy, Suspicion

TOPIC = "review-requests"
REVIEWS_MAX = 32
"""Reviews of one borrower that are followed at the same time; what is asked beyond them is asked once."""


class Office(NamedTuple):
    """What all judgements of one policy share. `partitions`: of the input topics, 1 where it is not known."""

    policy: Policy
    calendar: Calendar
    reasoner: Reasoner
    signer: Signer
    partitions: int


def hardship_until(directions: Directions | None, policy: Policy) -> int:
    """Until when points are suspended because of a reported hardship, 0 without one."""
    if directions is None or directions.hardship_ms < 0:
        return 0
    if directions.hardship_until_ms is not None:
        return directions.hardship_until_ms
    return directions.hardship_ms + policy.offers.hardship.days * DAY_MS


def settle_notices(case: Case) -> None:
    """Forget what all policies have acted on. Under a legal hold the decisions of reviewers wait for its end."""
    directions = case.borrower.facts.directions
    if directions is not None and directions.notices:
        held = hold_on(directions) == LEGAL_HOLD
        directions.notices = [notice for notice in directions.notices if held and notice.kind == "review_decided"]


class Desk:
    """One judgement's dealings with people. It is the gate through which zeroings pass (`limits.Gate`)."""

    __slots__ = (
        "appeals",
        "case",
        "catching_up",
        "emitter",
        "facts",
        "hold",
        "ladder_before",
        "office",
        "overturned",
        "standing",
        "task",
        "view",
    )

    def __init__(self, office: Office, case: Case, view: View, emitter: Emitter, task: TaskState) -> None:
        self.office = office
        self.case = case
        self.facts = case.borrower.facts
        self.standing = case.borrower.standing
        self.view = view
        self.emitter = emitter
        self.task = task
        self.hold = hold_on(self.facts.directions)
        self.catching_up = False
        """Whether what a hold or a decision by hand has held back follows now."""
        self.overturned = False
        """Whether a reviewer has just undone a restriction."""
        self.appeals: list[Review] = []
        """Open as the judgement begins, about decisions that are in force then."""
        self.ladder_before = self._ladder_rung()

    def _ladder_rung(self) -> int:
        return 0 if self.standing.limit is None else limits.ladder(self.standing.limit)[0]

    @property
    def silent(self) -> bool:
        """Whether a legal hold is on: no warning, limit, reminder or blacklist event."""
        return self.hold == LEGAL_HOLD

    def begin(self) -> None:
        """Note in the view what people have decided. What a hold or a decision by hand has held back follows now."""
        oversight, view, as_of_ms = self.standing.oversight, self.view, self.view.as_of_ms
        if self.hold:
            oversight = self._oversight()
        if oversight is None:
            return
        self.appeals = [one for one in oversight.reviews if one.why == APPEAL and self._in_force(one.about)]
        oversight.rung_bars = [bar for bar in oversight.rung_bars if bar.until_ms > as_of_ms]
        oversight.level_bars = [bar for bar in oversight.level_bars if bar.until_ms > as_of_ms]
        for bar in oversight.rung_bars:
            self._heed_rung(bar)
        for bar in oversight.level_bars:
            view.level_below = min(view.level_below, bar.at)
        view.silent = self.silent
        view.limit_held = self.hold != NO_HOLD or oversight.limit_until_ms > as_of_ms
        view.cleared = oversight.cleared
        view.zero_asked = self._open_proposal("zero") is not None
        ended = 0 < oversight.limit_until_ms <= as_of_ms
        if ended:
            oversight.limit_until_ms = 0
        if ended or self.hold < oversight.held:
            self.case.retroactive = self.case.new_profile = True
            self.catching_up = True
        oversight.held = self.hold

    def act(self) -> None:
        """Act on what has been told since the last judgement."""
        directions = self.facts.directions
        if directions is None:
            return
        suspicions = self.office.policy.suspicions
        for notice in directions.notices:
            if notice.kind == "review_decided":
                if not self.silent:
                    self._decided(notice)
            elif notice.kind == "appeal_filed":
                self._appealed(notice)
            elif notice.kind == "hardship_reported":
                offers.offer_in_hardship(self.office.policy.offers, self.view, self.emitter)
            elif notice.kind == "fraud_reported":
                self._suspected(suspicions.fraud, notice)
            elif notice.kind == "violation_reported":
                self._suspected(suspicions.violation_confirmed if notice.word else suspicions.violation, notice)
            else:
                self._suspected(suspicions.listed_elsewhere, notice)

    def close(self) -> None:
        """After the limit has been judged: what follows from it for the listing, reviews and restoration."""
        oversight, limit = self.standing.oversight, self.standing.limit
        if limit is not None:
            if limit.rung == ZEROED or (oversight is not None and oversight.listing is not None):
                self._judge_listing(limit)
            if limit.rung == ZEROED:
                self._ask_after_probation(limit)
            if oversight is not None and (limit.rung == 0 or self._ladder_rung() > self.ladder_before):
                oversight.cleared = False
        if oversight is not None:
            self._withdraw_stale(limit)
            self._escalate(oversight)

    # --- asking -------------------------------------------------------------------------------------------------------

    def _oversight(self) -> Oversight:
        if self.standing.oversight is None:
            self.standing.oversight = Oversight()
        return self.standing.oversight

    def request(
        self,
        why: str,
        about: str,
        evidence: list[str],
        proposed: outbound.BorrowerEvent | outbound.Listing | None = None,
        proposal: Proposal | None = None,
        follow: bool = True,
    ) -> Review | None:
        """Ask a person to look; `follow`: until it is decided. The review that is followed, None where none is."""
        reason = self.office.reasoner.told(why, evidence)
        event_id = self.emitter.emit(TOPIC, outbound.ReviewRequested, why, proposed=proposed, why=why, reasons=[reason])
        reviews = self._oversight().reviews
        if not follow or len(reviews) >= REVIEWS_MAX:
            return None
        review = Review([event_id], why, about, self.view.as_of_ms, proposal)
        reviews.append(review)
        self.task.reviews[why] = self.task.reviews.get(why, 0) + 1
        return review

    def _settle(self, review: Review) -> None:
        self._oversight().reviews.remove(review)
        self.task.reviews[review.why] = self.task.reviews.get(review.why, 0) - 1
        if len(review.event_ids) > 1:
            self.task.lying -= 1

    def _escalate(self, oversight: Oversight) -> None:
        after = self.office.policy.reviews.escalate_after_days
        for review in oversight.reviews:
            days = (self.view.as_of_ms - review.opened_ms) // DAY_MS
            while len(review.event_ids) <= len(after) and after[len(review.event_ids) - 1] <= days:
                self.task.lying += 1 if len(review.event_ids) == 1 else 0
                threshold = after[len(review.event_ids) - 1]
                reason = self.office.reasoner.told(LYING, [review.event_ids[0], review.about], days, threshold)
                review.event_ids.append(
                    self.emitter.emit(
                        TOPIC, outbound.ReviewRequested, LYING, proposed=None, why=LYING, reasons=[reason]
                    )
                )

    def _open_proposal(self, action: str) -> Review | None:
        oversight = self.standing.oversight
        for review in [] if oversight is None else oversight.reviews:
            if review.proposal is not None and review.proposal.action == action:
                return review
        return None

    def _appealed(self, notice: Notice) -> None:
        oversight = self._oversight()
        if all(review.why != APPEAL or review.about != notice.about for review in oversight.reviews):
            self.request(APPEAL, notice.about, [notice.event_id, notice.about])

    def _suspected(self, rule: Suspicion, notice: Notice) -> None:
        """Nothing is proved: a person is asked, and for some days at most nothing new is drawn. Being told again proves
        nothing either: until the person has answered, nothing is frozen for it once more."""
        oversight, limit, view = self._oversight(), self.standing.limit, self.view
        asked = next((review for review in oversight.reviews if review.why == rule.reason), None)
        if rule.review and asked is None:
            asked = self.request(rule.reason, notice.event_id, [notice.event_id])
        if not rule.freeze_days or limit is None or view.limit_held or view.suspicion_barred:
            return
        if not limit.rung < FROZEN < view.rung_below or (asked is not None and asked.froze):
            return
        if asked is not None:
            asked.froze = True
        until_ms = view.as_of_ms + rule.freeze_days * DAY_MS
        limits.decide(
            limit, FROZEN, limit.minor, outbound.LimitFrozen, rule.reason, [Ground(other=True)], view, self.emitter,
            until_ms, reasons=[self.office.reasoner.told(rule.reason, [notice.event_id])],
            recovery=outbound.Recovery(
                action="request_review", earliest_on=iso_day(self.office.calendar.day(until_ms))
            ),
        )  # fmt: skip

    def _ask_after_probation(self, limit: Limit) -> None:
        """A zeroed borrower who has cured and come through probation is shown to a person, once."""
        oversight, view, rules = self.standing.oversight, self.view, self.office.policy.limits
        end_day = limits.probation_end_day(rules, self.standing, limit, view)
        if end_day is None or (oversight is not None and oversight.asked_day is not None):
            if end_day is None and oversight is not None:
                oversight.asked_day = None
            return
        # Fraud that stays confirmed is not cured by paying.
        if view.day < end_day or self.hold or view.cleared or view.fraud_event_id is not None:
            return
        stage, to_minor = limits.next_stage(rules, limit)
        ahead = limits.stages_ahead(rules, limit.base_minor, to_minor, stage)
        way_back = self.office.reasoner.way_back(view, DECREASED, stage, ahead)
        restored = self.emitter.draft(outbound.LimitRestored, **limits.link(limit, DECREASED, to_minor), **way_back)
        zeroed_id = limit.decisions[-1].event_id if limit.decisions else ""
        self.request(PROBATION, zeroed_id, [zeroed_id], restored, Proposal("clear"))
        self._oversight().asked_day = view.day

    # --- the breaker --------------------------------------------------------------------------------------------------

    def grants(self, view: View) -> bool:
        return self._granted("zeroed")

    def ask(self, view: View, proposed: outbound.BorrowerEvent) -> None:
        evidence = [] if not isinstance(proposed, outbound.Judgement) else proposed.reasons[0].evidence
        self.request(BREAKER, "", evidence, proposed, Proposal("zero"))
        view.zero_asked = True

    def _granted(self, kind: str) -> bool:
        view, place = self.view, (self.emitter.cause.partition, self.office.partitions)
        if place[1] == 1:
            place = (0, 1)
        rules = self.office.policy.limits.breaker
        sweep = self.task.sweep
        sweeping = sweep is not None and sweep.of_wakes
        return breaker.grant(self.task.granted, rules, kind, view.segment, view.as_of_ms, place, sweeping)

    # --- deciding -----------------------------------------------------------------------------------------------------

    def _decided(self, notice: Notice) -> None:
        """Act on the decision of a reviewer; one that finds nothing to act on is told so."""
        review = self._review_about(notice)
        about = notice.about
        if review is not None and (not about or about in review.event_ids):
            about = review.about
        until_ms = self._until(notice)
        if until_ms <= self.view.as_of_ms:
            done = False
        elif notice.word in ("approve", "uphold"):
            done = review is not None and self._approved_or_upheld(review, notice, until_ms)
        elif notice.word == "overturn":
            done = self._overturned(review, notice, about, until_ms)
        elif notice.word == "set_limit":
            done = self._set_limit(notice, until_ms)
        elif notice.word == "clear":
            done = self._clear(review)
        else:
            done = self._exempt(review, notice, until_ms)
        if not done:
            self.request(NOTHING, about, [notice.event_id, about], follow=False)

    def _review_about(self, notice: Notice) -> Review | None:
        """The review that a decision is about: by one of its requests, or by what it is about itself."""
        oversight = self.standing.oversight
        reviews = [] if oversight is None else oversight.reviews
        if not notice.about:
            return reviews[0] if len(reviews) == 1 else None
        for review in reviews:
            if notice.about in review.event_ids or notice.about == review.about:
                return review
        return None

    def _until(self, notice: Notice) -> int:
        if notice.until_ms is not None:
            return notice.until_ms
        return self.view.as_of_ms + self.office.policy.reviews.decision_days * DAY_MS

    def _approved_or_upheld(self, review: Review, notice: Notice, until_ms: int) -> bool:
        proposal, limit = review.proposal, self.standing.limit
        if proposal is None:
            self._settle(review)
            return True
        if notice.word == "uphold":
            self._decline(review, proposal, until_ms)
            return True
        if proposal.action == "set_limit":
            if limit is None or notice.reviewer == proposal.reviewer or proposal.until_ms <= self.view.as_of_ms:
                return False
            if proposal.limit_minor >= limit.minor:
                self._settle(review)
                return False
            self._settle(review)
            self._set_by_hand(limit, proposal.limit_minor, proposal.until_ms, [notice.event_id, proposal.decided_id])
        elif proposal.action == "clear":
            return self._clear(review)
        elif proposal.action == "list":
            if self.facts.profile is None or not self.facts.profile.identity_token:
                return False
            self._settle(review)
            self._list(self._listing())
        else:
            due = None if limit is None else limits.due_zeroing(self.office.policy.limits, limit, self.view)
            self._settle(review)
            if limit is None or due is None:
                return False
            limits.take(self.office.policy.limits, limit, due, self.view, self.emitter, self.office.reasoner)
            self.view.zero_asked = False
        return True

    def _decline(self, review: Review, proposal: Proposal, until_ms: int) -> None:
        """What was proposed is not done, and not proposed again before the decision expires."""
        oversight = self._oversight()
        self._settle(review)
        if proposal.action == "zero":
            self._keep_below(ZEROED, until_ms)
            self.view.zero_asked = False
        elif proposal.action == "list":
            oversight.unlisted_until_ms = max(until_ms, oversight.unlisted_until_ms)

    def _keep_below(self, rung: int, until_ms: int, exempts: bool = False, suspicion: bool = False) -> None:
        """Until then the policy takes no rung from `rung` up."""
        bar = Bar(rung, until_ms, self.view.fraud_event_id or "", exempts, suspicion)
        self._oversight().rung_bars.append(bar)
        self._heed_rung(bar)

    def _heed_rung(self, bar: Bar) -> None:
        view = self.view
        if bar.suspicion:
            view.suspicion_barred = True
            return
        view.rung_below = min(view.rung_below, bar.at)
        if bar.exempts or bar.fraud_id == view.fraud_event_id:
            view.fraud_rung_below = min(view.fraud_rung_below, bar.at)

    def _overturned(self, review: Review | None, notice: Notice, about: str, until_ms: int) -> bool:
        """Undo a decision at once; until the reviewer's own expires the policy does not make it again."""
        if review is not None and review.proposal is not None:
            self._decline(review, review.proposal, until_ms)
            return True
        done = self._undo(notice, about, until_ms)
        if done and review is not None:
            self._settle(review)
        return done

    def _undo(self, notice: Notice, about: str, until_ms: int) -> bool:
        limit, oversight = self.standing.limit, self._oversight()
        for at, decision in enumerate([] if limit is None else limit.decisions):
            if limit is not None and decision.event_id == about:
                self._undo_limit(limit, at, decision, notice, until_ms)
                return True
        if any(decision.event_id == about for decision in self.standing.warnings):
            self._undo_warnings(notice, about, until_ms)
            return True
        listing = oversight.listing
        if listing is not None and any(entry.event_id == about for entry in listing.entries):
            self._delist(oversight, listing)
            oversight.unlisted_until_ms = max(until_ms, oversight.unlisted_until_ms)
            self._count_overturned("blacklisted")
            return True
        return False

    def _undo_limit(self, limit: Limit, at: int, decision: LimitDecision, notice: Notice, until_ms: int) -> None:
        reason = self.office.reasoner.told(OVERTURNED, [notice.event_id, decision.event_id], decision.rule)
        limits.lift(
            self.office.policy.limits, limit, at, self.view, self.emitter, self.office.reasoner,
            compensates=decision.event_id, reasons=[reason],
        )  # fmt: skip
        self.overturned = True
        if decision.rule == MANUAL:
            # A person's word, not the policy's: that is kept from nothing by it.
            self._oversight().limit_until_ms = 0
            self.view.limit_held = self.hold != NO_HOLD
        else:
            self._keep_below(decision.rung, until_ms, suspicion=decision.until_ms > 0)
        if decision.rung == ZEROED and any(ground.other for ground in decision.grounds):
            self._absolve()
        self._count_overturned(decision.rule)

    def _undo_warnings(self, notice: Notice, about: str, until_ms: int) -> None:
        """A level stands on those below it: with one go all above."""
        standing, oversight, policy = self.standing, self._oversight(), self.office.policy
        while standing.warnings:
            decision = standing.warnings[-1]
            rule = policy.warnings[decision.level - 1].reason
            reason = self.office.reasoner.told(OVERTURNED, [notice.event_id, about], rule)
            warnings.overturn_warning(standing, self.view, self.emitter, self.office.reasoner, reason)
            oversight.level_bars.append(Bar(decision.level, until_ms))
            self.view.level_below = min(self.view.level_below, decision.level)
            if decision.event_id == about:
                self._count_overturned(rule)
                return

    def _count_overturned(self, rule: str) -> None:
        self.task.overturned[rule] = self.task.overturned.get(rule, 0) + 1

    def _absolve(self) -> None:
        """The confirmed fraud was none."""
        if self.view.fraud_event_id is not None:
            self._oversight().absolved_id = self.view.fraud_event_id
            self.view.fraud_event_id = None

    def _set_limit(self, notice: Notice, until_ms: int) -> bool:
        """A reviewer sets the limit; where that is a large cut, once another reviewer agrees."""
        limit, minor = self.standing.limit, notice.limit_minor
        if limit is None or minor is None:
            return False
        review = self._review_about(notice)
        if (limit.minor - minor) * 10_000 > self.office.policy.reviews.second_reviewer_cut_bp * limit.minor:
            asked = Proposal("set_limit", minor, until_ms, notice.reviewer, notice.event_id)
            cut = self.emitter.draft(
                outbound.LimitDecreased,
                **limits.link(limit, max(limit.rung, DECREASED), minor),
                reasons=[self.office.reasoner.told(MANUAL, [notice.event_id])],
            )
            self.request(SECOND, notice.event_id, [notice.event_id, notice.about], cut, asked)
            return True
        if review is not None:
            self._settle(review)
        self._set_by_hand(limit, minor, until_ms, [notice.event_id, notice.about])
        return True

    def _set_by_hand(self, limit: Limit, minor: int, until_ms: int, evidence: list[str]) -> None:
        reasons = [self.office.reasoner.told(MANUAL, evidence)]
        end_day = self.office.calendar.day(until_ms)
        rules = self.office.policy.limits
        limits.set_by_hand(rules, limit, minor, self.view, self.emitter, reasons, end_day)
        self._oversight().limit_until_ms = until_ms
        self.view.limit_held = True

    def _clear(self, review: Review | None) -> bool:
        """What led to the restrictions no longer counts: probation is over, zeroing not permanent any more."""
        oversight, view, limit = self._oversight(), self.view, self.standing.limit
        if limit is None or limit.rung == 0:
            return False
        oversight.cleared = view.cleared = True
        oversight.limit_until_ms = 0
        view.limit_held = self.hold != NO_HOLD
        oversight.cleared_day = view.day
        view.episodes = 0
        self._absolve()
        for one in oversight.reviews[:]:
            if one is review or one.why in (PROBATION, BREAKER):
                self._settle(one)
        view.zero_asked = False
        return True

    def _exempt(self, review: Review | None, notice: Notice, until_ms: int) -> bool:
        """Until then the policy restricts nothing more, and lists nobody: what it has proposed of that kind is
        answered. Whether a limit comes back is not, unless that review is named."""
        oversight = self._oversight()
        self._keep_below(1, until_ms, exempts=True)
        oversight.unlisted_until_ms = max(until_ms, oversight.unlisted_until_ms)
        for one in oversight.reviews[:]:
            action = "" if one.proposal is None else one.proposal.action
            if action in ("zero", "list") or (one is review and (notice.about or action != "clear")):
                self._settle(one)
        self.view.zero_asked = False
        return True

    def _in_force(self, event_id: str) -> bool:
        """Whether an event is that of a decision that is in force: one that an overturn would undo."""
        limit, oversight = self.standing.limit, self.standing.oversight
        listing = None if oversight is None else oversight.listing
        return (
            any(decision.event_id == event_id for decision in self.standing.warnings)
            or (limit is not None and any(decision.event_id == event_id for decision in limit.decisions))
            or (listing is not None and any(entry.event_id == event_id for entry in listing.entries))
        )

    def _withdraw_stale(self, limit: Limit | None) -> None:
        """What was proposed and no longer holds is no question any more, nor is an appeal about what has been undone,
        given back or has ended."""
        for appeal in self.appeals:
            if appeal in self._oversight().reviews and not self._in_force(appeal.about):
                self._settle(appeal)
        review = self._open_proposal("zero")
        if review is not None and (
            limit is None or limits.due_zeroing(self.office.policy.limits, limit, self.view) is None
        ):
            self._settle(review)
        review = self._open_proposal("set_limit")
        cut = None if review is None else review.proposal
        if review is not None and cut is not None and limit is not None and cut.limit_minor >= limit.minor:
            # By now the limit is no higher than what a second reviewer was asked to lower it to.
            self._settle(review)
        review = self._open_proposal("clear")
        if review is not None and (limit is None or limit.rung != ZEROED or self.standing.clean_since_day is None):
            self._settle(review)

    # --- the listing --------------------------------------------------------------------------------------------------

    def _judge_listing(self, limit: Limit) -> None:
        if self.silent:
            return
        oversight = self._oversight()
        listing, view = oversight.listing, self.view
        asked = self._open_proposal("list")
        if listing is not None:
            if limit.rung != ZEROED:
                self._delist(oversight, listing)
            elif listing.entries:
                self._renew(listing)
        elif limit.rung != ZEROED or not self._blacklists(view):
            if asked is not None:
                self._settle(asked)
        elif view.limit_held or oversight.unlisted_until_ms > view.as_of_ms:
            return
        elif asked is None:
            self._list_or_ask()
        elif asked.why == NO_TOKEN and self.facts.profile is not None and self.facts.profile.identity_token:
            self._settle(asked)
            self._list_or_ask()

    def _blacklists(self, view: View) -> list[Any]:
        """The conditions that hold and ask for a listing."""
        return [
            condition
            for step in self.office.policy.limits.steps_of(view.segment)
            for condition in step.when
            if condition.blacklists and holds(condition, view, ZEROED, view.pressing)
        ]

    def _list_or_ask(self) -> None:
        view, profile = self.view, self.facts.profile
        if profile is None or not profile.identity_token:
            why = NO_TOKEN
        elif not self._granted("blacklisted"):
            why = BREAKER
        else:
            self._list(self._listing())
            return
        limit = self.standing.limit
        evidence = [limit.decisions[-1].event_id] if limit is not None and limit.decisions else []
        proposed = blacklist.proposed(self.office.policy.blacklist, view.day, self.emitter)
        self.request(why, "", evidence, proposed, Proposal("list"))

    def _listing(self) -> Listing:
        rules, view = self.office.policy.blacklist, self.view
        grounds = [ground_of(condition, view, ZEROED) for condition in self._blacklists(view)]
        return Listing([], rules.reason, view.day + rules.expires_days, view.day, view.as_of_ms, grounds)

    def _list(self, listing: Listing) -> None:
        profile = self.facts.profile
        assert profile is not None, "who is listed has an identity token"
        blacklist.publish(listing, self.office.signer, profile.identity_token, self.emitter)
        self._oversight().listing = listing

    def _renew(self, listing: Listing) -> None:
        """Past its end a listing is over; before it, it is issued again when the consortium's key has changed."""
        profile, signer = self.facts.profile, self.office.signer
        if self.view.day > listing.expires_day:
            listing.entries = []
        elif listing.entries[-1].key_id == signer.key_at(self.view.as_of_ms):
            return
        elif profile is not None and profile.identity_token:
            blacklist.publish(listing, signer, profile.identity_token, self.emitter)

    def _delist(self, oversight: Oversight, listing: Listing) -> None:
        blacklist.withdraw(listing, self.emitter)
        oversight.listing = None

    def undo_listing(self, undone: Any) -> None:
        """Take the listing back if what it rests on never was; `undone` says so of a listing."""
        oversight = self.standing.oversight
        if oversight is not None and oversight.listing is not None and undone(oversight.listing):
            self._delist(oversight, oversight.listing)

    # --- time ---------------------------------------------------------------------------------------------------------

    def moments(self) -> list[int]:
        """The moments after that of the view at which any of this changes by the passing of time alone."""
        oversight, view, office = self.standing.oversight, self.view, self.office
        moments = [hardship_until(self.facts.directions, office.policy)]
        if oversight is not None:
            moments += [bar.until_ms for bar in (*oversight.rung_bars, *oversight.level_bars)]
            moments += [oversight.limit_until_ms, oversight.unlisted_until_ms]
            after = office.policy.reviews.escalate_after_days
            for review in oversight.reviews:
                if len(review.event_ids) <= len(after):
                    moments.append(review.opened_ms + after[len(review.event_ids) - 1] * DAY_MS)
            if oversight.listing is not None and oversight.listing.entries:
                # Nobody tells when the consortium's key changes: an open listing is looked at every day.
                moments.append(office.calendar.start_ms(view.day + 1))
        limit = self.standing.limit
        if limit is not None and limit.rung == ZEROED and (oversight is None or oversight.asked_day is None):
            end_day = limits.probation_end_day(office.policy.limits, self.standing, limit, view)
            if end_day is not None:
                moments.append(office.calendar.start_ms(end_day))
        return [moment for moment in moments if moment > view.as_of_ms]
