"""A tokenizer with one token a word, and models that give words fixed probabilities.

For tests that must know which tokens there are, and what comes out of them.
"""

import math
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from ettin.evaluation.models import EvaluatedModel, open_model
from ettin.records import Kind
from tests.stock_models import stock

SPECIAL = ["[CLS]", "[SEP]", "[PAD]", "[MASK]", "[UNK]"]


def save_word_tokenizer(directory: Path, words: list[str], *, closing: bool) -> dict[str, int]:
    """Write a tokenizer that lower-cases and splits off signs; returns the ids of its tokens.

    Args:
        directory: where it goes.
        words: the vocabulary after the special tokens; any other word is `[UNK]`.
        closing: end a text with `[SEP]`.
    """
    ids = {word: number for number, word in enumerate([*SPECIAL, *dict.fromkeys(words)])}
    backend = Tokenizer(models.WordLevel(ids, unk_token="[UNK]"))
    backend.normalizer = normalizers.Lowercase()
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]" if closing else "[CLS] $A",
        special_tokens=[("[CLS]", ids["[CLS]"]), ("[SEP]", ids["[SEP]"])],
    )
    PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="[CLS]", cls_token="[CLS]", eos_token="[SEP]",
        sep_token="[SEP]", pad_token="[PAD]", mask_token="[MASK]", unk_token="[UNK]",
    ).save_pretrained(directory)  # fmt: skip
    return ids


def with_fixed_probabilities(
    directory: Path, kind: Kind, probabilities: dict[str, float]
) -> EvaluatedModel:
    """A model that gives words these probabilities everywhere, and all others nearly none."""
    filler = [f"filler{number}" for number in range(25)]
    ids = save_word_tokenizer(directory, [*probabilities, *filler], closing=kind == "encoder")
    model = stock(kind, vocab_size=len(ids))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.decoder.bias.fill_(-60)
        for word, probability in probabilities.items():
            model.decoder.bias[ids[word]] = math.log(probability)
    model.save_pretrained(directory)
    return open_model(str(directory))
