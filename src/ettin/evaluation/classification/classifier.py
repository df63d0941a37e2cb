"""A pre-trained model with a classifier on top, loaded so that twins start alike.

    hidden states ─▶ pooled (cls, mean or last) ─▶ the model's own head ─▶ linear ─▶ answers

The stock classes load their heads unequally: an encoder's masked-language head is called `head` in
both of its classes and arrives; a decoder's is `lm_head` in its language model and `head` in its
classifier, so it would start random, with no more than a note. Here it is renamed on the way in,
and a weight that would start random, other than the classifier's own, is an error. The new linear
layer has a bias and the same first weights for both kinds.

The last token is found by the attention mask, never by its id: a padding id that equals the
end-of-sequence id does no harm, and a model without padding id works.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ettin.errors import InputError
from ettin.evaluation.models import EvaluatedModel

_PAIRED = ("modernbert", "modernbert-decoder")
_RENAMED = {"^lm_head": "head"}
"""Of the decoder's language model, to what its classifier calls it."""
_OUTPUT = ("classifier.", "score.", "pre_classifier.")
_POOLERS = (".pooler.", "pooler.")
"""Layers that some models from elsewhere begin to learn in fine-tuning only."""


@dataclass(frozen=True)
class Encoded:
    """Token ids of one example, and which text each belongs to where the model wants that."""

    tokens: list[int]
    types: list[int] | None = None

    def __len__(self) -> int:
        return len(self.tokens)


def pooling_of(model: EvaluatedModel, asked: str | None) -> str:
    """How hidden states become one vector: as asked, or by kind.

    Encoders take what their configuration says (`classifier_pooling`), else the first token;
    decoders take the last, the only one that has seen the whole text.

    Args:
        model: what is fine-tuned.
        asked: `cls`, `mean`, `last` or None.

    Raises:
        InputError: the model cannot do it.
    """
    if asked is None:
        stated = str(model.config.get("classifier_pooling", "cls"))
        return "last" if model.kind == "decoder" else stated if _is_paired(model) else "cls"
    if asked not in ("cls", "mean", "last"):
        raise InputError(f"pooling {asked!r}: expected cls, mean or last")
    if asked == "cls" and model.kind == "decoder":
        raise InputError(
            f"{model.where} is a decoder, whose first token sees nothing: pooling last or mean"
        )
    if asked != "cls" and model.kind == "encoder" and not _is_paired(model):
        raise InputError(
            f"{model.where} ({model.config.get('model_type')}) pools its first token; "
            f"pooling {asked} is there for ModernBERT encoders and for decoders"
        )
    return asked


def _is_paired(model: EvaluatedModel) -> bool:
    return model.config.get("model_type") in _PAIRED


class Classifier:
    """A model that is fine-tuned, with its tokenizer.

    Attributes:
        network: the stock model for sequence classification, fp32.
        new: names of the weights that did not come from pre-training.
    """

    def __init__(
        self, model: EvaluatedModel, *, outputs: int, pooling: str, seed: int, device: str
    ) -> None:
        """Load it.

        Args:
            model: what to start from.
            outputs: classes; 1 for regression.
            pooling: `cls`, `mean` or `last`.
            seed: of the new weights.
            device: where it computes.

        Raises:
            InputError: weights of its body or head are not in its files.
        """
        self.kind = model.kind
        self.pooling = pooling
        self.device = torch.device(device)
        self.tokenizer = model.load_tokenizer()
        self.paired = _is_paired(model)
        self.network, self.new = _loaded(model, outputs=outputs, seed=seed)
        if self.paired:
            self.network.classifier = _new_layer(
                self.network.config.hidden_size, outputs, seed=seed
            )
        self.network.to(self.device).eval()

    def encode(self, texts: Sequence[tuple[str, ...]], *, max_length: int) -> list[Encoded]:
        """Token ids, cut to a length; of a pair, the longer text is cut first.

        Encoders get what their own tokenizer makes, `[CLS] a [SEP] b [SEP]`; decoders get
        `[CLS] a` and `[CLS] a [SEP] b`, whatever their tokenizer closes a text with. Decoders that
        begin texts with no token of their own get none, and without a separator their end token
        stands for it.

        Args:
            texts: one or two a example.
            max_length: tokens, special ones included.
        """
        known = getattr(self.network.config, "max_position_embeddings", None) or max_length
        max_length = min(max_length, known)
        columns = [list(column) for column in zip(*texts, strict=True)]
        if self.kind == "encoder":
            made = self.tokenizer(*columns, truncation=True, max_length=max_length)
            types = made.get("token_type_ids") or [None] * len(texts)
            return [Encoded(*each) for each in zip(made["input_ids"], types, strict=True)]
        opening, between = self._special_tokens()
        parts = [
            self.tokenizer(column, add_special_tokens=False)["input_ids"] for column in columns
        ]
        if len(parts) == 1:
            # A text without a token would have nothing to be read at.
            nothing = opening or [self.tokenizer.eos_token_id or 0]
            return [Encoded([*opening, *each][:max_length] or nothing) for each in parts[0]]
        room = max_length - len(opening) - len(between)
        pairs = [_cut(first, second, room) for first, second in zip(*parts, strict=True)]
        return [Encoded([*opening, *first, *between, *second]) for first, second in pairs]

    def _special_tokens(self) -> tuple[list[int], list[int]]:
        """What a decoder's texts begin with, and what stands between two of them."""
        first = self.tokenizer("a")["input_ids"][0]
        opening = (
            [first] if first in (self.tokenizer.bos_token_id, self.tokenizer.cls_token_id) else []
        )
        separator = self.tokenizer.sep_token_id
        if separator is None:
            separator = self.tokenizer.eos_token_id
        return opening, [] if separator is None else [separator]

    def answers(self, batch: Sequence[Encoded]) -> Tensor:
        """What the classifier says, `[examples, outputs]`, fp32; padded on the right."""
        longest = max(len(each) for each in batch)
        filler = self.tokenizer.pad_token_id or 0
        inputs = {
            "input_ids": self._padded([each.tokens for each in batch], longest, filler),
            "attention_mask": self._padded([[1] * len(each) for each in batch], longest, 0),
        }
        if batch[0].types is not None:
            inputs["token_type_ids"] = self._padded(
                [each.types or [] for each in batch], longest, 0
            )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.uses_bf16):
            return self._pooled_answers(inputs).float()

    def _pooled_answers(self, inputs: dict[str, Tensor]) -> Tensor:
        network = self.network
        if not self.paired and self.pooling == "cls":
            return network(**inputs).logits  # type: ignore[no-any-return]
        hidden = network.base_model(**inputs).last_hidden_state
        state = pooled(hidden, inputs["attention_mask"], how=self.pooling)
        # The head works on each position alone: before or after `cls` and `last` is the same.
        if self.paired:
            return network.classifier(network.drop(network.head(state)))  # type: ignore[no-any-return]
        return network.score(state)  # type: ignore[no-any-return]

    @property
    def uses_bf16(self) -> bool:
        """Whether matrices are multiplied in bfloat16: on GPUs that have it."""
        return self.device.type == "cuda" and torch.cuda.is_bf16_supported()

    def _padded(self, rows: Sequence[list[int]], longest: int, filler: int) -> Tensor:
        table = [row + [filler] * (longest - len(row)) for row in rows]
        return torch.tensor(table, device=self.device)

    def state(self) -> dict[str, Tensor]:
        """A copy of all weights, on the CPU."""
        weights = self.network.state_dict()
        return {name: each.detach().cpu().clone() for name, each in weights.items()}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Take over all weights of a `state`."""
        self.network.load_state_dict(state)

    def save(self, path: Path) -> None:
        """Write all weights as safetensors."""
        from safetensors.torch import save_file

        save_file({name: each.contiguous() for name, each in self.state().items()}, path)

    def start_from(self, path: Path) -> None:
        """Take over all weights that another task's fine-tuning `save`d, but the output layer's."""
        from safetensors.torch import load_file

        stored = {
            name: each for name, each in load_file(path).items() if not name.startswith(_OUTPUT)
        }
        missing, unexpected = self.network.load_state_dict(stored, strict=False)
        wrong = [name for name in missing if not name.startswith(_OUTPUT)] + list(unexpected)
        assert not wrong, f"{path} does not fit: {', '.join(wrong)}"


def pooled(hidden: Tensor, mask: Tensor, *, how: str) -> Tensor:
    """One vector a row.

    Args:
        hidden: `[rows, positions, width]`.
        mask: `[rows, positions]`, 1 where there is a token; rows begin with one.
        how: `cls`: the first token's; `last`: the last token's; `mean` over the tokens.

    Returns:
        `[rows, width]`.
    """
    if how == "cls":
        return hidden[:, 0]
    if how == "last":
        places = torch.arange(mask.shape[1], device=mask.device)
        last = (places * mask).argmax(-1)
        return hidden[torch.arange(len(hidden), device=mask.device), last]
    weights = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weights).sum(1) / weights.sum(1)


def _cut(first: list[int], second: list[int], room: int) -> tuple[list[int], list[int]]:
    """Cut the longer one until both fit; equal halves where both are too long."""
    half = room // 2
    if len(first) + len(second) <= room:
        return first, second
    if len(first) <= half:
        return first, second[: room - len(first)]
    if len(second) <= half:
        return first[: room - len(second)], second
    return first[: room - half], second[:half]


def _loaded(model: EvaluatedModel, *, outputs: int, seed: int) -> tuple[Any, list[str]]:
    """The stock classifier, and the names of its weights that are new.

    `EvaluatedModel.load` cannot say what was missing, which is what matters here.
    """
    import transformers

    torch.manual_seed(seed)
    settings: dict[str, Any] = {"num_labels": outputs}
    if model.config.get("model_type") == "modernbert-decoder":
        settings["key_mapping"] = _RENAMED
    before = transformers.utils.logging.get_verbosity()
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    # The report of what was missing is read below, not shown.
    transformers.utils.logging.set_verbosity(logging.ERROR)
    try:
        network, report = transformers.AutoModelForSequenceClassification.from_pretrained(
            model.path,
            dtype=torch.float32,
            local_files_only=True,
            output_loading_info=True,
            **settings,
        )
    except ValueError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{model.where} cannot be fine-tuned as a classifier: {reason}") from error
    finally:
        transformers.utils.logging.set_verbosity(before)
    new = sorted(report["missing_keys"])
    random = list(_random_by_mistake(new, paired=_is_paired(model)))
    if random or report["mismatched_keys"]:
        names = ", ".join([*random, *(str(each) for each in report["mismatched_keys"])])
        raise InputError(
            f"{model.where} lacks weights that fine-tuning starts from: {names} would be random"
        )
    return network, new


def _random_by_mistake(new: list[str], *, paired: bool) -> Iterator[str]:
    """Of the weights that are new, those that pre-training should have given."""
    for name in new:
        if name.startswith(_OUTPUT) or (not paired and any(each in name for each in _POOLERS)):
            continue
        yield name


def _new_layer(width: int, outputs: int, *, seed: int) -> torch.nn.Linear:
    """The classifier: as `transformers` draws it for ModernBERT, but alike for both kinds."""
    layer = torch.nn.Linear(width, outputs)
    generator = torch.Generator().manual_seed(seed)
    deviation = width**-0.5
    with torch.no_grad():
        torch.nn.init.trunc_normal_(
            layer.weight, std=deviation, a=-3 * deviation, b=3 * deviation, generator=generator
        )
        layer.bias.zero_()
    return layer
