"""The regulatory view of a loan: how supervisors and accountants would class it on a business date.

    IFRS 9 stage     contractual days past due; each presumption rebuttable by recorded evidence until a date
    five tiers       contractual days past due (China)
    FFIEC            contractual days past due, closed-end and open-end loans apart (United States)
    default flag     days of material arrears, then cure and probation (CRR Article 178)

All of it is a function of the facts: late ones change it as if they had been on time. Grace and pauses lower none of
it; they only keep a probation from being broken, which is about managed days. The numbers are the policy's.

Sources: IFRS 9 5.5.11 and B5.5.37; CBIRC and PBoC order 1 of 2023, articles 7 to 11; Uniform Retail Credit
Classification and Account Management Policy (65 FR 36903); EBA/GL/2016/07, paragraphs 71 to 76.
"""

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final, Literal, NamedTuple

from streams.engine import loan_facts
from streams.engine.delinquency import Position
from streams.engine.loan import AMOUNT, DAY, ENTRY, NONE, RESCHEDULE, SLOT_DUE, Loan
from streams.policy.model import Policy

Tier = Literal["normal", "special_mention", "substandard", "doubtful", "loss"]
Ffiec = Literal["pass", "substandard", "loss"]

TIERS: tuple[Tier, ...] = ("normal", "special_mention", "substandard", "doubtful", "loss")
FFIEC: tuple[Ffiec, ...] = ("pass", "substandard", "loss")
_STAGES: tuple[Literal[1, 2, 3], ...] = (1, 2, 3)
_PAYMENT_FREE_DAYS: Final = 31
"""A restructure whose first instalment falls due later than this has a grace period until then."""


class Classification(NamedTuple):
    contractual_bucket: str
    ifrs9_stage: Literal[1, 2, 3]
    five_tier: Tier
    ffiec: Ffiec
    default_flag: bool


class Regulator:
    """Classes loans by one policy. It keeps no state.

    A classification is one small number, 0 for a loan that is current and not in default, so that what is reported
    last can be kept beside each loan and compared at the price of one comparison.
    """

    def __init__(self, policy: Policy) -> None:
        rules = policy.regulatory
        self._rules = rules
        self._bucket_names = [bucket.name for bucket in policy.buckets]
        self._buckets = [bucket.from_day for bucket in policy.buckets]
        tiers = rules.five_tier
        self._tiers = [
            tiers.special_mention_from_day,
            tiers.substandard_from_day,
            tiers.doubtful_from_day,
            tiers.loss_from_day,
        ]
        closed, opened = rules.ffiec.closed_end, rules.ffiec.open_end
        self._closed_end = [closed.substandard_from_day, closed.loss_from_day]
        self._open_end = [opened.substandard_from_day, opened.loss_from_day]
        self._open_end_products = frozenset(rules.ffiec.open_end_products)

    def code(self, loan: Loan, position: Position, day: int, loans: Iterable[Loan], clean_since_day: int | None) -> int:
        """The classification of an open loan at its position on a business date.

        Args:
            loans: all loans of the borrower: cure and probation are the borrower's.
            clean_since_day: since when the borrower has been clean, None where it is not.
        """
        dpd = position.contractual
        in_default = self.in_default(loan, position, day, loans, clean_since_day)
        if dpd == 0:
            return 1 if in_default else 0
        bucket = bisect_right(self._buckets, dpd) - 1
        tier = bisect_right(self._tiers, dpd)
        ends = self._open_end if loan.product in self._open_end_products else self._closed_end
        coded = (bucket * len(_STAGES) + self._stage(loan, dpd, day) - 1) * len(TIERS) + tier
        return (coded * len(FFIEC) + bisect_right(ends, dpd)) * 2 + in_default

    def named(self, code: int) -> Classification:
        """What a code of this policy says."""
        coded, flag = divmod(code, 2)
        coded, ffiec = divmod(coded, len(FFIEC))
        coded, tier = divmod(coded, len(TIERS))
        bucket, stage = divmod(coded, len(_STAGES))
        return Classification(self._bucket_names[bucket], _STAGES[stage], TIERS[tier], FFIEC[ffiec], flag == 1)

    def _stage(self, loan: Loan, dpd: int, day: int) -> int:
        """IFRS 9: rebutting that a loan is credit-impaired does not rebut that its risk has risen."""
        rules = self._rules.ifrs9
        if dpd >= rules.stage3_from_day and not _rebutted(loan, 3, day):
            return 3
        return 2 if dpd >= rules.stage2_from_day and not _rebutted(loan, 2, day) else 1

    # --- default ------------------------------------------------------------------------------------------------------

    def in_default(
        self, loan: Loan, position: Position, day: int, loans: Iterable[Loan], clean_since_day: int | None
    ) -> bool:
        stretch = self._last_default(loan, position, day)
        if stretch is None:
            return False
        end = self._probation_end_day(stretch, day, loans, clean_since_day)
        return end is None or day < end

    def default_ended_day(self, loan: Loan, position: Position, day: int) -> int | None:
        """The day on which the arrears of the latest default were cleared; None without one that is over."""
        stretch = self._last_default(loan, position, day)
        return None if stretch is None or stretch[1] == day else stretch[1] + 1

    def _last_default(self, loan: Loan, position: Position, day: int) -> tuple[int, int] | None:
        """First and last day of the latest stretch of material arrears that was a default.

        The day on which arrears were cleared counts: the loan was in material arrears as it began.
        """
        days = self._rules.default.material_from_day
        if position.material >= days:
            return day - position.material + 1, day
        if position.material == 0 and loan.material_from != NONE and day - loan.material_from + 1 >= days:
            return loan.material_from, day - 1
        runs = loan.material_runs
        for at in range(len(runs) - 2, -1, -2):
            if runs[at + 1] - runs[at] + 2 >= days:
                return runs[at], runs[at + 1]
        return None

    def _probation_end_day(
        self, stretch: tuple[int, int], day: int, loans: Iterable[Loan], clean_since_day: int | None
    ) -> int | None:
        """The business date on which the flag lifts if nothing goes wrong; None while anything is in arrears."""
        last = stretch[1]
        if last == day or clean_since_day is None:
            return None
        rules = self._rules.default
        end = max(clean_since_day, last + 1) + rules.probation_days
        distressed_from = self._distressed_from_day([stretch], day, loans, rules.distressed_probation_days)
        return end if distressed_from is None else max(end, distressed_from + rules.distressed_probation_days)

    def distressed_from_day(self, positions: Iterable[tuple[Loan, Position]], day: int, days: int) -> int | None:
        """The day from which the `days` of a borrower's probation after a distressed restructure count, None without
        one; `positions` are all loans at theirs on a business date."""
        defaults: list[tuple[int, int]] = []
        loans: list[Loan] = []
        for loan, position in positions:
            loans.append(loan)
            stretch = self._last_default(loan, position, day)
            if stretch is not None:
                defaults.append(stretch)
        return self._distressed_from_day(defaults, day, loans, days)

    def _distressed_from_day(
        self, defaults: Iterable[tuple[int, int]], day: int, loans: Iterable[Loan], days: int
    ) -> int | None:
        """The latest of restructure, default and end of grace, None where no loan had a distressed restructure.

        `defaults` are stretches of arrears. One that began when the `days` of a restructure were over has nothing to do
        with it.
        """
        from_day: int | None = None
        for loan in loans:
            restructured = loan_facts.distressed_day(loan, day) if loan.journal else None
            if restructured is None:
                continue
            latest = grace_end = _grace_end_day(loan, restructured, day, days)
            for first, _ in defaults:
                if first <= grace_end + days:
                    latest = max(latest, first + self._rules.default.material_from_day - 1)
            from_day = latest if from_day is None else max(from_day, latest)
        return from_day

    # --- time ---------------------------------------------------------------------------------------------------------

    def next_day(
        self, loan: Loan, position: Position, day: int, loans: Iterable[Loan], clean_since_day: int | None
    ) -> int | None:
        """The next business date on which, with no further event, the classification changes by anything but days past
        due: a rebuttal begins or ends, a probation ends."""
        days: list[int] = []
        for at in range(0, len(loan.rebuttals), loan_facts.REBUTTAL):
            days += (loan.rebuttals[at + 1], loan.rebuttals[at + 2] + 1)
        stretch = self._last_default(loan, position, day)
        if stretch is not None:
            end = self._probation_end_day(stretch, day, loans, clean_since_day)
            if end is not None:
                days.append(end)
        return min((coming for coming in days if coming > day), default=None)


def _rebutted(loan: Loan, stage: int, day: int) -> bool:
    return bool(loan.rebuttals) and loan_facts.rebutted(loan, stage, day) is not None


def _grace_end_day(loan: Loan, restructured_day: int, day: int, days: int) -> int:
    """The end of the grace that belongs to the distressed restructure of a day: a payment-free start of its schedule,
    pauses known by `day` that begin before its `days` of probation are over; the day itself where there is none."""
    end = restructured_day
    version = 0
    journal = loan.journal
    for at in range(0, len(journal), ENTRY):
        if journal[at] == RESCHEDULE:
            version += 1
            if journal[at + AMOUNT] == 1 and journal[at + DAY] == restructured_day:
                schedule = loan.schedules[version]
                first_due = schedule[SLOT_DUE] if schedule else end
                end = first_due if first_due > restructured_day + _PAYMENT_FREE_DAYS else restructured_day
    for at in range(0, len(loan.pauses), 3):
        first, last, known = loan.pauses[at : at + 3]
        if known <= day and restructured_day < last and first <= end + days:
            end = max(end, last)
    return end
