"""What `policy_activated` does to the policies in force of a task, at its place in the log.

live      takes the place of the live policy; standing (level, limit and its chain, warnings, cool-downs) carries over,
          and what the policy held as a shadow is dropped
shadow    runs beside the live policy; a former version under the same id gives way to it
retired   ends a shadow

Nobody is judged because of an activation: a borrower is judged after its own next event or at its own next wake-up.
"""

from schemas.inbound import PolicyActivated
from streams.engine.chunk import PolicyInForce, TaskState
from streams.policy import loader
from streams.policy.model import Policy


def activate(event: PolicyActivated, task: TaskState, live: Policy, live_digest: str) -> str | None:
    """Put the activation into `task`; why not, where it is refused (one line).

    Args:
        live: the policy in force; its `approval` says whether two people are needed.
        live_digest: its digest.
    """
    try:
        policy = loader.loads(event.body, f"policy {event.policy_id}")
    except loader.PolicyError as error:
        return str(error)
    if loader.digest(policy) != event.digest or policy.id != event.policy_id:
        return "digest or policy_id does not belong to the body; activate what was reviewed"
    if not event.author.strip() or not event.approver.strip():
        return "author or approver is blank; name who wrote it and who approved it"
    if same_person(event.author, event.approver) and live.approval.two_persons:
        return "author and approver are the same person; have another person approve"
    if event.mode == "retired":
        return _retire(event, task, live_digest)
    if policy.facts != live.facts:
        return facts_refusal(policy, live)
    if event.mode == "shadow":
        return _begin_shadow(event, task, live_digest)
    if event.digest != live_digest:
        before = next((shadow.serial for shadow in task.shadows if shadow.digest == event.digest), None)
        task.shadows = [shadow for shadow in task.shadows if shadow.digest != event.digest]
        task.live = _numbered(event, task, before)
    elif task.live is None:
        task.live = _numbered(event, task, None)
    return None


def same_person(author: str, approver: str) -> bool:
    """Whether two ids are one person's: case and blanks around them make no second person."""
    return author.strip().casefold() == approver.strip().casefold()


def facts_refusal(policy: Policy, live: Policy) -> str:
    """Why a policy with other facts cannot run over this fold: which parts of the section differ."""
    names = policy.facts.__struct_fields__
    parts = ", ".join(f"facts.{name}" for name in names if getattr(policy.facts, name) != getattr(live.facts, name))
    return (
        f"its facts section differs from that of the live policy {live.id} ({parts}): balances and days past due would "
        "have to be folded again; copy the live facts, or replay a recording under this policy"
    )


def _begin_shadow(event: PolicyActivated, task: TaskState, live_digest: str) -> str | None:
    if event.digest == live_digest:
        return "is the live policy; as its own shadow it would say everything twice"
    if all(shadow.digest != event.digest for shadow in task.shadows):
        others = [shadow for shadow in task.shadows if shadow.policy_id != event.policy_id]
        task.shadows = [*others, _numbered(event, task, None)]
    return None


def _retire(event: PolicyActivated, task: TaskState, live_digest: str) -> str | None:
    if event.digest == live_digest:
        return "is the live policy; put another one live in its place"
    rest = [shadow for shadow in task.shadows if shadow.digest != event.digest]
    if len(rest) == len(task.shadows):
        return "is not active as a shadow; nothing to retire"
    task.shadows = rest
    return None


def _numbered(event: PolicyActivated, task: TaskState, was_shadow: int | None) -> PolicyInForce:
    """Activations are numbered, so that a policy that is retired and comes back starts with a standing anew."""
    task.activations += 1
    return PolicyInForce(event.policy_id, event.digest, event.body, task.activations, was_shadow)
