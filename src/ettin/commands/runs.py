"""Corpus → runs and exports: `train`, `export`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ettin.arguments import one_of
from ettin.commands.options import AsJson, Out, command_line, group, say, sleep_while_waiting
from ettin.console import human
from ettin.errors import InputError

if TYPE_CHECKING:
    from ettin.training.start import Start

app = group()


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
    start_from: Annotated[
        str | None,
        typer.Option("--from", help="Whose weights to begin with: RUN, RUN@TAG, model, hub id."),
    ] = None,
    phase: Annotated[
        str | None, typer.Option(help="One phase alone; all but cross unless given.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what would be done.")
    ] = False,
    profile: Annotated[bool, typer.Option("--profile", help="Trace three steps.")] = False,
    as_json: AsJson = False,
) -> None:
    """Train one twin through its phases; the same command goes on with an interrupted run."""
    from ettin.recipe_file import load_recipe, start_of

    start_from = start_from or start_of(recipe, overrides=overrides or [])
    start = _find_start(start_from, out) if start_from else None
    loaded = load_recipe(
        recipe, overrides=overrides, objective=objective, start=start.facts if start else None
    ).of_phases(phase)
    where = corpus or (Path(loaded.corpus) if loaded.corpus else None)
    if where is None:
        raise InputError("no corpus: give --corpus CORPUS, or `corpus:` in the recipe")
    sleep_while_waiting()
    if dry_run:
        from ettin.training.plan import describe_plan, plan

        planned = plan(loaded, corpus_path=where, start=start)
        say(as_json, planned, describe_plan(planned))
        return
    from ettin.training.distributed import is_first
    from ettin.training.trainer import train as stage

    summary = stage(
        loaded, out=out, corpus_path=where, command=command_line(), start=start, profile=profile
    )
    if not is_first():
        return
    facts = {
        "run": str(summary.run),
        "checkpoints": list(summary.checkpoints),
        "tokens": summary.tokens,
        "loss": summary.loss,
        "validation_loss": summary.validation_loss,
    }
    say(
        as_json,
        facts,
        f"run in {summary.run}: {human(summary.tokens)} tokens, loss {summary.loss:.3f}, "
        f"held-out loss {summary.validation_loss:.3f}\nnext: ettin export {out} --out EXPORT",
    )


@app.command(epilog="Example: ettin export runs/encoder@step400 --out exports/encoder")
def export(
    where: Annotated[
        str, typer.Argument(help="RUN, RUN@TAG, a checkpoint, a model directory; or a corpus.")
    ],
    out: Out,
    objective: Annotated[
        str | None, typer.Option(help="For model directories: the objective to convert to.")
    ] = None,
    dtype: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    mds: Annotated[bool, typer.Option("--mds", help="Write a corpus as MDS shards.")] = False,
    context_length: Annotated[
        int | None, typer.Option(help="With --mds: a sample a chunk, not a document.")
    ] = None,
    compression: Annotated[str | None, typer.Option(help="With --mds: such as zstd.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a Hugging Face directory that stock transformers loads, with a proof of parity."""
    if mds:
        _export_mds(where, out, context_length, compression, as_json=as_json)
        return
    if context_length is not None or compression is not None:
        raise InputError("--context-length and --compression go with --mds")
    sleep_while_waiting()
    from ettin.data.corpus import is_corpus
    from ettin.export import export as stage

    if is_corpus(Path(where)):
        raise InputError(f"{where} is a corpus, not a model; --mds writes it as MDS shards")

    wanted = None if objective is None else one_of("--objective", objective, ("mlm", "clm"))
    summary = stage(where, out=out, objective=wanted, dtype=dtype, command=command_line())
    say(
        as_json,
        {"export": str(summary.export), "parity": summary.parity},
        f"export in {summary.export}: logits differ by at most {summary.parity:.1e}\n"
        f"next: ettin evaluate {out} --tasks quick --data CORPUS --out RESULTS",
    )


def _export_mds(
    where: str, out: Path, context_length: int | None, compression: str | None, *, as_json: bool
) -> None:
    from ettin.data.corpus import Corpus
    from ettin.data.mds.export import write_mds

    manifest = write_mds(
        Corpus.open(Path(where)),
        out,
        context_length=context_length,
        compression=compression,
        command=command_line(),
    )
    splits = manifest["facts"]
    samples, tokens = (
        sum(source[what] for sources in splits.values() for source in sources.values())
        for what in ("samples", "tokens")
    )
    say(
        as_json,
        {"export": str(out.absolute()), "samples": samples, "tokens": tokens},
        f"MDS in {out.absolute()}: {samples:,} samples, {human(tokens)} tokens",
    )


def _find_start(where: str, out: Path) -> "Start":
    """What a run starts from; a run that has begun remembers it."""
    sleep_while_waiting()
    from ettin.training.run_directory import recorded_start
    from ettin.training.start import open_start, reopen_start

    recorded = recorded_start(out, where)
    return open_start(where) if recorded is None else reopen_start(recorded, run=out)
