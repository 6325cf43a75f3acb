"""What a worker tells about itself while it runs; whoever counts it (metrics, a terminal view) implements this."""

from collections.abc import Sequence
from typing import Literal, Protocol

from streams.engine.chunk import Folded, TaskState

Stage = Literal["merge", "load", "fold", "commit", "apply"]


class Observer(Protocol):
    """Called from the event loop, a few times per chunk: implementations must be quick and must not raise."""

    def assigned(self, partitions: Sequence[int]) -> None:
        """The group gave us these tasks, and no others; each is told again once it is taken over."""

    def stage_done(self, stage: Stage, seconds: float) -> None:
        """One stage of a chunk's cycle took `seconds`."""

    def chunk_done(self, partition: int, records: int, folded: Folded) -> None:
        """A chunk is committed and applied; `folded` holds its outputs, dead letters, counts and the task's state."""

    def watermark(self, partition: int, clock_ms: int | None, order_ms: int) -> None:
        """The task stands at its last tick `clock_ms` and at order time `order_ms` (epoch ms)."""

    def lag(self, topic: str, partition: int, records: int) -> None:
        """Offsets between what is committed and the last stable offset of a topic-partition."""

    def taken_over(self, partition: int, seconds: float, task: TaskState) -> None:
        """The task is ours and up to date: it goes on from `task`."""

    def released(self, partition: int) -> None:
        """The task is no longer ours: what was told about it is out of date."""

    def retried(self, partition: int, reason: Literal["store", "transaction", "stale"]) -> None:
        """A cycle could not go on and is tried again."""


class Silent:
    """An observer that keeps nothing."""

    def assigned(self, partitions: Sequence[int]) -> None: ...

    def stage_done(self, stage: Stage, seconds: float) -> None: ...

    def chunk_done(self, partition: int, records: int, folded: Folded) -> None: ...

    def watermark(self, partition: int, clock_ms: int | None, order_ms: int) -> None: ...

    def lag(self, topic: str, partition: int, records: int) -> None: ...

    def taken_over(self, partition: int, seconds: float, task: TaskState) -> None: ...

    def released(self, partition: int) -> None: ...

    def retried(self, partition: int, reason: Literal["store", "transaction", "stale"]) -> None: ...
