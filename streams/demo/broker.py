"""An embedded broker in a process of its own: librdkafka's mock cluster, which comes with `confluent-kafka`.

It speaks what the worker needs (groups, transactions, last stable offsets) and keeps everything in memory, of each
partition the newest 5 MB. It creates a topic when it is first asked for, knows no topic settings and takes any
timestamp: enough to watch the service at work, not to hold it to its guarantees.

`python -m streams.demo.broker` prints HOST:PORT and runs until its standard input ends.
"""

import sys

from schemas.topics import TOPICS

PARTITIONS = 4
"""Of every topic; the mock cluster's own default, which cannot be set from Python."""
_TIMEOUT_S = 10.0


def main() -> None:
    # Part of the extra `demo`; its absence is told before this process is started.
    from confluent_kafka import Producer

    cluster = Producer({"test.mock.num.brokers": 1, "log_level": 3})
    (broker,) = cluster.list_topics(timeout=_TIMEOUT_S).brokers.values()
    address = f"{broker.host}:{broker.port}"
    for topic in TOPICS:
        found = len(cluster.list_topics(topic, timeout=_TIMEOUT_S).topics[topic].partitions)
        if found != PARTITIONS:
            sys.exit(f"the mock cluster gave topic {topic} {found} partitions, not {PARTITIONS}")
    print(address, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
