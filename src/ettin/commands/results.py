"""Exports → results and pages, and whether a directory is sound: `evaluate`, `report`, `check`."""

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ettin.arguments import count, counts, one_of
from ettin.commands.options import AsJson, Out, command_line, group, say, sleep_while_waiting
from ettin.console import log
from ettin.errors import CommandFailed, InputError, ProblemsFound

if TYPE_CHECKING:
    from ettin.evaluation.run import Outcome

app = group()


@app.command(
    epilog="Example: ettin evaluate exports/encoder exports/decoder --tasks quick --data my-corpus "
    "--out results"
)
def evaluate(
    models: Annotated[list[str], typer.Argument(help="Hugging Face directories or hub ids.")],
    tasks: Annotated[
        str, typer.Option(help="family/name, groups such as glue or quick, family=PATH; commas.")
    ],
    out: Out,
    data: Annotated[
        Path | None, typer.Option(help="Local data; for quick and text, a corpus.")
    ] = None,
    offline: Annotated[bool, typer.Option("--offline", help="Fetch nothing.")] = False,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many examples of a task.")
    ] = None,
    seeds: Annotated[str, typer.Option(help="Seeds of fine-tuning; one record each.")] = "21",
    objective: Annotated[
        str | None,
        typer.Option(help="mntp or mlm, for encoders that do not say how they were trained."),
    ] = None,
    mode: Annotated[
        str, typer.Option(help="How encoders score: ettin, pll or pll_within_word.")
    ] = "ettin",
    preset: Annotated[
        str, typer.Option(help="How much fine-tuning tries: quick or published.")
    ] = "quick",
    pooling: Annotated[
        str | None, typer.Option(help="Of fine-tuned models; each kind's own unless given.")
    ] = None,
    batch_tokens: Annotated[
        str | None, typer.Option(help="Tokens of one forward pass; never changes a result.")
    ] = None,
    log_samples: Annotated[
        bool, typer.Option("--log-samples", help="Write every example with its answer.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Measure models on tasks: ours and anyone's, encoders and decoders alike."""
    _quiet_libraries(offline=offline)
    from ettin.evaluation.run import best_device
    from ettin.evaluation.run import evaluate as stage
    from ettin.evaluation.task import Request
    from ettin.evaluation.tasks import parse_tasks

    wanted, problems = parse_tasks(tasks, data=data)
    if not wanted:
        raise InputError("\n".join(problems) or "--tasks names nothing")
    device = best_device()
    request = Request(
        data=data,
        offline=offline,
        limit=limit,
        seed=None,
        mode=one_of("--mode", mode, ("ettin", "pll", "pll_within_word")),
        preset=one_of("--preset", preset, ("quick", "published")),
        pooling=pooling and one_of("--pooling", pooling, ("cls", "mean", "last", "weightedmean")),
        batch_tokens=count("--batch-tokens", batch_tokens or _BATCH_TOKENS[device]),
        device=device,
        out=out,
    )
    outcome = stage(
        models,
        wanted,
        request=request,
        seeds=counts("--seeds", seeds),
        log_samples=log_samples,
        command=command_line(),
        objective=objective and one_of("--objective", objective, ("mlm", "clm", "mntp")),
        problems=problems,
    )
    failed = [dataclasses.asdict(each) for each in outcome.failures]
    failed += [{"model": None, "task": None, "reason": each} for each in problems]
    facts = {"results": outcome.records, "failed": failed}
    say(as_json, facts, "\n".join(str(record["path"]) for record in outcome.records))
    _tell_failures(outcome)


@app.command(epilog="Example: ettin prefetch --tasks generative,glue --out data")
def prefetch(
    tasks: Annotated[str, typer.Option(help="As for evaluate.")],
    out: Out,
    as_json: AsJson = False,
) -> None:
    """Download what tasks need, for nodes without a network: evaluate --data OUT --offline."""
    _quiet_libraries(offline=False)
    from ettin.evaluation.run import Outcome
    from ettin.evaluation.run import prefetch as stage
    from ettin.evaluation.tasks import parse_tasks

    wanted, problems = parse_tasks(tasks, data=None)
    if not wanted:
        raise InputError("\n".join(problems) or "--tasks names nothing")
    failures = stage(wanted, out)
    say(as_json, {"data": str(out.absolute()), "failed": len(failures)}, str(out.absolute()))
    _tell_failures(Outcome([], failures, problems))


@app.command(epilog="Example: ettin report runs exports results --out report")
def report(
    paths: Annotated[list[Path], typer.Argument(help="Runs, exports, results, in any mix.")],
    out: Out,
    published: Annotated[
        bool, typer.Option("--published", help="Show the paper's numbers beside these, so marked.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Draw what runs and results say as one page."""
    from ettin.report.page import make_report

    summary = make_report(paths, out=out, command=command_line(), published=published)
    facts = {
        "page": str(summary.page),
        "tables": [str(path) for path in summary.tables],
        "figures": [str(path) for path in summary.figures],
    }
    say(as_json, facts, f"page: {summary.page}")


@app.command(epilog="Example: ettin check runs/encoder")
def check(
    path: Annotated[Path, typer.Argument(help="Any directory that ettin wrote.")],
    as_json: AsJson = False,
) -> None:
    """Verify a directory: every file, every hash, what it says, and what it was made from."""
    from ettin.check import examine

    found = examine(path)
    problems, notes = found.problems, found.notes
    facts = {"ok": not problems, "problems": problems, "notes": notes}
    for note in notes:
        log.info("note: %s", note)
    say(as_json, facts, "" if problems else f"{path}: all well")
    if problems:
        listed = "\n".join(f"  - {problem}" for problem in problems)
        raise ProblemsFound(f"{path}: {_counted(len(problems), 'problem')}\n{listed}")


def _counted(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


_BATCH_TOKENS = {"cpu": "4096", "mps": "16384", "cuda": "65536"}


def _tell_failures(outcome: "Outcome") -> None:
    """Exit code 2 when nothing but mistakes of the caller came out, 1 when some task failed."""
    reasons = list(outcome.problems)
    for failure in outcome.failed:
        if failure.reason not in reasons:
            reasons.append(failure.reason)
    if not reasons:
        return
    listed = "\n".join(f"  - {reason}" for reason in reasons)
    if outcome.is_mistaken:
        raise InputError(f"nothing could be measured:\n{listed}")
    failed = len(outcome.failed) + len(outcome.problems)
    raise CommandFailed(f"{failed} failed, the rest is measured:\n{listed}", exit_code=1)


def _quiet_libraries(*, offline: bool) -> None:
    """Settings that libraries read when they are imported: no network if told, no telemetry."""
    sleep_while_waiting()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    if offline:
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "HF_EVALUATE_OFFLINE"):
            os.environ[name] = "1"
