"""Logging: one event a line, as JSON or for the eye.

Nothing about a borrower belongs in a log: events name tasks, offsets, counts and reasons. Two things would break that
unseen and are closed here: tracebacks carry no local variables, and other people's debug output, which shows records,
is never on.
"""

import logging
import sys
from typing import TextIO

import structlog
from structlog.typing import Processor

from streams.config import Settings

_FOREIGN = ("aiohttp", "aiokafka", "asyncio", "faust", "kafka", "mode", "redis")

_SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.stdlib.PositionalArgumentsFormatter(),
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.processors.StackInfoRenderer(),
)


def start_logging(settings: Settings, stream: TextIO | None = None) -> None:
    """Send what `structlog.get_logger(__name__)` and the standard library's loggers tell to `stream` (stderr)."""
    out = sys.stderr if stream is None else stream
    rendering: tuple[Processor, ...]
    if settings.log_format == "json":
        rendering = (structlog.processors.format_exc_info, structlog.processors.JSONRenderer())
    else:
        plain = structlog.dev.plain_traceback
        rendering = (structlog.dev.ConsoleRenderer(colors=out.isatty(), exception_formatter=plain),)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_SHARED,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(out)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_SHARED,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *rendering],
        )
    )
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    for name in _FOREIGN:
        logging.getLogger(name).setLevel(max(level, logging.INFO))
