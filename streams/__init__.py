"""Duewatch: credit monitoring of disbursed loans over Kafka, with its state in Redis.

The way of the data, and the rooms it passes:

    Kafka ──▶ worker.transport ──▶ worker.task ──▶ engine.order     merge the topics of a partition, cut a chunk
                                        │
                                        ├────────▶ store            load the borrowers the chunk is about
                                        ├────────▶ engine.fold      the pure part, below
                                        ├────────▶ worker.producer  outputs, dead letters, commit: one transaction
                                        └────────▶ store            apply the commit

    engine:   decode ▸ ingest ▸ ledger, windows ▸ delinquency, features ▸ score ▸ decide ▸ encode
                         facts                                      standing: warnings, limits, offers, reasons

    replay    the same engine over a recording, without Kafka or Redis; explain, back-test, simulate, import
    policy    what a risk analyst decides: the typed file, its loader, its compiler

What may import what: schemas ◀ engine, policy ◀ store, worker, replay ◀ cli. The engine knows no clock, no
randomness, no I/O, and none of Faust, Kafka and Redis.
"""
