"""Exports, runs and corpora → the hub: `publish`."""

from pathlib import Path
from typing import Annotated

import typer

from ettin.arguments import one_of
from ettin.commands.options import AsJson, group, say

app = group()


@app.command(
    epilog="Example: ettin publish exports runs --repo my-name/my-suite-{role}-{size} --dry-run"
)
def publish(
    paths: Annotated[
        list[Path],
        typer.Argument(help="Exports, runs, corpora, results, or folders of them, in any mix."),
    ],
    repo: Annotated[
        str,
        typer.Option(help="org/name; for several models with {role}, {size}, {seed}, {objective}."),
    ],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Build the complete tree; send nothing.")
    ] = False,
    out: Annotated[Path, typer.Option("--out", help="Where the tree is built.")] = Path(
        "ettin-publish"
    ),
    every: Annotated[
        int | None,
        typer.Option(min=1, help="Each N-th checkpoint; the first and each phase's last stay."),
    ] = None,
    tags: Annotated[
        str | None, typer.Option(help="These checkpoints alone, e.g. step100,decay50.")
    ] = None,
    allow_gaps: Annotated[
        bool, typer.Option("--allow-gaps", help="Checkpoints may lack an export.")
    ] = False,
    dtype: Annotated[
        str | None, typer.Option(help="Exports of this type alone: float32 or bfloat16.")
    ] = None,
    license: Annotated[str | None, typer.Option(help="For the cards, e.g. mit.")] = None,
    language: Annotated[list[str], typer.Option(help="For the cards, e.g. en; repeatable.")] = [],  # noqa: B006
    dataset: Annotated[
        list[str], typer.Option(help="Data set on the hub, for the cards; repeatable.")
    ] = [],  # noqa: B006
    private: Annotated[bool, typer.Option("--private", help="Make private repositories.")] = False,
    with_optimizer: Annotated[
        bool, typer.Option("--with-optimizer", help="Resumable checkpoints too, of runs given.")
    ] = False,
    with_corpus: Annotated[
        bool, typer.Option("--with-corpus", help="The tokens of corpora too, not the card alone.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Put models on the hub, a tag a checkpoint, and compare all of it with what is there."""
    from ettin.publish.cards import Metadata
    from ettin.publish.models import Thinning
    from ettin.publish.run import Settings, listing
    from ettin.publish.run import publish as stage

    report = stage(
        paths,
        Settings(
            repo=repo,
            out=out,
            dry_run=dry_run,
            thinning=Thinning(
                every=every,
                tags=tuple(tag.strip() for tag in tags.split(",")) if tags else (),
                allow_gaps=allow_gaps,
            ),
            dtype=dtype and one_of("--dtype", dtype, ("float32", "bfloat16")),
            metadata=Metadata(license, tuple(language), tuple(dataset)),
            private=private,
            with_optimizer=with_optimizer,
            with_corpus=with_corpus,
        ),
    )
    say(as_json, {**report, "tree": str(out.absolute())}, listing(report, out))
