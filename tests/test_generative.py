"""Generative tasks on local files: lm-eval's own prompts, and no wrong number in silence."""

import json
import os
import random
from dataclasses import replace
from pathlib import Path

import datasets
import huggingface_hub.constants
import pytest

from ettin.errors import InputError
from ettin.evaluation.lm import family as generative
from ettin.evaluation.lm.files import find_local_data, read_rows
from ettin.evaluation.lm.tasks import build, task_manager
from ettin.evaluation.models import open_model
from ettin.evaluation.rows import write_json_rows
from ettin.evaluation.task import Measurement, Request
from tests.conftest import made_up_text
from tests.stock_models import save_models
from tests.tolerances import STANDARD_ERRORS

DATA = Path(os.environ.get("ETTIN_DATA", Path(__file__).parent.parent.parent / "shared" / "data"))
REQUEST = Request(
    data=None, offline=True, limit=None, seed=None, mode="ettin", preset="quick", pooling=None,
    batch_tokens=4096, device="cpu", out=Path("results"),
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tokenizer_directory) -> Path:
    return save_models(tmp_path_factory.mktemp("models"), tokenizer_directory=tokenizer_directory)


def words(seed: int, count: int) -> str:
    return made_up_text(seed, words=count).strip().replace("\n", " ")


def piqa_rows(count: int) -> list[dict]:
    draw = random.Random(1)
    return [
        {"goal": words(n, 6), "sol1": words(n + 500, 4), "sol2": words(n + 900, 4),
         "label": draw.randrange(2)}
        for n in range(count)
    ]  # fmt: skip


def piqa(tmp_path: Path, rows: list[dict], *, split: str = "validation") -> Path:
    write_json_rows(tmp_path / "lm_eval" / "piqa" / f"{split}.jsonl.gz", rows)
    return tmp_path


def measured(folder: Path, kind: str, name: str, data: Path, **changes) -> Measurement:
    model = open_model(str(folder / kind))
    request = replace(REQUEST, data=data, **changes)
    return generative.measure(name, model, request, generative.settings(name, model, request))


@pytest.mark.parametrize("kind", ["encoder", "decoder"])
def test_answers_are_counted_as_their_log_likelihoods_say(kind, folder, tmp_path):
    rows = piqa_rows(40)
    found = measured(folder, kind, "piqa", piqa(tmp_path, rows))
    right = 0
    for number, row in enumerate(rows):
        first, second = found.samples[2 * number : 2 * number + 2]
        assert first["context"] == f"Question: {row['goal']}\nAnswer:"
        assert first["continuation"] == f" {row['sol1']}"
        assert second["continuation"] == f" {row['sol2']}"
        assert {type(each["is_greedy"]) for each in (first, second)} == {bool}
        right += (second["log_likelihood"] > first["log_likelihood"]) == row["label"]
    assert found.metric == "acc"
    assert found.metrics["acc"].value == pytest.approx(right / 40)
    share = right / 40
    assert found.metrics["acc"].stderr == pytest.approx((share * (1 - share) / 39) ** 0.5)
    assert "acc_norm" in found.metrics
    assert found.baselines == {"chance": 0.5}
    assert found.examples == 40
    # lm-eval asks for a training split too, which is not there.
    assert found.facts["filled_splits"] == {"train": "validation"}


def test_the_result_is_the_same_again_and_with_other_batches(folder, tmp_path):
    data = piqa(tmp_path, piqa_rows(12))
    one = measured(folder, "encoder", "piqa", data)
    assert measured(folder, "encoder", "piqa", data) == one
    other = measured(folder, "encoder", "piqa", data, batch_tokens=64)
    assert other.metrics == one.metrics
    assert other.facts["forwards"] > one.facts["forwards"]
    saved = one.facts["forwards_one_token_at_a_time"] / one.facts["forwards"]
    assert saved > 10


def test_settings_name_the_mode_and_the_data_but_no_batch(folder, tmp_path):
    data = piqa(tmp_path, piqa_rows(4))
    encoder, decoder = (open_model(str(folder / kind)) for kind in ("encoder", "decoder"))
    request = replace(REQUEST, data=data)
    settings = generative.settings("piqa", encoder, request)
    assert settings["mode"] == "ettin"
    assert settings["num_fewshot"] == 0
    assert settings == generative.settings("piqa", encoder, replace(request, batch_tokens=1))
    assert settings != generative.settings("piqa", encoder, replace(request, mode="pll"))
    assert generative.settings("piqa", decoder, request)["mode"] == "causal"
    piqa(tmp_path, piqa_rows(5))
    assert settings != generative.settings("piqa", encoder, request)
    with pytest.raises(InputError, match="did you mean 'pll'"):
        generative.settings("piqa", encoder, replace(request, mode="pl"))


def test_a_limit_takes_the_first_examples(folder, tmp_path):
    found = measured(folder, "decoder", "piqa", piqa(tmp_path, piqa_rows(12)), limit=5)
    assert found.examples == 5
    assert len(found.samples) == 10


def test_a_missing_split_is_filled_and_said(folder, tmp_path):
    data = piqa(tmp_path, piqa_rows(6), split="test")
    found = measured(folder, "decoder", "piqa", data)
    assert found.facts["filled_splits"] == {"train": "test", "validation": "test"}
    assert found.examples == 6


def test_a_column_that_the_prompt_names_must_be_there(folder, tmp_path):
    without = [{key: row[key] for key in ("goal", "sol1", "label")} for row in piqa_rows(6)]
    with pytest.raises(InputError, match=r"no column 'sol2'.*it has goal, sol1, label"):
        measured(folder, "decoder", "piqa", piqa(tmp_path, without))
    rows = piqa_rows(6)
    del rows[3]["label"]
    with pytest.raises(InputError, match=r"no column 'label' in its example 4"):
        measured(folder, "decoder", "piqa", piqa(tmp_path, rows))


@pytest.mark.parametrize(
    ("name", "row", "missing"),
    [
        # These prompts are made by functions of lm-eval, which take the row apart.
        ("hellaswag", {"ctx_a": "a", "ctx_b": "b", "endings": ["c"], "label": "0"}, "activity_lab"),
        ("winogrande", {"sentence": "a _ b", "option1": "c", "answer": "1"}, "option2"),
        # Here a part of a column is missing, not the column.
        ("arc_easy", {"question": "a", "choices": {"text": ["b"]}, "answerKey": "A"}, "label"),
    ],
)
def test_what_functions_and_nested_columns_need_must_be_there(name, row, missing, folder, tmp_path):
    write_json_rows(tmp_path / "lm_eval" / name / "validation.jsonl.gz", [row])
    with pytest.raises(InputError, match=missing):
        measured(folder, "decoder", name, tmp_path)


def test_an_answer_outside_of_the_choices_is_no_wrong_answer(folder, tmp_path):
    rows = [*piqa_rows(3), {**piqa_rows(1)[0], "label": -1}]
    with pytest.raises(InputError, match="example 4: its answer -1 is none of the 2 choices"):
        measured(folder, "decoder", "piqa", piqa(tmp_path, rows))


def test_data_that_are_not_there_or_hold_nothing_are_told(folder, tmp_path):
    with pytest.raises(InputError, match=r"no data for lm/piqa: expected .*SPLIT\.jsonl"):
        measured(folder, "decoder", "piqa", tmp_path)
    (tmp_path / "lm_eval" / "piqua").mkdir(parents=True)
    with pytest.raises(InputError, match="did you mean 'piqua'"):
        measured(folder, "decoder", "piqa", tmp_path)
    (tmp_path / "lm_eval" / "piqa").mkdir()
    with pytest.raises(InputError, match="holds no split"):
        measured(folder, "decoder", "piqa", tmp_path)
    empty = tmp_path / "lm_eval" / "piqa" / "validation.jsonl"
    empty.write_text("\n")
    with pytest.raises(InputError, match="is empty"):
        measured(folder, "decoder", "piqa", tmp_path)
    empty.write_text('{"goal": 1}\n[1]\n')
    with pytest.raises(InputError, match="line 2: expected an object, found list"):
        measured(folder, "decoder", "piqa", tmp_path)
    write_json_rows(empty.with_suffix(".jsonl.gz"), piqa_rows(2))
    with pytest.raises(InputError, match="two files for the split 'validation'"):
        measured(folder, "decoder", "piqa", tmp_path)


def test_a_task_may_have_its_own_folder(folder, tmp_path):
    write_json_rows(tmp_path / "mine" / "validation_small.jsonl.gz", piqa_rows(4))
    found = measured(folder, "decoder", "piqa", tmp_path / "nothing", path=tmp_path / "mine")
    assert found.examples == 4


OTHER_LAYOUTS: dict[str, dict] = {
    "hellaswag": {"query": "ba do", "choices": [" le", " gofu", " zi"], "gold": 1},
    "wsc273": {"context_options": ["ba do", "ba le"], "continuation": "gofu.", "gold": 1},
    "triviaqa": {"question": "ba do le", "answer": "gofu", "aliases": ["gofu", "zi"]},
    "lambada_openai": {"text": "ba do le gofu"},
}


@pytest.mark.parametrize("name", OTHER_LAYOUTS)
def test_other_layouts_of_known_tasks_are_known_by_their_columns(name, folder, tmp_path):
    place = "lambada" if name == "lambada_openai" else name
    split = "test" if name in {"lambada_openai", "wsc273"} else "validation"
    rows = [OTHER_LAYOUTS[name], OTHER_LAYOUTS[name]]
    write_json_rows(tmp_path / "lm_eval" / place / f"{split}.jsonl.gz", rows)
    for kind in ("encoder", "decoder"):
        found = measured(folder, kind, name, tmp_path)
        assert found.metric == {"hellaswag": "acc_norm", "triviaqa": "exact_match"}.get(name, "acc")
        assert found.examples == 2
        first = found.samples[0]
        assert first["context"].startswith(("ba do", "Question: ba do le?"))
        if name == "triviaqa":
            assert first["target"] == ["gofu", "zi"]
            assert "generated" in first
        elif name == "lambada_openai":
            assert (first["context"], first["continuation"]) == ("ba do le", " gofu")
        else:
            chosen = max(
                found.samples[: len(found.samples) // 2], key=lambda s: s["log_likelihood"]
            )
            assert first["acc"] == (chosen["choice"] == 1)


def test_blimp_is_the_mean_of_its_parts(folder, tmp_path):
    parts = [task_manager("blimp").task_index[each].cfg["dataset_name"] for each in paradigms()]
    rows = [
        {"sentence_good": words(n, 5), "sentence_bad": words(n + 700, 5), "UID": part}
        for n, part in enumerate(parts * 2)
    ]
    write_json_rows(tmp_path / "lm_eval" / "blimp" / "all.jsonl.gz", rows)
    found = measured(folder, "encoder", "blimp", tmp_path)
    assert len(parts) == 67
    assert found.examples == 134
    assert found.facts.get("filled_splits") is None
    values = [found.metrics[part].value for part in parts]
    assert found.metrics["acc"].value == pytest.approx(sum(values) / 67)
    assert 0 < found.metrics["acc"].value < 1
    errors = [found.metrics[part].stderr or 0 for part in parts]
    assert found.metrics["acc"].stderr == pytest.approx(sum(e**2 for e in errors) ** 0.5 / 67)
    limited = measured(folder, "encoder", "blimp", tmp_path, limit=70)
    assert limited.examples == 70
    write_json_rows(tmp_path / "lm_eval" / "blimp" / "all.jsonl.gz", rows[:60])
    with pytest.raises(InputError, match="no row with UID"):
        measured(folder, "encoder", "blimp", tmp_path)


def paradigms() -> list[str]:
    return list(task_manager("blimp").task_index["blimp"].cfg["task"])


def test_an_unknown_task_is_answered_with_the_nearest_one():
    with pytest.raises(InputError, match="did you mean 'hellaswag'"):
        task_manager("helaswag")
    assert set(generative.names()) > {"piqa", "blimp", "arc_easy", "wsc273"}
    assert len(generative.names()) == 12


def test_without_a_network_the_hub_is_a_mistake_that_names_the_way_out(monkeypatch, tmp_path):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    with pytest.raises(InputError, match=r"cannot get the data of lm/piqa.*--data DIR"):
        build("piqa", None, limit=None)
    with pytest.raises(InputError, match="cannot get the data of lm/piqa"):
        generative.prefetch("piqa", tmp_path)


def test_what_is_written_is_read_again_and_bytes_are_the_same(tmp_path):
    rows = [*piqa_rows(3), {"goal": "a\u2028b\x85"}]
    write_json_rows(tmp_path / "a" / "test.jsonl.gz", rows)
    write_json_rows(tmp_path / "b" / "test.jsonl.gz", rows)
    assert read_rows(tmp_path / "a" / "test.jsonl.gz") == rows
    found = [find_local_data("piqa", data=None, path=tmp_path / each) for each in "ab"]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].fingerprint == found[1].fingerprint


@pytest.mark.skipif(not DATA.exists(), reason="no local data")
@pytest.mark.parametrize("kind", ["encoder", "decoder"])
@pytest.mark.parametrize("name", ["wsc273", "social_iqa"])
def test_a_random_model_is_at_chance_on_real_data(name, kind, folder):
    found = measured(folder, kind, name, DATA, limit=60)
    score = found.metrics["acc"]
    assert score.stderr is not None
    assert abs(score.value - found.baselines["chance"]) < STANDARD_ERRORS * score.stderr
    assert json.dumps(found.samples[0])
