"""A run: its steps and ledger are one unbroken chain; recipe, manifest and checkpoints agree."""

from collections.abc import Iterator
from itertools import accumulate, islice
from pathlib import Path

import xxhash

from ettin import files
from ettin.check.directories import Directory
from ettin.console import read_json_lines
from ettin.files import Json
from ettin.recipe import Phase
from ettin.recipe_file import load_recipe
from ettin.schedules import batch_rows, clock, rows_before, tag, total_steps


def check_run(run: Directory) -> Iterator[str]:
    """What is wrong with a run whose bytes are right.

    Raises:
        InputError: it holds no recipe that can be read.
    """
    recipe = load_recipe(run.path / "recipe.yaml")
    metrics = read_json_lines(run.path / "metrics.jsonl")
    ledger = read_json_lines(run.path / "ledger.jsonl")
    problems = [
        *_check_steps(run.path / "metrics.jsonl", metrics, recipe.phases),
        *_check_steps(run.path / "ledger.jsonl", ledger, recipe.phases),
    ]
    if problems:
        yield from problems
        return
    facts = run.facts
    for name, found in (
        ("objective", recipe.objective),
        ("steps", len(ledger)),
        ("tokens", sum(line["tokens"] for line in ledger)),
        ("ledger_hash", ledger[-1]["hash"]),
    ):
        if facts[name] != found:
            yield f"{run.path}: {name} {found!r}, the manifest says {facts[name]!r}"
    start = facts.get("start")
    if start and start["weights"] != facts["initial_weights_hash"]:
        yield f"{run.path}: its first weights are not those of its start, {start['where']}"
    if not start and facts.get("variant") == "cross":
        yield f"{run.path}: a cross run, and the manifest names no start"
    yield from _check_beginning(run)
    yield from _check_ledger(run.path / "ledger.jsonl", ledger, metrics, recipe.phases)
    yield from _check_chain(run.path / "ledger.jsonl", ledger)
    yield from _check_phases(run.path, ledger, facts, recipe.phases)
    yield from _check_tags(run.path, ledger, facts, recipe.phases)


def _check_beginning(run: Directory) -> Iterator[str]:
    """What the run was begun with is what the manifest says, and its samples are of its shape."""
    path = run.path / "start.json"
    if not path.is_file():
        return
    began = files.read_json(path)
    for name in (
        "corpus", "order", "row_orders", "parameters", "initial_weights_hash", "start",
    ):  # fmt: skip
        # Runs from before there were cross runs state no start, nor stored orders.
        found, stated = began.get(name) or None, run.facts.get(name) or None
        if found != stated:
            yield f"{path}: {name} is {found!r}, the manifest says {stated!r}"
    sample = run.path / "sample.json"
    if sample.is_file():
        tokens = [token for row in files.read_json(sample)["rows"] for token in row]
        if tokens and not 0 <= min(tokens) <= max(tokens) < began["shape"]["vocab_size"]:
            yield f"{sample}: holds ids that the model has no embedding for"


def _places(phases: tuple[Phase, ...]) -> Iterator[tuple[Phase, int]]:
    """The phase, and the step in it, of every step of a run."""
    return ((phase, step) for phase in phases for step in range(1, total_steps(phase) + 1))


def _check_steps(path: Path, lines: list[Json], phases: tuple[Phase, ...]) -> list[str]:
    """One line for each step that the recipe gives the run, in order; the first fault alone."""
    # A recipe may state more steps than anyone could list.
    planned = sum(total_steps(phase) for phase in phases)
    steps = zip(lines, _places(phases), strict=False)
    for step, (line, (phase, phase_step)) in enumerate(steps, start=1):
        if line["step"] != step:
            return [f"{path}: step {line['step']} stands where step {step} should"]
        # Ledgers of runs of one phase did not always name it.
        found = line.get("phase", phase.name), line.get("phase_step", phase_step)
        if found != (phase.name, phase_step):
            return [
                f"{path}: step {step} is step {found[1]} of {found[0]}, by the recipe it is "
                f"step {phase_step} of {phase.name}"
            ]
    if len(lines) > planned:
        return [f"{path}: step {lines[planned]['step']} follows step {planned}, the recipe's last"]
    if len(lines) < planned:
        return [f"{path} ends at step {len(lines)}, the recipe at step {planned}"]
    return []


def _check_ledger(
    path: Path, ledger: list[Json], metrics: list[Json], phases: tuple[Phase, ...]
) -> list[str]:
    """Rows continue each other from 0 in every phase, as many as the recipe says; tokens add up
    to those of the metrics.
    """
    problems = []
    tokens = 0
    for line, measured, (phase, phase_step) in zip(ledger, metrics, _places(phases), strict=True):
        step, tokens = line["step"], tokens + line["tokens"]
        first, rows = rows_before(phase, phase_step), batch_rows(phase, phase_step)
        if line["first_row"] != first:
            problems.append(f"{path}: step {step} begins at row {line['first_row']}, not {first}")
        if line["rows"] != rows:
            problems.append(f"{path}: step {step} has {line['rows']} rows, the recipe says {rows}")
        if measured["tokens"] != tokens:
            return [
                *problems,
                f"{path}: {tokens:,} tokens until step {step}, "
                f"metrics.jsonl says {measured['tokens']:,}",
            ]
    return problems


def _check_chain(path: Path, ledger: list[Json]) -> Iterator[str]:
    """Every running hash is that of the hash before and the step's own sums; the first fault alone.

    Lines of before have no sums; their hashes need the tokens, as `ettin order verify` reads them.
    """
    before = ""
    for line in ledger:
        if "rows_hash" in line:
            chained = f"{before}{line['rows_hash']}{line['places_hash']}"
            if xxhash.xxh3_128_hexdigest(chained.encode()) != line["hash"]:
                yield (
                    f"{path}: the hash of step {line['step']} does not follow from the hash "
                    "before and the sums of the step"
                )
                return
        before = line["hash"]


def _check_phases(
    run: Path, ledger: list[Json], facts: Json, phases: tuple[Phase, ...]
) -> list[str]:
    """What the manifest says of each phase is what recipe and ledger say."""
    stated = facts.get("phases")
    if stated is None:
        return []
    names = [phase.name for phase in phases]
    if [fact["name"] for fact in stated] != names:
        listed = ", ".join(str(fact["name"]) for fact in stated)
        return [f"{run}: its recipe has the phases {', '.join(names)}, the manifest says {listed}"]
    problems = []
    lines = iter(ledger)
    for phase, fact in zip(phases, stated, strict=True):
        steps = total_steps(phase)
        tokens = sum(line["tokens"] for line in islice(lines, steps))
        problems += [
            f"{run}: {name} of {phase.name} {found:,}, the manifest says {fact[name]:,}"
            for name, found in (
                ("steps", steps),
                ("tokens", tokens),
                ("nominal_tokens", clock(phase, steps)),
                ("context_length", phase.context_length),
            )
            if fact[name] != found
        ]
        of_sources = sum(fact["source_tokens"].values())
        if of_sources != tokens:
            problems.append(
                f"{run}: the sources of {phase.name} have {of_sources:,} tokens, it has {tokens:,}"
            )
    return problems


def _check_tags(
    run: Path, ledger: list[Json], facts: Json, phases: tuple[Phase, ...]
) -> Iterator[str]:
    """Every checkpoint is there, belongs to a step of the run, and stands where the ledger does."""
    steps = {tag(phase, step): at for at, (phase, step) in enumerate(_places(phases), start=1)}
    steps |= {tag(phase, 0): 0 for phase in phases[:1]}
    named = facts["checkpoints"]
    tokens = [0, *accumulate(line["tokens"] for line in ledger)]
    for name in named:
        folder = run / "checkpoints" / str(name)
        if name not in steps:
            yield f"{run}: checkpoint {name} belongs to no step of the run"
        elif not files.is_finished(folder):
            yield f"{run}: checkpoint {name} is missing or unfinished"
        else:
            state = files.read_json(folder / "state.json")
            at = steps[name]
            expected = (at, ledger[at - 1]["hash"] if at else "")
            if (state["step"], state["ledger_hash"]) != expected:
                yield (
                    f"{run}: checkpoint {name} was saved after another step than the ledger's "
                    f"step {at}"
                )
            yield from _check_state(folder / "state.json", state, name, tokens[at], facts)
    for folder in sorted((run / "checkpoints").glob("*")):
        if folder.name not in named:
            yield f"{folder}: the manifest of the run does not name this checkpoint"


def _check_state(path: Path, state: Json, name: str, tokens: int, facts: Json) -> Iterator[str]:
    """What a checkpoint says of itself is what the run says of it."""
    for key, expected in (
        ("tag", name),
        ("tokens", tokens),
        ("objective", facts["objective"]),
        ("recipe_fingerprint", facts["recipe_fingerprint"]),
        ("corpus", facts["corpus"]["fingerprint"]),
    ):
        if key in state and state[key] != expected:
            yield f"{path}: {key} is {state[key]!r}, by the run it is {expected!r}"
