"""What recording and producing need to know of a broker's topics."""

from collections.abc import Mapping

from streams.config import Settings
from streams.replay.manifest import RecordingError
from streams.worker.topics import open_admin


async def partition_counts(settings: Settings) -> dict[str, int]:
    """The number of partitions of every topic there is.

    Raises:
        streams.worker.topics.BrokerError: the broker does not answer, or refuses.
    """
    async with open_admin(settings) as admin:
        return {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}


async def check_partitions(settings: Settings, least: Mapping[str, int]) -> dict[str, int]:
    """The number of partitions of the topics in `least`, each of which must have at least so many.

    Raises:
        RecordingError: the first that has not, or is not there.
        streams.worker.topics.BrokerError: the broker does not answer, or refuses.
    """
    there = await partition_counts(settings)
    for topic, needed in sorted(least.items()):
        if topic not in there:
            raise RecordingError(f"{settings.broker}: no topic {topic}: create it, or name topics that are there")
        if there[topic] < needed:
            raise RecordingError(
                f"{settings.broker}: topic {topic} has {there[topic]} partitions, {needed} are needed: "
                f"give a broker whose topics were created with {needed}"
            )
    return {topic: there[topic] for topic in least}
