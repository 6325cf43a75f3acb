"""Writes the rows of a story down as a recording.

Events are of noon, unless a row tells the time; the clock ticks at 01:00 of every day from the first row to the last.
"""

import json
import re
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from operator import itemgetter
from pathlib import Path
from typing import Any

import msgspec

from schemas.inbound import BorrowerEvent
from schemas.topics import CONTROL
from streams.policy.loader import body, digest, load, loads
from streams.replay.explain import explain
from tests.replay.tape import TOPIC_OF, Tape, ms
from tests.stories.events import AMOUNTS, COUNTS, FLAGS, OTHER_EVENTS
from tests.stories.test_stories import ON, Play, Story, minor

AGAIN = "the last event again"
AT = re.compile(r"at (\d\d:\d\d)(?:: |$)")
ACTIVATION = re.compile(r"policy (\w+) (goes live|runs as a shadow|is retired)(?: with (.+))?")
MODES = {"goes live": "live", "runs as a shadow": "shadow", "is retired": "retired"}
SCOPE = r"(?:(channel|product|platform) (\w+)|everything)"
INCIDENT_OPENED = rf"incident (\w+) of {SCOPE} from {ON}(?: until {ON})? with (\d+) days of grace"
INCIDENT_CLOSED = rf"incident (\w+) closed, it ended {ON}"
FACTOR = rf"factor (-?[\d.]+)(?: for (product|segment|industry|region) (\w+))?(?: because of (\w+))?(?: until {ON})?"
MEANT: dict[str, Callable[[Any, str], Any]] = {
    **dict.fromkeys(AMOUNTS, lambda teller, text: minor(text)),
    **dict.fromkeys(COUNTS, lambda teller, text: int(text)),
    **dict.fromkeys(FLAGS, lambda teller, text: True),
    "about_event_id": lambda teller, text: teller.latest(text),
    "expires_at_ms": lambda teller, text: ms(text),
}
"""What a word of a story stands for in the event."""


def policy_of(changes: str, tmp_path: Path) -> str:
    """The shipped policy, or a file with a story's changes of it."""
    if not changes:
        return "standard"
    file = tmp_path / "policy.json"
    file.write_text(changed("changed", changes.split("; ")))
    return str(file)


def changed(name: str, changes: Iterable[str]) -> str:
    """The shipped policy under another name, with these changes."""
    document = json.loads(body(load("standard")))
    for change in changes:
        path, _, value = change.partition(" = ")
        at = document
        *steps, last = path.split(".")
        for step in steps:
            at = at[int(step)] if isinstance(at, list) else at[step]
        at[last] = json.loads(value)
    text = json.dumps(document | {"id": name})
    loads(text, "story")
    return text


class Teller:
    """Writes the rows of a story down as records; knows what has been decided so far."""

    def __init__(self, policy: str, path: Path | None) -> None:
        self.tape = Tape()
        self._policy = policy
        self._path = path

    def latest(self, words: str) -> str:
        """The id of the last event of a type told so far; of a review with a reason, where one is given."""
        if self._path is None or not any(record.key for record in self.tape.records):
            return words.replace(" ", "-")
        kind, _, why = words.partition(": ")
        self._path.unlink(missing_ok=True)
        found = explain(self.tape.write(self._path), "b1", policy=self._policy)
        for raw in reversed(found.decisions):
            event = json.loads(bytes(raw))
            if event["type"] == kind.replace(" ", "_") and (not why or event["why"] == why.replace(" ", "_")):
                return str(event["event_id"])
        return words.replace(" ", "-")


def tape_of(story: Story, policy: str = "standard", path: Path | None = None) -> Tape:
    """The rows of a story as records, with ticks in between; `path` is where what was told so far is written, for a
    story that speaks of earlier decisions."""
    teller = Teller(policy, path)
    play, tape = Play(load("standard").facts), teller.tape
    day, silent_until = story.rows[0][0], story.rows[0][0]
    for on, happening, _ in sorted(story.rows, key=itemgetter(0)):
        while day <= on:
            if day >= silent_until:
                tape.tick(f"{day} 01:00")
            day += timedelta(days=1)
        silence = re.fullmatch(rf"no tick before {ON}", happening)
        if silence is not None:
            silent_until = date.fromisoformat(silence.group(1))
        elif (activation := ACTIVATION.fullmatch(happening)) is not None:
            name, mode, changes = activation.groups()
            activate(name, MODES[mode], changed(name, [] if changes is None else changes.split(" and ")), on, tape)
        else:
            time, what = timed(happening)
            if what:
                tell(what, on, time, play, teller)
    return tape


def timed(happening: str) -> tuple[str, str]:
    """The time of day of a row, noon where it gives none, and what happens then."""
    at = AT.match(happening)
    return ("12:00", happening) if at is None else (at.group(1), happening[at.end() :])


def activate(name: str, mode: str, text: str, on: date, tape: Tape) -> None:
    event = {
        "type": "policy_activated", "event_id": f"{mode}-{name}", "at_ms": ms(f"{on} 12:00"), "policy_id": name,
        "digest": digest(loads(text, name)), "mode": mode, "body": text, "author": "ann", "approver": "bob",
    }  # fmt: skip
    tape.raw(CONTROL, f"{on} 12:00", None, json.dumps(event).encode())


def tell(happening: str, on: date, time: str, play: Play, teller: Teller) -> None:
    if happening == AGAIN:
        last = next(record for record in reversed(teller.tape.records) if record.key is not None)
        teller.tape.raw(last.topic, f"{on} {time}", last.key, last.value)
        return
    control = control_event(happening)
    if control is not None:
        teller.tape.control(f"{on} {time}", control.pop("type"), **control)
        return
    late = re.match(rf"late, of {ON}: ", happening)
    at = date.fromisoformat(late.group(1)) if late else on
    happening = happening[late.end() :] if late else happening
    fields = other_event(happening, teller)
    if fields is None:
        name, text = happening.split(": ", 1) if re.match(r"[A-Z]: ", happening) else ("A", happening)
        fields = msgspec.to_builtins(play.event_of(at, name, text))
    fields = {name: value for name, value in fields.items() if value is not None}
    kind = fields.pop("type")
    assert issubclass(BorrowerEvent, msgspec.Struct)
    assert kind in TOPIC_OF
    for common in ("event_id", "at_ms", "borrower_id"):
        fields.pop(common, None)
    teller.tape.event(f"{at} {time}", kind, received=f"{on} {time}", **fields)


def control_event(text: str) -> dict[str, Any] | None:
    """An incident of whole days: from 00:00 of the first to 23:59 of the last; a factor until 00:00 of a day."""
    opened = re.fullmatch(INCIDENT_OPENED, text)
    if opened is not None:
        incident_id, kind, name, from_on, until_on, days = opened.groups()
        until = {} if until_on is None else {"until_ms": ms(f"{until_on} 23:59")}
        scope = {"all": True} if kind is None else {kind: name}
        fields = {"scope": scope, "from_ms": ms(f"{from_on} 00:00"), "grace_days": int(days), "cause": "outage"}
        return {"type": "incident_opened", "incident_id": incident_id} | fields | until
    told_factor = re.fullmatch(FACTOR, text)
    if told_factor is not None:
        factor, kind, name, indicator, until_on = told_factor.groups()
        given = {"indicator": indicator, "until_ms": None if until_on is None else ms(f"{until_on} 00:00")}
        scope = {} if kind is None else {"scope": {kind: name}}
        return {"type": "macro_set", "factor": float(factor)} | given | scope
    closed = re.fullmatch(INCIDENT_CLOSED, text)
    if closed is not None:
        return {"type": "incident_closed", "incident_id": closed.group(1), "until_ms": ms(f"{closed.group(2)} 23:59")}
    return None


def other_event(text: str, teller: Teller) -> dict[str, Any] | None:
    for pattern, kind, names, others in OTHER_EVENTS:
        found = re.fullmatch(pattern, text)
        if found is not None:
            said = {name: value for name, value in zip(names, found.groups(), strict=True) if value is not None}
            meant = {name: MEANT[name](teller, value) for name, value in said.items() if name in MEANT}
            return {"type": kind} | others | said | meant
    return None
