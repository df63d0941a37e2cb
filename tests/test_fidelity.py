"""docs/fidelity.md is held by tests that exist; and those of its facts that no other file tests."""

import ast
import math
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ettin.data.batches import training_reader
from ettin.data.corpus import Corpus
from ettin.data.order import make_order
from ettin.huggingface import make_config
from ettin.model.transformer import Transformer
from ettin.recipe import Phase, Recipe
from ettin.recipe_file import load_recipe
from ettin.shape import Dimensions, Visibility
from ettin.training.optimizer import build_optimizer, set_learning_rate
from ettin.training.setup import make_phases
from tests.recipes import tiny_recipe
from tests.small_model import SHAPE, model, stream
from tests.tolerances import FP64

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "fidelity.md"
COLUMNS = ["Fact", "Paper", "Configurations, cards", "Executed code", "Here", "Held by"]
NAMED_TEST = re.compile(r"`(tests/test_\w+\.py)::(test_\w+)`")
NO_TEST = re.compile(r"no test: \w+")
NAMED_KEYS = re.compile(r"\bkeys? ((?:`[\w.]+`(?:, | and )?)+)")
KEYS = {*Recipe.model_fields, *Phase.model_fields, *Dimensions.model_fields}

# --- the page


def facts(text: str) -> list[list[str]]:
    """The rows of all tables that have the columns of facts."""
    rows: list[list[str]] = []
    wanted = False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|") or cells == COLUMNS:
            wanted = cells == COLUMNS
        elif wanted and not set(line) <= set("|-: "):
            rows.append(cells)
    return rows


@cache
def names_in(path: Path) -> frozenset[str]:
    """Names of the test functions of a file; none if there is no such file."""
    if not path.is_file():
        return frozenset()
    body = ast.parse(path.read_text(encoding="utf-8")).body
    return frozenset(node.name for node in body if isinstance(node, ast.FunctionDef))


def problems(text: str) -> list[str]:
    """Rows that say too little, or name a test or a key that is not there."""
    wrong = []
    for row in facts(text):
        if len(row) != len(COLUMNS) or not all(row):
            wrong.append(f"{row[0]}: {len(row)} cells, expected {len(COLUMNS)}, none empty")
            continue
        named = NAMED_TEST.findall(row[-1])
        if bool(named) == bool(NO_TEST.match(row[-1])):
            wrong.append(f"{row[0]}: expected tests, or why there is none")
        wrong += [
            f"{row[0]}: there is no {path}::{name}"
            for path, name in named
            if name not in names_in(ROOT / path)
        ]
        keys = [key for found in NAMED_KEYS.findall(row[4]) for key in re.findall(r"[\w.]+", found)]
        wrong += [f"{row[0]}: no key {key}" for key in keys if key != "and" and key not in KEYS]
    return wrong


def test_every_fact_is_held_by_tests_that_exist_or_says_why_not() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert len(facts(text)) >= 50
    assert problems(text) == []


@pytest.mark.parametrize(
    "row",
    [
        "| a | – | – | – | 1 | `tests/test_fidelity.py::test_gone` |",
        "| a | – | – | – | 1 | `tests/test_gone.py::test_every_fact_is_held` |",
        "| a | – | – | – | 1 | – |",
        "| a | – | – | – |  | no test: words |",
        "| a | – | – | 1 | no test: words |",
        "| a | – | – | – | key `mask_rat` | no test: words |",
        "| a | – | – | – | keys `mask_rate` and `order_of` | no test: words |",
    ],
)
def test_a_row_that_is_not_held_is_found(row: str) -> None:
    head = f"| {' | '.join(COLUMNS)} |\n|---|---|---|---|---|---|\n"
    assert len(problems(head + row)) == 1
    assert problems(f"{head}| a | – | – | – | key `mask_rate` | no test: words |") == []


# --- the model


def test_norms_have_the_published_epsilon_and_no_bias() -> None:
    norms = [each for each in model().modules() if isinstance(each, nn.LayerNorm)]
    assert len(norms) == 2 * SHAPE.num_hidden_layers + 2  # none before the first attention
    assert {each.eps for each in norms} == {1e-5}
    assert all(each.bias is None for each in norms)
    biased = [name for name, _ in model().named_parameters() if name.endswith("bias")]
    assert biased == ["decoder.bias"]


def test_the_first_embedding_is_a_token_like_any_other() -> None:
    """The published runs had `padding_idx` 0: no gradient for that token from where it is read."""
    ours = model()
    tokens, boundaries = stream([9])
    tokens[4] = 0
    ours(tokens, boundaries, visibility="bidirectional").square().sum().backward()
    gradient = ours.model.embeddings.tok_embeddings.weight.grad
    assert gradient is not None
    assert gradient[0].any()


@pytest.mark.parametrize("visibility", ["bidirectional", "causal"])
def test_local_layers_reach_64_positions_and_not_one_more(visibility: Visibility) -> None:
    shape = SHAPE.model_copy(update={"local_reach": 64})
    ours = Transformer(shape, global_rope_theta=1e4, local_rope_theta=1e4)
    ours.initialise(1)
    local = ours.model.layers[1]
    embedded: list[Tensor] = []
    local.register_forward_pre_hook(lambda _, inputs: embedded.append(inputs[0]))
    mixed: list[Tensor] = []
    local.get_submodule("attn").register_forward_hook(lambda _, __, output: mixed.append(output))
    tokens, boundaries = stream([200])
    ours(tokens, boundaries, visibility=visibility)
    (gradient,) = torch.autograd.grad(mixed[0][100].sum(), embedded[0])
    seen = gradient.any(1).nonzero().flatten().tolist()
    assert seen == list(range(36, 165 if visibility == "bidirectional" else 101))


@pytest.mark.parametrize(("kind", "window"), [("encoder", 128), ("decoder", 130)])
def test_exports_of_the_published_reach_state_their_windows_and_no_dropout(
    kind: str, window: int
) -> None:
    config = make_config(
        "encoder" if kind == "encoder" else "decoder",
        SHAPE.model_copy(update={"local_reach": 64}),
        context_length=7999,
        global_rope_theta=1.6e5,
        local_rope_theta=1.6e5,
        special=dict.fromkeys(("bos", "eos", "pad", "mask"), 0),
        ettin={},
    )
    assert config["local_attention"] == window
    assert (config["max_position_embeddings"], config["norm_eps"]) == (7999, 1e-5)
    assert {config[f"{part}_dropout"] for part in ("attention", "embedding", "mlp")} == {0.0}


# --- the recipe


def test_what_a_recipe_does_not_state_is_as_published() -> None:
    recipe = load_recipe(ROOT / "recipes" / "ettin.yaml")
    assert (recipe.seed, recipe.attention_output_dropout) == (21, 0.1)
    assert recipe.shape.local_reach == 64
    assert {phase.batch_rows for phase in recipe.phases} == {4608}
    assert not any(phase.batch_warmup_tokens for phase in recipe.phases)


def test_updates_are_those_of_the_published_formula() -> None:
    """StableAdamW of the original, step by step; one rate for each step, one of them clipped."""
    peak, decay, beta_1, beta_2, epsilon = 3e-3, 5e-4, 0.9, 0.98, 1e-6
    draw = np.random.default_rng(3)
    layer = nn.Linear(3, 4).double()
    optimizer = build_optimizer(layer, peak_lr=peak, weight_decay=decay)
    expected = [each.detach().numpy().copy() for each in layer.parameters()]
    moments = [(np.zeros_like(each), np.zeros_like(each)) for each in expected]
    clipped = 0
    for step, factor in enumerate((0.5, 1.0, 1.0, 0.3), start=1):
        set_learning_rate(optimizer, peak * factor)
        mixed = [beta * (1 - beta ** (step - 1)) / (1 - beta**step) for beta in (beta_1, beta_2)]
        for number, parameter in enumerate(layer.parameters()):
            gradient = draw.normal(size=tuple(parameter.shape)) * (1e-2 if step < 3 else 1.0)
            parameter.grad = torch.from_numpy(gradient)
            first, second = moments[number]
            first = first + (1 - mixed[0]) * (gradient - first)
            second = mixed[1] * second + (1 - mixed[1]) * gradient**2
            moments[number] = first, second
            rms = math.sqrt((gradient**2 / np.maximum(second, epsilon**2)).mean())
            clipped += rms > 1.001
            rate = peak * factor / max(1.0, rms)
            if gradient.ndim > 1:  # vectors do not decay
                expected[number] *= 1 - rate / peak * decay
            expected[number] -= rate * first / (np.sqrt(second) + epsilon)
        optimizer.step()
    assert 0 < clipped < 8
    for parameter, wanted in zip(layer.parameters(), expected, strict=True):
        assert np.allclose(parameter.detach().numpy(), wanted, rtol=FP64, atol=FP64)


def test_decay_and_cross_read_the_same_rows_and_hide_other_tokens(corpus_directory: Path) -> None:
    corpus = Corpus.open(corpus_directory)
    rows = {name: len(corpus.table(name, 128)) for name in corpus.source_names}
    order = make_order(seed=21, phase="decay", rows=rows, mixture={})
    drawn = order.rows(0, 6)
    decay, cross = (
        training_reader(corpus, order, phase=name, context_length=128).stream(drawn)
        for name in ("decay", "cross")
    )
    assert torch.equal(decay.tokens, cross.tokens)
    assert not (decay.position_keys == cross.position_keys).any()


def test_validation_hides_as_much_as_its_phase(corpus_directory: Path) -> None:
    labels = []
    for mask_rate in (0.15, 0.3):
        recipe = tiny_recipe(phase_mask_rate=mask_rate, validation_rows=64)
        (phase,) = make_phases(recipe, corpus=Corpus.open(corpus_directory))
        labels.append(sum(len(each.task.labels) for each in phase.held_out))
    assert labels[1] / labels[0] == pytest.approx(2, rel=0.2)
