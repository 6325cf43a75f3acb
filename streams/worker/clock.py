"""The business clock of `clock: worker`: ticks on `control`, written by the worker that owns partition 0."""

import asyncio
import time
from collections.abc import Callable

import msgspec
import structlog

from schemas.inbound import Tick
from schemas.topics import CONTROL
from streams.config import Settings
from streams.worker.producer import Message, Superseded, TransactionError, Transactions

log = structlog.get_logger(__name__)


def tick_message(at_ms: int, partition: int) -> Message:
    """The tick at `at_ms` for one partition of `control`; the same moment gives the same event everywhere."""
    value = msgspec.json.encode(Tick(event_id=f"tick-{at_ms}", at_ms=at_ms))
    return Message(CONTROL, partition, None, value, timestamp_ms=at_ms)


class Clock:
    """Writes a tick to every partition, in one transaction, at each whole multiple of `tick_every_s`.

    A successor fences us by the transactional id; should both have written the same moment, its event id is the same
    and counts once.
    """

    def __init__(self, settings: Settings, wall_ms: Callable[[], int] = lambda: time.time_ns() // 1_000_000) -> None:
        self._settings = settings
        self._wall_ms = wall_ms
        self._every_ms = max(1, int(settings.tick_every_s * 1000))
        self._last_ms = -1

    def due_ms(self) -> int | None:
        """The moment to write now, None where it is written already (or the wall clock was set back)."""
        at_ms = self._wall_ms() // self._every_ms * self._every_ms
        return at_ms if at_ms > self._last_ms else None

    async def run(self) -> None:
        """Tick until cancelled, or until another worker ticks."""
        producer: Transactions | None = None
        try:
            while True:
                at_ms = self.due_ms()
                if at_ms is not None:
                    try:
                        if producer is None:
                            producer = await Transactions.begin(self._settings, f"{self._settings.app_id}-clock")
                        await self._tick(producer, at_ms)
                        self._last_ms = at_ms
                    except Superseded:
                        log.info("another worker writes the ticks now")
                        return
                    except TransactionError as error:
                        log.warning("tick not written; it is tried again", because=str(error))
                        if producer is not None:
                            await producer.close()
                        producer = None
                await asyncio.sleep((self._every_ms - self._wall_ms() % self._every_ms) / 1000)
        finally:
            if producer is not None:
                await producer.close()

    async def _tick(self, producer: Transactions, at_ms: int) -> None:
        partitions = await producer.partitions(CONTROL)
        await producer.commit([tick_message(at_ms, partition) for partition in range(partitions)])
