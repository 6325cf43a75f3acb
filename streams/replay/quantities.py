"""Amounts and quantities as people write them."""

from decimal import Decimal

_FRACTION_DIGITS = {
    **dict.fromkeys(("CLP", "ISK", "JPY", "KRW", "PYG", "UGX", "VND", "XAF", "XOF", "XPF"), 0),
    **dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3),
}
"""ISO 4217: digits after the point, where they are not two."""


def money(minor: int, currency: str) -> str:
    """An amount as people write it: 1,200.00 CNY."""
    digits = _FRACTION_DIGITS.get(currency, 2)
    return f"{Decimal(minor).scaleb(-digits):,.{digits}f} {currency}"


def quantity(value: int, unit: str) -> str:
    """A value in the unit of a feature: 16 days, 1 day, 50.0 %. A count is a bare number."""
    if unit == "bp":
        return f"{value / 100:,.1f} %"
    if unit == "count":
        return f"{value:,}"
    return f"{value:,} {unit.removesuffix('s') if value == 1 else unit}"
