"""What is logged: one line an event, and nothing that could name a borrower by accident."""

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from streams.config import Settings, load_settings
from streams.log import start_logging


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in ("aiokafka", "faust"):
        logging.getLogger(name).setLevel(logging.NOTSET)


BORROWER = "-".join(("anna", "4711"))


def logged(settings: Settings) -> io.StringIO:
    out = io.StringIO()
    start_logging(settings, out)
    return out


def fail(borrower: str) -> None:
    raise ValueError(f"bad instalment of {len(borrower)} letters")


def test_json_is_one_object_a_line_with_traceback_but_no_locals() -> None:
    out = logged(load_settings(log_format="json"))
    log = structlog.get_logger("streams.test")
    log.info("chunk committed", task=3, records=120)
    log.debug("not at this level")
    try:
        fail(BORROWER)
    except ValueError:
        log.exception("fold failed")
    logging.getLogger("elsewhere").warning("disk %s", "full")
    first, second, third = (json.loads(line) for line in out.getvalue().splitlines())
    assert {name: first[name] for name in ("event", "task", "records", "level", "logger")} == {
        "event": "chunk committed",
        "task": 3,
        "records": 120,
        "level": "info",
        "logger": "streams.test",
    }
    assert first["timestamp"].endswith("Z")
    assert "ValueError: bad instalment of 9 letters" in second["exception"]
    assert BORROWER not in out.getvalue()
    assert (third["event"], third["logger"]) == ("disk full", "elsewhere")


def test_console_shows_the_same_without_locals() -> None:
    out = logged(load_settings(log_format="console"))
    try:
        fail(BORROWER)
    except ValueError:
        structlog.get_logger("streams.test").exception("fold failed", task=3)
    assert "fold failed" in out.getvalue()
    assert "ValueError: bad instalment" in out.getvalue()
    assert BORROWER not in out.getvalue()


def test_debug_output_of_the_clients_stays_off() -> None:
    out = logged(load_settings(log_level="debug"))
    logging.getLogger("aiokafka.conn").debug("Request: value=b'anna-4711'")
    logging.getLogger("faust").info("started")
    structlog.get_logger("streams.test").debug("shown")
    assert [json.loads(line)["event"] for line in out.getvalue().splitlines()] == ["started", "shown"]
