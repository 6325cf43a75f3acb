"""The state machines of a borrower, as tables: which moves there are, what tells each, and when it is made.

The rules that make the moves stand where they belong (delinquency, warnings, limits, loan_facts); what they may do
stands here, and tests hold every decision to it. The diagrams in docs/state-machines.md are drawn from these tables.
"""

from collections.abc import Iterable
from typing import NamedTuple

from streams.engine.limits import EVENT_OF_STATUS
from streams.policy.model import LEVELS, STATUSES, Policy

NO_EVENT = "(nothing)"
"""In the place of an event: the move is made without a word."""


class Move(NamedTuple):
    """From one state to another. `event` is the type of the event that tells it (outbound, or inbound where it is the
    borrower's or a reviewer's own doing); `when` is the rule in a few words."""

    source: str
    event: str
    target: str
    when: str


class Machine(NamedTuple):
    """`start` is the state in which everyone begins; `about` says what is in these states. A move to the state it comes
    from changes something else than the state."""

    name: str
    about: str
    start: str
    moves: tuple[Move, ...]

    @property
    def states(self) -> tuple[str, ...]:
        """Every state, in the order in which the moves name them."""
        named = (state for move in self.moves for state in (move.source, move.target))
        return tuple(dict.fromkeys([self.start, *named]))

    def allows(self, source: str, event: str, target: str) -> bool:
        return any((move.source, move.event, move.target) == (source, event, target) for move in self.moves)


def _pairs(states: Iterable[str]) -> list[tuple[str, str]]:
    """Each state with each harder one."""
    ordered = tuple(states)
    return [(mild, hard) for at, mild in enumerate(ordered) for hard in ordered[at + 1 :]]


def delinquency(policy: Policy) -> Machine:
    """The buckets of a policy: a day at a time into the next one, back as far as what was paid reaches."""
    names = [bucket.name for bucket in policy.buckets]
    starts = {bucket.name: bucket.from_day for bucket in policy.buckets}
    moves: list[Move] = []
    for mild, hard in _pairs(names):
        told = names.index(hard) == names.index(mild) + 1
        when = f"{starts[hard]} managed days past due" if told else "at once, by facts that come late"
        moves.append(Move(mild, "bucket_changed", hard, when))
    for mild, hard in reversed(_pairs(names)):
        cured = mild == names[0]
        moves.append(
            Move(hard, "bucket_changed", mild, "nothing past due any more" if cured else "paid in part, pause or grace")
        )
    about = "A loan, by managed days past due. A loan that is closed is in the first bucket."
    return Machine("delinquency", about, names[0], tuple(moves))


def _warning_moves() -> tuple[Move, ...]:
    none = LEVELS[0]
    moves = [
        Move(mild, "warning_raised" if mild == none else "warning_escalated", hard, "score or managed DPD, at once")
        for mild, hard in _pairs(LEVELS)
    ]
    when = "dwell time beyond the lower threshold, or undone"
    moves += [
        Move(hard, "warning_cleared" if mild == none else "warning_lowered", mild, when)
        for mild, hard in reversed(_pairs(LEVELS))
    ]
    return tuple(moves)


WARNING = Machine(
    "warning",
    "A borrower's warning level: raised and escalated at once, lowered after a dwell time.",
    LEVELS[0],
    _warning_moves(),
)


def _limit_moves() -> tuple[Move, ...]:
    moves: list[Move] = []
    for mild, hard in _pairs(STATUSES):
        event = str(EVENT_OF_STATUS[hard].__struct_config__.tag)  # type: ignore[index]
        when = "its own conditions, at once" if hard == "zeroed" else "its own conditions, after the dwell time below"
        moves.append(Move(mild, event, hard, when))
    for mild, hard in reversed(_pairs(STATUSES)):
        when = "undone, or cleared by a review" if hard == "zeroed" else "cure, probation and stages, or undone"
        moves.append(Move(hard, "limit_restored", mild, when))
    for status in STATUSES:
        when = {
            "normal": "a reviewer sets a higher amount",
            "zeroed": "a restriction from before is undone; nothing is given back yet",
        }.get(status, "a stage of restoration, or an amount given back")
        moves.append(Move(status, "limit_restored", status, when))
        moves.append(Move(status, "limit_rebased", status, "the limit was changed elsewhere"))
    moves.append(Move("decreased", "limit_decreased", "decreased", "one more step of decrease, or a cut by a reviewer"))
    beneath = "the ladder beneath a freeze for suspicion"
    moves.append(Move("frozen", "draws_restricted", "frozen", beneath))
    moves.append(Move("frozen", "limit_decreased", "frozen", f"a cut by a reviewer, or {beneath}"))
    moves.append(Move("frozen", "limit_frozen", "frozen", beneath))
    return tuple(moves)


LIMIT = Machine(
    "limit",
    "A borrower's limit: graduated restriction, permanent zeroing, staged restoration.",
    STATUSES[0],
    _limit_moves(),
)

PLAN = Machine(
    "plan",
    "A hardship plan of one loan. While an accepted plan is kept, arrears zero nobody; it ends with its last day.",
    "offered",
    (
        Move("offered", "plan_accepted", "accepted", "the borrower agrees: its schedule replaces what is unpaid"),
        Move("offered", "plan_declined", "declined", "the borrower does not"),
        Move("accepted", "plan_broken", "broken", "not kept"),
        Move("accepted", "plan_completed", "completed", "kept to its end"),
        Move("broken", "plan_accepted", "accepted", "agreed again"),
    ),
)  # fmt: skip

_OPEN = ("open", "lying")
REVIEW = Machine(
    "review",
    "A question to a person about a borrower. What a reviewer decides unasked (set_limit, clear, exempt) settles those "
    "that it answers.",
    "open",
    (
        Move("open", "review_requested", "lying", "nobody has decided: asked again after the days of the policy"),
        Move("lying", "review_requested", "lying", "likewise, as often as the policy says"),
        *(Move(state, "review_decided", "approved", "approve: what was proposed is done") for state in _OPEN),
        *(Move(state, "review_decided", "upheld", "uphold: things stay as they are") for state in _OPEN),
        *(Move(state, "review_decided", "overturned", "overturn: the decision is undone at once") for state in _OPEN),
        *(
            Move(state, NO_EVENT, "withdrawn", "what was proposed no longer holds, or what an appeal is about is over")
            for state in _OPEN
        ),
    ),
)  # fmt: skip


def machines(policy: Policy) -> tuple[Machine, ...]:
    """Every state machine, as it is under a policy."""
    return delinquency(policy), WARNING, LIMIT, PLAN, REVIEW
