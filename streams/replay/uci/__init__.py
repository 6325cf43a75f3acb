"""The UCI data set "default of credit card clients" as a recording (mapping and calendar: docs/uci-credit.md)."""

from streams.replay.uci.convert import import_uci
from streams.replay.uci.round_trip import Report, table

__all__ = ["Report", "import_uci", "table"]
