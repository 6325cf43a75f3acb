"""Packed states of older releases, brought to today's layout where more than what was appended has changed."""

from typing import Any, Final

from msgspec import DecodeError, msgpack

_STANDING: Final = 2
_SHADOWS: Final = 4
_OVERSIGHT: Final = 13
_BARS: Final = 2


def with_bars(blob: bytes) -> bytes:
    """A state in whose oversights one rung and one level, each with its end, were barred: they become lists of bars.

    What was barred then held back fraud confirmed since too, and goes on to.

    Raises:
        DecodeError: it is no such state.
    """
    state: list[Any] = msgpack.decode(blob, type=list)
    try:
        shadows = state[_SHADOWS] if len(state) > _SHADOWS else None
        standings = [state[_STANDING], *(shadow[1] for shadow in (shadows[1] if shadows else ()))]
        for standing in standings:
            if standing[_OVERSIGHT] is not None:
                _bars_of(standing[_OVERSIGHT])
    except (IndexError, TypeError, ValueError) as error:
        raise DecodeError(f"not a state of an older release: {error}") from None
    return msgpack.encode(state)


def _bars_of(oversight: list[Any]) -> None:
    rung, rung_until_ms, level, level_until_ms = oversight[_BARS : _BARS + 4]
    oversight[_BARS : _BARS + 4] = [
        [[rung, rung_until_ms, "", True]] if rung_until_ms else [],
        [[level, level_until_ms]] if level_until_ms else [],
    ]
