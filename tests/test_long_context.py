"""Long context is used: seen by global layers, and good for something on text that repeats itself.

A run goes through pre-training at the old length and extension at four times that, as one recipe.
"""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from ettin.data.batches import Stream, held_out_reader, held_out_rows
from ettin.data.corpus import Corpus
from ettin.data.order import Rows
from ettin.model.attention import AttentionPlan
from ettin.model.rotary import rotary_tables
from ettin.model.transformer import GLOBAL_EVERY, Attention, Layer, Transformer
from ettin.objectives import ANSWER_OFFSETS, make_task
from ettin.recipe import Objective, Recipe, visibility_of
from ettin.recipe_file import resolve
from ettin.shape import Shape
from ettin.training.checkpoint import find_checkpoint, load_weights
from ettin.training.step import vocabulary_of
from ettin.training.trainer import train
from tests.repeated_text import LONG_LENGTH, OLD_LENGTH, PASSAGE_WORDS, WORDS, repeated_corpus
from tests.tolerances import STANDARD_ERRORS

REACH = 4
LAYERS = 4
MASK_RATE = 0.3

LATE = LONG_LENGTH - 10
EARLY = LATE - 60
"""A position, and one that it sees in the long context alone and through global layers alone."""

SCORED = 16
"""The last words of a document whose loss is compared; even when the document is cut to the old
length, the first of them has as many words before it."""

MARGIN = 0.3
"""Nats a word by which the whole context has to be better: about a tenth of a word's entropy."""


def two_phases(
    objective: Objective, *, seed: int, pretraining_tokens: int, extension_tokens: int
) -> Recipe:
    """Both phases with 1,024 tokens a step; what is not stated is as published, RoPE bases too.

    The batch grows at first: small models find out how to copy sooner in many small steps.
    """
    return resolve({
        "size": "custom",
        "objective": objective,
        "seed": seed,
        "device": "cpu",
        "peak_lr": 2e-3,
        "weight_decay": 1e-5,
        "attention_output_dropout": 0,
        "shape": {
            "num_hidden_layers": LAYERS, "hidden_size": 128, "intermediate_size": 128,
            "num_attention_heads": 4, "local_reach": REACH,
        },
        "phases": [
            {
                "name": "pretraining", "mixture": {"near": 1}, "context_length": OLD_LENGTH,
                "batch_rows": 32, "tokens": pretraining_tokens,
                "warmup_tokens": round(0.2 * pretraining_tokens),
                "batch_warmup_rows": 8,
                "batch_warmup_tokens": round(0.8 * pretraining_tokens),
            },
            {
                "name": "extension", "mixture": {"far": 1}, "context_length": LONG_LENGTH,
                "batch_rows": 8, "tokens": extension_tokens,
            },
        ],
    })  # fmt: skip


def extended_model(recipe: Recipe, *, corpus: Path, out: Path) -> Transformer:
    """Train through both phases; the model as its last checkpoint has it."""
    train(recipe, out=out, corpus_path=corpus, command=["test"])
    checkpoint = find_checkpoint(str(out))
    state = checkpoint.state
    assert state["phase"] == "extension"
    assert state["context_length"] == LONG_LENGTH
    assert (state["global_rope_theta"], state["local_rope_theta"]) == (160_000, 160_000)
    model = Transformer(
        Shape(**state["shape"]),
        global_rope_theta=state["global_rope_theta"],
        local_rope_theta=state["local_rope_theta"],
    )
    model.load_state_dict(load_weights(checkpoint))
    return model.requires_grad_(False)


def held_out_documents(corpus: Corpus) -> Stream:
    """All held-out documents whose passage comes again beyond the old length, a row each."""
    reader = held_out_reader(corpus, context_length=LONG_LENGTH)
    rows = held_out_rows(reader, 1_000_000)
    wanted = np.flatnonzero(rows.source == reader.sources.index("far"))
    found = reader.stream(Rows(*(column[wanted] for column in rows)))
    assert (found.boundaries.diff() == LONG_LENGTH).all()
    return found


@pytest.fixture(scope="module")
def small_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repeated_corpus(tmp_path_factory.mktemp("small"), documents=200)


@pytest.fixture(scope="module", params=["mlm", "clm"])
def extended(
    request: pytest.FixtureRequest, small_corpus: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Transformer, AttentionPlan, Tensor]:
    """A model after a few steps of each phase, the plan of one row, and two rows: in the second
    one token, at `EARLY`, is another."""
    recipe = two_phases(request.param, seed=21, pretraining_tokens=4_000, extension_tokens=2_000)
    out = tmp_path_factory.mktemp("runs") / request.param
    model = extended_model(recipe, corpus=small_corpus, out=out)
    row = held_out_documents(Corpus.open(small_corpus)).tokens[:LONG_LENGTH]
    words, other = row[1:-1], row.clone()
    other[EARLY] = words[words != row[EARLY]][0]
    plan = AttentionPlan.of(
        torch.tensor([0, LONG_LENGTH]),
        visibility=recipe.visibility,
        reach=REACH,
        device=row.device,
    )
    return model, plan, torch.stack([row, other])


def test_held_out_passages_come_again_beyond_the_old_length_alone(small_corpus):
    documents = held_out_documents(Corpus.open(small_corpus)).tokens.view(-1, LONG_LENGTH)
    shortest, longest = PASSAGE_WORDS["far"]
    assert shortest > OLD_LENGTH
    assert longest + SCORED < LONG_LENGTH
    for words in documents[:, 1:-1]:
        distances = range(1, longest + 1)
        alike = [each for each in distances if torch.equal(words[each:], words[:-each])]
        assert len(alike) == 1
        assert shortest <= alike[0] <= longest


def late_state_moves(
    model: Transformer, plan: AttentionPlan, rows: Tensor, *, boundaries: list[int]
) -> bool:
    """Whether the hidden state at `LATE` differs between two rows, cut at these places."""
    before, after = (
        model(row, torch.tensor(boundaries), visibility=plan.visibility)[LATE] for row in rows
    )
    return not torch.equal(before, after)


def test_a_late_position_sees_a_token_beyond_the_old_length_in_the_long_context_alone(extended):
    assert LATE - EARLY > OLD_LENGTH
    whole, pieces = [0, LONG_LENGTH], list(range(0, LONG_LENGTH + 1, OLD_LENGTH))
    assert late_state_moves(*extended, boundaries=whole)
    assert not late_state_moves(*extended, boundaries=pieces)


def test_only_global_layers_carry_a_token_beyond_the_old_length(extended):
    model, plan, rows = extended
    rotation = rotary_tables(plan.positions, head_size=model.shape.head_size, theta=160_000)
    states = [model.model.embeddings(row) for row in rows]
    moved = {}
    for index, layer in enumerate(model.model.layers):
        assert isinstance(layer, Layer)
        before, after = (
            layer(state, plan=plan, rotation=rotation, dropout=None)[LATE] for state in states
        )
        moved[index] = not torch.equal(before, after)
    assert moved == {index: index % GLOBAL_EVERY == 0 for index in range(LAYERS)}
    assert sum(moved.values()) == model.shape.global_layers == 2


def test_local_layers_alone_do_not_reach_beyond_the_old_length(extended, monkeypatch):
    model, _, _ = extended
    assert LATE - EARLY > REACH * LAYERS
    for layer in model.modules():
        if isinstance(layer, Attention):
            monkeypatch.setattr(layer, "local", True)
    assert not late_state_moves(*extended, boundaries=[0, LONG_LENGTH])


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return repeated_corpus(tmp_path_factory.mktemp("large"), documents=3_000)


def losses(
    model: Transformer, corpus: Corpus, *, objective: Objective
) -> tuple[Tensor, Tensor, Tensor]:
    """Losses in nats, summed over the last words of each held-out document.

    Returns:
        With the whole document and with its last `OLD_LENGTH` tokens, fp32 [documents] each, and
        how many words were scored, int64 [documents]. Words that are asked for but not hidden by
        the mask token do not count, because what stands in their place tells of them.
    """
    documents = held_out_documents(corpus)
    count = len(documents.boundaries) - 1
    task = make_task(
        objective, tokens=documents.tokens, boundaries=documents.boundaries,
        position_keys=documents.position_keys, mask_rate=MASK_RATE,
        vocabulary=vocabulary_of(corpus),
    )  # fmt: skip
    answers = task.positions + ANSWER_OFFSETS[objective]
    before_eos = LONG_LENGTH - 1 - answers % LONG_LENGTH
    scored = (before_eos >= 1) & (before_eos <= SCORED)
    if objective == "mlm":
        scored &= task.inputs[answers] == corpus.special.mask
    row, place = task.positions[scored] // LONG_LENGTH, task.positions[scored] % LONG_LENGTH
    whole = task.inputs.view(count, LONG_LENGTH)
    # A chunk that was cut begins with BOS too.
    cut = torch.cat([whole[:, :1], whole[:, 1 - OLD_LENGTH :]], dim=1)
    found = []
    for inputs in (whole, cut):
        length = inputs.shape[1]
        hidden = model(
            inputs.flatten(),
            torch.arange(0, count * length + 1, length),
            visibility=visibility_of(objective),
        )
        logits = model.logits(hidden[row * length + place - (LONG_LENGTH - length)])
        each = F.cross_entropy(logits, task.labels[scored], reduction="none")
        found.append(torch.zeros(count).index_add(0, row, each))
    return found[0], found[1], row.bincount(minlength=count)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("objective", ["mlm", "clm"])
def test_a_passage_is_read_where_it_stood_beyond_the_old_length(corpus, tmp_path, objective, seed):
    recipe = two_phases(objective, seed=seed, pretraining_tokens=560_000, extension_tokens=100_000)
    model = extended_model(recipe, corpus=corpus, out=tmp_path / "run")
    whole, cut, words = losses(model, Corpus.open(corpus), objective=objective)
    with_whole, with_cut = (float(each.sum() / words.sum()) for each in (whole, cut))
    gain = with_cut - with_whole
    # Documents are independent, their words are not.
    error = float((cut - whole - gain * words).std() * math.sqrt(len(words)) / words.sum())
    told = f"{with_whole:.3f} with all, {with_cut:.3f} cut, gain {gain:.3f} ± {error:.3f}"
    assert gain > MARGIN, told
    assert gain > STANDARD_ERRORS * error, told
    # No model gets below a word's entropy that does not see an earlier copy of the passage.
    assert with_whole < math.log(len(WORDS)) - MARGIN < with_cut, told
