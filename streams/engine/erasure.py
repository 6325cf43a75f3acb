"""Erasing a borrower: what the task has counted of it is taken back; the rest goes with its state.

Nobody is told: erasing is no decision about a loan. Only the ids of erasures are remembered (digests, for as long as
those of other events), so that one told twice does not erase who came again in between.
"""

from streams.engine.chunk import TaskState
from streams.engine.limits import status_of
from streams.engine.state import Borrower
from streams.policy.model import LEVELS


def uncount(borrower: Borrower, task: TaskState) -> None:
    """Take a borrower out of the task's counts of loans, levels, limits and open reviews."""
    for loan_id, loan in borrower.standing.loans.items():
        if loan.counted:
            pair = task.loans[borrower.facts.loans[loan_id].currency][loan.bucket]
            pair[0] -= 1
            pair[1] -= loan.balance_minor
    standing = borrower.standing
    if standing.judged_by:
        task.levels[LEVELS[standing.level]] -= 1
    if standing.limit is not None and standing.limit.counted:
        task.statuses[status_of(standing.limit.rung)] -= 1
    for review in [] if standing.oversight is None else standing.oversight.reviews:
        task.reviews[review.why] -= 1
        if len(review.event_ids) > 1:
            task.lying -= 1
