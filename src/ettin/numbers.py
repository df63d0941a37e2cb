"""Numbers as people write them, and counts among them."""

import math

_MULTIPLIERS = {"k": 1e3, "M": 1e6, "B": 1e9, "T": 1e12, "%": 1e-2}


def parse_number(value: object) -> float | int:
    """Read a number as people write it: `3e-4`, `8.5B`, `1.7T`, `1_000`, `2 %`.

    Raises:
        ValueError: `value` is not a number written in one of these ways.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise ValueError(  # noqa: TRY004 - pydantic collects ValueErrors
            f"expected a number such as 3e-4, 8.5B or 2 %, got {value!r}"
        )
    text = value.strip().replace("_", "")
    multiplier = _MULTIPLIERS.get(text[-1:])
    try:
        number = float(text[:-1] if multiplier else text) * (multiplier or 1)
    except ValueError:
        raise ValueError(f"expected a number such as 3e-4, 8.5B or 2 %, got {value!r}") from None
    if not math.isfinite(number):
        return number
    # 8.5 * 1e9 is exact, 2.8333 * 1e9 is not: counts are rounded to what was meant.
    return round(number) if abs(number) >= 1 and abs(number - round(number)) < 1e-6 else number


def parse_count(value: object) -> int:
    """`parse_number` for whole numbers.

    Raises:
        ValueError: not a number, or not a whole one.
    """
    number = parse_number(value)
    if not math.isfinite(number) or number != int(number):
        raise ValueError(f"expected a whole number, got {value!r}")
    return int(number)
