"""The command line: one short function a command. Parse, call one stage, say where the output is.

Every stage is imported inside its command, so `ettin --help` answers at once and a recipe is
refused before torch is loaded. The commands stand in `commands`, in groups.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ettin.arguments import spread
from ettin.commands import corpora, orders, publishing, results, runs, suites
from ettin.commands.options import AsJson, Out, Text, group, say
from ettin.console import log, set_up_logging
from ettin.errors import CommandFailed, InputError, NoSpaceError, ProblemsFound, StoppedError

app = group("Train, export and compare pairs of encoders and decoders that share everything else.")

_INTERRUPTED = 130
"""What typer ends with after Ctrl-C in a stage that does not catch it."""


def main() -> None:
    """Run the command in `sys.argv`; mistakes of the caller end in one message and exit code 2."""
    set_up_logging()
    try:
        app(spread(sys.argv[1:]), prog_name="ettin")
    except (InputError, StoppedError, NoSpaceError, ProblemsFound, CommandFailed) as error:
        log.error("ettin: %s", error)
        sys.exit(error.exit_code)
    except SystemExit as ended:
        if ended.code != _INTERRUPTED:
            raise
        log.error("ettin: stopped; the same command goes on")
        sys.exit(StoppedError.exit_code)
    except BrokenPipeError:
        sys.exit(1)


@app.command(
    epilog="Example: ettin quickstart --text ~/my-texts --out my-first-pair",
)
def quickstart(
    text: Text = [],  # noqa: B006 - typer copies it
    out: Out = Path("ettin-quickstart"),
    tokens: Annotated[
        str, typer.Option(help="Tokens to train each twin on, such as 800k.")
    ] = "800k",
    as_json: AsJson = False,
) -> None:
    """Train, export and compare a small pair in minutes, on text of this machine or your own."""
    from ettin import quickstart as stage
    from ettin.numbers import parse_number

    try:
        budget = int(parse_number(tokens))
    except ValueError as error:
        raise InputError(f"--tokens {tokens}: {error}") from error
    summary = stage.quickstart(text, out=out, tokens=budget)
    say(as_json, summary.paths(), summary.text())


for each in (corpora, runs, orders, results, suites, publishing):
    app.add_typer(each.app)
