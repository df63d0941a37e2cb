"""English pronouns by gender and case, and sentences with one exchanged for another.

    variants("The clerk said she was late.", pronoun="she", case="NOM")
    # {"male": "The clerk said he was late.", "female": …,
    #  "neutral": "The clerk said they were late."}

All three variants are made alike: the pronoun takes the form of its case, and a verb right after
a subject takes its number, whichever of the three the sentence came with.
"""

import re
from typing import Literal, get_args

from ettin.errors import InputError

Gender = Literal["male", "female", "neutral"]
Case = Literal["NOM", "POSS", "ACC"]

GENDERS: tuple[Gender, ...] = get_args(Gender)
CASES: tuple[Case, ...] = get_args(Case)

FORMS: dict[Gender, dict[Case, str]] = {
    "male": {"NOM": "he", "POSS": "his", "ACC": "him"},
    "female": {"NOM": "she", "POSS": "her", "ACC": "her"},
    "neutral": {"NOM": "they", "POSS": "their", "ACC": "them"},
}
"""The form of each gender in each case; possessive ones stand before a noun."""

_PLURALS = {"was": "were", "is": "are", "has": "have", "does": "do"}
_NUMBERS = {**_PLURALS, **{f"{one}n't": f"{many}n't" for one, many in _PLURALS.items()}}
"""Verbs that look different after `they`; of others only the simple present would."""


def cases_of(pronoun: str) -> list[Case]:
    """The cases that a form can be in: one, but two for `her`; none for what is no pronoun."""
    return [
        case for case in CASES if any(forms[case] == pronoun.lower() for forms in FORMS.values())
    ]


def variants(sentence: str, *, pronoun: str, case: Case) -> dict[Gender, str]:
    """A sentence with each gender's form of its pronoun.

    Args:
        sentence: with the pronoun in it, once.
        pronoun: the one that is exchanged, in any of the three genders.
        case: its grammatical case.

    Raises:
        InputError: the sentence does not hold the pronoun exactly once.
    """
    found = list(re.finditer(rf"\b{re.escape(pronoun)}\b", sentence, re.IGNORECASE))
    if len(found) != 1:
        raise InputError(
            f"{sentence!r} holds the pronoun {pronoun!r} {len(found)} times, expected once"
        )
    before, after = sentence[: found[0].start()], sentence[found[0].end() :]
    result: dict[Gender, str] = {}
    for gender in GENDERS:
        form = FORMS[gender][case]
        if found[0][0][0].isupper():
            form = form.capitalize()
        rest = _agreeing(after, plural=gender == "neutral") if case == "NOM" else after
        result[gender] = before + form + rest
    return result


def _agreeing(after: str, *, plural: bool) -> str:
    """What follows a subject, its first word in the subject's number."""
    verb = re.match(r" ([\w']+)", after)
    numbers = _NUMBERS if plural else {many: one for one, many in _NUMBERS.items()}
    if verb is None or verb[1] not in numbers:
        return after
    return f" {numbers[verb[1]]}{after[verb.end() :]}"
