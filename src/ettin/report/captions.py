"""What stands below the learning curves: how to read them, and what changes at a phase border.

A loss is comparable with another one only if both hide as many tokens and see as much context. A
curve that drops at a border because the measure changed must not be read as progress, so that the
caption says what changed there.
"""

from itertools import pairwise
from pathlib import Path

from ettin.report.collect import Run, number
from ettin.report.phases import PhaseOfRun, phases_of


def caption_of(runs: tuple[Run, ...], names: dict[Path, str]) -> str:
    """The caption of the learning curves of some runs.

    Args:
        runs: those drawn.
        names: what to call each.
    """
    sentences = [
        "Lines with points: loss on held-out text. Thin lines: loss on training rows, smoothed."
    ]
    if any(run.baselines for run in runs):
        sentences.append(
            "Dashed rules: n-gram models fitted on the consumed tokens and scored on the same "
            "held-out labels."
        )
    sentences.append("Lower is better.")
    if any(run.start is not None for run in runs):
        sentences.append(
            "A ring: the loss of weights that another run had trained, before the first step of "
            "this one; the tokens of that other run are not counted here."
        )
    changes = _changes(runs, names)
    if changes:
        sentences.append("Vertical rules: a phase begins, and lines break.")
        sentences += changes
    return " ".join(sentences)


def _changes(runs: tuple[Run, ...], names: dict[Path, str]) -> list[str]:
    """What changes at the borders, each said once; with names where runs differ in it."""
    said: dict[str, list[Run]] = {}
    bordered = [run for run in runs if len(phases_of(run)) > 1]
    for run in bordered:
        for before, after in pairwise(phases_of(run)):
            said.setdefault(_context(before, after), []).append(run)
    # Only objectives that hide tokens have this rate; it concerns them alone.
    hiding = [run for run in bordered if run.kind == "encoder"]
    for run in hiding:
        for before, after in pairwise(phases_of(run)):
            said.setdefault(_mask_rate(run.objective, before, after), []).append(run)
    said.pop("", None)
    sentences = []
    for sentence, held in said.items():
        of_all = len(held) == len(hiding if "mask rate" in sentence else bordered)
        who = "" if of_all else f" ({', '.join(names[run.path] for run in held)})"
        sentences.append(f"{sentence[:-1]}{who}.")
    if any("mask rate" in sentence for sentence in sentences):
        sentences.append("Losses under different mask rates are different measures.")
    return sentences


def _context(before: PhaseOfRun, after: PhaseOfRun) -> str:
    one, other = (number(phase.recipe.get("context_length")) for phase in (before, after))
    if one is None or other is None or one == other:
        return ""
    return f"At {after.name} the context goes from {one:,.0f} to {other:,.0f} tokens."


def _mask_rate(objective: str, before: PhaseOfRun, after: PhaseOfRun) -> str:
    one, other = (number(phase.recipe.get("mask_rate")) for phase in (before, after))
    if one is None or other is None or one == other:
        return ""
    fewer = other < one
    return (
        f"At {after.name} the mask rate {'falls' if fewer else 'rises'} from {_percent(one)} to "
        f"{_percent(other)}: with {'fewer' if fewer else 'more'} tokens hidden each is "
        f"{'easier' if fewer else 'harder'} to guess, so that a {'drop' if fewer else 'jump'} of "
        f"the {objective} loss there is not {'learning' if fewer else 'forgetting'}."
    )


def _percent(share: float) -> str:
    """With a space that no line is broken at."""
    return f"{100 * share:.3g}\u00a0%"
