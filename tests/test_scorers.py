"""Scoring with an encoder: as exact as one token at a time, in far fewer forward passes."""

import random

import pytest
import torch
import transformers

from ettin.errors import InputError
from ettin.evaluation.lm.heads import gathered_logits
from ettin.evaluation.lm.scorers import MODES, Answer, EncoderScorer
from ettin.evaluation.lm.scoring_plan import Pair, planned
from ettin.evaluation.token_probabilities import Surroundings
from tests.stock_models import stock
from tests.tolerances import SCORE

BEGIN, END, PAD, MASK = 0, 1, 2, 3
SPECIAL = Surroundings((BEGIN,), (END,), MASK)
VOCABULARY = 512


@pytest.fixture(scope="module")
def model():
    """A random encoder; its attention counts for more, or what is read at a mask hardly depends
    on the text around it."""
    made = stock("encoder")
    with torch.no_grad():
        for layer in made.model.layers:
            layer.attn.Wo.weight.mul_(8)
    return made


def made_up_pairs(count: int, *, seed: int = 0) -> list[Pair]:
    """Contexts with several continuations each, of which many begin alike, and some are equal."""
    draw = random.Random(seed)

    def tokens(least: int, most: int) -> tuple[int, ...]:
        return tuple(draw.randrange(4, VOCABULARY) for _ in range(draw.randint(least, most)))

    pairs: list[Pair] = []
    while len(pairs) < count:
        context, beginning = tokens(0, 24), tokens(1, 3)
        for _ in range(4):
            continuation = (*beginning[: draw.randint(0, 3)], *tokens(1, 5))
            words = tuple(sorted(draw.randrange(3) for _ in continuation))
            pairs.append(Pair(context, continuation, words))
    return pairs[:count]


@torch.no_grad()
def one_at_a_time(model, pair: Pair, *, mode: str, offset: int) -> Answer:
    """The definition, token by token: one forward pass each, no padding, the model's own logits."""
    total, greedy = 0.0, True
    continuation = (*pair.continuation, END) if mode == "ettin" else pair.continuation
    for step, token in enumerate(continuation):
        before = [BEGIN, *pair.context, *continuation[:step]]
        after = [MASK, MASK, END] if mode == "ettin" else [*continuation[step + 1 :], END]
        if mode == "pll_within_word":
            for later in range(step + 1, len(continuation)):
                if pair.words[later] == pair.words[step]:
                    after[later - step - 1] = MASK
        row = model(input_ids=torch.tensor([[*before, MASK, *after]])).logits[0]
        logits = row[len(before) - offset].log_softmax(-1)
        total += logits[token].item()
        greedy &= logits.argmax().item() == token
    return Answer(total, greedy)


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("mode", MODES)
def test_scores_equal_one_forward_pass_a_token(model, mode, offset):
    pairs = made_up_pairs(200)
    scorer = EncoderScorer(model, SPECIAL, mode=mode, answer_offset=offset, batch_tokens=2048)
    found = scorer.score(pairs)
    expected = [one_at_a_time(model, pair, mode=mode, offset=offset) for pair in pairs]
    assert len({round(each.log_likelihood, 3) for each in expected}) > 150
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.log_likelihood == pytest.approx(theirs.log_likelihood, abs=SCORE)
        assert ours.is_greedy == theirs.is_greedy
    tokens = sum(len(pair.continuation) + (mode == "ettin") for pair in pairs)
    assert scorer.single_forwards == tokens
    assert scorer.forwards < tokens / 10


@pytest.mark.parametrize("mode", MODES)
def test_scores_do_not_depend_on_the_batch(model, mode):
    pairs = made_up_pairs(40)
    scores = []
    for batch_tokens in (1, 100, 10_000):
        scorer = EncoderScorer(model, SPECIAL, mode=mode, batch_tokens=batch_tokens)
        scores.append([answer.log_likelihood for answer in scorer.score(pairs)])
        if batch_tokens == 1:
            assert scorer.forwards > 40
    assert scores[1] == pytest.approx(scores[0], abs=SCORE)
    assert scores[2] == pytest.approx(scores[0], abs=SCORE)


def test_the_three_modes_differ(model):
    pair = Pair((20, 30, 40), (50, 60, 70), (0, 0, 1))
    found = {
        round(EncoderScorer(model, SPECIAL, mode=mode).score([pair])[0].log_likelihood, 2)
        for mode in MODES
    }
    assert len(found) == 3


def test_greedy_needs_every_token_the_end_included(model):
    scorer = EncoderScorer(model, SPECIAL)
    context = (20, 30, 40)
    logits = gathered_logits(model)
    tokens: list[int] = []
    while len(tokens) < 3:
        row = torch.tensor([[BEGIN, *context, *tokens, MASK, MASK, MASK, END]])
        read = torch.tensor([1 + len(context) + len(tokens)])
        tokens.append(int(logits(row, torch.ones_like(row), read).argmax()))
    assert END not in tokens
    # All three are the likeliest, but the text does not end there.
    assert scorer.score([Pair(context, tuple(tokens))])[0].is_greedy is False
    with torch.no_grad():
        model.decoder.bias[END] += 1e4
    try:
        assert scorer.score([Pair(context, ())])[0].is_greedy is True
    finally:
        with torch.no_grad():
            model.decoder.bias[END] -= 1e4


def test_choices_after_one_context_share_the_rows_of_what_they_begin_with():
    choices = [Pair((5, 6), (7, 8)), Pair((5, 6), (7, 9)), Pair((5,), (6, 7, 8))]
    plan = planned(choices, end=END)
    # "5", "5 6", "5 6 7", "5 6 7 8", "5 6 7 9" are all that is ever visible.
    assert len(plan.rows) == 5
    assert len(plan.tokens) == 3 + 3 + 4
    both_sides = planned([*choices, choices[0]], end=None)
    # The same text: two of its tokens are asked for by the first pair, three by the third.
    assert len(both_sides.rows) == 2 + 2 + 1
    assert len(both_sides.tokens) == 2 + 2 + 3 + 2
    first, third = both_sides.asked[:2].tolist(), both_sides.asked[4:7].tolist()
    assert third[1:] == first, "the mask is at the same places of the same text"
    assert third[0] not in first


@pytest.mark.parametrize("mode", MODES)
def test_long_texts_lose_their_left_but_keep_their_beginning(model, mode):
    continuation = (50, 60)
    long = Pair(tuple(range(10, 60)), continuation, (0, 1))
    scorer = EncoderScorer(model, SPECIAL, mode=mode, max_length=20)
    (found,) = scorer.score([long])
    assert scorer.shortened > 0
    # Left to right there are four tokens after the text; with both sides visible only the end.
    expected = []
    for step in range(3 if mode == "ettin" else 2):
        room = 20 - 1 - 4 - step if mode == "ettin" else 20 - 2 - len(continuation)
        shorter = Pair(long.context[-room:], continuation, long.words)
        expected.append(shorter)
    if mode == "ettin":
        total = sum(step_of(model, pair, step=step) for step, pair in enumerate(expected))
    else:
        total = one_at_a_time(model, expected[0], mode=mode, offset=0).log_likelihood
    assert found.log_likelihood == pytest.approx(total, abs=SCORE)
    unlimited = EncoderScorer(model, SPECIAL, mode=mode).score([long])[0]
    assert unlimited.log_likelihood != pytest.approx(total, abs=SCORE)


@torch.no_grad()
def step_of(model, pair: Pair, *, step: int) -> float:
    """log p of one token of a continuation, by the published rule."""
    continuation = (*pair.continuation, END)
    before = [BEGIN, *pair.context, *continuation[:step]]
    row = model(input_ids=torch.tensor([[*before, MASK, MASK, MASK, END]])).logits[0]
    return row[len(before)].log_softmax(-1)[continuation[step]].item()


@pytest.mark.parametrize("offset", [0, 1])
def test_generation_equals_one_prompt_at_a_time(model, offset):
    prompts = [pair.context for pair in made_up_pairs(24, seed=3)[::4]]
    scorer = EncoderScorer(model, SPECIAL, answer_offset=offset, batch_tokens=64)
    stops = lambda tokens: sum(tokens) % 3 == 0  # noqa: E731
    found = scorer.generate(prompts, new_tokens=6, is_finished=stops)
    expected = []
    for prompt in prompts:
        made: list[int] = []
        while len(made) < 6:
            row = torch.tensor([[BEGIN, *prompt, *made, MASK, MASK, END]])
            with torch.no_grad():
                logits = model(input_ids=row).logits[0, 1 + len(prompt) + len(made) - offset]
            if logits.argmax().item() == END:
                break
            made.append(int(logits.argmax()))
            if stops(made):
                break
        expected.append(made)
    assert found == expected
    assert len({len(made) for made in expected}) > 1
    assert len({tuple(made) for made in expected}) > 3
    assert scorer.forwards < scorer.single_forwards


def test_a_batch_that_does_not_fit_is_halved_and_loses_nothing(model, told):
    pairs = made_up_pairs(40)
    expected = EncoderScorer(model, SPECIAL).score(pairs)
    scorer = EncoderScorer(model, SPECIAL, batch_tokens=4096)
    forward = model.model.forward

    def small_memory(**inputs):
        if inputs["input_ids"].numel() > 300:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2 GiB")
        return forward(**inputs)

    model.model.forward = small_memory
    try:
        found = scorer.score(pairs)
    finally:
        del model.model.forward
    assert "half the batch" in told.text
    assert scorer.batch_tokens == 256
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.log_likelihood == pytest.approx(theirs.log_likelihood, abs=SCORE)


CONFIG = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
    "num_attention_heads": 2, "pad_token_id": PAD,
}  # fmt: skip


@pytest.mark.parametrize("name", ["Bert", "Roberta", "Albert", "Electra"])
def test_other_models_are_scored_through_their_own_heads(name, told):
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**CONFIG, embedding_size=32)
    other = getattr(transformers, f"{name}ForMaskedLM")(config).eval()
    pairs = made_up_pairs(8)
    for answer, pair in zip(EncoderScorer(other, SPECIAL).score(pairs), pairs, strict=True):
        expected = one_at_a_time(other, pair, mode="ettin", offset=0)
        assert answer.log_likelihood == pytest.approx(expected.log_likelihood, abs=SCORE)
    # ELECTRA's generator has a head of two parts under names of its own.
    assert ("slower" in told.text) == (name == "Electra")


class Softened(transformers.ModernBertForMaskedLM):
    """A model that does more to its logits than its head."""

    def forward(self, **inputs):
        output = super().forward(**inputs)
        output.logits = output.logits / 2
        return output


def test_a_head_that_is_not_all_of_it_is_not_taken_for_it(model, told):
    softened = Softened(model.config).eval()
    softened.load_state_dict(model.state_dict())
    (pair,) = made_up_pairs(1)
    (answer,) = EncoderScorer(softened, SPECIAL).score([pair])
    expected = one_at_a_time(softened, pair, mode="ettin", offset=0)
    assert answer.log_likelihood == pytest.approx(expected.log_likelihood, abs=SCORE)
    assert "slower" in told.text


def test_no_requests_have_no_answers(model):
    assert EncoderScorer(model, SPECIAL).score([]) == []


def test_what_cannot_be_scored_is_refused(model):
    with pytest.raises(InputError, match="did you mean 'pll'"):
        EncoderScorer(model, SPECIAL, mode="pl")
    with pytest.raises(InputError, match="a token that masks"):
        EncoderScorer(model, Surroundings((BEGIN,), (END,), None))
    with pytest.raises(InputError, match="at least 8"):
        EncoderScorer(model, SPECIAL, max_length=6)
