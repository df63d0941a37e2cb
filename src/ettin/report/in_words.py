"""What a suite's results say, in sentences, and how each number was made.

suite_sentences(findings)         what was trained, and who is ahead in which family of tasks
how_numbers_were_made(findings)   a row a task: metric, examples, protocol, versions, command
"""

import math
import shlex
import statistics

from ettin.console import human
from ettin.files import Json
from ettin.report.averages import Average, Compared
from ettin.report.collect import Findings, Run, number
from ettin.report.figures import STYLES
from ettin.report.scores import UNTRAINED, can_be_drawn
from ettin.report.sizes import Family, described_size, families, role_averages
from ettin.report.tables import Column, Table
from ettin.report.tidy import ELSEWHERE, Result, finals, metric_words, results_of, size_order

_SURE = 2.0
"""Standard errors of a difference above which it is called more than chance."""
_NOT_PROTOCOL = ("seed", "found", "limit", "model_files", "data", "objective", "corpus")
_WORDS_AT_MOST = 14


def suite_sentences(findings: Findings) -> list[str]:
    """What was trained, where there is more than a pair; then who is ahead on what.

    A difference is called more than chance if it exceeds two standard errors, taken as those of
    two independent measurements, although twins answer the same questions: that errs on the side
    of caution.
    """
    sentences = _trained(findings.runs)
    ended = [
        result
        for result in finals(results_of(findings.records))
        if result.role != ELSEWHERE and can_be_drawn(result.record)
    ]
    for family, found in families(ended):
        said = _ahead(family, found)
        sentences += [said] if said else []
    return sentences


def how_numbers_were_made(findings: Findings) -> Table:
    """A row for each task and way of measuring it."""
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results_of(findings.records):
        way = (result.task, result.metric, result.limit, _protocol(result))
        groups.setdefault(way, []).append(result)
    rows = []
    for (task, metric, limit, words), members in sorted(groups.items()):
        kinds = sorted({str(result.record.get("kind", "")) for result in members})
        examples = sorted({result.examples for result in members if result.examples is not None})
        seeds = sorted({each.task_seed for each in members if each.task_seed is not None})
        ends = dict.fromkeys(examples[:1] + examples[-1:])
        rows.append(
            {
                "task": task,
                "metric": metric,
                "models": ", ".join(f"{kind}s" for kind in kinds if kind) or None,
                "examples": "–".join(f"{each:,}" for each in ends) or None,
                "limit": limit or None,
                "seeds": ", ".join(map(str, seeds)) or None,
                "protocol": words,
                "versions": _versions(members),
                "command": _command(members),
            }
        )  # fmt: skip
    return Table(
        name="methods",
        title="How each number was made",
        note="Each record states all of this, its complete settings, and the fingerprint of its "
        "data. The command is that of one of the models.",
        columns=(
            Column("task", "task"),
            Column("metric", "metric"),
            Column("models", "models"),
            Column("examples", "examples"),
            Column("limit", "limit"),
            Column("seeds", "seeds of the task"),
            Column("protocol", "settings"),
            Column("versions", "versions"),
            Column("command", "command"),
        ),
        rows=tuple(rows),
    )


def is_suite(runs: tuple[Run, ...]) -> bool:
    """Whether there are runs of several sizes or seeds."""
    sizes = {str(run.facts.get("size", "?")) for run in runs}
    seeds = {str(run.recipe["seed"]) for run in runs if "seed" in run.recipe}
    return len(sizes) > 1 or len(seeds) > 1


def suite_title(runs: tuple[Run, ...]) -> str:
    """What runs of several sizes or seeds are, in a few words."""
    sizes = list(_sizes(runs))
    return f"A suite of {len(runs)} runs: {_listed(sizes)}"


def _sizes(runs: tuple[Run, ...]) -> dict[str, float | None]:
    """Size → parameters where they are known, the smallest first."""
    return {
        str(run.facts.get("size", "?")): number(run.facts.get("parameters"))
        for run in sorted(runs, key=lambda run: number(run.facts.get("parameters")) or 0.0)
    }


def _trained(runs: tuple[Run, ...]) -> list[str]:
    """One sentence for the runs of several sizes or seeds."""
    if not is_suite(runs):
        return []
    sizes = _sizes(runs)
    seeds = sorted({str(run.recipe["seed"]) for run in runs if "seed" in run.recipe})
    named = [
        described_size(size, None if known is None else int(known)) for size, known in sizes.items()
    ]
    roles = [role for role in STYLES if any(run.role == role for run in runs)]
    tokens = sum(number(run.facts.get("tokens")) or 0.0 for run in runs)
    many = f"{len(sizes)} sizes, {_listed(named)}" if len(sizes) > 1 else f"one size, {named[0]}"
    with_seeds = f", with the seeds {_listed(seeds)}" if len(seeds) > 1 else ""
    return [
        f"{len(runs)} runs of {many}{with_seeds}: "
        f"{_listed([_plural(role) for role in roles])}; "
        f"{human(round(tokens))} tokens of text in all runs together."
    ]


def _ahead(family: Family, found: Compared) -> str:
    """Whether the encoder or the decoder is ahead, at how many sizes, and how surely."""
    averages = role_averages(found)
    firsts = {size: first for (_, size), (_, first) in averages.items()}
    pairs = [
        (size, averages["encoder", size][0], averages["decoder", size][0])
        for size in sorted(firsts, key=lambda size: size_order(firsts[size]))
        if ("encoder", size) in averages and ("decoder", size) in averages
    ]
    if not pairs:
        return ""
    size, encoder, decoder = pairs[-1]
    gap = encoder.value - decoder.value
    ahead = "encoder" if gap > 0 else "decoder"
    of = found.tasks[0] if len(found.tasks) == 1 else f"mean of {len(found.tasks)} tasks"
    metric = metric_words(found.metrics[0]) if len(found.metrics) == 1 else "main metrics"
    limited = f", at most {found.limit} examples" if found.limit else ""
    low, high = sorted((encoder.value, decoder.value))
    sentence = f"{family.name} ({of}, {metric}{limited}): "
    if f"{low:.3f}" == f"{high:.3f}":
        return f"{sentence}at {size} encoder and decoder are level, {high:.3f} each."
    sentence += _compared(size, encoder, decoder)
    if len(pairs) > 1:
        same = sum((one.value > other.value) == (gap > 0) for _, one, other in pairs)
        sentence += f"; the {ahead} has the higher number at {same} of {len(pairs)} sizes"
    untrained = [
        value
        for _, results in found.values.values()
        for result in results
        if result.size == size and (value := result.baselines.get(UNTRAINED)) is not None
    ]
    if untrained and len(found.tasks) == 1:
        sentence += f"; random weights of this size have {statistics.fmean(untrained):.3f}"
    best = max(
        ((role, value) for (role, at), (value, _) in averages.items() if at == size),
        key=lambda item: item[1].value,
    )
    if best[0] not in ("encoder", "decoder"):
        sentence += f"; highest there is the {best[0]} with {best[1].value:.3f}"
    return f"{sentence}."


def _compared(size: str, encoder: Average, decoder: Average) -> str:
    """Which of a pair is ahead, or that the difference is too small to tell."""
    (low, second), (high, first) = sorted([(encoder.value, "encoder"), (decoder.value, "decoder")])
    gap = high - low
    ahead = f"at {size} the {first} is ahead of the {second}, {high:.3f} against {low:.3f}"
    if encoder.error is None or decoder.error is None:
        return f"{ahead}, a difference of {gap:.3f} whose error is not known"
    error = math.hypot(encoder.error, decoder.error)
    if gap > _SURE * error:
        return f"{ahead}, a difference of {gap:.3f} ± {error:.3f}: more than two standard errors"
    return (
        f"at {size} encoder ({encoder.value:.3f}) and decoder ({decoder.value:.3f}) differ by "
        f"{gap:.3f} ± {error:.3f}: no more than two standard errors"
    )


def _protocol(result: Result) -> str:
    """The settings of a record that are single words or numbers, as `key value`."""
    stated = result.record.get("settings")
    settings: Json = stated if isinstance(stated, dict) else {}
    words = [
        f"{key.replace('_', ' ')}: {value}"
        for key, value in settings.items()
        if key not in _NOT_PROTOCOL and isinstance(value, str | int | float) and value != ""
    ]
    return ", ".join(words[:_WORDS_AT_MOST])


def _versions(results: list[Result]) -> str | None:
    found: dict[str, set[str]] = {}
    for result in results:
        stated = result.record.get("versions")
        for name, version in stated.items() if isinstance(stated, dict) else ():
            found.setdefault(str(name), set()).add(str(version))
    return ", ".join(f"{name} {' and '.join(sorted(each))}" for name, each in found.items()) or None


def _command(results: list[Result]) -> str | None:
    stated = results[0].record.get("command")
    return shlex.join(map(str, stated)) if isinstance(stated, list) and stated else None


def _listed(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _plural(role: str) -> str:
    first, _, rest = role.partition(" ")
    return f"{first}s {rest}".strip()
