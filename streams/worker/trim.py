"""Cutting the commit log: what no rebuild needs any more and is old enough goes.

Whoever does it late, twice, or as a zombie does no harm: what could be spared once can be spared for ever.
"""

import asyncio
import time
from collections.abc import Callable, Mapping

import structlog
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete

from schemas.topics import COMMITS
from streams.config import Settings
from streams.worker.tasklogs import open_log_consumer
from streams.worker.topics import BrokerError, open_admin

EVERY_S = 300.0
_DAY_MS = 86_400_000

log = structlog.get_logger(__name__)


class Trimmer:
    """Cuts the commit logs of the tasks of one worker, now and then.

    Args:
        settings: how long commits stay.
        spare: by task the offset before which its log is not needed any more.
        every_s: how often to look.
    """

    def __init__(self, settings: Settings, spare: Callable[[], Mapping[int, int]], every_s: float = EVERY_S) -> None:
        self._settings = settings
        self._spare = spare
        self._every_s = every_s
        self._cut: dict[int, int] = {}

    async def run(self, failed: Callable[[BaseException], None]) -> None:
        """Cut until cancelled. A broker that does not answer, or does not allow it, is told and asked again."""
        try:
            while True:
                await asyncio.sleep(self._every_s)
                try:
                    await self.trim()
                except BrokerError as error:
                    log.warning("the commit log is not cut: it grows", because=str(error))
        except Exception as error:
            failed(error)

    async def trim(self) -> None:
        """Cut each log once.

        Raises:
            BrokerError: the broker does not answer, or the user may not delete records.
        """
        wanted = {task: before for task, before in self._spare().items() if before > self._cut.get(task, 0)}
        if not wanted:
            return
        for place, before in (await self._old_enough(wanted)).items():
            async with open_admin(self._settings) as admin:
                await admin.delete_records({place: RecordsToDelete(before_offset=before)})
            self._cut[place.partition] = before
            log.info("commit log cut", task=place.partition, before=before)

    async def _old_enough(self, wanted: Mapping[int, int]) -> dict[TopicPartition, int]:
        """What there is to cut, and up to where."""
        places = {TopicPartition(COMMITS, task): before for task, before in wanted.items()}
        oldest_ms = round(time.time() * 1000 - self._settings.log_keep_days * _DAY_MS)
        async with open_log_consumer(self._settings) as consumer:
            starts = await consumer.beginning_offsets(list(places))
            young = await consumer.offsets_for_times(dict.fromkeys(places, oldest_ms))
        ends = {
            place: before if young[place] is None else min(before, young[place].offset)
            for place, before in places.items()
        }
        return {place: end for place, end in ends.items() if end > starts[place]}
