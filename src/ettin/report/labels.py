"""What things are called in figures and tables, and where a name is written so that it is read.

    labels_of(runs)        a run → `encoder`, `encoder from decoder (mntp)`, or its directory's name
    spread(labels, …)      names at the right ends of lines, none on top of another
    flags(borders, …)      names of phases above a panel, each beside the rule at its first token

All lengths are in pixels; text is measured by its number of characters, which is enough to keep
names apart.
"""

from itertools import pairwise
from pathlib import Path
from textwrap import wrap
from typing import Literal, NamedTuple

from ettin.report.collect import BASELINES, Run

LINE_PIXELS = 17
"""From one line of text to the next."""
FLAG_PIXELS = 15
_FLAG_CHARACTER_PIXELS = 6.4
_CUT = "…"
_ROLES = (
    "encoder",
    "decoder",
    "encoder from decoder (mntp)",
    "encoder from decoder (mlm)",
    "decoder from encoder",
)


class Label(NamedTuple):
    """Text at the right end of a line, in lines, and the loss at which the line ends; `series` are
    the names of the runs it speaks of.
    """

    lines: tuple[str, ...]
    loss: float
    color: str
    weight: Literal[400, 600]
    series: tuple[str, ...] = ()


class Border(NamedTuple):
    """Where a phase begins: its name, and the text tokens of the run before it."""

    name: str
    tokens: float


class Flag(NamedTuple):
    """The name of a phase above a panel.

    Attributes:
        border: what it names.
        lane: how many lines of text stand between it and the panel.
    """

    border: Border
    lane: int


def labels_of(runs: tuple[Run, ...]) -> dict[Path, str]:
    """What to call each run: by its role where that tells the runs of its variant apart, by its
    name otherwise.
    """
    labels: dict[Path, str] = {}
    unique = len({run.name for run in runs}) == len(runs)
    for run in runs:
        roles = [other.role for other in runs if other.variant == run.variant]
        if len(set(roles)) == len(roles) and run.role in _ROLES:
            labels[run.path] = run.role
            continue
        label = shortened(run.name if unique else f"{run.path.parent.name}/{run.name}")
        same = sum(other.partition(" (")[0] == label for other in labels.values())
        labels[run.path] = f"{label} ({same + 1})" if same else label
    return labels


def ends_of(
    runs: tuple[Run, ...],
    *,
    names: dict[Path, str],
    colors: dict[Path, str],
    characters: int,
    muted: str,
) -> list[Label]:
    """The end of every held-out curve, and every baseline; baselines of one name that lie close
    together share a label.

    Args:
        runs: those drawn.
        names: what to call each.
        colors: of each.
        characters: the longest line of a name; longer ones go on below.
        muted: the colour of baselines.
    """
    labels = []
    for run in runs:
        name, loss = names[run.path], run.validation_loss
        if loss is not None:
            lines = _wrapped(name, f"{loss:.2f}", characters)
            labels.append(Label(lines, loss, colors[run.path], 600, (name,)))
    for baseline in BASELINES:
        stated = [
            (run.baselines[baseline], names[run.path]) for run in runs if baseline in run.baselines
        ]
        for group in _groups(sorted(stated)):
            values = [value for value, _ in group]
            shown = dict.fromkeys(f"{value:.2f}" for value in (values[0], values[-1]))
            text = f"{baseline} {'–'.join(shown)}"
            of = tuple(name for _, name in group)
            labels.append(Label((text,), sum(values) / len(values), muted, 400, of))
    return labels


def spread(
    labels: list[Label], domain: tuple[float, float], height: int
) -> list[tuple[Label, float]]:
    """Each label with the loss at which to write its middle, so that no two overlap.

    Args:
        labels: in any order.
        domain: losses at the bottom and at the top of the panel.
        height: of the panel.
    """
    nats = (domain[1] - domain[0]) / height
    placed: list[tuple[Label, float]] = []
    for label in sorted(labels, key=lambda label: -label.loss):
        at = label.loss
        if placed:
            above, its_place = placed[-1]
            at = min(at, its_place - nats * _apart(above, label))
        placed.append((label, at))
    # Whatever was pushed below the panel comes back up, and pushes in turn.
    floor = domain[0]
    for place in range(len(placed) - 1, -1, -1):
        label, at = placed[place]
        placed[place] = (label, max(at, floor))
        if place:
            floor = placed[place][1] + nats * _apart(label, placed[place - 1][0])
    return placed


def flags(borders: list[Border], *, tokens: float, width: int) -> list[Flag]:
    """A lane for each name of a phase, so that no name meets another one or another's pole.

    A name is written to the right of its border. Going from right to left, each takes the lowest
    lane above all names and poles that stand where it is written.

    Args:
        borders: in any order.
        tokens: at the right end of the panel.
        width: of the panel.
    """
    placed: list[Flag] = []
    for border in sorted(borders, key=lambda border: (-border.tokens, border.name)):
        at = border.tokens / tokens * width
        end = at + (len(border.name) + 1) * _FLAG_CHARACTER_PIXELS
        met = [flag.lane for flag in placed if flag.border.tokens / tokens * width < end]
        placed.append(Flag(border, max(met, default=-1) + 1))
    return placed[::-1]


def _wrapped(name: str, loss: str, characters: int) -> tuple[str, ...]:
    """A long name in lines, its loss at the end: a role's between words, another where it was
    shortened.
    """
    text = f"{name} {loss}"
    if name in _ROLES:
        return tuple(wrap(text, characters, break_on_hyphens=False))
    begins, cut, ends = name.partition(_CUT)
    if len(text) <= characters or not cut:
        return (text,)
    return (begins + cut, f"{ends} {loss}")


def _apart(above: Label, below: Label) -> float:
    """Pixels between the middles of two labels, one below the other."""
    return LINE_PIXELS * (len(above.lines) + len(below.lines)) / 2


def shortened(name: str) -> str:
    """A name of at most 24 characters: its beginning and its end."""
    return name if len(name) <= 24 else f"{name[:12]}{_CUT}{name[-11:]}"


def _groups(stated: list[tuple[float, str]]) -> list[list[tuple[float, str]]]:
    """Sorted values with their names, apart where neighbours differ by 0.15 nats or more."""
    groups = [stated[:1]] if stated else []
    for before, after in pairwise(stated):
        if after[0] - before[0] < 0.15:
            groups[-1].append(after)
        else:
            groups.append([after])
    return groups
