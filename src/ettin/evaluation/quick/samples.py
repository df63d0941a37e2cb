"""A first look at an export through stock `transformers`: what it fills in, how it goes on.

Texts come from the held-out documents of a corpus, so the model has not seen them. An encoder
fills single masked tokens; a decoder continues a beginning greedily, once with its key-value
cache and once without, which must give the same text, and once by drawing with a fixed seed. Texts
are chosen by position, so the same export gives the same page.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ettin import files
from ettin.console import log
from ettin.data.corpus import Corpus
from ettin.errors import InputError
from ettin.evaluation.models import EvaluatedModel
from ettin.files import Json
from ettin.records import SAMPLES as FILE
from ettin.records import folder_of
from ettin.tokenizer import Tokenizer, load_tokenizer

TASK = "quick/samples"

SAMPLES = 6
CONTEXT_TOKENS = 40
NEW_TOKENS = 32
PREDICTIONS = 3
TEMPERATURE, TOP_K, SAMPLING_SEED = 0.8, 40, 21

_AUTO_CLASSES = {"modernbert": "AutoModelForMaskedLM", "modernbert-decoder": "AutoModelForCausalLM"}


@dataclass(frozen=True)
class Passage:
    """A beginning of a held-out document: BOS and at least `CONTEXT_TOKENS` tokens, and its id."""

    tokens: list[int]
    document: str


def samples(
    given: EvaluatedModel,
    *,
    corpus_path: Path,
    out: Path,
    command: list[str],
    begin: Callable[[], None] = lambda: None,
) -> Json:
    """Load an export as a stranger would, and write `samples.json`, unless it is there already.

    Args:
        given: an export.
        corpus_path: the corpus whose held-out documents are used; same tokenizer as the model.
        out: results directory; a folder for this model is made in it.
        command: the command line.
        begin: called before anything is computed.

    Returns:
        What was written, with `path` added.

    Raises:
        InputError: not an export, or another tokenizer than the corpus's.
        RuntimeError: generation with and without cache differs.
    """
    corpus, model, config = Corpus.open(corpus_path), given.path, given.config
    tokenizer = load_tokenizer(model)
    if not _fits(tokenizer, corpus):
        raise InputError(f"{model} and {corpus_path} have different tokenizers")
    found = passages(corpus, count=SAMPLES)
    described = config.get("ettin", {})
    made_from = {
        "weights": given.weights,
        "model_files": given.surroundings,
        "corpus": corpus.fingerprint,
    }
    folder = folder_of(out, model=given.name, weights=given.weights, task=TASK).parent
    path = folder / FILE
    if path.exists() and files.read_json(path).get("made_from") == made_from:
        log.info("%s: samples are made already", given.name)
        return {**files.read_json(path), "path": str(path.absolute())}
    begin()
    loaded = _load(model, config)
    result: Json = {
        "kind": "samples",
        "made_from": made_from,
        "model": given.name,
        "objective": described.get("objective"),
        "tag": described.get("tag"),
        "tokens": described.get("tokens"),
        "versions": files.versions("torch", "transformers"),
        "command": command,
        "fill_mask": [],
        "generation": [],
    }
    if config["model_type"] == "modernbert":
        offset = 1 if described.get("objective") == "mntp" else 0
        result["fill_mask"] = [
            _fill(loaded, tokenizer, passage, offset=offset) for passage in found
        ]
    else:
        texts = [_continue(loaded, tokenizer, passage) for passage in found]
        result["cache_equal"] = all(text.pop("cache_equal") for text in texts)
        result["generation"] = texts
        if not result["cache_equal"]:
            raise RuntimeError(f"{model}: generation with and without cache differs")
    files.write_json(path, result)
    log.info("%s: loads in transformers, samples in %s", model, folder)
    return {**result, "path": str(path.absolute())}


def can_show(model: EvaluatedModel, corpus_path: Path) -> bool:
    """Whether a model is one of the two classes that we export, with the corpus's tokenizer."""
    if model.config.get("model_type") not in _AUTO_CLASSES:
        return False
    return _fits(load_tokenizer(model.path), Corpus.open(corpus_path))


def _fits(tokenizer: Tokenizer, corpus: Corpus) -> bool:
    same = tokenizer.special == corpus.special
    return same and tokenizer.padded_size == corpus.padded_vocab_size


def passages(corpus: Corpus, *, count: int) -> list[Passage]:
    """Beginnings of held-out documents that are long enough, spread over the sources."""
    found: list[Passage] = []
    length = min(corpus.facts["context_lengths"])
    for source in corpus.source_names:
        table = corpus.table(source, length, split="held-out")
        wanted = -(-count // len(corpus.source_names))
        mine: list[Passage] = []
        for row in range(len(table)):
            tokens, lengths = table.tokens(row)
            start = 0
            for chunk, size in zip(table.chunks(row), lengths.tolist(), strict=True):
                if chunk.start == 0 and size > CONTEXT_TOKENS:
                    passage = tokens[start : start + size].tolist()
                    mine.append(Passage(passage, table.document_id(chunk.document)))
                start += size
            if len(mine) >= wanted:
                break
        found += mine[:wanted]
    return found[:count]


def _load(model: Path, config: Json) -> Any:
    import transformers

    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    if config.get("model_type") not in _AUTO_CLASSES:
        known = ", ".join(_AUTO_CLASSES)
        raise InputError(f"{model}: model_type {config.get('model_type')!r}, expected {known}")
    auto = getattr(transformers, _AUTO_CLASSES[config["model_type"]])
    return auto.from_pretrained(model, dtype=torch.float32, local_files_only=True).eval()


@torch.no_grad()
def _fill(model: Any, tokenizer: Any, passage: Passage, *, offset: int) -> Json:
    """Mask one token in the middle of a passage and look at the best answers."""
    tokens = passage.tokens[: 2 * CONTEXT_TOKENS]
    place = _interesting(tokenizer, tokens)
    answer = tokens[place]
    masked = [*tokens[:place], tokenizer.special.mask, *tokens[place + 1 :]]
    logits = model(input_ids=torch.tensor([masked])).logits[0, place - offset]
    best = logits.softmax(-1).topk(PREDICTIONS)
    return {
        "document": passage.document,
        "text": tokenizer.decode(masked[1:place])
        + "[MASK]"
        + tokenizer.decode(
            [token for token in masked[place + 1 :] if token != tokenizer.special.eos]
        ),
        "mask_answer": tokenizer.decode([answer]),
        "predictions": [
            {"token": tokenizer.decode([token]), "probability": probability}
            for probability, token in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ],
    }


def _interesting(tokenizer: Any, tokens: list[int]) -> int:
    """The place nearest the middle whose token holds a letter, for a sample that says something."""
    middle = len(tokens) // 2
    for place in sorted(range(2, len(tokens) - 1), key=lambda place: abs(place - middle)):
        if any(character.isalpha() for character in tokenizer.decode([tokens[place]])):
            return place
    return middle


@torch.no_grad()
def _continue(model: Any, tokenizer: Any, passage: Passage) -> Json:
    """Greedy continuation, with and without cache, and a drawn one."""
    prompt = torch.tensor([passage.tokens[: CONTEXT_TOKENS + 1]])
    outputs = [
        model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            use_cache=use_cache,
        )[0, prompt.shape[1] :].tolist()
        for use_cache in (True, False)
    ]
    torch.manual_seed(SAMPLING_SEED)
    drawn = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=NEW_TOKENS,
        do_sample=True,
        temperature=TEMPERATURE,
        top_k=TOP_K,
    )[0, prompt.shape[1] :].tolist()
    special = set(tokenizer.special)
    return {
        "document": passage.document,
        "prompt": tokenizer.decode(prompt[0, 1:].tolist()),
        "text": tokenizer.decode([token for token in outputs[0] if token not in special]),
        "drawn": tokenizer.decode([token for token in drawn if token not in special]),
        "cache_equal": outputs[0] == outputs[1],
    }
