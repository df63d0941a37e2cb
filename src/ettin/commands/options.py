"""What several commands share: options, how results are printed, how threads wait."""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

Out = Annotated[Path, typer.Option("--out", help="The directory to write.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Text = Annotated[
    list[str], typer.Option("--text", help="Files, folders, quoted patterns or URLs of text.")
]
Exclude = Annotated[
    list[str],
    typer.Option("--exclude", help="Names or patterns of files and folders to leave out."),
]
TextColumn = Annotated[str, typer.Option(help="Column of tables that holds the text.")]


def group(help_text: str | None = None) -> typer.Typer:
    """Commands that belong together, all with the same manners."""
    return typer.Typer(
        help=help_text,
        add_completion=False,
        rich_markup_mode=None,
        no_args_is_help=True,
        pretty_exceptions_enable=False,
    )


def say(as_json: bool, facts: dict[str, Any], text: str) -> None:
    """Results go to standard output: one JSON object, or text."""
    if as_json:
        text = json.dumps(facts, ensure_ascii=False)
    if text:
        sys.stdout.write(text + "\n")


def command_line() -> list[str]:
    """The words that were typed, for manifests."""
    return ["ettin", *sys.argv[1:]]


def sleep_while_waiting() -> None:
    """Let idle threads of a parallel section sleep instead of spin, unless the user said otherwise.

    OpenMP reads this when torch is imported. Spinning threads slow a shared machine down.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
