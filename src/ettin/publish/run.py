"""The stage: find and verify, plan, build the complete tree, and upload it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import HfApi

from ettin import files
from ettin.console import human, log, progress
from ettin.errors import InputError
from ettin.files import Json
from ettin.publish import contents, names, public, tree
from ettin.publish.cards import Metadata, Relatives
from ettin.publish.found import REPORT, Corpus, Found, find
from ettin.publish.models import Model, Thinning, put_together, start_of, twin_of
from ettin.publish.tree import Repository
from ettin.publish.upload import refuse_without_token, upload


@dataclass(frozen=True)
class Settings:
    """What the caller wants.

    Attributes:
        repo: `org/name`, or a template; see `names`.
        out: where the tree is built.
        dry_run: build the tree and upload nothing.
        thinning: which checkpoints.
        dtype: exports of this type alone.
        metadata: what cards say that no file knows.
        private: whether repositories that are made are private.
        with_optimizer: publish resumable checkpoints of the runs given.
        with_corpus: publish the tokens of corpora, and held-out rows of runs.
    """

    repo: str
    out: Path
    dry_run: bool = False
    thinning: Thinning = field(default_factory=Thinning)
    dtype: str | None = None
    metadata: Metadata = field(default_factory=Metadata)
    private: bool = False
    with_optimizer: bool = False
    with_corpus: bool = False


@dataclass(frozen=True)
class _Publication:
    """What one call publishes, and what each is called.

    Attributes:
        models: in the order of their repositories.
        called: the key of each model → its name.
        corpora: name → corpus.
        records: results, which stand in cards.
        settings: of the caller.
    """

    models: list[Model]
    called: dict[str, str]
    corpora: dict[str, Corpus]
    records: tuple[Json, ...]
    settings: Settings


def publish(paths: list[Path], settings: Settings, *, api: HfApi | None = None) -> Json:
    """Publish exports, runs and corpora.

    Args:
        paths: these, or folders that hold them, in any mix; results among them stand in cards.
        settings: see there.
        api: the hub; None: the one that `huggingface_hub` is set up for.

    Returns:
        What `publish.json` in `settings.out` holds.

    Raises:
        InputError: something given is missing, altered or ambiguous, or there is no right to write.
        ProblemsFound: gaps, duplicates, a tag that is there with other content, or a difference in
            what was read back.
        CommandFailed: the network or the hub failed; the same command goes on.
        NoSpaceError: no room for the tree.
    """
    names.check_template(settings.repo)
    out = settings.out.absolute()
    with progress("verifying what is given", total=None) as shown:
        found = find(paths, shown)
    models = put_together(found, thinning=settings.thinning, dtype=settings.dtype)
    if settings.with_optimizer and not any(_is_given(model) for model in models):
        raise InputError("--with-optimizer: give the runs too, whose checkpoints hold the states")
    _tell_results(found, models)
    publication = _named(models, found, settings)
    if not settings.dry_run:
        api = api or HfApi()
        refuse_without_token(api)
    with files.locked(out):
        tree.begin(out)
        repositories = _build(out, publication)
        with progress("hashing", total=tree.total_bytes(out), unit="B") as shown:
            tree.describe(repositories, shown)
        public.refuse_leaks(out, inputs=_inputs(found))
        report = tree.write_report(out, repositories, dry_run=settings.dry_run)
        if api is None or settings.dry_run:
            return report
        try:
            total = sum(each.bytes for it in repositories for each in it.revisions)
            with progress("uploading", total=total, unit="B") as shown:
                upload(repositories, api, private=settings.private, shown=shown)
        finally:
            report = tree.write_report(out, repositories, dry_run=False)
    return report


def listing(report: Json, out: Path) -> str:
    """What a person reads: every repository, every upload with its size and its hash."""
    lines = []
    done = {"planned": "would be uploaded", "uploaded": "uploaded, read back and compared",
            "there": "was there already, compared"}  # fmt: skip
    total = 0
    for repository in report["repositories"]:
        lines.append(f"{repository['repository']} ({repository['type']}: {repository['holds']})")
        for revision in repository["revisions"]:
            total += revision["bytes"]
            commit = f" {revision['commit'][:12]}" if revision["commit"] else ""
            lines.append(
                f"  {revision['revision']}{commit}: {len(revision['files'])} files, "
                f"{human(revision['bytes'])}B, {done[revision['state']]}"
            )
            lines += [
                f"    {file['sha256']} {file['bytes']:>14,}  {name}"
                for name, file in revision["files"].items()
            ]
    number = len(report["repositories"])
    lines.append(f"{number} {'repository' if number == 1 else 'repositories'}, {human(total)}B")
    lines.append(f"tree: {out.absolute()}   report: {out.absolute() / REPORT}")
    if report["dry_run"]:
        lines.append("nothing was sent; the same command without --dry-run uploads it")
    return "\n".join(lines)


def _tell_results(found: Found, models: list[Model]) -> None:
    """Say how many results stand in no card."""
    last = {model.exports[-1].weights for model in models if model.exports}
    others = sum(record["weights"] not in last for record in found.records)
    if others:
        log.info("%d results are of other weights than those of `main`, and in no card", others)


def _named(models: list[Model], found: Found, settings: Settings) -> _Publication:
    """A name for each model and each corpus."""
    chosen = names.name_models(settings.repo, [model.fields() for model in models])
    called = dict(zip([model.key for model in models], chosen, strict=True))
    corpora = _name_corpora(settings.repo, found.corpora)
    return _Publication(models, called, corpora, found.records, settings)


def _build(out: Path, publication: _Publication) -> list[Repository]:
    """Write the tree of every repository; each name is used once."""
    settings = publication.settings
    stated = settings.metadata
    built: list[Repository] = []
    for model in publication.models:
        name = publication.called[model.key]
        relatives = _relatives(model, publication)
        if model.exports:
            built.append(
                contents.model_repository(
                    out, model, name=name, metadata=stated, relatives=relatives
                )
            )
        if relatives.order:
            of = name if model.exports else None
            built.append(
                contents.order_repository(out, model, name=relatives.order, of=of, metadata=stated)
            )
        if relatives.checkpoints:
            built.append(
                contents.resumable_repository(
                    out, model, name=relatives.checkpoints, metadata=stated,
                    with_sample=settings.with_corpus,
                )
            )  # fmt: skip
    for name, corpus in publication.corpora.items():
        built.append(
            contents.corpus_repository(
                out, corpus, name=name, metadata=stated, with_text=settings.with_corpus
            )
        )
    for repository in built:
        log.info("%s: a %s repository: %s", repository.name, repository.type, repository.holds)
    return built


def _relatives(model: Model, publication: _Publication) -> Relatives:
    called, given = publication.called, _is_given(model)
    name = called[model.key]
    twin, start = twin_of(model, publication.models), start_of(model, publication.models)
    trained_on = model.run.facts["corpus"]["fingerprint"] if model.run else None
    return Relatives(
        twin=called[twin.key] if twin and twin.exports else None,
        start=called[start.key] if start and start.exports else None,
        order=_checked(name + names.ORDER) if given else None,
        corpora=tuple(
            each for each, corpus in publication.corpora.items() if corpus.fingerprint == trained_on
        ),
        checkpoints=(
            _checked(name + names.CHECKPOINTS)
            if given and publication.settings.with_optimizer
            else None
        ),
        records=publication.records,
    )


def _is_given(model: Model) -> bool:
    return model.run is not None and model.run.given


def _name_corpora(template: str, corpora: tuple[Corpus, ...]) -> dict[str, Corpus]:
    """One corpus takes the name without fields; several are told apart by their fingerprints."""
    name = names.without_fields(template) + names.CORPUS
    if len(corpora) == 1:
        return {_checked(name): corpora[0]}
    return {_checked(f"{name}-{each.fingerprint[:8]}"): each for each in corpora}


def _checked(name: str) -> str:
    names.check_name(name)
    return name


def _inputs(found: Found) -> Iterator[Path]:
    yield from (each.path for each in found.exports)
    yield from (each.path for each in found.runs)
    yield from (each.path for each in found.corpora)
