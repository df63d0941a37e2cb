"""Classification: data found and refused, twins fine-tuned, chosen on dev and measured on test."""

import csv
import dataclasses
import gzip
import json
import os
import random
from pathlib import Path

import numpy as np
import pytest

from ettin.errors import InputError
from ettin.evaluation.classification import family as classification
from ettin.evaluation.classification.classifier import Classifier
from ettin.evaluation.classification.data import limited, locate, read_data
from ettin.evaluation.classification.family import measure, names, settings, sweep
from ettin.evaluation.classification.scores import scores
from ettin.evaluation.models import EvaluatedModel, open_model
from ettin.evaluation.task import Measurement, Request
from tests.stock_models import save_models

KINDS = ("encoder", "decoder")
DATA = Path(os.environ.get("ETTIN_DATA", Path(__file__).parents[2] / "shared" / "data"))
WORDS = (["bada", "gako", "lepi"], ["mose", "nuto", "rivo"], ["kile", "tuda", "vebo"])


@pytest.fixture(scope="module")
def models(tokenizer_directory, tmp_path_factory) -> dict[str, EvaluatedModel]:
    folder = save_models(tmp_path_factory.mktemp("pair"), tokenizer_directory=tokenizer_directory)
    return {kind: open_model(str(folder / kind)) for kind in KINDS}


@pytest.fixture
def request_to(tmp_path):
    def made(**changes) -> Request:
        stated = Request(
            data=None, offline=True, limit=None, seed=21, mode="ettin", preset="quick",
            pooling=None, batch_tokens=4096, device="cpu", out=tmp_path / "results",
        )  # fmt: skip
        return dataclasses.replace(stated, **changes)

    return made


def rows_of(count: int, *, seed: int, labels: tuple[str, ...]) -> list[dict[str, str]]:
    """Texts whose label is the list that their words come from."""
    draw = random.Random(seed)
    chosen = [draw.randrange(len(labels)) for _ in range(count)]
    return [
        {"sentence": " ".join(draw.choices(WORDS[each], k=5)), "label": labels[each]}
        for each in chosen
    ]


def write(path: Path, rows: list[dict]) -> Path:
    """A table in the format that the name says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = list(rows[0])
    if ".tsv" in path.name:
        lines = ["\t".join(columns), *("\t".join(row.values()) for row in rows)]
        text = "".join(line + "\n" for line in lines)
    elif ".jsonl" in path.name:
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, columns)
            writer.writeheader()
            writer.writerows(rows)
        return path
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def folder_with(path: Path, *, train: int = 192, labels: tuple[str, ...] = ("no", "yes")) -> Path:
    for seed, (split, count) in enumerate((("train", train), ("dev", 40), ("test", 60))):
        write(path / f"{split}.tsv", rows_of(count, seed=seed, labels=labels))
    return path


def run(model: EvaluatedModel, request: Request, name: str = "own", **tried) -> Measurement:
    """Measured with a sweep that suits a tiny model."""
    chosen = settings(name, model, request)
    few = {"learning_rate": [3e-3], "weight_decay": [1e-5], "epochs": [3]}
    return measure(name, model, request, {**chosen, "sweep": {**few, **tried}})


@pytest.mark.parametrize("kind", KINDS)
def test_both_kinds_learn_a_task_that_can_be_learnt(models, request_to, tmp_path, kind):
    shares: list[float] = []
    request = request_to(
        path=folder_with(tmp_path / "own", labels=("no", "so", "yes")),
        advance=lambda share, _note: shares.append(share),
    )
    found = run(models[kind], request)
    assert found.metric == "accuracy"
    assert found.examples == 60
    assert found.metrics["accuracy"].value > 0.85
    assert found.baselines["majority"] < 0.5
    assert found.facts["splits"] == {"train": "train", "chosen_on": "dev", "tested_on": "test"}
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    right = [sample["answer"] == sample["label"] for sample in found.samples]
    assert np.mean(right) == pytest.approx(found.metrics["accuracy"].value)
    assert set(found.metrics) == {"accuracy", "f1_macro", "matthews"}


@pytest.mark.parametrize("kind", KINDS)
def test_both_kinds_learn_scores(models, request_to, tmp_path, kind):
    for split, count in (("train", 192), ("dev", 60)):
        made = rows_of(count, seed=count, labels=("1.5", "4.25"))
        table = [
            {"sentence1": row["sentence"], "sentence2": "gako", "score": row["label"]}
            for row in made
        ]
        write(tmp_path / "own" / f"{split}.jsonl.gz", table)
    found = run(models[kind], request_to(path=tmp_path / "own"))
    assert found.metric == "spearman"
    assert found.metrics["spearman"].value > 0.75
    assert found.baselines == {"mean": 0.0}
    answers = [sample["answer"] for sample in found.samples]
    assert 1 < np.mean(answers) < 5  # back in the scores' own unit


def test_the_same_seed_gives_the_same_answers_and_another_others(models, request_to, tmp_path):
    folder = folder_with(tmp_path / "own", train=24)

    def logits(seed: int) -> list:
        measured = run(models["decoder"], request_to(path=folder, seed=seed), epochs=[1])
        return [sample["logits"] for sample in measured.samples]

    assert logits(1) == logits(1)
    assert logits(1) != logits(2)


def test_a_sweep_picks_what_is_best_on_dev(models, request_to, tmp_path):
    request = request_to(path=folder_with(tmp_path / "own"), preset="published")
    found = run(models["encoder"], request, learning_rate=[1e-9, 3e-3], epochs=[2])
    tried = {each["learning_rate"]: each["dev"] for each in found.facts["tried"]}
    assert tried[3e-3] > tried[1e-9]
    assert found.facts["picked"]["learning_rate"] == 3e-3
    assert found.facts["picked"]["dev"] == tried[3e-3]


def test_the_published_sweep_has_48_settings_and_its_own_epochs_a_task():
    one, other = sweep("sst2", "published"), sweep("cola", "published")
    assert np.prod([len(values) for values in one.values()]) == 48
    assert (one["epochs"], other["epochs"]) == ([1, 2, 3], [2, 5, 10])
    with pytest.raises(InputError, match="did you mean 'quick'"):
        sweep("cola", "quik")


def nli(count: int, *, seed: int, labels: tuple[str, ...]) -> list[dict[str, str]]:
    made = rows_of(count, seed=seed, labels=labels)
    return [
        {"sentence1": row["sentence"], "sentence2": "gako", "label": row["label"]} for row in made
    ]


def glue(folder: Path, *, mnli: bool) -> Path:
    three, two = ("entailment", "neutral", "contradiction"), ("0", "1")
    tables: dict[str, tuple[str, ...]] = {"rte/train": two, "rte/validation": two}
    if mnli:
        tables |= {f"mnli/{each}": three for each in ("train", "dev", "dev_mismatched")}
    for seed, (name, labels) in enumerate(tables.items()):
        write(folder / "classification" / f"{name}.tsv.gz", nli(64, seed=seed, labels=labels))
    return folder


def test_rte_starts_from_mnli_and_what_mnli_left_is_made_once(models, request_to, tmp_path, told):
    model, request = models["decoder"], request_to(data=glue(tmp_path / "data", mnli=True))
    alone = request_to(data=glue(tmp_path / "alone", mnli=False))
    assert settings("rte", model, alone)["starts_from"] == "the model"
    assert settings("rte", model, request)["starts_from"].startswith("mnli")
    without = run(model, alone, "rte", epochs=[1])
    first = run(model, request, "rte", epochs=[1])
    assert first.samples[0]["texts"] == without.samples[0]["texts"]
    assert first.samples[0]["logits"] != without.samples[0]["logits"]
    said = told.text.count("fine-tuning on MNLI first")
    assert said > 0
    again = run(model, request, "rte", epochs=[1])
    assert told.text.count("fine-tuning on MNLI first") == said
    assert again.samples == first.samples

    (kept,) = (tmp_path / "results" / "finetuned").glob("*-mnli-*/weights.safetensors")
    fresh, started = (
        Classifier(model, outputs=2, pooling="last", seed=1, device="cpu") for _ in range(2)
    )
    started.start_from(kept)
    before, after = fresh.state(), started.state()
    moved = {name for name in before if not bool((before[name] == after[name]).all())}
    assert "head.dense.weight" in moved
    assert not {"classifier.weight", "classifier.bias"} & moved


def test_mnli_is_measured_on_both_of_its_dev_splits(models, request_to, tmp_path):
    request = request_to(data=glue(tmp_path / "data", mnli=True), limit=30)
    found = run(models["encoder"], request, "mnli", epochs=[1])
    assert set(found.metrics) == {"accuracy", "accuracy_mismatched"}
    assert found.examples == 30
    assert found.facts["examples"] == {"train": 64, "chosen_on": 30, "tested_on": 30}


def test_settings_name_what_was_asked_for(models, request_to, tmp_path):
    request = request_to(path=folder_with(tmp_path / "own", train=8))
    chosen = settings("own", models["encoder"], request)
    assert (chosen["pooling"], chosen["preset"]) == ("cls", "quick")
    for change in ({"pooling": "mean"}, {"seed": 3}, {"limit": 5}, {"preset": "published"}):
        changed = settings("own", models["encoder"], dataclasses.replace(request, **change))
        assert changed != chosen
    write(tmp_path / "own" / "dev.tsv", rows_of(9, seed=9, labels=("no", "yes")))
    assert settings("own", models["encoder"], request)["data"] != chosen["data"]
    assert json.loads(json.dumps(chosen)) == chosen


def test_the_tasks_of_glue_are_known_and_mnli_comes_first():
    assert names()[0] == "mnli"
    assert set(names()) == {*classification.GROUP, "snli"}


@pytest.mark.skipif(not DATA.exists(), reason="no local evaluation data")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["cola", "rte"])
def test_a_random_pair_is_near_the_majority_on_real_tasks(models, request_to, kind, name):
    request = request_to(data=DATA, limit=64)
    chosen = settings(name, models[kind], request)
    less = {"sweep": {**chosen["sweep"], "epochs": [1]}, "max_length": 64}
    found = measure(name, models[kind], request, {**chosen, **less})
    assert found.examples == 64
    score = found.metrics[found.metric]
    assert abs(score.value - found.baselines["majority"]) < 4 * max(score.stderr or 0, 0.05)


def test_scores_are_those_of_their_definitions():
    truth, answers = np.array([1, 1, 0, 0, 1, 0]), np.array([1, 0, 0, 0, 1, 1])
    found = scores(truth, answers, ("accuracy", "f1", "matthews"))
    assert found["accuracy"].value == pytest.approx(4 / 6)
    assert found["accuracy"].stderr == pytest.approx((4 / 6 * 2 / 6 / 6) ** 0.5)
    assert found["f1"].value == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert found["matthews"].value == pytest.approx((2 * 2 - 1 * 1) / 9)
    ranked = scores(np.arange(5.0), np.array([0.0, 1.0, 4.0, 9.0, 16.0]), ("spearman", "pearson"))
    assert ranked["spearman"].value == pytest.approx(1)
    assert ranked["pearson"].value < 1
    assert scores(np.arange(5.0), np.ones(5), ("spearman",))["spearman"].value == 0


def read(folder: Path, name: str = "own"):
    return read_data(locate(name, data=None, path=folder, offline=True))


def test_limited_examples_are_a_part_of_more_of_them(tmp_path):
    data = read(folder_with(tmp_path / "own"))
    few, more = (limited(data, count, training_limit=100) for count in (5, 20))
    assert (len(few.train), len(few.dev), len(few.test)) == (40, 5, 5)
    assert len(more.train) == 100
    assert {each.texts for each in few.test} <= {each.texts for each in more.test}
    assert limited(data, None, training_limit=None) == data
