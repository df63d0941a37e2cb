"""Cards: what the hub reads at their head, what people read below, and hostile text as text."""

import contextlib
import io
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
import yaml
from huggingface_hub import DatasetCard, ModelCard
from markdown_it import MarkdownIt

from ettin import files
from ettin.errors import InputError
from ettin.files import Json
from ettin.model_words import fenced, plain
from ettin.publish.cards import Metadata, recipe_text
from ettin.publish.dataset_cards import corpus_card
from ettin.publish.found import Corpus, find
from ettin.publish.models import Thinning, put_together
from tests.publishing import SUITE, dry_run, rewritten

HOSTILE = (
    "---\n<script>alert(1)</script> [x](javascript:alert(1)) | ``` ~~~ &lt; \u202e\ud800 {{7}}"
)
METADATA = Metadata("mit", ("en", "de"), ("org/text",))


@pytest.fixture(scope="module")
def tree(publishable: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dry run of everything, with metadata and a result of the last decoder and of another."""
    folder = tmp_path_factory.mktemp("cards")
    (decoder,) = find([publishable[0] / "decoder"]).exports
    files.write_json(folder / "results/one.json", record(decoder.weights, "lm/<script>", 0.25))
    files.write_json(folder / "results/cut.json", record(decoder.weights, "quick/x", 0.5, limit=9))
    files.write_json(folder / "results/two.json", record("0" * 32, "lm/other", 0.5))
    dry_run(
        [*publishable, folder / "results"], folder / "out", repo=SUITE, metadata=METADATA,
        thinning=Thinning(allow_gaps=True),
    )  # fmt: skip
    return folder / "out/org"


def record(weights: str, task: str, value: float, **more: Any) -> Json:
    told = {"weights": weights, "task": task, "metric": "acc", "value": value, "stderr": 0.01}
    return {**told, "examples": 100, "limit": None, **more}


def card(tree: Path, name: str, revision: str = "main") -> Any:
    return ModelCard.load(tree / name / revision / "README.md")


def shown(text: str) -> str:
    """What a reader of Markdown makes of a card's body."""
    body = DatasetCard(text).text
    return str(MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(body))


def test_the_front_matter_says_what_the_hub_asks_for(tree: Path) -> None:
    data = card(tree, "suite-decoder-from-encoder-nano").data.to_dict()
    assert data["license"] == "mit"
    assert data["language"] == ["en", "de"]
    assert data["library_name"] == "transformers"
    assert data["base_model"] == "org/suite-encoder-nano"
    assert data["base_model_relation"] == "finetune"
    own = ["org/suite-decoder-from-encoder-nano-order", "org/suite-corpus"]
    assert data["datasets"] == ["org/text", *own]
    tasks = {
        role: card(tree, f"suite-{role}-nano").data.pipeline_tag
        for role in ("encoder", "decoder", "encoder-from-decoder", "decoder-from-encoder")
    }
    assert tasks == {
        "encoder": "fill-mask", "decoder": "text-generation",
        "encoder-from-decoder": "feature-extraction", "decoder-from-encoder": "text-generation",
    }  # fmt: skip
    assert "base_model" not in card(tree, "suite-encoder-nano").data.to_dict()
    corpus = DatasetCard.load(tree / "suite-corpus/main/README.md").data.to_dict()
    assert (corpus["license"], corpus["tags"]) == ("mit", ["ettin", "corpus"])


def test_results_of_these_weights_stand_in_the_card_and_whole_ones_in_the_index(tree: Path) -> None:
    decoder = card(tree, "suite-decoder-nano")
    (result,) = decoder.data.eval_results
    assert (result.dataset_name, result.metric_value) == ("lm/<script>", 0.25)
    assert r"| lm/\<script\> | acc | 0.25 ± 0.01 | 100 |" in decoder.text
    assert "| quick/x | acc | 0.5 ± 0.01 | 100 (the first 9) |" in decoder.text
    assert "lm/other" not in decoder.text
    assert card(tree, "suite-encoder-nano").data.eval_results is None


def test_results_of_a_suite_are_found_in_their_finished_directories(
    exports: Path, tmp_path: Path
) -> None:
    (decoder,) = find([exports / "decoder"]).exports
    results = tmp_path / "suite/results/decoder"
    (results / "lm").mkdir(parents=True)
    files.write_json(results / "lm/one.json", record(decoder.weights, "lm/one", 0.25))
    files.write_manifest(results, "results", command=[], made_from={}, facts={})
    finetuned = tmp_path / "suite/finetuned"
    finetuned.mkdir()
    files.write_manifest(finetuned, "finetuned", command=[], made_from={}, facts={})
    given = [exports / "decoder", tmp_path / "suite"]
    dry_run(given, tmp_path / "out", repo="org/it")
    assert "| lm/one | acc | 0.25" in (tmp_path / "out/org/it/main/README.md").read_text()
    files.write_json(results / "lm/one.json", record(decoder.weights, "lm/one", 0.99))
    with pytest.raises(InputError, match=r"not as it was written(.|\n)*one\.json"):
        dry_run(given, tmp_path / "out", repo="org/it")


@pytest.mark.parametrize("revision", ["decay6", "main"])
def test_a_card_says_whether_a_licence_is_stated(
    exports: Path, tmp_path: Path, revision: str
) -> None:
    told = {None: "None is stated.", "mit": "As stated by who published it: mit."}
    for stated, sentence in told.items():
        metadata = Metadata(stated)
        dry_run([exports / "decoder"], tmp_path / "out", repo="org/it", metadata=metadata)
        card = (tmp_path / "out/org/it" / revision / "README.md").read_text()
        assert f"## Licence\n\n{sentence}\n" in card


def test_an_example_asks_the_tokenizer_for_its_mask_and_counts_are_readable(tree: Path) -> None:
    text = card(tree, "suite-encoder-nano").text
    assert "[MASK]" not in text
    assert "fill.tokenizer.mask_token" in text
    told = files.read_json(tree / "suite-encoder-nano/main/config.json")["ettin"]
    assert told["parameters"] > 1000
    assert f"| parameters | {told['parameters']:,} |" in text
    assert f"| seed | {told['seed']} |" in text


def test_the_card_names_tags_twin_start_and_data(tree: Path, phased_runs: Path) -> None:
    text = card(tree, "suite-encoder-nano").text
    told = files.read_manifest(phased_runs / "encoder")["facts"]
    for tag in told["checkpoints"]:
        assert f"| {tag} |" in text
    assert f"| decay6 | decay | {told['tokens']:,} |" in text
    assert "(https://huggingface.co/org/suite-decoder-nano): same shape, same data" in text
    assert "(https://huggingface.co/datasets/org/suite-corpus)" in text
    assert "(https://huggingface.co/datasets/org/suite-encoder-nano-order)" in text
    assert 'revision="step0"' in text
    crossed = card(tree, "suite-encoder-from-decoder-nano").text.replace("\\", "")
    assert "made from org/suite-decoder-nano@decay6, a decoder trained with clm" in crossed
    assert "(https://huggingface.co/org/suite-decoder-from-encoder-nano): same shape" in crossed


def test_the_card_under_a_tag_depends_on_that_checkpoint_alone(
    tree: Path, exports: Path, tmp_path: Path
) -> None:
    alone = [exports / "encoder/ext8"]
    dry_run(alone, tmp_path / "out", repo="org/suite-encoder-nano", metadata=METADATA)
    name = "suite-encoder-nano/ext8/README.md"
    assert (tmp_path / "out/org" / name).read_bytes() == (tree / name).read_bytes()


def test_the_recipe_in_a_card_is_the_run_s(tree: Path, phased_runs: Path) -> None:
    text = card(tree, "suite-encoder-from-decoder-nano").text
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.S)
    recipe = yaml.safe_load((phased_runs / "encoder-from-decoder/recipe.yaml").read_text())
    assert recipe["start_from"] == str(phased_runs / "decoder")
    assert yaml.safe_load(block) == {**recipe, "start_from": "decoder@decay6", "corpus": None}


def test_the_lines_of_an_mntp_card_read_one_position_early(tree: Path) -> None:
    folder = tree / "suite-encoder-from-decoder-nano/main"
    code = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.S)[0]
    names: dict[str, Any] = {}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(code.replace('"org/suite-encoder-from-decoder-nano"', repr(str(folder))), names)
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    inputs = tokenizer("The capital of France is [MASK].", return_tensors="pt")
    place = inputs["input_ids"][0].tolist().index(tokenizer.mask_token_id)
    with torch.no_grad():
        assert torch.equal(names["answer"], model(**inputs).logits[0, place - 1])


def test_hostile_names_stay_text(corpus_directory: Path) -> None:
    manifest = files.read_manifest(corpus_directory)
    sources = manifest["facts"]["sources"]
    # What no UTF-8 holds cannot be the name of a source: the corpus would have no fingerprint.
    name = HOSTILE.replace("\ud800", "")
    manifest["facts"]["sources"] = {name: {**sources["prose"], "skipped": {HOSTILE: 2}}}
    manifest["facts"]["packing"] = HOSTILE
    text = corpus_card(
        Corpus(corpus_directory, manifest), name="org/it", metadata=METADATA, with_text=False
    )
    assert DatasetCard(text).data.to_dict() == {
        "language": ["en", "de"], "license": "mit", "source_datasets": ["org/text"],
        "tags": ["ettin", "corpus"],
    }  # fmt: skip
    html = shown(text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt; [x](javascript:alert(1)) | ``` ~~~" in html
    assert "<script" not in html
    assert "<a " not in html
    assert html.count("<table>") == 2
    text.encode()  # no lone surrogate is left


def test_hostile_text_in_a_recipe_does_not_leave_its_block(
    exports: Path, phased_runs: Path
) -> None:
    model, *_ = put_together(
        find([exports / "decoder", phased_runs / "decoder"]),
        thinning=Thinning(allow_gaps=True), dtype=None,
    )  # fmt: skip
    assert model.run is not None
    model.run.recipe["mixture"] = {"a\n```\n<script>alert(1)</script>\n````": 1.0}
    html = shown(fenced(recipe_text(model) or "", "yaml") + "\n\nafter\n")
    assert "<script" not in html
    assert html.count("<code") == 1
    assert html.rstrip().endswith("<p>after</p>")


def test_text_cannot_end_the_block_that_it_stands_in() -> None:
    html = shown(fenced("a\n```\n<script>alert(1)</script>\n````\nb", "yaml") + "\n\nafter\n")
    assert "<script" not in html
    assert html.count("<code") == 1
    assert html.rstrip().endswith("<p>after</p>")


@pytest.mark.parametrize("text", ["a\x00b", "a\r\nb", "\u2028", "\ud800", "<b>", "*a*", "&amp;"])
def test_plain_text_is_shown_as_it_is_on_one_line(text: str) -> None:
    html = MarkdownIt("gfm-like", {"linkify": False}).render(f"x{plain(text)}y")
    assert html.count("\n") == 1
    assert not re.search(r"<(?!/?p>)", html)
    if text.isascii() and text.isprintable():
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        assert html == f"<p>x{escaped}y</p>\n"


@pytest.mark.parametrize(
    ("stated", "option"),
    [
        ({"license": "mit\n---"}, "--license"),
        ({"license": "<script>"}, "--license"),
        ({"languages": ("e n",)}, "--language"),
        ({"datasets": ("a/b/c",)}, "--dataset"),
        ({"datasets": ("](javascript:x)",)}, "--dataset"),
    ],
)
def test_words_that_are_no_metadata_are_refused(stated: dict[str, Any], option: str) -> None:
    with pytest.raises(InputError, match=option):
        Metadata(**stated)


def test_a_start_on_the_hub_is_the_base_of_a_model(exports: Path, tmp_path: Path) -> None:
    start = {"where": "hf:org/base@step7", "tag": "step7", "objective": "clm", "tokens": 7}
    given = rewritten(exports / "encoder-from-decoder/cross6", tmp_path / "given", start=start)
    dry_run([given], tmp_path / "out", repo="org/it")
    found = card(tmp_path / "out/org", "it")
    assert found.data.base_model == "org/base"
    assert "made from hf:org/base@step7, a decoder" in found.text.replace("\\", "")


def test_a_hostile_directory_name_is_nowhere(exports: Path, tmp_path: Path) -> None:
    there = tmp_path / "--- <script>alert(1)"
    shutil.copytree(exports / "decoder/decay6", there)
    dry_run([there], tmp_path / "out", repo="org/it")
    for path in (tmp_path / "out").rglob("*"):
        assert not path.is_file() or b"alert(1)" not in path.read_bytes()
