"""One simulated lender: its days, its outages, and the events it sends in the order they are delivered."""

from collections.abc import Iterator
from itertools import pairwise

import orjson

from schemas.topics import CONTROL
from streams.engine.calendar import DAY_MS, HOUR_MS, Calendar
from streams.engine.order import LogRecord
from streams.replay.simulate import habits, lending
from streams.replay.simulate.population import DEBIT_CHANNELS, Borrower, Dice, population

ZONE = "Asia/Shanghai"
TICK_MS = HOUR_MS
LATE_BP = 40
"""Events delivered hours to days late."""
TWICE_BP = 30
"""Events delivered a second time."""
_OUTAGE_CODES = ("channel_outage", "bank_outage", "timeout", "congestion", "maintenance")
GRACE_DAYS = 3
_TOLD_MS, _TOLD_LATE_MS = 2 * HOUR_MS, 60 * HOUR_MS
"""How long after its beginning an outage is told as an incident; every third one long after the fact."""
_MINUTE_MS = 60_000


class World:
    """A population and everything that happens to it from `start_day` on, without end.

    The same seed, number of borrowers, partitions and start give the same records on every machine.

    Args:
        start_day: the first civil day in Asia/Shanghai, as days since 1970-01-01.
    """

    def __init__(self, seed: int, borrowers: int, partitions: int, start_day: int) -> None:
        self.dice = Dice(seed)
        self.day = start_day
        self.partitions = partitions
        self.people = population(self.dice, borrowers, partitions, start_day)
        self._calendar = Calendar(ZONE)
        self._outages: dict[str, tuple[int, int, str]] = {}
        self._numbers: dict[str, int] = {}
        self._queue: list[tuple[int, int, str, int, bytes | None, bytes]] = []
        self._sent = 0

    def moment(self, from_minute: int, until_minute: int) -> int:
        """Some instant of the day, between two minutes after midnight."""
        span_ms = (until_minute - from_minute) * _MINUTE_MS
        return self._calendar.start_ms(self.day) + from_minute * _MINUTE_MS + int(self.dice.roll() * span_ms)

    def day_of(self, at_ms: int) -> int:
        return self._calendar.day(at_ms)

    def number(self, kind: str) -> str:
        """The next id of a kind: ``pay-000000001``."""
        count = self._numbers[kind] = self._numbers.get(kind, 0) + 1
        return f"{kind}-{count:09d}"

    def send(self, topic: str, borrower: Borrower, kind: str, at_ms: int, /, **fields: object) -> None:
        """An event of `borrower`, delivered soon after `at_ms`: now and then late, now and then twice."""
        self._sent += 1
        body = {"type": kind, "event_id": f"e{self._sent:011d}", "at_ms": at_ms, "borrower_id": borrower.id, **fields}
        value = orjson.dumps(body)
        roll = self.dice.roll() * 10_000
        delivered_ms = at_ms + 20 + int(roll) % 1_500
        if roll < LATE_BP:
            delivered_ms = at_ms + self.dice.between(HOUR_MS, 5 * DAY_MS)
        elif roll >= 10_000 - TWICE_BP:
            again_ms = delivered_ms + self.dice.between(_MINUTE_MS, 3 * DAY_MS)
            self._queue.append((again_ms, self._sent, topic, borrower.partition, borrower.key, value))
        self._queue.append((delivered_ms, self._sent, topic, borrower.partition, borrower.key, value))

    def outage(self, channel: str, at_ms: int) -> tuple[int, str] | None:
        """(end, failure code) of the outage that `channel` has at `at_ms`."""
        found = self._outages.get(channel)
        if found is None or not found[0] <= at_ms < found[1]:
            return None
        return found[1], found[2]

    def _break_down(self) -> None:
        """Now and then a channel fails for hours, from the time of day when most debits run."""
        for channel in DEBIT_CHANNELS:
            down = self._outages.get(channel)
            if (down is None or down[1] < self.moment(0, 0)) and self.dice.roll() < 0.018:
                from_ms = self.moment(7 * 60, 10 * 60)
                until_ms = from_ms + self.dice.between(3 * HOUR_MS, 40 * HOUR_MS)
                code = self.dice.pick(_OUTAGE_CODES)
                self._outages[channel] = (from_ms, until_ms, code)
                self._tell_incident(channel, from_ms, until_ms, code)

    def _tell_incident(self, channel: str, from_ms: int, until_ms: int, code: str) -> None:
        """The incident of an outage, opened while it lasts and closed an hour after it, or opened when it is over."""
        incident_id = self.number("incident")
        told_ms = from_ms + (_TOLD_LATE_MS if int(incident_id[-9:]) % 3 == 0 else _TOLD_MS)
        scope = {"scope": {"channel": channel}, "from_ms": from_ms, "grace_days": GRACE_DAYS, "cause": code}
        if told_ms > until_ms:
            self._control("incident_opened", incident_id, told_ms, {**scope, "until_ms": until_ms})
            return
        self._control("incident_opened", incident_id, told_ms, scope)
        self._control("incident_closed", incident_id, until_ms + HOUR_MS, {"until_ms": until_ms})

    def _control(self, kind: str, incident_id: str, at_ms: int, fields: dict[str, object]) -> None:
        body = {"type": kind, "event_id": f"{incident_id}-{kind}", "at_ms": at_ms, "incident_id": incident_id, **fields}
        value = orjson.dumps(body)
        for partition in range(self.partitions):
            self._queue.append((at_ms, self._sent, CONTROL, partition, None, value))

    def _live(self) -> None:
        self._break_down()
        for borrower in self.people:
            if self.day >= borrower.join_day:
                habits.live(self, borrower)
                lending.live(self, borrower)

    def hours(self) -> Iterator[list[LogRecord]]:
        """The records of each hour in the order of their timestamps, with the tick that ends it; offsets are 0.

        A tick is on every partition of `control`, its record timestamp is its `at_ms`. An hour with its tick is all
        that was delivered before it.
        """
        start_ms = self._calendar.start_ms(self.day)
        while True:
            self._live()
            self.day += 1
            end_ms = self._calendar.start_ms(self.day)
            self._queue.sort()
            ends = [*range(start_ms, end_ms, TICK_MS), end_ms]
            position = 0
            for _, until_ms in pairwise(ends):
                hour: list[LogRecord] = []
                while position < len(self._queue) and self._queue[position][0] < until_ms:
                    timestamp_ms, _, topic, partition, key, value = self._queue[position]
                    hour.append(LogRecord(topic, partition, 0, timestamp_ms, key, value))
                    position += 1
                yield hour + self._tick(until_ms)
            del self._queue[:position]
            start_ms = end_ms

    def _tick(self, at_ms: int) -> list[LogRecord]:
        value = orjson.dumps({"type": "tick", "event_id": f"tick-{at_ms}", "at_ms": at_ms})
        return [LogRecord(CONTROL, partition, 0, at_ms, None, value) for partition in range(self.partitions)]
