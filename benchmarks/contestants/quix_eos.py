"""Quix Streams, exactly once: state in RocksDB with changelog topics. It runs in the peers' environment."""

from collections.abc import Callable
from typing import Any

from quixstreams import Application
from quixstreams.state import State

from benchmarks.contestants import rule
from benchmarks.contestants.program import Progress, Setup, read_setup


def application(setup: Setup) -> Application:
    """The application: a dataframe for each topic, as Quix keeps state by topic."""
    app = Application(
        setup["bootstrap"],
        consumer_group=setup["name"],
        auto_offset_reset="earliest",
        state_dir=setup["folder"],
        processing_guarantee="exactly-once",
        use_changelog_topics=True,
        loglevel="ERROR",
        **setup["settings"],
    )
    warnings = app.topic(setup["output"], key_serializer="bytes", value_serializer="bytes")
    progress = Progress(setup["events"])

    def done() -> None:
        if progress.add():
            app.stop()

    for topic, length_ms in rule.WINDOW_MS.items():
        source = app.topic(topic, key_deserializer="bytes", value_deserializer="json")
        frame: Any = app.dataframe(source)
        frame = frame.apply(_fold(length_ms, done), stateful=True)
        frame[frame.apply(lambda value: value is not None)].to_topic(warnings)
    return app


def _fold(length_ms: int, done: Callable[[], None]) -> Callable[[dict[str, Any], State], bytes | None]:
    def fold(event: dict[str, Any], states: State) -> bytes | None:
        amount = event.get("amount_minor", event.get("principal_minor", 1))
        state = states.get_bytes("window", rule.EMPTY_WINDOW)
        state, total = rule.moved(state, 0, event["at_ms"], amount, length_ms)
        states.set_bytes("window", state)
        done()
        if amount > rule.THRESHOLD_MINOR:
            return rule.warning(event["borrower_id"], event["event_id"], amount, total)
        return None

    return fold


if __name__ == "__main__":
    application(read_setup()).run()
