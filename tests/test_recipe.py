"""Recipes: numbers as people write them, strictness, the twin, and a reader for every key."""

import ast
import time
from pathlib import Path

import pytest
import yaml

import ettin
from ettin.errors import InputError
from ettin.fields import Share
from ettin.numbers import parse_count, parse_number
from ettin.recipe import Phase, Recipe
from ettin.recipe_file import load_recipe, resolve
from ettin.shape import Shape
from tests.recipes import shape_of, tiny_recipe, tiny_values

ROOT = Path(__file__).parents[1]
A_START = {
    "where": "jhu-clsp/ettin-encoder-150m",
    "format": "huggingface",
    "shape": shape_of("150m", vocab_size=50_368).model_dump(),
    "global_rope_theta": 160_000.0,
    "local_rope_theta": 160_000.0,
}


@pytest.mark.parametrize("size", ["nano", "micro"])
def test_cpu_sizes_keep_the_rules_and_stay_below_three_million(size):
    shape = shape_of(size, vocab_size=8192)
    assert shape.parameters <= 3_000_000
    assert shape.head_size == 64


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3e-4", 3e-4),
        ("8.5B", 8_500_000_000),
        ("1.7T", 1_700_000_000_000),
        ("1_000", 1000),
        ("2 %", 0.02),
        ("30%", 0.3),
        ("800k", 800_000),
        ("2.8333B", 2_833_300_000),
        (7, 7),
    ],
)
def test_numbers_are_read_as_people_write_them(text, number):
    assert parse_number(text) == pytest.approx(number, rel=1e-12)


@pytest.mark.parametrize("value", ["1e400", float("inf"), float("nan"), "2.5"])
def test_what_is_no_whole_number_is_no_count(value):
    with pytest.raises(ValueError, match="expected a whole number"):
        parse_count(value)


@pytest.mark.parametrize("text", ["", "many", "3 apples", "B", True, None, [1]])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match="expected a number"):
        parse_number(text)


def test_twins_differ_in_exactly_one_field():
    for path in sorted((ROOT / "recipes").glob("*.yaml")):
        sizes = yaml.safe_load(path.read_text()).get("sizes", [])
        recipe = load_recipe(path, overrides=[f"size={size}" for size in sizes[:1]], start=A_START)
        one, other = recipe.model_dump(), recipe.twin().model_dump()
        assert [key for key in one if one[key] != other[key]] == ["objective"], path
        assert recipe.twin().twin() == recipe


def test_twin_of_each_objective():
    twins = {name: tiny_recipe(objective=name).twin().objective for name in ("mlm", "clm", "mntp")}
    assert twins == {"mlm": "clm", "clm": "mlm", "mntp": "clm"}


def test_all_mistakes_are_told_at_once_with_the_nearest_name():
    values = tiny_values(sise="nano", sed=3, phase_maskrate=0.3, phase_batch_rows=3.5)
    with pytest.raises(InputError) as caught:
        resolve(values)
    message = str(caught.value)
    for expected in (
        "sise: unknown key; did you mean 'size'?",
        "sed: unknown key; did you mean 'seed'?",
        "phases.0.maskrate: unknown key; did you mean 'mask_rate'?",
        "phases.0.batch_rows: expected a whole number, got 3.5",
    ):
        assert expected in message


_EXTENSION = {"name": "extension", "tokens": 4000, "context_length": 64, "batch_rows": 4}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"size": "nan"}, "did you mean 'nano'?"),
        ({"objective": "mlmm"}, "'mlm', 'clm' or 'mntp'"),
        ({"seed": -1}, "greater than or equal to 0"),
        ({"peak_lr": "fast"}, "expected a number"),
        ({"ngram_baselines": "yes"}, "boolean"),
        ({"micro_batch_rows": 100}, "has no effect beyond batch_rows 6"),
        ({"attention_output_dropout": 1}, "less than 1"),
        ({"mixture": {"prose": 0}}, "greater than or equal to 1"),
        ({"shape": {"hidden_size": 33}}, "not a multiple"),
        ({"shape": {"num_hidden_layers": 5}}, "divisible by 3"),
        ({"phase_mask_rate": 0}, "between 0 and 1"),
        ({"phase_tokens": 0}, "greater than or equal to 1"),
        ({"phase_save_every_tokens": "1T"}, "has no effect: it exceeds tokens"),
        ({"phase_final_lr_factor": 0.1, "phase_decay_tokens": 0}, "has no effect while"),
        ({"phase_warmup_tokens": "1M"}, "exceed tokens"),
        ({"phase_row_tokens": 65}, "exceed context_length"),
        ({"phases": []}, "expected one or more of pretraining, extension, decay, cross"),
        ({"phases": [_EXTENSION, _EXTENSION]}, "each once and in this order"),
        ({"phases": [{**_EXTENSION, "name": "cross"}, _EXTENSION]}, "each once and in this order"),
        ({"phases": 3}, "a list: […], got 3"),
        ({"phases": [{"name": "warmup"}]}, "Input should be 'pretraining', 'extension'"),
        ({"phases": ["pretraining"]}, "phases.0.tokens: missing"),
        ({"phase_mixture": {"prose": 1}, "mixture": {"prose": 1}}, "every phase has its own"),
        ({"phase_batch_warmup_tokens": 4000}, "need batch_warmup_rows"),
        ({"phase_batch_warmup_rows": 2}, "has no effect while batch_warmup_tokens is 0"),
        (
            {"phase_batch_warmup_tokens": 4000, "phase_batch_warmup_rows": 6},
            "should be below batch_rows 6",
        ),
        ({"phase_batch_warmup_tokens": "1M", "phase_batch_warmup_rows": 1}, "exceed tokens"),
        (
            {"size": "custom", "phase_batch_warmup_tokens": "published"},
            "none is published for size 'custom'",
        ),
        ({"size": "start"}, "give --from WHERE"),
        ({"phase_global_rope_theta": "start"}, "give --from WHERE"),
        ({"variant": "executed"}, "'intended' or 'as-executed'"),
    ],
)
def test_wrong_and_inert_settings_are_refused(changes, expected):
    values = tiny_values(**{key: value for key, value in changes.items() if key != "phases"})
    if "phases" in changes:
        values["phases"] = changes["phases"]
    with pytest.raises(InputError, match="cannot be used") as caught:
        resolve(values)
    assert expected in str(caught.value)


def test_overrides_reach_phases_by_number_and_by_name(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny_values()))
    recipe = load_recipe(
        path,
        overrides=[
            "phases.0.tokens=2M",
            "phases.pretraining.mask_rate=15 %",
            "shape.local_reach=8",
        ],
        objective="clm",
    )
    assert recipe.phases[0].tokens == 2_000_000
    assert recipe.phases[0].mask_rate == 0.15
    assert recipe.shape.local_reach == 8
    assert recipe.objective == "clm"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("seed", "written key.path=value"),
        ("sed=3", "did you mean 'seed'?"),
        ("phase.0.tokens=3", "did you mean 'phases'?"),
        ("phases.9.tokens=3", "there is no '9'"),
        ("phases.0.tokns=3", "did you mean 'tokens'?"),
    ],
)
def test_a_wrong_override_is_refused(tmp_path, override, expected):
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(tiny_values()))
    with pytest.raises(InputError) as caught:
        load_recipe(path, overrides=[override])
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"size: nano\nsize: micro\n", "stands here twice"),
        (b"- a\n- b\n", "should hold keys and values"),
        (b"size: [", "is not YAML"),
        (b"\xff\xfe\x00", "cannot read"),
        (b"size: !!python/object/apply:os.system ['true']\n", "is not YAML"),
    ],
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, content, expected):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=expected):
        load_recipe(path)


def test_refusing_takes_less_than_a_second(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("nothing: right\n" * 1)
    started = time.perf_counter()
    with pytest.raises(InputError):
        load_recipe(path)
    assert time.perf_counter() - started < 1


def test_a_recipe_is_frozen_and_survives_its_own_file(tmp_path):
    recipe = tiny_recipe()
    with pytest.raises(ValueError, match="frozen"):
        recipe.seed = 3  # type: ignore[misc]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json")))
    assert load_recipe(path) == recipe


def test_every_key_has_a_reader():
    read = {
        node.attr
        for path in Path(ettin.__file__).parent.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
    }
    models = (Recipe, Phase, Share, Shape)
    keys = {key for model in models for key in model.model_fields}
    assert keys - read == set()


def test_flops_follow_the_formula():
    shape = shape_of("150m", vocab_size=50_368)
    # 6 · (body + 0.3 · (H² + VH)) + 12 · H · (8 · 1024 + 14 · 129)
    expected = 6 * (110_297_088 + 0.3 * (768**2 + 50_368 * 768)) + 12 * 768 * (8 * 1024 + 14 * 129)
    flops = shape.flops_per_token(context_length=1024, labelled=0.3, visibility="bidirectional")
    assert flops == pytest.approx(expected)
