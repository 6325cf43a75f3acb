"""Faust with a table: the small fold as its own documentation would have it. It runs in the peers' environment.

At least once: the table's changelog, the outputs and the offsets are written one after the other. Its own mode for more
than that loses and doubles outputs, see docs/benchmark.md.
"""

import sys
from typing import Any

import faust

from benchmarks.contestants import rule
from benchmarks.contestants.program import Progress, Setup, read_setup


class Event(faust.Record):
    """What of an event the fold looks at."""

    event_id: str
    borrower_id: str
    at_ms: int
    amount_minor: int | None = None
    principal_minor: int | None = None


def application(setup: Setup) -> faust.App:
    """The application, with its one agent."""
    app = faust.App(
        setup["name"],
        broker=f"kafka://{setup['bootstrap']}",
        datadir=setup["folder"],
        web_enabled=False,
        topic_disable_leader=True,
        topic_partitions=setup["partitions"],
        topic_replication_factor=1,
        consumer_auto_offset_reset="earliest",
        key_serializer="raw",
        value_serializer="raw",
        **setup["settings"],
    )
    events = app.topic(*rule.WINDOW_MS, key_type=bytes, value_type=Event, value_serializer="json")
    warnings = app.topic(setup["output"], key_type=bytes, value_type=bytes)
    states: Any = app.Table("windows", key_type=bytes, value_type=bytes)
    progress = Progress(setup["events"])

    @app.agent(events)
    async def fold(stream: Any) -> None:
        async for received in stream.events():
            event, topic, key = received.value, received.message.topic, received.key
            amount = event.amount_minor
            if amount is None:
                amount = 1 if event.principal_minor is None else event.principal_minor
            state = states.get(key) or rule.EMPTY
            states[key], total = rule.moved(state, rule.PLACES[topic], event.at_ms, amount, rule.WINDOW_MS[topic])
            if amount > rule.THRESHOLD_MINOR:
                await warnings.send(key=key, value=rule.warning(event.borrower_id, event.event_id, amount, total))
            if progress.add():
                await app.producer.flush()
                raise SystemExit(0)

    return app


if __name__ == "__main__":
    setup = read_setup()
    sys.argv[1:] = ["worker", "--without-web", "-l", "error"]
    application(setup).main()
