"""Names of tasks as people type them, and which family of evaluations each belongs to.

    quick                    a group: all tasks of one family, or of several
    classification/sst2      one task
    retrieval=some/cisi      a family on one task's own folder

The families themselves are in `evaluation`; this is what may be known without them.
"""

from ettin.errors import InputError, nearest

FAMILIES = ("lm", "classification", "retrieval", "bias", "text", "quick")

GROUPS = {
    "generative": ("lm",),
    "glue": ("classification",),
    "retrieval": ("retrieval",),
    "bias": ("bias",),
    "text": ("text",),
    "quick": ("quick",),
    "all": ("lm", "classification", "retrieval", "bias", "text"),
}
BLIMP = "blimp"
"""One word for a benchmark of many tasks, all of the family `lm`."""

FROM_CORPUS = frozenset({"quick", "text"})
"""Families whose examples are held-out documents of a prepared corpus."""


def families_of(word: str) -> tuple[str, ...]:
    """The families that a word given to `--tasks` names.

    Raises:
        InputError: it is neither a group nor `family/name` nor `family=PATH`; the nearest is named.
    """
    if word in GROUPS:
        return GROUPS[word]
    if word == BLIMP:
        return ("lm",)
    separator = "=" if "=" in word else "/"
    family, found, name = word.partition(separator)
    if not found or not name:
        known = [*GROUPS, BLIMP, *(f"{each}/…" for each in FAMILIES)]
        raise InputError(f"--tasks {word}: {nearest(word, known)}")
    if family not in FAMILIES:
        raise InputError(f"--tasks {word}: {nearest(family, FAMILIES)} (tasks are family/name)")
    return (family,)
