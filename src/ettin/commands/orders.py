"""What a run had seen: `order show`, `order find`, `order verify`, `order export`.

And what one is going to see, where that is not computed: `order store`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ettin.arguments import one_of
from ettin.commands.options import AsJson, Out, command_line, group, say
from ettin.console import human
from ettin.errors import InputError, ProblemsFound

if TYPE_CHECKING:
    from ettin.data.seen.find import Found
    from ettin.data.seen.show import Shown
    from ettin.data.seen.verify import Verification, Verified

app = group()
order_app = group(
    "What a run had seen: rows, documents, sources; computed, and proved. And orders to be stored."
)
app.add_typer(order_app, name="order")

Run = Annotated[Path, typer.Argument(help="A run, finished or not.")]
CorpusOption = Annotated[
    Path | None, typer.Option("--corpus", help="Where its corpus lies, if it has moved.")
]

_LISTED = 10
_TEXTS = 3
_BEGINNING_TOKENS = 32


@order_app.command(epilog="Example: ettin order show runs/encoder --after step100 --until step200")
def show(
    run: Run,
    after: Annotated[
        str | None, typer.Option(help="A tag; from the beginning unless given.")
    ] = None,
    until: Annotated[
        str | None, typer.Option(help="A tag, included; the last checkpoint unless given.")
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="List at most so many rows and documents (10 unless --json); all are counted "
            "and hashed.",
        ),
    ] = None,
    corpus: CorpusOption = None,
    as_json: AsJson = False,
) -> None:
    """Rows, documents and sources consumed after one checkpoint, up to and including another."""
    from ettin.data.seen.show import show as stage

    listed = limit if as_json or limit is not None else _LISTED
    shown = stage(run, corpus=corpus, after=after, until=until, limit=listed)
    say(as_json, shown.facts(), "" if as_json else _describe_interval(shown))


@order_app.command(epilog="Example: ettin order find runs/encoder --document poe/raven.txt")
def find(
    run: Run,
    document: Annotated[str, typer.Option(help="The id of a document, as in the corpus.")],
    corpus: CorpusOption = None,
    as_json: AsJson = False,
) -> None:
    """Every step in which any piece of a document was trained on."""
    from ettin.data.seen.find import find as stage

    found = stage(run, document, corpus=corpus)
    facts = {"document": found.id, "sources": found.sources, "held_out": found.held_out}
    say(as_json, {**facts, "steps": found.steps}, _describe_document(found))


@order_app.command(epilog="Example: ettin order verify runs/encoder --against runs/decoder")
def verify(
    run: Run,
    against: Annotated[Path | None, typer.Option(help="Another run, such as the twin.")] = None,
    corpus: CorpusOption = None,
    as_json: AsJson = False,
) -> None:
    """Derive every step anew, and compare with what the run recorded; exits with 1 if unequal."""
    from ettin.data.seen.verify import verify as stage

    found = stage(run, corpus=corpus, against=against)
    facts: dict[str, Any] = {**found.run.facts(), "equal": found.equal, "notes": found.notes}
    facts["against"] = found.against and found.against.facts()
    say(as_json, facts, _describe_verification(found))
    if not found.equal:
        raise ProblemsFound(_difference(found))


@order_app.command(epilog="Example: ettin order export runs/encoder --out orders/encoder")
def export(run: Run, out: Out, corpus: CorpusOption = None, as_json: AsJson = False) -> None:
    """Write the order as Parquet, one file for each checkpoint."""
    from ettin.data.seen.export import export as stage

    exported = stage(run, out=out, corpus=corpus, command=command_line())
    facts = {"export": str(exported.path.absolute()), **exported.facts}
    say(
        as_json,
        facts,
        f"order in {exported.path.absolute()}: {exported.facts['rows']:,} rows, "
        f"{human(exported.facts['tokens'])} tokens, "
        f"a file for each of {len(exported.facts['checkpoints'])} checkpoints\n"
        f"next: ettin check {out}",
    )


@order_app.command(
    epilog="Example: ettin order store my-corpus --index ettin-decay-data/train --out my-order"
)
def store(
    corpus: Annotated[
        Path, typer.Argument(help="A corpus of one document a row: prepared with --packing none.")
    ],
    out: Out,
    context_length: Annotated[
        int | None, typer.Option(min=8, help="Of its rows; needed where it has several.")
    ] = None,
    order: Annotated[
        str,
        typer.Option(
            help="published: numpy's permutation by PCG64DXSM(seed + epoch); files: documents as "
            "they stand."
        ),
    ] = "published",
    seed: Annotated[int, typer.Option(min=0, help="Of the first epoch.")] = 21,
    epochs: Annotated[int, typer.Option(min=1, help="How many to store.")] = 1,
    index: Annotated[
        Path | None,
        typer.Option(
            help="Folder whose merged MDS index numbers the samples; the corpus unless given."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Store the order of a corpus's rows, for the key `row_order` of a recipe."""
    from ettin.data.corpus import Corpus
    from ettin.data.order_writing import write_order

    opened = Corpus.open(corpus)
    manifest = write_order(
        opened,
        out,
        context_length=_only_length(opened.facts["context_lengths"], context_length),
        order=one_of("--order", order, ("published", "files")),
        seed=seed,
        epochs=epochs,
        index=index,
        command=command_line(),
    )
    facts = manifest["facts"]
    say(
        as_json,
        {"row_order": str(out.absolute()), **facts},
        f"order in {out.absolute()}: {facts['rows']:,} rows of {facts['samples']:,} samples, "
        f"{facts['epochs']:,} epochs\n"
        f"next: ettin train RECIPE.yaml --corpus {corpus} --out RUN "
        f"phases.pretraining.row_order={out}",
    )


def _only_length(there: list[int], given: int | None) -> int:
    """The context length that was asked for, or the only one there is.

    Raises:
        InputError: there are several to choose from.
    """
    if given is None and len(there) > 1:
        listed = ", ".join(map(str, there))
        raise InputError(f"the corpus has rows of {listed} tokens; choose with --context-length")
    return given or there[0]


def _describe_interval(shown: "Shown") -> str:
    """For people: counts, a few rows, a few documents and how they begin."""
    facts = shown.facts()
    lines = [
        f"{printable(str(shown.run.path))}: steps {shown.after + 1:,} to {shown.until:,} of the "
        f"run, after {facts['after']} until {facts['until']}"
        if shown.until > shown.after
        else f"{printable(str(shown.run.path))}: no step lies between {facts['after']} and itself",
        f"{shown.row_count:,} rows, {shown.document_count:,} documents, "
        f"{human(shown.tokens)} tokens",
    ]
    lines += [
        f"  {name}: {each['rows']:,} rows, {each['documents']:,} documents, "
        f"{human(each['tokens'])} tokens"
        for name, each in shown.sources.items()
    ]
    if shown.rows:
        lines.append(f"the first {len(shown.rows):,} rows:")
    lines += [
        f"  step {row['step']} ({row['phase']} {row['phase_step']}), place {row['place']}: "
        f"{row['source']} row {row['row']}, epoch {row['epoch']}"
        for row in shown.rows
    ]
    if shown.documents:
        lines.append(f"the first {len(shown.documents):,} documents:")
    for number, each in enumerate(shown.documents):
        lines.append(f"  {printable(each['id'])} ({each['source']}), {each['tokens']:,} tokens")
        if number < _TEXTS:
            lines.append(f"      {_beginning(shown, each)}")
    return "\n".join([*lines, f"hash {shown.hash}"])


def _beginning(shown: "Shown", document: dict[str, Any]) -> str:
    """How the text of a document begins."""
    from ettin.tokenizer import load_tokenizer

    documents = shown.run.corpus.documents(document["source"])
    number = documents.find(document["id"])
    assert number is not None
    tokenizer = load_tokenizer(str(shown.run.corpus.tokenizer_directory))
    text = tokenizer.decode(documents.tokens(number)[:_BEGINNING_TOKENS])
    return printable(" ".join(text.split())) + " …"


def _describe_document(found: "Found") -> str:
    name = printable(found.id)
    lines = [
        f"{name}: source {each['source']}, {each['tokens']:,} tokens"
        + (", held out for validation and never trained on" if each["held_out"] else "")
        for each in found.sources
    ]
    if not found.steps and not found.held_out:
        lines.append("no step of this run was trained on it")
    lines += [
        f"  step {each['step']} ({each['phase']} {each['phase_step']}), first seen by "
        f"{each['checkpoint']}: epoch {each['epoch']}, place {each['place']}, row {each['row']}, "
        f"tokens {each['tokens'][0]} to {each['tokens'][1]}"
        for each in found.steps
    ]
    return "\n".join(lines)


def _describe_verification(found: "Verification") -> str:
    lines = [_verdict(found.run)]
    if found.against is not None:
        lines.append(_verdict(found.against))
    return "\n".join([*lines, *map(printable, found.notes)])


def _verdict(found: "Verified") -> str:
    path = printable(str(found.path))
    if not found.equal and found.steps:
        return f"{path}: {found.differing:,} of {found.steps:,} steps are not as derived"
    if not found.steps:
        return f"{path}: no step was compared"
    at, phase_step = found.run.phase_at(found.steps)
    return (
        f"{path}: all {found.steps:,} steps are as derived, until step {phase_step} of "
        f"{at.phase.name}; hash {found.hash}"
    )


def _difference(found: "Verification") -> str:
    """The first difference, as one sentence."""
    for each in (found.run, found.against):
        if each is not None and each.first is not None:
            first = each.first
            place = (
                f"; row {first['row']} of {first['source']}, place {first['place']} in the batch, "
                f"documents {', '.join(map(repr, first['documents']))}"
                if "row" in first
                else ""
            )
            return (
                f"step {first['step']} ({first['phase']} {first['phase_step']}) is the first that "
                f"differs: {printable(first['what'])}{place}"
            )
    raise AssertionError("nothing differs")


def printable(text: str) -> str:
    """Text that cannot steer a terminal: control and other unprintable characters are escaped."""
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
