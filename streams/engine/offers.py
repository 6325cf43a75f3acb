"""Hardship plans, offered before anyone is zeroed: once per arrears episode of a loan, and when hardship is reported.

instalments         what is unpaid, in equal monthly parts
deferral            every unpaid instalment, later by some days
partner_refinance   what is unpaid, repaid to a partner in equal monthly parts
"""

from calendar import monthrange
from datetime import date

from schemas import outbound
from schemas.inbound import Instalment
from streams.engine.calendar import date_of
from streams.engine.encode import Emitter
from streams.engine.loan import Loan, instalments
from streams.engine.view import LoanView, View
from streams.policy.model import Offers, PlanOption

TOPIC = "offers"


def judge_offers(rules: Offers, view: View, emitter: Emitter) -> None:
    """Offer a plan for each loan that has reached the threshold, and forget offers of episodes that are over."""
    for loan_view in view.loans:
        standing = loan_view.standing
        if loan_view.position.contractual == 0:
            standing.offered_day = None
        elif standing.offered_day is None and loan_view.position.managed >= rules.managed_dpd_from:
            _offer(rules, loan_view, view, emitter)


def offer_in_hardship(rules: Offers, view: View, emitter: Emitter) -> None:
    """Offer a plan for each loan with anything left to pay, before any arrears."""
    for loan_view in view.loans:
        if sum(loan_view.position.outstanding):
            _offer(rules, loan_view, view, emitter)


def _offer(rules: Offers, loan_view: LoanView, view: View, emitter: Emitter) -> None:
    wanted = rules.options_of(view.segment)
    options = [_option(loan_view, option, number, view.day) for number, option in enumerate(wanted, 1)]
    emitter.emit(TOPIC, outbound.PlanOffered, "plan_offered", loan_id=loan_view.loan.loan_id, options=options)
    loan_view.standing.offered_day = view.day


def _option(loan_view: LoanView, option: PlanOption, number: int, day: int) -> outbound.PlanOption:
    if option.kind == "deferral":
        schedule = _deferred(loan_view.loan, option.defer_days or 0, day)
    else:
        schedule = _spread(loan_view, option.months or 1, day)
    plan_id = f"{option.kind}-{number}-{date_of(day).isoformat()}"
    return outbound.PlanOption(plan_id=plan_id, kind=option.kind, schedule=schedule)


def _deferred(loan: Loan, defer_days: int, day: int) -> list[Instalment]:
    schedule: list[Instalment] = []
    for number, row in enumerate((row for row in instalments(loan) if sum(row.unpaid)), 1):
        penalty, fee, interest, principal = row.unpaid
        schedule.append(
            Instalment(
                no=number,
                due_on=date_of(max(row.due_day, day) + defer_days),
                principal_minor=principal,
                interest_minor=interest,
                fee_minor=fee + penalty,
            )
        )
    return schedule


def _spread(loan_view: LoanView, months: int, day: int) -> list[Instalment]:
    penalty, fee, interest, principal = loan_view.position.outstanding
    start = date_of(day)
    return [
        Instalment(
            no=month,
            due_on=_months_later(start, month),
            principal_minor=_part(principal, month, months),
            interest_minor=_part(interest, month, months),
            fee_minor=_part(fee + penalty, month, months),
        )
        for month in range(1, months + 1)
    ]


def _part(total_minor: int, part: int, parts: int) -> int:
    """The `part`-th of `parts` near-equal parts; together they are exactly `total_minor`."""
    return total_minor * part // parts - total_minor * (part - 1) // parts


def _months_later(start: date, months: int) -> date:
    """The same day of a later month, or that month's last day."""
    year, month = divmod(start.year * 12 + start.month - 1 + months, 12)
    return date(year, month + 1, min(start.day, monthrange(year, month + 1)[1]))
