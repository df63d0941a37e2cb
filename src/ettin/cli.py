"""The command line: one short function a command. Parse, call one stage, say where the output is.

Every stage is imported inside its command, so `ettin --help` answers at once and a recipe is
refused before torch is loaded.
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from ettin.arguments import lengths, one_of, share, spread
from ettin.console import human, log, set_up_logging
from ettin.errors import CommandFailed, InputError, NoSpaceError, ProblemsFound, StoppedError

app = typer.Typer(
    help="Train, export and compare pairs of encoders and decoders that share everything else.",
    add_completion=False,
    rich_markup_mode=None,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
tokenizer_app = typer.Typer(
    help="Train a tokenizer.", add_completion=False, rich_markup_mode=None, no_args_is_help=True
)
app.add_typer(tokenizer_app, name="tokenizer")

Out = Annotated[Path, typer.Option("--out", help="The directory to write.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output.")]
Text = Annotated[list[Path], typer.Option("--text", help="Files and folders of text.")]
Exclude = Annotated[
    list[str],
    typer.Option("--exclude", help="Names or patterns of files and folders to leave out."),
]


def main() -> None:
    """Run the command in `sys.argv`; mistakes of the caller end in one message and exit code 2."""
    set_up_logging()
    try:
        app(spread(sys.argv[1:]), prog_name="ettin")
    except (InputError, StoppedError, NoSpaceError, ProblemsFound, CommandFailed) as error:
        log.error("ettin: %s", error)
        sys.exit(error.exit_code)
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
    _print(as_json, summary.paths(), summary.text())


@tokenizer_app.command(
    "train",
    epilog="Example: ettin tokenizer train --text my-texts --vocab-size 8192 --out my-tokenizer",
)
def tokenizer_train(
    text: Text,
    vocab_size: Annotated[int, typer.Option(help="Entries, special tokens included.")],
    out: Out,
    exclude: Exclude = [],  # noqa: B006
    text_column: Annotated[
        str, typer.Option(help="Column of tables that holds the text.")
    ] = "text",
    as_json: AsJson = False,
) -> None:
    """Learn a byte-level BPE from text."""
    from ettin.data import tokenizer_text

    tokenizer, fertility = tokenizer_text.train(
        text,
        exclude=tuple(exclude),
        text_column=text_column,
        vocab_size=vocab_size,
        out=out,
        command=_command(),
    )
    facts = {
        "tokenizer": str(out.absolute()),
        "vocab_size": tokenizer.size,
        "tokens_per_word": fertility.tokens_per_word,
        "bytes_per_token": fertility.bytes_per_token,
    }
    _print(
        as_json,
        facts,
        f"tokenizer of {tokenizer.size:,} entries in {out.absolute()}: "
        f"{fertility.bytes_per_token:.2f} bytes a token, "
        f"{fertility.tokens_per_word:.2f} tokens a word\n"
        f"next: ettin prepare --text … --tokenizer {out} --out CORPUS",
    )


@app.command(
    epilog="Example: ettin prepare --text my-texts --tokenizer my-tokenizer --out my-corpus "
    "--context-length 512,1024",
)
def prepare(
    tokenizer: Annotated[str, typer.Option(help="Tokenizer directory, or id on the hub.")],
    out: Out,
    text: Text = [],  # noqa: B006
    source: Annotated[
        list[str], typer.Option(help="NAME=PATH: one source of several, by name.")
    ] = [],  # noqa: B006
    exclude: Exclude = [],  # noqa: B006
    context_length: Annotated[
        str, typer.Option(help="Row lengths in tokens, e.g. 512,1024.")
    ] = "1024",
    packing: Annotated[
        str, typer.Option(help="chunks: fill rows; none: one chunk a row.")
    ] = "chunks",
    held_out: Annotated[str, typer.Option(help="Share kept for validation.")] = "1 %",
    text_column: Annotated[
        str, typer.Option(help="Column of tables that holds the text.")
    ] = "text",
    id_column: Annotated[str | None, typer.Option(help="Column that holds document ids.")] = None,
    on_error: Annotated[str, typer.Option(help="Broken input: skip and count, or fail.")] = "skip",
    as_json: AsJson = False,
) -> None:
    """Turn text into a corpus: tokens, rows and a held-out part."""
    from ettin.data import prepare as stage
    from ettin.data.sources import named_sources

    summary = stage.prepare(
        named_sources(text, source, exclude=tuple(exclude)),
        tokenizer=tokenizer,
        out=out,
        context_lengths=lengths(context_length),
        packing=one_of("--packing", packing, ("chunks", "none")),
        held_out=share("--held-out", held_out),
        text_column=text_column,
        id_column=id_column,
        on_error=one_of("--on-error", on_error, ("skip", "fail")),
        command=_command(),
    )
    skipped = sum(summary.skipped.values())
    facts = {
        "corpus": str(summary.corpus.absolute()),
        "documents": summary.documents,
        "tokens": summary.tokens,
        "bytes": summary.bytes,
        "held_out_tokens": summary.held_out_tokens,
        "skipped": skipped,
        "skipped_reasons": summary.skipped,
        "fill": {str(length): fill for length, fill in summary.fill.items()},
        "bytes_per_token": summary.fertility.bytes_per_token,
        "tokens_per_word": summary.fertility.tokens_per_word,
    }
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in summary.skipped.items())
    _print(
        as_json,
        facts,
        f"corpus in {summary.corpus.absolute()}: {summary.documents:,} documents, "
        f"{human(summary.tokens)} tokens ({human(summary.held_out_tokens)} held out), "
        f"{skipped:,} skipped{f' ({reasons})' if reasons else ''}\n"
        f"next: ettin train RECIPE.yaml --corpus {out} --out RUN",
    )


@app.command(
    epilog="Example: ettin train recipes/nano.yaml --corpus my-corpus --out runs/encoder "
    "phases.pretraining.tokens=2M",
)
def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML file; see recipes/.")],
    out: Out,
    overrides: Annotated[list[str] | None, typer.Argument(help="key.path=value …")] = None,
    corpus: Annotated[Path | None, typer.Option(help="Corpus directory.")] = None,
    objective: Annotated[str | None, typer.Option(help="mlm, clm or mntp.")] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Trace three steps.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train one twin; the same command goes on with a run that was interrupted."""
    from ettin.recipe_file import load_recipe

    loaded = load_recipe(recipe, overrides=overrides, objective=objective)
    where = corpus or (Path(loaded.corpus) if loaded.corpus else None)
    if where is None:
        raise InputError("no corpus: give --corpus CORPUS, or `corpus:` in the recipe")
    _sleep_while_waiting()
    if dry_run:
        from ettin.training.plan import describe_plan, plan

        planned = plan(loaded, corpus_path=where)
        _print(as_json, planned, describe_plan(planned))
        return
    from ettin.training.trainer import train as stage

    summary = stage(loaded, out=out, corpus_path=where, command=_command(), profile=profile)
    facts = {
        "run": str(summary.run),
        "checkpoints": list(summary.checkpoints),
        "tokens": summary.tokens,
        "loss": summary.loss,
        "validation_loss": summary.validation_loss,
    }
    _print(
        as_json,
        facts,
        f"run in {summary.run}: {human(summary.tokens)} tokens, loss {summary.loss:.3f}, "
        f"held-out loss {summary.validation_loss:.3f}\nnext: ettin export {out} --out EXPORT",
    )


@app.command(epilog="Example: ettin export runs/encoder@step400 --out exports/encoder")
def export(
    where: Annotated[str, typer.Argument(help="RUN, RUN@TAG, a checkpoint, or a model directory.")],
    out: Out,
    objective: Annotated[
        str | None, typer.Option(help="For model directories: the objective to convert to.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    as_json: AsJson = False,
) -> None:
    """Write a Hugging Face directory that stock transformers loads, with a proof of parity."""
    _sleep_while_waiting()
    from ettin.export import export as stage

    wanted = None if objective is None else one_of("--objective", objective, ("mlm", "clm"))
    summary = stage(where, out=out, objective=wanted, dtype=dtype, command=_command())
    _print(
        as_json,
        {"export": str(summary.export), "parity": summary.parity},
        f"export in {summary.export}: logits differ by at most {summary.parity:.1e}\n"
        f"next: ettin evaluate {out} --tasks quick --data CORPUS --out RESULTS",
    )


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
    _sleep_while_waiting()
    from ettin.evaluation.quick import quick

    results = [quick(model, corpus_path=data, out=out, command=_command()) for model in models]
    _print(as_json, {"results": results}, "\n".join(result["path"] for result in results))


@app.command(epilog="Example: ettin report runs exports results --out report")
def report(
    paths: Annotated[list[Path], typer.Argument(help="Runs, exports, results, in any mix.")],
    out: Out,
    as_json: AsJson = False,
) -> None:
    """Draw what runs and results say as one page."""
    from ettin.report.page import make_report

    summary = make_report(paths, out=out, command=_command())
    facts = {
        "page": str(summary.page),
        "tables": [str(path) for path in summary.tables],
        "figures": [str(path) for path in summary.figures],
    }
    _print(as_json, facts, f"page: {summary.page}")


@app.command(epilog="Example: ettin check runs/encoder")
def check(
    path: Annotated[Path, typer.Argument(help="Any directory that ettin wrote.")],
    as_json: AsJson = False,
) -> None:
    """Verify a directory: every file, every hash, and what only its kind can show."""
    from ettin.check import check as stage

    problems = stage(path)
    listed = "\n".join(f"  - {problem}" for problem in problems)
    _print(
        as_json, {"ok": not problems, "problems": problems}, "" if problems else f"{path}: all well"
    )
    if problems:
        raise ProblemsFound(f"{path}: {len(problems)} problems\n{listed}")


def _print(as_json: bool, facts: dict[str, Any], text: str) -> None:
    """Results go to standard output: one JSON object, or text."""
    if as_json:
        text = json.dumps(facts, ensure_ascii=False)
    if text:
        sys.stdout.write(text + "\n")


def _command() -> list[str]:
    return ["ettin", *sys.argv[1:]]


def _sleep_while_waiting() -> None:
    """Let idle threads of a parallel section sleep instead of spin, unless the user said otherwise.

    OpenMP reads this when torch is imported. Spinning threads slow a shared machine down.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
