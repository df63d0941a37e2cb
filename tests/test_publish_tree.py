"""The tree that is uploaded: whole, loadable, resumable, and silent about this machine."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers

from ettin import files
from ettin.check import check
from ettin.console import read_json_lines
from ettin.data.corpus import Corpus
from ettin.errors import InputError, ProblemsFound
from ettin.publish.models import Thinning
from ettin.publish.public import refuse_leaks
from ettin.recipe_file import load_recipe
from ettin.training.run_directory import recorded_start
from ettin.training.start import reopen_start
from ettin.training.trainer import train
from tests.hub import serving
from tests.publishing import COMMAND, SUITE, bytes_below, dry_run, send, states
from tests.runs import assert_same_tensors, metrics_but_times

CANARY = "hf_canaryThatMustNotLeave42"
NO_SOCKETS = """
import sys
def refuse(event, arguments):
    if event.startswith("socket.") and event not in {"socket.gethostname"}:
        raise RuntimeError(f"{event} {arguments}")
sys.addaudithook(refuse)
"""


@pytest.fixture(scope="module")
def tree(publishable: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dry run of everything."""
    out = tmp_path_factory.mktemp("tree") / "out"
    dry_run(publishable, out, repo=SUITE, with_optimizer=True, thinning=Thinning(allow_gaps=True))
    return out / "org"


def test_a_dry_run_opens_no_socket_and_keeps_secrets(exports: Path, tmp_path: Path) -> None:
    words = ["publish", str(exports / "decoder"), "--repo", "org/it", "--dry-run"]
    environment = {**os.environ, "HF_TOKEN": CANARY, "WANDB_API_KEY": CANARY, "HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", NO_SOCKETS + COMMAND, *words],
        env=environment, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("model.safetensors", "config.json", "README.md"):
        assert name in done.stdout
    written = bytes_below(tmp_path / "ettin-publish")
    assert "org/it/decay6/model.safetensors" in written
    assert CANARY not in done.stdout + done.stderr
    assert not any(CANARY.encode() in content for content in written.values())
    broken = subprocess.run(
        [sys.executable, "-c", NO_SOCKETS + COMMAND, *words[:-1]],
        env=environment, cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert "socket." in broken.stderr  # the hook sees what it is there for


def test_every_hash_that_is_listed_is_right(exports: Path, tmp_path: Path) -> None:
    import hashlib

    report = dry_run([exports / "decoder"], tmp_path / "out", repo="org/it")
    written = bytes_below(tmp_path / "out")
    listed = {
        f"{repository['repository']}/{revision['revision']}/{name}": file
        for repository in report["repositories"]
        for revision in repository["revisions"]
        for name, file in revision["files"].items()
    }
    assert set(listed) == set(written) - {"publish.json"}
    for name, file in listed.items():
        assert file["sha256"] == hashlib.sha256(written[name]).hexdigest()
        assert file["bytes"] == len(written[name])


def test_weights_are_links_and_cost_no_space(tree: Path, exports: Path) -> None:
    for name in ("step0", "main"):
        weights = tree / "suite-encoder-nano" / name / "model.safetensors"
        source = "step0" if name == "step0" else "decay6"
        assert weights.samefile(exports / "encoder" / source / "model.safetensors")


def test_what_is_published_passes_the_check(tree: Path) -> None:
    assert check(tree / "suite-encoder-nano") == []
    assert check(tree / "suite-decoder-from-encoder-nano") == []
    assert check(tree / "suite-encoder-nano-order") == []
    assert check(tree / "suite-corpus") == []
    for tag in (tree / "suite-encoder-nano-checkpoints").iterdir():
        assert files.verify(tag / "checkpoints" / _only(tag / "checkpoints")) == []


def test_no_file_names_a_place_of_this_machine(tree: Path, phased_runs: Path) -> None:
    base = str(phased_runs.parent).encode()  # pytest's folder, which holds runs and corpus
    holding = [name for name, content in bytes_below(tree).items() if base in content]
    assert holding == []
    start = files.read_json(tree / "suite-encoder-from-decoder-nano/main/config.json")["ettin"]
    assert start["start"]["where"] == "decoder@decay6"
    names = " ".join(bytes_below(tree))
    assert "tensorboard" not in names


@pytest.mark.parametrize("name", ["README.md", "tokenizer.json", "deep/er.json"])
def test_a_place_or_a_secret_in_a_file_stops_the_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("SOME_API_KEY", CANARY)
    tree, given = tmp_path / "tree", tmp_path / "exports" / "it"
    (tree / name).parent.mkdir(parents=True)
    (tree / name).write_text("nothing")
    refuse_leaks(tree, inputs=[given])
    (tree / name).write_text(f"see {CANARY}")
    with pytest.raises(ProblemsFound, match=f"{name} holds the value of SOME_API_KEY") as refused:
        refuse_leaks(tree, inputs=[given])
    assert CANARY not in str(refused.value)
    (tree / name).write_text(f"made in {given}/x")
    if name == "tokenizer.json":  # its pieces of text may look like anything
        refuse_leaks(tree, inputs=[given])
    else:
        with pytest.raises(ProblemsFound, match="holds the path"):
            refuse_leaks(tree, inputs=[given])


def test_secrets_of_any_length_and_homes_of_one_name_are_looked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = "long " * 1000
    monkeypatch.setenv("AWS_SESSION_TOKEN", secret)
    monkeypatch.setenv("HOME", "/someone")
    (tmp_path / "a.json").write_text("/someones/corpus and long")
    refuse_leaks(tmp_path, inputs=[])
    (tmp_path / "a.json").write_text(secret)
    with pytest.raises(ProblemsFound, match=r"a\.json holds the value of AWS_SESSION_TOKEN$"):
        refuse_leaks(tmp_path, inputs=[])
    (tmp_path / "a.json").write_text("made in /someone/corpus")
    with pytest.raises(ProblemsFound, match=r"a\.json holds the path /someone/$"):
        refuse_leaks(tmp_path, inputs=[])


def test_a_downloaded_revision_loads_in_transformers(exports: Path, tmp_path: Path) -> None:
    with serving() as hub:
        send(hub, [exports / "encoder"], tmp_path / "out", repo="org/it")
        folder = hub.write(tmp_path / "snapshot", "model", "org/it", "step5")
    ids = torch.arange(4, 40)[None]
    logits = [
        transformers.AutoModelForMaskedLM.from_pretrained(path).eval()(ids).logits
        for path in (folder, exports / "encoder/step5", exports / "encoder/decay6")
    ]
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[0], logits[2])
    assert check(folder) == []


@pytest.mark.parametrize(("name", "tag"), [("encoder", "ext5"), ("encoder-from-decoder", "cross4")])
def test_a_downloaded_checkpoint_is_trained_on_exactly(
    tree: Path, phased_runs: Path, corpus_directory: Path, tmp_path: Path, name: str, tag: str
) -> None:
    run = tmp_path / "run"
    shutil.copytree(tree / f"suite-{name}-nano-checkpoints" / tag, run)
    recipe = load_recipe(run / "recipe.yaml")
    recorded = recorded_start(run, recipe.start_from) if recipe.start_from else None
    start = reopen_start(recorded, run=run) if recorded else None
    train(recipe, out=run, corpus_path=corpus_directory, command=[], start=start)
    whole = phased_runs / name
    assert metrics_but_times(run) == metrics_but_times(whole)
    assert (run / "ledger.jsonl").read_bytes() == (whole / "ledger.jsonl").read_bytes()
    last = files.read_manifest(whole)["facts"]["checkpoints"][-1]
    assert_same_tensors(whole / "checkpoints" / last, run / "checkpoints" / last)


def test_a_resumable_checkpoint_holds_nothing_of_later_steps(tree: Path) -> None:
    for tag, step in (("step0", 0), ("step5", 5), ("decay6", 28)):
        folder = tree / "suite-encoder-nano-checkpoints" / tag
        assert [path.name for path in (folder / "checkpoints").iterdir()] == [tag]
        for name in ("ledger.jsonl", "metrics.jsonl"):
            assert [line["step"] for line in read_json_lines(folder / name)] == [
                *range(1, step + 1)
            ]


def test_text_is_published_only_when_asked(
    tree: Path, phased_runs: Path, corpus_directory: Path, tmp_path: Path
) -> None:
    assert not [name for name in bytes_below(tree) if name.endswith((".arrow", "sample.json"))]
    assert "examples" not in (tree / "suite-corpus/main/manifest.json").read_text()
    dry_run(
        [phased_runs / "decoder", corpus_directory], tmp_path / "out", repo="org/it",
        with_corpus=True, with_optimizer=True,
    )  # fmt: skip
    corpus = tmp_path / "out/org/it-corpus/main"
    assert bytes_below(corpus).keys() - {"README.md"} == bytes_below(corpus_directory).keys()
    assert Corpus.open(corpus).fingerprint == Corpus.open(corpus_directory).fingerprint
    assert (tmp_path / "out/org/it-checkpoints/step0/sample.json").is_file()


def test_the_order_says_what_each_checkpoint_saw(tree: Path, phased_runs: Path) -> None:
    order, run = tree / "suite-decoder-nano-order/main", phased_runs / "decoder"
    assert (order / "ledger.jsonl").read_bytes() == (run / "ledger.jsonl").read_bytes()
    seen = files.read_json(order / "checkpoints.json")
    assert list(seen) == files.read_manifest(run)["facts"]["checkpoints"]
    state = files.read_json(run / "checkpoints/ext8/state.json")
    assert seen["ext8"]["source_tokens"] == state["source_tokens"]
    assert seen["ext8"]["ledger_hash"] == state["ledger_hash"]


def test_a_published_tree_is_not_published_again(exports: Path, tmp_path: Path) -> None:
    shutil.copytree(exports / "decoder", tmp_path / "here/decoder")
    for _ in range(2):
        report = dry_run([tmp_path / "here"], tmp_path / "here/out", repo="org/it")
        assert list(states(report)) == ["org/it"]
    with pytest.raises(InputError, match="nothing to publish"):
        dry_run([tmp_path / "here/out"], tmp_path / "other", repo="org/it")


def _only(folder: Path) -> str:
    (child,) = folder.iterdir()
    return child.name
