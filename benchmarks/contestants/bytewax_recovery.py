"""Bytewax with recovery: state and offsets are snapshots in SQLite. It runs in the peers' environment.

At least once: outputs since the last snapshot come again after a failure.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
from bytewax import operators
from bytewax.connectors.kafka import KafkaSinkMessage, KafkaSourceMessage
from bytewax.connectors.kafka import operators as kafka
from bytewax.dataflow import Dataflow
from bytewax.recovery import RecoveryConfig, init_db_dir
from bytewax.run import cli_main

from benchmarks.contestants import rule
from benchmarks.contestants.program import Progress, Setup, read_setup


def dataflow(setup: Setup) -> Dataflow:
    """The flow; it ends where the topics end."""
    flow = Dataflow("small_fold")
    progress = Progress(setup["events"])
    source = kafka.input(
        "events",
        flow,
        brokers=[setup["bootstrap"]],
        topics=list(rule.WINDOW_MS),
        tail=False,
        batch_size=int(setup["settings"]["batch_size"]),
    )

    def keyed(message: KafkaSourceMessage) -> tuple[str, tuple[str, dict[str, Any]]]:
        return message.key.decode(), (message.topic, orjson.loads(message.value))

    def fold(state: bytes | None, arrived: tuple[str, dict[str, Any]]) -> tuple[bytes, bytes | None]:
        topic, event = arrived
        amount = event.get("amount_minor", event.get("principal_minor", 1))
        state, total = rule.moved(
            state or rule.EMPTY, rule.PLACES[topic], event["at_ms"], amount, rule.WINDOW_MS[topic]
        )
        progress.add()
        warned = amount > rule.THRESHOLD_MINOR
        return state, rule.warning(event["borrower_id"], event["event_id"], amount, total) if warned else None

    def sent(keyed_warning: tuple[str, bytes | None]) -> KafkaSinkMessage | None:
        borrower_id, warning = keyed_warning
        return None if warning is None else KafkaSinkMessage(borrower_id.encode(), warning)

    folded = operators.stateful_map("fold", operators.map("keyed", source.oks, keyed), fold)
    warnings = operators.filter_map("sent", folded, sent)
    kafka.output("warnings", warnings, brokers=[setup["bootstrap"]], topic=setup["output"])
    return flow


def main() -> None:
    """Run the flow in this process, with one worker."""
    setup = read_setup()
    folder = Path(setup["folder"])
    init_db_dir(folder, 1)
    cli_main(
        dataflow(setup),
        epoch_interval=timedelta(seconds=float(setup["settings"]["epoch_interval_s"])),
        recovery_config=RecoveryConfig(folder, timedelta(seconds=0)),
    )


if __name__ == "__main__":
    main()
