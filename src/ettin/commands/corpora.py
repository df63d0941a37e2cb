"""Text → tokenizer and corpus: `tokenizer train`, `prepare`."""

from pathlib import Path
from typing import Annotated

import typer

from ettin.arguments import lengths, one_of, part_of, share
from ettin.commands.options import AsJson, Exclude, Out, Text, TextColumn, command_line, group, say
from ettin.console import human
from ettin.errors import InputError

app = group()
tokenizer_app = group("Train a tokenizer.")
app.add_typer(tokenizer_app, name="tokenizer")


@tokenizer_app.command(
    "train",
    epilog="Example: ettin tokenizer train --text my-texts --vocab-size 8192 --out my-tokenizer",
)
def tokenizer_train(
    text: Text,
    vocab_size: Annotated[int, typer.Option(help="Entries, special tokens included.")],
    out: Out,
    exclude: Exclude = [],  # noqa: B006
    text_column: TextColumn = "text",
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
        command=command_line(),
    )
    facts = {
        "tokenizer": str(out.absolute()),
        "vocab_size": tokenizer.size,
        "tokens_per_word": fertility.tokens_per_word,
        "bytes_per_token": fertility.bytes_per_token,
    }
    say(
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
    mds: Annotated[
        Path | None, typer.Option(help="Folder of published MDS shards: tokens, not text.")
    ] = None,
    mixture: Annotated[
        str | None, typer.Option(help="Published phases whose sources --text or --mds holds.")
    ] = None,
    exclude: Exclude = [],  # noqa: B006
    context_length: Annotated[
        str, typer.Option(help="Row lengths in tokens, e.g. 512,1024.")
    ] = "1024",
    packing: Annotated[
        str, typer.Option(help="chunks: fill rows; none: one chunk a row.")
    ] = "chunks",
    chunk_rule: Annotated[
        str, typer.Option(help="ours: keep every token; published: skip or fill short rests.")
    ] = "ours",
    minimum_chunk: Annotated[
        int | None, typer.Option(help="published: fill rests shorter than this (512).")
    ] = None,
    skip_below: Annotated[
        int | None, typer.Option(help="published: skip rests shorter than this (32; long: 128).")
    ] = None,
    held_out: Annotated[str, typer.Option(help="Share kept for validation.")] = "1 %",
    decontaminate: Annotated[
        list[Path],
        typer.Option(help="Evaluation data: documents that share text with it are dropped."),
    ] = [],  # noqa: B006
    text_column: TextColumn = "text",
    id_column: Annotated[str | None, typer.Option(help="Column that holds document ids.")] = None,
    on_error: Annotated[str, typer.Option(help="Broken input: skip and count, or fail.")] = "skip",
    workers: Annotated[
        int | None, typer.Option(help="Processes that tokenise; one a core unless given.")
    ] = None,
    task: Annotated[
        str | None, typer.Option(help="I/N: the share of one of N tasks; the last one merges.")
    ] = None,
    encoder: Annotated[
        str, typer.Option(help="auto, tokenizers, or gigatoken (ettin[fast]): equal ids.")
    ] = "auto",
    as_json: AsJson = False,
) -> None:
    """Turn text into a corpus: tokens, rows and a held-out part."""
    from ettin.data import prepare as stage
    from ettin.data.mds.source import mds_sources
    from ettin.data.preparation.workers import available_cores
    from ettin.data.reading.sources import named_sources

    if mds is not None and (text or source):
        raise InputError("give either --text PATH… or --source NAME=PATH…, or else --mds DIR")
    summary = stage.prepare(
        mds_sources(mds, exclude=tuple(exclude), mixture=mixture)
        if mds is not None
        else named_sources(text, source, exclude=tuple(exclude), mixture=mixture),
        tokenizer=tokenizer,
        out=out,
        context_lengths=lengths(context_length),
        packing=one_of("--packing", packing, ("chunks", "none")),
        chunk_rule=one_of("--chunk-rule", chunk_rule, ("ours", "published")),
        minimum_chunk=minimum_chunk,
        skip_below=skip_below,
        held_out=share("--held-out", held_out),
        decontaminate=decontaminate,
        text_column=text_column,
        id_column=id_column,
        on_error=one_of("--on-error", on_error, ("skip", "fail")),
        workers=available_cores() if workers is None else workers,
        encoder=one_of("--encoder", encoder, ("auto", "tokenizers", "gigatoken")),
        task=None if task is None else part_of("--task", task),
        command=command_line(),
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
        "parts_left": summary.parts_left,
    }
    if summary.parts_left:
        say(
            as_json,
            facts,
            f"task {task} is done: {summary.documents:,} documents, {human(summary.tokens)} "
            f"tokens; {summary.parts_left:,} parts of other tasks are missing\n"
            f"next: the other tasks; whichever ends last makes {out}. If none did, the same "
            "command without --task goes on",
        )
        return
    reasons = ", ".join(f"{count:,} {reason}" for reason, count in summary.skipped.items())
    say(
        as_json,
        facts,
        f"corpus in {summary.corpus.absolute()}: {summary.documents:,} documents, "
        f"{human(summary.tokens)} tokens ({human(summary.held_out_tokens)} held out), "
        f"{skipped:,} skipped{f' ({reasons})' if reasons else ''}\n"
        f"next: ettin train RECIPE.yaml --corpus {out} --out RUN",
    )
