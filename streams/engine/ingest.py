"""What each event does to the facts: one table from event type to effect.

Facts come from events alone; nothing here judges. An event that is refused leaves the facts as they were.
"""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from schemas import inbound as wire
from schemas.inbound import BorrowerEvent, given
from streams.engine import ledger, loan_facts, signal_windows, windows
from streams.engine.calendar import Calendar, day_of
from streams.engine.cases import Case
from streams.engine.directions import Directions, notice_of, take_hardship, take_hold
from streams.engine.journal import Applied, Duplicate, Refused
from streams.engine.loan import NONE, Loan
from streams.engine.profile import Profile
from streams.engine.state import Parked
from streams.policy.model import Facts as FactsRules


class Taken(Struct, frozen=True):
    """The event is part of the facts now; `released` are the events that waited for it, oldest first."""

    released: list[Parked]


class Parking(Struct, frozen=True):
    """The event is about a loan not seen yet."""

    loan_id: str


Result = Taken | Duplicate | Refused | Parking
TAKEN = Taken([])
LOGIN_CHANNELS_MAX = 8
"""Of the channels of logins so many are kept at most."""
USES = ("investment", "gambling")
"""What a loan is not for."""


class Ingest:
    """Takes events into facts under one policy's `facts` section."""

    def __init__(self, rules: FactsRules, calendar: Calendar) -> None:
        self.rules = rules
        self.calendar = calendar

    def take(self, case: Case, event: BorrowerEvent) -> Result:
        """Take one decoded event into the facts of its borrower."""
        effect = _EFFECTS.get(type(event))
        result = self._signal(case, event) if effect is None else effect(self, case, event)
        if isinstance(result, Taken):
            day = self.calendar.day(event.at_ms)
            case.dirty(windows.observe_activity(case.borrower.facts.windows, day, event.at_ms, event.event_id))
        return result

    # --- effects ------------------------------------------------------------------------------------------------------

    def _login(self, case: Case, event: wire.Login) -> Result:
        facts = case.borrower.facts
        case.dirty(windows.observe_login(facts.windows, self.calendar, event))
        logins = facts.windows.logins
        if logins is not None and event.channel not in logins.channels and len(logins.channels) < LOGIN_CHANNELS_MAX:
            logins.channels = sorted([*logins.channels, event.channel])
            # Which incidents kept the borrower out is to be found out anew.
            facts.incidents_rev = NONE
        return TAKEN

    def _transaction(self, case: Case, event: wire.Transaction) -> Result:
        facts = case.borrower.facts
        if not facts.windows.currency:
            case.dirty(windows.observe_currency(facts.windows, event.currency))
        case.dirty(windows.observe_transaction(facts.windows, self.calendar, event))
        if event.category in USES and event.direction == "out" and event.currency == facts.windows.currency:
            case.dirty(signal_windows.observe_use(facts.windows, self.calendar, event))
        return TAKEN

    def _signal(self, case: Case, event: BorrowerEvent) -> Result:
        case.dirty(signal_windows.observe(case.borrower.facts.windows, self.calendar, event))
        return TAKEN

    def _profile_set(self, case: Case, event: wire.ProfileSet) -> Result:
        """The latest profile by `at_ms` stands; an older one that comes late tells no more than the limit of then."""
        facts = case.borrower.facts
        if facts.profile is not None and (event.at_ms, event.event_id) < (facts.profile.at_ms, facts.profile.event_id):
            if event.currency == facts.windows.currency:
                case.dirty(signal_windows.observe_profile(facts.windows, self.calendar, event))
            return TAKEN
        facts.profile = Profile(
            event.segment,
            event.currency,
            event.limit_minor,
            day_of(event.onboarded_on),
            event.at_ms,
            event.event_id,
            given(event.identity_token) or "",
            given(event.industry) or "",
            given(event.region) or "",
        )
        case.dirty(signal_windows.observe_profile(facts.windows, self.calendar, event))
        case.dirty(windows.observe_currency(facts.windows, event.currency))
        case.new_profile = case.more_than_windows = True
        return TAKEN

    def _fraud_reported(self, case: Case, event: wire.FraudReported) -> Result:
        if event.confirmed:
            case.more_than_windows = True
            case.borrower.facts.fraud_event_id = event.event_id
        return self._reported(case, event)

    def _reported(self, case: Case, event: BorrowerEvent) -> Result:
        """What scores, and is looked at besides."""
        self._signal(case, event)
        return self._directed(case, event)

    def _directed(self, case: Case, event: BorrowerEvent) -> Result:
        """What a person or another system tells, which the next judgement is to act on."""
        notice = notice_of(event)
        if notice is not None:
            _directions(case).notices.append(notice)
            case.more_than_windows = True
        return TAKEN

    def _review_decided(self, case: Case, event: wire.ReviewDecided) -> Result:
        if event.decision == "set_limit" and given(event.limit_minor) is None:
            return Refused("missing_field", "limit_minor: is needed to set a limit; add it")
        return self._directed(case, event)

    def _held(self, case: Case, event: wire.HoldSet | wire.HoldLifted) -> Result:
        take_hold(_directions(case), event)
        case.more_than_windows = True
        return TAKEN

    def _hardship_reported(self, case: Case, event: wire.HardshipReported) -> Result:
        take_hardship(_directions(case), event)
        return self._directed(case, event)

    def _loan_disbursed(self, case: Case, event: wire.LoanDisbursed) -> Result:
        facts = case.borrower.facts
        known = facts.loans.get(event.loan_id)
        if known is not None:
            return _as_result(ledger.apply(known, event, self.calendar, self.rules))
        facts.loans[event.loan_id] = ledger.disburse(event, self.rules, self.calendar)
        if not facts.windows.currency:
            case.dirty(windows.observe_currency(facts.windows, event.currency))
        case.dirty(windows.observe_loan_taken(facts.windows, self.calendar, event.at_ms, event.event_id))
        case.retroactive = case.more_than_windows = True
        released = [parked for parked in facts.parked if parked.loan_id == event.loan_id]
        if not released:
            return TAKEN
        facts.parked = [parked for parked in facts.parked if parked.loan_id != event.loan_id]
        return Taken(released)

    def _loan_event(self, case: Case, event: Any) -> Result:
        loan = case.borrower.facts.loans.get(event.loan_id)
        if loan is None:
            return Parking(event.loan_id)
        outcome = ledger.apply(loan, event, self.calendar, self.rules)
        if not isinstance(outcome, Applied):
            return _as_result(outcome)
        case.more_than_windows = True
        case.retroactive = case.retroactive or outcome.retroactive
        observe = _OBSERVED.get(type(event))
        case.dirty(windows.LOANS if observe is None else observe(self, case, loan, event))
        return TAKEN

    def _received(self, case: Case, loan: Loan, event: wire.RepaymentReceived) -> int:
        return windows.observe_repayment(case.borrower.facts.windows, self.calendar, event, loan)

    def _reversed(self, case: Case, loan: Loan, event: wire.RepaymentReversed) -> int:
        return windows.observe_repayment_reversed(case.borrower.facts.windows, self.calendar, event.payment_id, loan)

    def _attempted(self, case: Case, loan: Loan, event: wire.RepaymentFailed | wire.FailureReattributed) -> int:
        """Only borrower-caused failures count; a revision counts or discounts the attempt it is about."""
        if isinstance(event, wire.RepaymentFailed):
            case.failed_days.append(self.calendar.day(event.at_ms))
        by_borrower = loan_facts.attribution_now(loan, event.attempt_id) == "borrower"
        return windows.observe_failed_debit(
            case.borrower.facts.windows, event.at_ms, event.event_id, loan.loan_id, event.attempt_id, by_borrower
        )


def _directions(case: Case) -> Directions:
    facts = case.borrower.facts
    if facts.directions is None:
        facts.directions = Directions()
    return facts.directions


def _as_result(outcome: Applied | Duplicate | Refused) -> Result:
    return TAKEN if isinstance(outcome, Applied) else outcome


_EFFECTS: dict[type[BorrowerEvent], Callable[[Ingest, Case, Any], Result]] = {
    wire.Login: Ingest._login,
    wire.Transaction: Ingest._transaction,
    wire.ProfileSet: Ingest._profile_set,
    wire.FraudReported: Ingest._fraud_reported,
    wire.HardshipReported: Ingest._hardship_reported,
    wire.ViolationReported: Ingest._reported,
    wire.BlacklistReported: Ingest._reported,
    wire.AppealFiled: Ingest._directed,
    wire.ReviewDecided: Ingest._review_decided,
    wire.HoldSet: Ingest._held,
    wire.HoldLifted: Ingest._held,
    wire.LoanDisbursed: Ingest._loan_disbursed,
    wire.RepaymentReceived: Ingest._loan_event,
    wire.RepaymentFailed: Ingest._loan_event,
    wire.RepaymentReversed: Ingest._loan_event,
    wire.ChargeAdded: Ingest._loan_event,
    wire.AmountWaived: Ingest._loan_event,
    wire.LoanRescheduled: Ingest._loan_event,
    wire.LoanWrittenOff: Ingest._loan_event,
    wire.LoanClosed: Ingest._loan_event,
    wire.PauseSet: Ingest._loan_event,
    wire.FailureReattributed: Ingest._loan_event,
    wire.PoolAssigned: Ingest._loan_event,
    wire.PresumptionRebutted: Ingest._loan_event,
    wire.PlanAccepted: Ingest._loan_event,
    wire.PlanDeclined: Ingest._loan_event,
    wire.PlanBroken: Ingest._loan_event,
    wire.PlanCompleted: Ingest._loan_event,
}
"""What is not here is a signal, or an event of the borrower's own and nothing more."""

_OBSERVED: dict[type[BorrowerEvent], Callable[[Ingest, Case, Loan, Any], int]] = {
    wire.RepaymentReceived: Ingest._received,
    wire.RepaymentReversed: Ingest._reversed,
    wire.RepaymentFailed: Ingest._attempted,
    wire.FailureReattributed: Ingest._attempted,
}
"""What a loan's event tells the windows beside the loan."""
