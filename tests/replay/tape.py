"""Hand-made recordings: events written down in the order in which their topics received them."""

import json
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from schemas.topics import CONTROL, INPUTS, input_types
from streams.engine.order import LogRecord
from streams.replay.recording import RecordingWriter

SHANGHAI = timezone(timedelta(hours=8))
TOPIC_OF = {str(kind.__struct_config__.tag): topic for topic in INPUTS for kind in input_types(topic)}


def ms(moment: str) -> int:
    """Epoch milliseconds of a moment in Shanghai: `2026-01-31`, `2026-01-31 12:00`."""
    return int(datetime.fromisoformat(moment).replace(tzinfo=SHANGHAI).timestamp() * 1000)


class Tape:
    """Records of one task, partition 0; `step` leaves gaps between offsets."""

    def __init__(self, step: int = 1) -> None:
        self.records: list[LogRecord] = []
        self._step = step
        self._told = 0
        self._next: dict[str, int] = {}

    def raw(self, topic: str, timestamp: str, key: bytes | None, value: bytes | None, **more: Any) -> LogRecord:
        """A record as it is, at the next offset of its topic."""
        offset = self._next.get(topic, 0)
        self._next[topic] = offset + self._step
        record = LogRecord(topic, 0, offset, ms(timestamp), key, value, **more)
        self.records.append(record)
        return record

    def event(self, at: str, kind: str, borrower: str = "b1", /, received: str = "", **fields: Any) -> str:
        """An event of `at` in a record of that moment, or of `received`; returns its id."""
        self._told += 1
        event_id = str(fields.pop("event_id", f"e{self._told}"))
        body = {"type": kind, "event_id": event_id, "at_ms": ms(at), "borrower_id": borrower} | fields
        self.raw(TOPIC_OF[kind], received or at, borrower.encode(), json.dumps(body).encode())
        return event_id

    def tick(self, at: str) -> None:
        body = {"type": "tick", "event_id": f"tick-{ms(at)}", "at_ms": ms(at)}
        self.raw(CONTROL, at, None, json.dumps(body).encode())

    def control(self, at: str, kind: str, **fields: Any) -> None:
        self._told += 1
        body = {"type": kind, "event_id": f"e{self._told}", "at_ms": ms(at)} | fields
        self.raw(CONTROL, at, None, json.dumps(body).encode())

    def days(self, first: str, last: str) -> None:
        """A tick at 01:00 of each day, both included."""
        day = date.fromisoformat(first)
        while day <= date.fromisoformat(last):
            self.tick(f"{day} 01:00")
            day += timedelta(days=1)

    def profile(self, at: str, borrower: str = "b1", limit_minor: int = 500_000) -> str:
        fields = {"segment": "worker", "limit_minor": limit_minor, "currency": "CNY", "onboarded_on": "2025-01-01"}
        return self.event(at, "profile_set", borrower, **fields)

    def loan(self, at: str, borrower: str = "b1", loan_id: str = "L1", due: str = "2026-01-31", **fields: Any) -> str:
        """A loan of 1,000.00 and 50.00 interest, due in one sum."""
        row = {"no": 1, "due_on": due, "principal_minor": 100_000, "interest_minor": 5_000, "fee_minor": 0}
        terms = {"product": "cash", "currency": "CNY", "principal_minor": 100_000, "schedule": [row]}
        return self.event(at, "loan_disbursed", borrower, loan_id=loan_id, **(terms | fields))

    def pays(self, at: str, amount_minor: int, borrower: str = "b1", loan_id: str = "L1", **fields: Any) -> str:
        payment = {"payment_id": f"p{self._told}", "method": "manual", "channel": "app", "amount_minor": amount_minor}
        return self.event(at, "repayment_received", borrower, loan_id=loan_id, **(payment | fields))

    def fails(self, at: str) -> str:
        """A debit of the loan over bank_a that runs into a timeout."""
        attempt = {"attempt_id": "T1", "amount_minor": 105_000, "method": "auto_debit", "channel": "bank_a"}
        return self.event(at, "repayment_failed", loan_id="L1", code="timeout", **attempt)

    def penalty(self, at: str, amount_minor: int) -> str:
        """A penalty on the loan's instalment."""
        charge = {"instalment_no": 1, "component": "penalty", "amount_minor": amount_minor}
        return self.event(at, "charge_added", loan_id="L1", **charge)

    def outage(self, at: str, first: str, last: str) -> None:
        """The incident i1 of bank_a from one day to another is told, with two days of grace."""
        self.control(
            at, "incident_opened", incident_id="i1", scope={"channel": "bank_a"}, cause="outage",
            from_ms=ms(first), until_ms=ms(last), grace_days=2,
        )  # fmt: skip

    def write(self, path: Path, partitions: int | None = None) -> Path:
        """The recording at `path`; a folder also says how many `partitions` its topics had."""
        counts = None if partitions is None else dict.fromkeys(INPUTS, partitions)
        with RecordingWriter(path, counts) as writer:
            for record in self.records:
                writer.write(record)
        return path
