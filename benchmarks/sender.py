"""Sends records of a benchmark. The client does it in C, in threads of its own: what sends shares the machine with what
is measured, and is to take little of it."""

from collections.abc import Iterable
from typing import Final, Self

from confluent_kafka import KafkaError, Message, Producer

from streams.engine.order import LogRecord
from tests.parts import BrokenPart

_END_S: Final = 120.0


class Sender:
    """Sends records to given partitions, each partition's in the order given, at most `waiting` of them at a time."""

    def __init__(self, bootstrap: str, waiting: int = 50_000) -> None:
        self._waiting = waiting
        self._refused = ""
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap,
                # In order and each once, also where a request is sent again.
                "enable.idempotence": True,
                "message.max.bytes": 2 << 20,
                "linger.ms": 2,
                # It would tell of a broker that is not yet, or no longer, there; what is lost is told by `flush`.
                "log_level": 2,
            }
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.flush()

    def send(self, records: Iterable[LogRecord]) -> None:
        """Send records; they may still be on their way. A timestamp of 0 is the moment of sending.

        Raises:
            BrokenPart: the broker refused one.
        """
        for record in records:
            self._producer.produce(
                record.topic,
                record.value,
                record.key,
                record.partition,
                on_delivery=self._told,
                timestamp=record.timestamp,
            )
            while len(self._producer) > self._waiting:
                self._producer.poll(0.1)
        self._producer.poll(0)
        self._check(0)

    def flush(self) -> None:
        """Wait until the broker has them all.

        Raises:
            BrokenPart: it did not take all of them.
        """
        self._check(self._producer.flush(_END_S))

    def _told(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._refused = str(error)

    def _check(self, left: int) -> None:
        if self._refused or left:
            raise BrokenPart(f"the broker did not take all records: {self._refused or f'{left} wait'}")
