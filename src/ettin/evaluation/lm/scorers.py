"""How likely a masked language model finds a text: exact, and many texts at once.

    scorer = EncoderScorer(model, surroundings, mode="ettin", max_length=8192)
    scorer.score([Pair(context, continuation), …])             # one Answer each
    scorer.generate(prompts, new_tokens=32, is_finished=…)     # tokens, greedily

A mode says what is hidden when a token of the continuation is read (C: its tokens, M: mask; the
mask that is read stands in brackets):

    ettin             [CLS] context C C [M] M M [SEP]     left to right; the [SEP] is read too
    pll               [CLS] context C C [M] C C [SEP]     both sides visible
    pll_within_word   [CLS] context C C [M] M C [SEP]     and the rest of its word hidden

`ettin` is the rule of the paper (after Samuel 2024, "BERTs are Generative In-Context Learners"):
two further masks stand for the future, and the end is part of the score. `pll` is the
pseudo-log-likelihood of Salazar et al. 2020, "Masked Language Model Scoring"; `pll_within_word` the
correction of Kauf and Ivanova 2023, "A Better Way to Do Masked Language Model Scoring".

All right answers are known beforehand, so each token is one independent row. Equal rows are
computed once, for all who ask: the first tokens of all choices after one context always are. Rows
are sorted by length, packed under a budget of tokens, padded on the right and masked, so that a
score does not depend on what it is batched with.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ettin.errors import InputError, nearest
from ettin.evaluation.lm.heads import gathered_logits
from ettin.evaluation.lm.scoring_plan import Pair, planned
from ettin.evaluation.task import halving
from ettin.evaluation.token_probabilities import LOGITS_PER_BATCH, Surroundings

MODES = ("ettin", "pll", "pll_within_word")
FUTURE_MASKS = 2
"""Masks after the one that is read, in mode `ettin`."""
GENERATION_MASKS = 2
"""Masks after a text that is to go on, the one that is read included."""
SHORTEST_MAX_LENGTH = 8
CPU_BATCH_TOKENS = 2048
"""Tokens of a forward pass on a processor at most: more no longer fit into its caches, and 8,192
take a quarter longer (nano, one thread)."""

Progress = Callable[[float], None]
_PAIRS_AT_ONCE = 4096
"""Pairs whose rows are planned together, which bounds the memory that planning takes."""


class Answer(NamedTuple):
    """Log-likelihood in nats, and whether every token was the likeliest one."""

    log_likelihood: float
    is_greedy: bool


class EncoderScorer:
    """Scores and continues texts with a masked language model.

    Args:
        model: a `transformers` model with a masked-language-model head, in evaluation mode.
        surroundings: its special tokens: one to begin with, one to end with, a mask.
        mode: one of `MODES`.
        answer_offset: how far before a hidden token its answer is read: 1 for `mntp`.
        max_length: tokens of an input at most; longer ones lose the left of their text, and keep
            the token that begins it.
        batch_tokens: tokens of one forward pass, padding included; one row may be longer. Halved,
            and kept so, when memory runs out.

    Attributes:
        forwards: forward passes so far.
        single_forwards: how many it would have been, one token at a time.
        shortened: rows that were longer than `max_length`.

    Raises:
        InputError: an unknown mode; no token for an end or a mask; a `max_length` below 8.
    """

    def __init__(
        self,
        model: Any,
        surroundings: Surroundings,
        *,
        mode: str = "ettin",
        answer_offset: int = 0,
        max_length: int = 512,
        batch_tokens: int = 8192,
    ) -> None:
        if mode not in MODES:
            raise InputError(f"unknown mode {mode!r} of scoring an encoder; {nearest(mode, MODES)}")
        if surroundings.mask is None or not surroundings.end:
            raise InputError(
                "an encoder is scored with a token that masks and one that ends a text; this "
                f"tokenizer has {surroundings.mask} and {list(surroundings.end)} for them"
            )
        if max_length < SHORTEST_MAX_LENGTH:
            raise InputError(
                f"max_length {max_length} leaves no room for a text beside masks and special "
                f"tokens; expected at least {SHORTEST_MAX_LENGTH}"
            )
        assert answer_offset in (0, 1)
        self.mode = mode
        self.answer_offset = answer_offset
        self.max_length = max_length
        self._device = next(model.parameters()).device
        self.batch_tokens = batch_tokens
        if self._device.type == "cpu":
            self.batch_tokens = min(batch_tokens, CPU_BATCH_TOKENS)
        self.forwards = self.single_forwards = self.shortened = 0
        self._begin, self._end = surroundings.begin[0], surroundings.end[0]
        self._mask = surroundings.mask
        config = model.config.get_text_config()
        self._pad = getattr(config, "pad_token_id", None) or 0
        self._rows_at_most = max(1, LOGITS_PER_BATCH // config.vocab_size)
        self._logits = gathered_logits(model)

    def score(
        self, pairs: Sequence[Pair], *, advance: Progress = lambda _share: None
    ) -> list[Answer]:
        """Log-likelihoods of continuations, softmax in fp32.

        Args:
            pairs: what to score.
            advance: is told which share is done.

        Returns:
            One answer a pair, in their order.

        Raises:
            InputError: not even one row fits into memory.
        """
        answers: list[Answer] = []
        for start in range(0, len(pairs), _PAIRS_AT_ONCE):
            block = pairs[start : start + _PAIRS_AT_ONCE]

            def advance_block(share: float, start: int = start, size: int = len(block)) -> None:
                advance((start + share * size) / len(pairs))

            answers += self._score(block, advance_block)
        return answers

    def _score(self, pairs: Sequence[Pair], advance: Progress) -> list[Answer]:
        end = self._end if self.mode == "ettin" else None
        plan = planned(pairs, end=end, within_word=self.mode == "pll_within_word")
        self.single_forwards += len(plan.tokens)
        if not plan.rows:
            return [Answer(0.0, is_greedy=True) for _ in pairs]
        lengths = [self._length(pairs[row.pair], row.step) for row in plan.rows]
        # The longest come first: if anything is too large, it shows at once.
        order = np.argsort([-length for length in lengths], kind="stable")
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        # Targets in the order in which their rows are computed: those of a batch are a slice.
        sequence = np.argsort(place[plan.asked], kind="stable")
        asked = place[plan.asked][sequence]
        tokens = torch.from_numpy(plan.tokens[sequence]).to(self._device)
        found: list[Tensor] = []
        greedy: list[Tensor] = []

        def read(start: int, logits: Tensor) -> None:
            first, last = np.searchsorted(asked, [start, start + len(logits)])
            rows = torch.from_numpy(asked[first:last] - start).to(self._device)
            wanted = tokens[first:last]
            found.append(logits[rows, wanted] - logits.logsumexp(1)[rows])
            greedy.append(logits.argmax(1)[rows] == wanted)
            advance((start + len(logits)) / len(order))

        def build(number: int) -> tuple[list[int], int]:
            row = plan.rows[order[number]]
            return self._input(pairs[row.pair], row.step)

        self._run([lengths[number] for number in order], build, read)
        # Summed on the processor, in one order and in double precision: the same every time.
        pair_of = plan.pairs[sequence]
        values = torch.cat(found).double().cpu().numpy()
        sums = np.bincount(pair_of, weights=values, minlength=len(pairs))
        all_greedy = np.ones(len(pairs), dtype=np.bool_)
        np.logical_and.at(all_greedy, pair_of, torch.cat(greedy).cpu().numpy())
        return [
            Answer(value, is_greedy)
            for value, is_greedy in zip(sums.tolist(), all_greedy.tolist(), strict=True)
        ]

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        *,
        new_tokens: int,
        is_finished: Callable[[Sequence[int]], bool] = lambda _tokens: False,
        advance: Progress = lambda _share: None,
    ) -> list[list[int]]:
        """Greedy continuations, all prompts one token a step.

        The input is `[CLS] prompt generated [M] M [SEP]`, the published rule: of its three masks
        the last is overwritten by the end.

        Args:
            prompts: tokens without special ones.
            new_tokens: at most so many are made of each.
            is_finished: told the tokens made so far, says whether to stop there.
            advance: is told which share is done.

        Returns:
            The new tokens of each prompt, without the end.
        """
        made: list[list[int]] = [[] for _ in prompts]
        live = list(range(len(prompts))) if new_tokens > 0 else []
        for step in range(new_tokens):
            if not live:
                break
            chosen = self._next_tokens([[*prompts[each], *made[each]] for each in live])
            still = []
            for number, token in zip(live, chosen, strict=True):
                if token != self._end:
                    made[number].append(token)
                    if not is_finished(made[number]):
                        still.append(number)
            live = still
            advance(max(1 - len(live) / len(prompts), (step + 1) / new_tokens))
        return made

    def _next_tokens(self, texts: list[list[int]]) -> list[int]:
        """The likeliest token after each text."""
        inputs = [self._unfinished(text) for text in texts]
        order = sorted(range(len(inputs)), key=lambda number: -len(inputs[number][0]))
        chosen = [0] * len(texts)

        def read(start: int, logits: Tensor) -> None:
            for place, token in enumerate(logits.argmax(1).tolist()):
                chosen[order[start + place]] = token

        self._run(
            [len(inputs[number][0]) for number in order], lambda place: inputs[order[place]], read
        )
        self.single_forwards += len(texts)
        return chosen

    def _unfinished(self, text: list[int]) -> tuple[list[int], int]:
        """The input that asks what comes after a text, and where to read."""
        tail = [self._mask] * GENERATION_MASKS + [self._end]
        tokens = self._fitted(text, len(tail))
        return [self._begin, *tokens, *tail], 1 + len(tokens) - self.answer_offset

    def _length(self, pair: Pair, step: int) -> int:
        size = len(pair.context) + (step if self.mode == "ettin" else len(pair.continuation))
        masks = 1 + FUTURE_MASKS if self.mode == "ettin" else 0
        return min(1 + size + masks + 1, self.max_length)

    def _input(self, pair: Pair, step: int) -> tuple[list[int], int]:
        """The input that asks for token `step` of a pair's continuation, and where to read."""
        if self.mode == "ettin":
            tail = [self._mask] * (1 + FUTURE_MASKS) + [self._end]
            tokens = self._fitted([*pair.context, *pair.continuation[:step]], len(tail))
            return [self._begin, *tokens, *tail], 1 + len(tokens) - self.answer_offset
        text = [*pair.context, *pair.continuation]
        first = len(pair.context) + step
        text[first] = self._mask
        if self.mode == "pll_within_word":
            for later in range(step + 1, len(pair.continuation)):
                if pair.words[later] != pair.words[step]:
                    break
                text[len(pair.context) + later] = self._mask
        # The left is cut first, as far as the mask allows; the rest of it on the right.
        cut = max(0, len(text) + 2 - self.max_length)
        self.shortened += cut > 0
        left = min(cut, first)
        text = text[left : len(text) - (cut - left)]
        return [self._begin, *text, self._end], 1 + first - left - self.answer_offset

    def _fitted(self, tokens: list[int], tail: int) -> list[int]:
        """As much of a text's right end as there is room for beside its begin and its tail."""
        room = self.max_length - 1 - tail
        self.shortened += len(tokens) > room
        return tokens[max(0, len(tokens) - room) :]

    def _run(
        self,
        lengths: Sequence[int],
        build: Callable[[int], tuple[list[int], int]],
        read: Callable[[int, Tensor], None],
    ) -> None:
        """Logits of rows that are sorted by length, batch after batch.

        Args:
            lengths: of the rows, longest first.
            build: tokens of a row, and the position to read.
            read: is given the number of a batch's first row, and logits [rows, vocabulary].
        """
        done = 0

        def run(batch_tokens: int) -> None:
            nonlocal done
            self.batch_tokens = batch_tokens
            while done < len(lengths):
                size = max(1, min(self._rows_at_most, batch_tokens // lengths[done]))
                batch = range(done, min(done + size, len(lengths)))
                read(done, self._forward([build(number) for number in batch]))
                done = batch.stop

        # What is done stays done: with less memory it goes on from there.
        halving(self.batch_tokens, run)

    @torch.inference_mode()
    def _forward(self, rows: list[tuple[list[int], int]]) -> Tensor:
        self.forwards += 1
        width = max(len(tokens) for tokens, _ in rows)
        padded = np.full((len(rows), width), self._pad, dtype=np.int64)
        attended = np.zeros((len(rows), width), dtype=np.int64)
        for place, (tokens, _) in enumerate(rows):
            padded[place, : len(tokens)] = tokens
            attended[place, : len(tokens)] = 1
        read = torch.tensor([position for _, position in rows], device=self._device)
        inputs, mask = (torch.from_numpy(each).to(self._device) for each in (padded, attended))
        return self._logits(inputs, mask, read)
