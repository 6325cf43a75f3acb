"""What is sent in: the simulated lender, and now and then something that no consumer should ever get."""

import asyncio
from collections.abc import Callable
from datetime import date

from schemas.partitioning import partition_of
from streams.config import Settings
from streams.demo.broker import PARTITIONS
from streams.engine.order import LogRecord
from streams.replay.produce import TopicSink
from streams.replay.simulate.writing import simulate_into_kafka

BORROWERS = 250
START = date(2024, 1, 1)
DAYS_PER_S = 5.0
_SEED = 1
_WARM_UP_DAYS = 60
"""Sent at full speed: by then instalments have fallen due and some were not paid."""
AHEAD_MOST = 4_000
"""Records that the worker may be behind: far less than the broker keeps of a partition, should all be in one."""
_HELD_S = 0.05
_BAD_EVERY_S = 1.0

_BAD: tuple[tuple[str, str], ...] = (
    ("repayments", '{"type":"repayment_received","event_id":"%s","borrower_id":"b0000007","at_ms":17'),
    ("logins", '{"type":"logged_out","event_id":"%s","borrower_id":"b0000007","at_ms":0}'),
    ("signals", '{"type":"income_reported","event_id":"%s","borrower_id":"b0000007","at_ms":0}'),
    ("transactions", '{"type":"transaction","event_id":"%s","borrower_id":"b0000007","amount_minor":NaN}'),
    ("repayments", '{"type":"loan_closed","event_id":"%s","borrower_id":"b0000007","at_ms":"1"}'),
    ("signals", '{"type":"profile_changed","event_id":"%s","borrower_id":"b0000008","at_ms":0,"field":"phone"}'),
)
"""(topic, body with room for an event id), all sent under one borrower's key: cut off, of no known type, without a
field, with a number that is none, with text for a number, of another borrower."""
_BAD_KEY = b"b0000007"


class _Stopped(Exception):
    """Ends the simulation between two sends."""


class Feed:
    """Sends until `stop` is called. `sent` counts records, `at_ms` is the simulated time (None: nothing sent yet).

    Args:
        settings: name the broker.
        read: how many records the worker has read so far.
    """

    def __init__(self, settings: Settings, read: Callable[[], int]) -> None:
        self._settings = settings
        self._read = read
        self._stopping = asyncio.Event()
        self._simulated = 0
        self._bad = 0
        self.at_ms: int | None = None

    @property
    def sent(self) -> int:
        return self._simulated + self._bad

    def stop(self) -> None:
        """Send nothing more; `run` returns once what is under way has arrived."""
        self._stopping.set()

    async def run(self) -> None:
        """Send.

        Raises:
            streams.worker.topics.BrokerError, streams.replay.manifest.RecordingError: the broker does not take it.
        """
        blunders = asyncio.create_task(self._blunder())
        try:
            await simulate_into_kafka(
                self._settings,
                _SEED,
                BORROWERS,
                days_per_s=DAYS_PER_S,
                warm_up_days=_WARM_UP_DAYS,
                start=START,
                on_sent=self._sent,
            )
        except _Stopped:
            await blunders
        finally:
            blunders.cancel()

    async def _sent(self, records: int, at_ms: int) -> None:
        self._simulated = records
        self.at_ms = at_ms
        while self._stopping.is_set() or self.sent - self._read() > AHEAD_MOST:
            if await self._stopped_within(_HELD_S):
                raise _Stopped

    async def _blunder(self) -> None:
        sink = TopicSink(self._settings)
        try:
            await sink.start()
            while not await self._stopped_within(_BAD_EVERY_S):
                if self.at_ms is None:
                    continue
                topic, body = _BAD[self._bad % len(_BAD)]
                value = (body % f"bad-{self._bad:06d}").encode()
                partition = partition_of(_BAD_KEY, PARTITIONS)
                await sink.send([LogRecord(topic, partition, 0, self.at_ms, _BAD_KEY, value)])
                self._bad += 1
        finally:
            await sink.stop()

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return False
        return True
