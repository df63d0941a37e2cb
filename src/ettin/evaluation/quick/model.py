"""A model as the `quick` tasks use it: frozen, asked for vectors of texts and for likely lines.

    loaded = load(model, request)
    features(loaded, ["def f():"], pooling="mean")           # float32 [1, hidden_size]
    likelihoods(loaded, [("a context", "a line")])         # nats and tokens of each line
    features(untrained(loaded), …)                           # the same shape with random weights

Every model gets the same texts and cuts them into tokens itself; strings such as `[MASK]` inside
a text stay text. Batches hold texts of about the same length, and padding is hidden from attention.
"""

import copy
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from ettin.errors import InputError
from ettin.evaluation.lm.scorers import EncoderScorer
from ettin.evaluation.lm.scoring_plan import Pair
from ettin.evaluation.models import EvaluatedModel
from ettin.evaluation.task import Request, halving
from ettin.evaluation.token_probabilities import Reading, log_probabilities, surroundings_of

Features = npt.NDArray[np.float32]

POOLINGS = ("mean", "last")
TEXT_TOKENS = 96
"""Of a text that becomes a vector, at most; the rest is not read."""
UNTRAINED_SEED = 21


class Likelihood(NamedTuple):
    """How likely a line is after its context: nats, and the tokens that they are the sum of."""

    nats: float
    tokens: int


@dataclass(frozen=True)
class Loaded:
    """A language model in memory.

    Attributes:
        model: what it was loaded from.
        request: which device, how many tokens at once, whom to tell.
        network: the `transformers` model with its head, on the device, in evaluation mode.
        tokenizer: of `transformers`.
    """

    model: EvaluatedModel
    request: Request
    network: Any
    tokenizer: Any


def load(model: EvaluatedModel, request: Request) -> Loaded:
    """Load a model with the head that it was trained with.

    Raises:
        InputError: it has no tokenizer.
    """
    network = model.load_language_model().to(request.device)
    return Loaded(model, request, network, model.load_tokenizer())


def untrained(loaded: Loaded) -> Loaded:
    """The same model with random weights, as its class draws them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(UNTRAINED_SEED)
        fresh = type(loaded.network)(copy.deepcopy(loaded.network.config))
    return dataclasses.replace(loaded, network=fresh.to(loaded.request.device).eval())


def pooling_of(request: Request) -> str:
    """`mean` for both kinds, unless asked for `last`.

    Raises:
        InputError: asked for anything else.
    """
    pooling = request.pooling or "mean"
    if pooling not in POOLINGS:
        raise InputError(f"quick: pooling {pooling!r}, expected {' or '.join(POOLINGS)}")
    return pooling


def features(loaded: Loaded, texts: Sequence[str], *, pooling: str) -> Features:
    """One vector a text, from the average of the embedding layer's output and the last layer's.

    What a small language model knows of words lies near its embeddings, what it knows of their
    company in its last layer (first-last average: Su et al. 2021, "Whitening Sentence
    Representations for Better Semantics and Faster Retrieval").

    Args:
        loaded: a model.
        texts: at least one; each is cut after `TEXT_TOKENS` tokens.
        pooling: `mean` over all tokens, special ones included, or `last`, the last one.

    Returns:
        float32 [texts, hidden_size].
    """
    longest = min(TEXT_TOKENS, _longest(loaded))
    tokens = [_tokens(loaded, text, special=True)[:longest] for text in texts]
    waiting = sorted(range(len(tokens)), key=lambda number: -len(tokens[number]))
    vectors: dict[int, npt.NDArray[np.float32]] = {}

    def run(budget: int) -> None:
        while waiting:
            batch = waiting[: max(1, budget // max(1, len(tokens[waiting[0]])))]
            pooled = _pooled(loaded, [tokens[number] for number in batch], pooling)
            vectors.update(zip(batch, pooled, strict=True))
            del waiting[: len(batch)]

    halving(loaded.request.batch_tokens, run)
    return np.stack([vectors[number] for number in range(len(tokens))])


def likelihoods(
    loaded: Loaded, questions: Sequence[tuple[str, str]], *, mode: str
) -> list[Likelihood]:
    """How likely lines are after their contexts.

    A decoder is asked for each token given those before it; an encoder by a mode of `scorers`,
    whose published rule counts the end of the text as a token.

    Args:
        loaded: a model.
        questions: contexts with lines.
        mode: how encoders are asked.

    Raises:
        InputError: a tokenizer without the special tokens that this takes.
    """
    surroundings = surroundings_of(loaded.model, loaded.tokenizer)
    pairs = [_pair(loaded, context, line) for context, line in questions]
    if loaded.model.kind == "encoder":
        scorer = EncoderScorer(
            loaded.network,
            surroundings,
            mode=mode,
            answer_offset=loaded.model.answer_offset,
            max_length=_longest(loaded),
            batch_tokens=loaded.request.batch_tokens,
        )
        ended = 1 if mode == "ettin" else 0
        answers = scorer.score(pairs, advance=lambda share: loaded.request.advance(share, ""))
        return [
            Likelihood(answer.log_likelihood, len(pair.continuation) + ended)
            for answer, pair in zip(answers, pairs, strict=True)
        ]
    readings = []
    for pair in pairs:
        room = _longest(loaded) - surroundings.size
        tokens = surroundings.around((*pair.context, *pair.continuation)[-room:])
        places = np.arange(len(tokens) - len(pair.continuation), len(tokens))
        readings.append(Reading(tokens, places - 1, tokens[places]))
    found = log_probabilities(
        loaded.network,
        readings,
        batch_tokens=loaded.request.batch_tokens,
        device=loaded.request.device,
        advance=lambda share: loaded.request.advance(share, ""),
    )
    return [Likelihood(float(each.sum()), len(each)) for each in found]


@torch.inference_mode()
def _pooled(loaded: Loaded, batch: list[list[int]], pooling: str) -> Features:
    """Vectors of a batch; the first text is the longest."""
    tokens = torch.zeros((len(batch), max(1, len(batch[0]))), dtype=torch.long)
    attended = torch.zeros_like(tokens)
    for row, held in enumerate(batch):
        tokens[row, : len(held)] = torch.tensor(held, dtype=torch.long)
        attended[row, : len(held)] = 1
    attended = attended.to(loaded.request.device)
    layers = loaded.network.base_model(
        input_ids=tokens.to(loaded.request.device),
        attention_mask=attended,
        output_hidden_states=True,
    ).hidden_states
    states = (layers[0].float() + layers[-1].float()) / 2
    counts = attended.sum(1).clamp(min=1)
    if pooling == "mean":
        pooled = (states * attended[..., None]).sum(1) / counts[:, None]
    else:
        pooled = states[torch.arange(len(batch), device=states.device), counts - 1]
    vectors: Features = pooled.cpu().numpy()
    return vectors


def _pair(loaded: Loaded, context: str, line: str) -> Pair:
    """Tokens of a context and of what follows; the white space between them belongs to the line,
    since tokens often begin with it.
    """
    before = context.rstrip()
    held = _tokens(loaded, before, special=False)
    whole = _tokens(loaded, context + line, special=False)
    return Pair(tuple(whole[: len(held)]), tuple(whole[len(held) :]))


def _tokens(loaded: Loaded, text: str, *, special: bool) -> list[int]:
    encoded = loaded.tokenizer(
        text, add_special_tokens=special, split_special_tokens=True, verbose=False
    )
    return [int(token) for token in encoded["input_ids"]]


def _longest(loaded: Loaded) -> int:
    """Tokens of the longest input, special ones included."""
    config = loaded.network.config.get_text_config()
    stated = (getattr(config, key, None) for key in ("max_position_embeddings", "n_positions"))
    # Positions of RoBERTa and its like begin after the padding's.
    return min((int(each) for each in stated if each), default=512)
