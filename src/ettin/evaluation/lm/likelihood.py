"""Both kinds of model as `lm-eval` sees them: texts in, log-likelihoods and continuations out.

    language_model(model, request)      a Decoder or an Encoder, ready for `lm_eval.evaluate`

A decoder is lm-eval's own class around a ready model, with two things made sure of: a text begins
with BOS exactly once, and never ends with a token that the tokenizer's template appends (the first
token of every continuation would otherwise be lost, silently). An encoder is scored by
`scorers.py`: its context begins with [CLS], its continuation is encoded by itself, and spaces
between them belong to the continuation, as everywhere in lm-eval.
"""

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import datasets
import lm_eval.api.task
from lm_eval.api.instance import Instance
from lm_eval.api.model import LM
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import normalize_gen_kwargs
from tokenizers.processors import TemplateProcessing

from ettin.console import log
from ettin.errors import InputError
from ettin.evaluation.lm.scorers import MODES, EncoderScorer
from ettin.evaluation.lm.scoring_plan import Pair
from ettin.evaluation.models import EvaluatedModel
from ettin.evaluation.task import Request, halving
from ettin.evaluation.token_probabilities import LOGITS_PER_BATCH, surroundings_of

LONGEST_GENERATION = 256
"""New tokens where a task names no number; lm-eval's own."""

_PROBE = "the text"
_PIECES = 16
"""Requests are handed to lm-eval in about so many pieces, to show progress between them."""

_Advance = Callable[[float], None]


class Decoder(HFLM):  # type: ignore[misc]  # lm-eval has no types
    """lm-eval's own class for decoders, with batches under a budget of tokens.

    Args:
        model: a ready causal model of `transformers`, on its device.
        tokenizer: one that `decoder_tokenizer` returned.
        batch_tokens: tokens of one forward pass, padding included.
        advance: is told which share of a kind of requests is done.
    """

    def __init__(self, model: Any, tokenizer: Any, *, batch_tokens: int, advance: _Advance) -> None:
        super().__init__(
            pretrained=model,
            tokenizer=tokenizer,
            backend="causal",
            add_bos_token=True,
            batch_size=64,
        )
        # lm-eval keeps the logits of all positions of a batch.
        self._batch_tokens = min(batch_tokens, LOGITS_PER_BATCH // model.config.vocab_size)
        self._advance = advance

    @property
    def max_gen_toks(self) -> int:
        """New tokens at most; half of the context when that is short, or no prompt would fit."""
        return min(LONGEST_GENERATION, int(self.max_length) // 2)

    def loglikelihood(self, requests: list[Instance], **_its_own: Any) -> list[tuple[float, bool]]:
        """lm-eval's, without its bars."""
        found: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return found

    def _loglikelihood_tokens(
        self, requests: list[Any], **_its_own: Any
    ) -> list[tuple[float, bool]]:
        sizes = [len(context) + len(continuation) for _, context, continuation in requests]
        own = super()._loglikelihood_tokens

        def score(piece: list[Any]) -> list[tuple[float, bool]]:
            found: list[tuple[float, bool]] = own(piece, disable_tqdm=True)
            return found

        return self._in_pieces(requests, sizes, score)

    def generate_until(self, requests: list[Instance], **_its_own: Any) -> list[str]:
        """lm-eval's, without its bars."""
        sizes = [len(self.tok_encode(each.args[0])) + self.max_gen_toks for each in requests]
        own = super().generate_until

        def generate(piece: list[Instance]) -> list[str]:
            found: list[str] = own(piece, disable_tqdm=True)
            return found

        return self._in_pieces(requests, sizes, generate)

    def _in_pieces(
        self, requests: list[Any], sizes: list[int], run: Callable[[list[Any]], list[Any]]
    ) -> list[Any]:
        """Results in the order of the requests; the longest are computed first."""
        order = sorted(range(len(requests)), key=lambda number: -sizes[number])
        results: dict[int, Any] = {}
        for piece in _similar(order, sizes):
            rows = max(1, self._batch_tokens // sizes[piece[0]])

            def attempt(rows: int, piece: list[int] = piece) -> list[Any]:
                self.batch_size_per_gpu = rows
                return run([requests[number] for number in piece])

            results.update(zip(piece, halving(rows, attempt), strict=True))
            self._advance(len(results) / len(requests))
        return [results[number] for number in range(len(requests))]


class Encoder(LM):  # type: ignore[misc]  # lm-eval has no types
    """A masked language model, scored and continued by an `EncoderScorer`.

    Args:
        scorer: what scores.
        tokenizer: the model's `transformers` tokenizer.
        advance: is told which share of a kind of requests is done.
    """

    def __init__(self, scorer: EncoderScorer, tokenizer: Any, *, advance: _Advance) -> None:
        super().__init__()
        self.scorer = scorer
        self.tokenizer = tokenizer
        self._advance = advance

    def loglikelihood(self, requests: list[Instance]) -> list[tuple[float, bool]]:
        """(log-likelihood in nats, whether greedy decoding would give it) of each request."""
        pairs = [self._pair(*request.args[:2]) for request in requests]
        answers = self.scorer.score(pairs, advance=self._advance)
        return [(answer.log_likelihood, answer.is_greedy) for answer in answers]

    def loglikelihood_rolling(self, requests: list[Instance]) -> list[float]:
        """Refused: how likely a whole text is has another definition for encoders.

        Raises:
            InputError: always.
        """
        raise InputError(
            f"{requests[0].task_name} asks for the likelihood of whole texts, which is defined for "
            "decoders; for encoders measure text/perplexity"
        )

    def generate_until(self, requests: list[Instance]) -> list[str]:
        """Greedy continuations, cut at their stop strings.

        Raises:
            InputError: the task draws at random.
        """
        wanted = [normalize_gen_kwargs(each.args[1], LONGEST_GENERATION) for each in requests]
        if any(each["do_sample"] for each in wanted):
            raise InputError(
                f"{requests[0].task_name} draws its continuations at random; encoders continue a "
                "text greedily only"
            )
        ends = [(tuple(each["until"]), each["max_gen_toks"]) for each in wanted]
        results: dict[int, str] = {}
        for until, new_tokens in dict.fromkeys(ends):
            numbers = [number for number, each in enumerate(ends) if each == (until, new_tokens)]
            texts = self._continued(
                [requests[number].args[0] for number in numbers], until, new_tokens
            )
            results.update(zip(numbers, texts, strict=True))
        return [results[number] for number in range(len(requests))]

    def _continued(self, prompts: list[str], until: tuple[str, ...], new_tokens: int) -> list[str]:
        def stops(tokens: Sequence[int]) -> bool:
            return _first(until, self._text(tokens)) is not None

        made = self.scorer.generate(
            [self._tokens(prompt) for prompt in prompts],
            new_tokens=new_tokens,
            is_finished=stops,
            advance=self._advance,
        )
        texts = [self._text(tokens) for tokens in made]
        return [text[: _first(until, text)] for text in texts]

    def _pair(self, context: str, continuation: str) -> Pair:
        spaces = context[len(context.rstrip()) :]
        encoded = self.tokenizer(spaces + continuation, add_special_tokens=False)
        words: Sequence[int | None] = ()
        if self.scorer.mode == "pll_within_word":
            words = encoded.word_ids()
        return Pair(
            tuple(self._tokens(context.rstrip())),
            tuple(encoded["input_ids"]),
            tuple(-1 if word is None else word for word in words),
        )

    def _tokens(self, text: str) -> list[int]:
        tokens: list[int] = self.tokenizer.encode(text, add_special_tokens=False)
        return tokens

    def _text(self, tokens: Sequence[int]) -> str:
        return str(self.tokenizer.decode(tokens, skip_special_tokens=True))


def language_model(model: EvaluatedModel, request: Request) -> Decoder | Encoder:
    """A model for lm-eval, on the device that was asked for.

    Args:
        model: what to load, in fp32.
        request: mode, device, batch size, and whom to tell how far it is.

    Raises:
        InputError: no tokenizer, or one without the special tokens that are needed; an unknown
            mode; a tokenizer that cannot tell words, for `pll_within_word`.
    """

    def advance(share: float) -> None:
        request.advance(share, "")

    if model.kind == "decoder":
        tokenizer = decoder_tokenizer(model)
        loaded = model.load_language_model().to(request.device)
        return Decoder(loaded, tokenizer, batch_tokens=request.batch_tokens, advance=advance)
    tokenizer = model.load_tokenizer()
    surroundings = surroundings_of(model, tokenizer)
    if request.mode == MODES[2] and not tokenizer.is_fast:
        raise InputError(
            f"mode {request.mode} needs to know where words begin, which the tokenizer of "
            f"{model.where} cannot tell (it has no tokenizer.json); use mode pll or ettin"
        )
    loaded = model.load_language_model().to(request.device)
    scorer = EncoderScorer(
        loaded,
        surroundings,
        mode=request.mode,
        answer_offset=model.answer_offset,
        max_length=min(
            getattr(loaded.config, "max_position_embeddings", None) or tokenizer.model_max_length,
            tokenizer.model_max_length,
        ),
        batch_tokens=request.batch_tokens,
    )
    return Encoder(scorer, tokenizer, advance=advance)


def decoder_tokenizer(model: EvaluatedModel) -> Any:
    """A tokenizer that puts BOS (if it has one) before a text, once, and nothing after it.

    Whatever template it was exported with is replaced where it does anything else. One that ends
    texts is a defect of the export, and is told.

    Raises:
        InputError: it does something else, and has no template that could be replaced.
    """
    tokenizer = model.load_tokenizer()
    text = tokenizer.encode(_PROBE, add_special_tokens=False)
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    found = tokenizer.encode(_PROBE)
    if found == [*bos, *text]:
        return tokenizer
    if found[-1] != text[-1]:
        log.warning(
            "the tokenizer of %s appends %s to every text, which a decoder cannot go on from; it "
            "is measured without: save it with a template that only begins texts",
            model.where,
            tokenizer.convert_ids_to_tokens(found[-1]),
        )
    if not tokenizer.is_fast:
        raise InputError(
            f"the tokenizer of {model.where} makes {found} of a text whose tokens are {text}, "
            "and has no tokenizer.json whose template could be replaced"
        )
    begin = [tokenizer.bos_token] if bos else []
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=[*begin, "$A"],
        pair=[*begin, "$A", "$B"],
        special_tokens=list(zip(begin, bos, strict=True)),
    )
    assert tokenizer.encode(_PROBE) == [*bos, *text]
    return tokenizer


@contextmanager
def quiet() -> Iterator[None]:
    """Keep lm-eval's remarks and bars to itself; its errors are still said."""
    theirs = logging.getLogger("lm_eval")
    level, bar = theirs.level, lm_eval.api.task.tqdm
    theirs.setLevel(logging.ERROR)
    # The bar over the requests it makes has no switch.
    lm_eval.api.task.tqdm = functools.partial(bar, disable=True)
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        theirs.setLevel(level)
        lm_eval.api.task.tqdm = bar
        datasets.enable_progress_bars()


def _similar(order: list[int], sizes: list[int]) -> Iterator[list[int]]:
    """Pieces of requests sorted by size, none of them twice as long as another of its piece."""
    at_most = -(-len(order) // _PIECES)
    piece: list[int] = []
    for number in order:
        if piece and (len(piece) >= at_most or 2 * sizes[number] < sizes[piece[0]]):
            yield piece
            piece = []
        piece.append(number)
    if piece:
        yield piece


def _first(until: Sequence[str], text: str) -> int | None:
    """Where the first of the stop strings begins in a text, if any does."""
    places = [place for stop in until if stop and (place := text.find(stop)) >= 0]
    return min(places, default=None)
