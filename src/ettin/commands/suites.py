"""One file → every run, export, evaluation and one report: `suite plan`, `suite run`, `status`."""

from pathlib import Path
from typing import Annotated

import typer

from ettin.commands.options import AsJson, Out, group, say
from ettin.errors import CommandFailed, InputError, StoppedError

app = group()
suite_app = group("Plan, run and watch a suite: many runs, evaluated and drawn, from one file.")
app.add_typer(suite_app, name="suite")

SuiteFile = Annotated[Path, typer.Argument(metavar="SUITE.yaml", help="A suite file.")]
Jobs = Annotated[int, typer.Option(min=1, help="Jobs at a time.")]
Snakemake = Annotated[
    Path | None, typer.Option("--snakemake", help="Write this Snakefile, for clusters.")
]


@suite_app.command(epilog="Example: ettin suite plan recipes/ettin.yaml --out ettin-suite")
def plan(
    suite: SuiteFile,
    out: Out,
    jobs: Jobs = 1,
    snakemake: Snakemake = None,
    as_json: AsJson = False,
) -> None:
    """Show every job with its cost and its command; with --snakemake, write them as a Snakefile."""
    from ettin.suite.listing import describe
    from ettin.suite.plan import make_plan

    planned = make_plan(suite, out=out)
    if snakemake is not None:
        from ettin.suite.snakemake import write_snakefile
        from ettin.suite.worker import threads_of_each

        write_snakefile(planned, snakemake, threads=threads_of_each(jobs))
    say(as_json, planned.facts, describe(planned))


@suite_app.command(epilog="Example: ettin suite run recipes/quickstart.yaml --out quickstart")
def run(
    suite: SuiteFile,
    out: Out,
    jobs: Jobs = 1,
    snakemake: Snakemake = None,
    only: Annotated[
        str | None, typer.Option(help="One job, by its name; what it reads must be finished.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Run what is not done yet; the same command goes on with what was interrupted."""
    if only is not None:
        if snakemake is not None:
            raise InputError("--only runs one job by itself; leave out --snakemake")
        _run_one(suite, out, only, as_json=as_json)
        return
    from ettin.suite.plan import make_plan
    from ettin.suite.run import run_suite

    outcome = run_suite(make_plan(suite, out=out), jobs=jobs, snakemake=snakemake)
    say(as_json, outcome.facts, outcome.text)
    outcome.refuse_failures()


@suite_app.command(epilog="Example: ettin suite status recipes/quickstart.yaml --out quickstart")
def status(suite: SuiteFile, out: Out, as_json: AsJson = False) -> None:
    """Show the state of every job; from any shell, at any time."""
    from ettin.suite.plan import make_plan
    from ettin.suite.state import Board
    from ettin.suite.table import table

    board = Board(make_plan(suite, out=out))
    say(as_json, board.facts(), "\n".join(table(board, few=20)))


def _run_one(suite: Path, out: Path, name: str, *, as_json: bool) -> None:
    """One job by the plan that the suite is run by; planned anew where there is none yet."""
    from ettin.suite.plan import make_plan
    from ettin.suite.plan_file import read_plan, write_plan
    from ettin.suite.state import Board, find_job
    from ettin.suite.worker import work

    planned = read_plan(out)
    if planned is None:
        planned = make_plan(suite, out=out)
        find_job(planned, name)
        write_plan(planned)
    elif planned.suite != suite.absolute():
        raise InputError(
            f"{out} belongs to the suite {planned.suite}, not to {suite.absolute()}; "
            "choose another --out"
        )
    try:
        work(planned, name)
    except (CommandFailed, StoppedError):
        say(as_json, {"job": name, "state": Board(planned).states[name]}, "")
        raise
    say(as_json, {"job": name, "state": "done"}, "")
