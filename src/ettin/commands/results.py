"""Exports → results and pages, and whether a directory is sound: `evaluate`, `report`, `check`."""

from pathlib import Path
from typing import Annotated

import typer

from ettin.arguments import one_of
from ettin.commands.options import AsJson, Out, command_line, group, say, sleep_while_waiting
from ettin.errors import ProblemsFound

app = group()


@app.command(
    epilog="Example: ettin evaluate exports/encoder --tasks quick --data my-corpus --out results"
)
def evaluate(
    models: Annotated[list[Path], typer.Argument(help="Hugging Face directories.")],
    tasks: Annotated[str, typer.Option(help="Task names; so far: quick.")],
    data: Annotated[Path, typer.Option(help="For quick: a corpus, whose held-out texts are used.")],
    out: Out,
    as_json: AsJson = False,
) -> None:
    """Load models in stock transformers and look at what they answer."""
    for task in tasks.split(","):
        one_of("--tasks", task, ("quick",))
    sleep_while_waiting()
    from ettin.evaluation.quick import quick

    results = [quick(model, corpus_path=data, out=out, command=command_line()) for model in models]
    say(as_json, {"results": results}, "\n".join(result["path"] for result in results))


@app.command(epilog="Example: ettin report runs exports results --out report")
def report(
    paths: Annotated[list[Path], typer.Argument(help="Runs, exports, results, in any mix.")],
    out: Out,
    as_json: AsJson = False,
) -> None:
    """Draw what runs and results say as one page."""
    from ettin.report.page import make_report

    summary = make_report(paths, out=out, command=command_line())
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
    """Verify a directory: every file, every hash, and what only its kind can show."""
    from ettin.check import check as stage

    problems = stage(path)
    listed = "\n".join(f"  - {problem}" for problem in problems)
    say(
        as_json, {"ok": not problems, "problems": problems}, "" if problems else f"{path}: all well"
    )
    if problems:
        raise ProblemsFound(f"{path}: {len(problems)} problems\n{listed}")
