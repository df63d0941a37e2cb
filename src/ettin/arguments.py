"""What people type, turned into values: options of many words, names, lengths, shares."""

from typing import Any

from ettin.errors import InputError, nearest
from ettin.numbers import parse_count, parse_number

_MANY = {"--text", "--source", "--exclude", "--decontaminate"}
"""Options that take all the words up to the next option."""


def spread(words: list[str]) -> list[str]:
    """Repeat an option that takes many values before each of them.

    Example:
        >>> spread(["prepare", "--text", "a", "b", "--out", "c"])
        ['prepare', '--text', 'a', '--text', 'b', '--out', 'c']
    """
    result: list[str] = []
    option, taken = "", 0
    for word in words:
        if word.startswith("-") and word != "-":
            option, taken = word if word in _MANY else "", 0
            result.append(word)
            continue
        if option and taken:
            result.append(option)
        result.append(word)
        taken += 1
    return result


def one_of(option: str, value: str, valid: tuple[str, ...]) -> Any:
    """`value`, if it is one of the valid words.

    Raises:
        InputError: it is not; the nearest valid word is named.
    """
    if value not in valid:
        raise InputError(f"{option} {value}: {nearest(value, valid)}")
    return value


def count(option: str, text: str) -> int:
    """A count written as `4096` or `64k`.

    Raises:
        InputError: not a whole number above 0.
    """
    (number,) = counts(option, text)
    if number < 1:
        raise InputError(f"{option} {text}: expected a count above 0")
    return number


def counts(option: str, text: str) -> tuple[int, ...]:
    """Whole numbers written as `1,2,3`.

    Raises:
        InputError: not whole numbers.
    """
    try:
        return tuple(parse_count(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(f"{option} {text}: {error}") from None


def lengths(text: str) -> tuple[int, ...]:
    """Context lengths written as `512,1024`.

    Raises:
        InputError: not whole numbers.
    """
    try:
        return tuple(parse_count(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"--context-length {text}: expected numbers such as 512,1024") from None


def share(option: str, text: str) -> float:
    """A share written as `0.01` or `1 %`.

    Raises:
        InputError: not a number.
    """
    try:
        return float(parse_number(text))
    except ValueError as error:
        raise InputError(f"{option} {text}: {error}") from error


def part_of(option: str, text: str) -> tuple[int, int]:
    """One of several, written as `2/8`; counted from 0 or from 1.

    Raises:
        InputError: not two whole numbers, or the first is larger than the second.
    """
    number, slash, parts = text.partition("/")
    if not (slash and number.isdecimal() and parts.isdecimal() and int(parts) >= 1):
        raise InputError(f"{option} {text}: expected I/N, such as 2/8")
    if int(number) > int(parts):
        raise InputError(f"{option} {text}: there are only {parts}")
    return int(number), int(parts)
