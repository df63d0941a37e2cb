"""Which files each revision of each repository holds, written into the tree."""

import json
from pathlib import Path

from ettin import files
from ettin.files import MANIFEST, Json
from ettin.publish import public
from ettin.publish.cards import (
    Metadata,
    Relatives,
    checkpoint_card,
    model_card,
    recipe_text,
    resumable_card,
)
from ettin.publish.dataset_cards import corpus_card, order_card
from ettin.publish.found import Corpus, Export
from ettin.publish.models import Model
from ettin.publish.tree import MAIN, Repository, Revision, place, write_text

README = "README.md"
_REWRITTEN = {README, MANIFEST, "config.json"}
_CUT = ("ledger.jsonl", "metrics.jsonl")


def model_repository(
    out: Path, model: Model, *, name: str, metadata: Metadata, relatives: Relatives
) -> Repository:
    """A model's repository: a tag a checkpoint, and `main`, which is the last one."""
    revisions = []
    for export in model.exports:
        card = checkpoint_card(export, name=name, metadata=metadata)
        folder = _write_export(out / name / export.tag, export, card)
        note = f"{export.tag}: {export.described['tokens']:,} tokens"
        revisions.append(Revision(export.tag, folder, note))
    card = model_card(model, name=name, metadata=metadata, relatives=relatives)
    folder = _write_export(out / name / MAIN, model.exports[-1], card)
    revisions.append(Revision(MAIN, folder, f"Card; the model is {model.exports[-1].tag}"))
    return Repository(name, "model", "model", model.key, revisions)


def resumable_repository(
    out: Path, model: Model, *, name: str, metadata: Metadata, with_sample: bool
) -> Repository:
    """The checkpoints of a run with their optimiser states: each tag a run directory to resume."""
    assert model.run is not None
    revisions = []
    for revision, tag in [*((tag, tag) for tag in model.tags), (MAIN, model.tags[-1])]:
        folder = out / name / revision
        _write_resumable(folder, model, tag, with_sample=with_sample)
        shown = None if revision == MAIN else tag
        write_text(folder / README, resumable_card(model, name=name, tag=shown, metadata=metadata))
        note = f"Card; the run is at {tag}" if revision == MAIN else f"{tag}, resumable"
        revisions.append(Revision(revision, folder, note))
    return Repository(name, "model", "checkpoints", model.key, revisions)


def order_repository(
    out: Path, model: Model, *, name: str, of: str | None, metadata: Metadata
) -> Repository:
    """The order of a run: its ledger, its metrics, its recipe, what each checkpoint saw."""
    run, folder = model.run, out / name / MAIN
    assert run is not None
    for each in ("ledger.jsonl", "metrics.jsonl", "baselines.json"):
        if (run.path / each).is_file():
            place(run.path / each, folder / each)
    write_text(folder / "recipe.yaml", recipe_text(model) or "")
    seen = {}
    for tag in run.facts["checkpoints"]:
        state = run.state(tag)
        keys = ("step", "phase", "phase_step", "tokens", "source_tokens", "ledger_hash")
        seen[tag] = {key: state.get(key) for key in keys}
    _write_json(folder / "checkpoints.json", seen)
    write_text(folder / README, order_card(model, name=name, of=of, metadata=metadata))
    _write_manifest(
        folder,
        run.manifest,
        kind="order",
        made_from=run.manifest["made_from"],
        facts=public.begun(run.facts),
    )
    revision = Revision(MAIN, folder, f"The order of {model.role}, {run.facts['steps']:,} steps")
    return Repository(name, "dataset", "order", model.key, [revision])


def corpus_repository(
    out: Path, corpus: Corpus, *, name: str, metadata: Metadata, with_text: bool
) -> Repository:
    """A corpus's card, manifest and tokenizer, and its tokens only when asked for."""
    folder = out / name / MAIN
    for each in corpus.manifest["files"]:
        if with_text or each.startswith("tokenizer/"):
            place(files.inside(corpus.path, each), folder / each)
    write_text(
        folder / README, corpus_card(corpus, name=name, metadata=metadata, with_text=with_text)
    )
    facts = dict(corpus.manifest["facts"])
    facts["sources"] = {
        source: {key: told[key] for key in told if key != "examples"}  # they name files
        for source, told in facts["sources"].items()
    }
    _write_manifest(
        folder,
        corpus.manifest,
        kind="corpus" if with_text else "corpus-card",
        made_from={**corpus.manifest["made_from"], "corpus": corpus.fingerprint},
        facts=facts,
    )
    revision = Revision(MAIN, folder, "The corpus" if with_text else "The card of the corpus")
    return Repository(name, "dataset", "corpus", corpus.fingerprint, [revision])


def _write_export(folder: Path, export: Export, card: str) -> Path:
    for name in export.manifest["files"]:
        if name not in _REWRITTEN:
            place(files.inside(export.path, name), folder / name)
    _write_json(folder / "config.json", public.config(export.config))
    write_text(folder / README, card)
    facts = export.manifest["facts"]
    _write_manifest(
        folder,
        export.manifest,
        kind="export",
        made_from={"source": export.tag},
        facts={**facts, "ettin": public.config({"ettin": facts["ettin"]})["ettin"]},
    )
    return folder


def _write_resumable(folder: Path, model: Model, tag: str, *, with_sample: bool) -> None:
    """A run directory as it was after a checkpoint, without places."""
    run = model.run
    assert run is not None
    source, target = run.path / "checkpoints" / tag, folder / "checkpoints" / tag
    manifest = files.read_manifest(source, "checkpoint")
    for name in manifest["files"]:
        if name != "state.json":
            place(files.inside(source, name), target / name)
    state = run.state(tag)
    _write_json(target / "state.json", public.begun(state))
    _write_manifest(
        target,
        manifest,
        kind="checkpoint",
        made_from=manifest["made_from"],
        facts=manifest["facts"],
    )
    for path in sorted((run.path / "tokenizer").iterdir()):
        place(path, folder / "tokenizer" / path.name)
    if with_sample:
        place(run.path / "sample.json", folder / "sample.json")
    write_text(folder / "recipe.yaml", recipe_text(model) or "")
    _write_json(folder / "start.json", public.begun(files.read_json(run.path / "start.json")))
    for name in _CUT:
        lines = (run.path / name).read_text(encoding="utf-8").splitlines(keepends=True)
        write_text(folder / name, "".join(lines[: state["step"]]))  # one line a step, from 1


def _write_manifest(
    folder: Path, original: Json, *, kind: str, made_from: Json, facts: Json
) -> None:
    stated = public.manifest(original, folder, kind=kind, made_from=made_from, facts=facts)
    _write_json(folder / MANIFEST, stated)


def _write_json(path: Path, value: object) -> None:
    """Indented JSON in the order given: equal values give equal bytes."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")
