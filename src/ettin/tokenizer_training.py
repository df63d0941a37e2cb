"""Learn a byte-level BPE from text.

    train_tokenizer(texts, vocab_size=8192, out=Path("tokenizer"))   # writes a directory

Byte-level BPE follows Radford et al. 2019 (GPT-2): a regular expression splits the text, its UTF-8
bytes are the alphabet, and nothing is normalised, so every byte comes back.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ettin import files
from ettin.byte_level import byte_of_character
from ettin.console import log, progress
from ettin.errors import InputError
from ettin.text_pieces import TextSample, pieces
from ettin.tokenizer import (
    SPECIAL_TOKENS,
    VOCABULARY_MULTIPLE,
    Fertility,
    Tokenizer,
    describe,
    load_tokenizer,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Backend


def train_tokenizer(
    texts: Iterable[str],
    *,
    vocab_size: int,
    out: Path,
    made_from: dict[str, Any] | None = None,
    command: list[str] | None = None,
) -> tuple[Tokenizer, Fertility]:
    """Learn a byte-level BPE and write it as a finished directory (kind `tokenizer`).

    The same texts give the same tokenizer. A directory that is finished and was made from the
    same (`made_from` and size) is loaded, and said so.

    Args:
        texts: documents; read once.
        vocab_size: entries, special tokens included; rounded up to a multiple of 64.
        out: the directory to write.
        made_from: what identifies the texts, for the manifest.
        command: the command line, for the manifest.

    Returns:
        The tokenizer, and its fertility on a sample of the texts.

    Raises:
        InputError: `vocab_size` below 260 (256 bytes, 4 special tokens), no text, `out` occupied.
    """
    smallest = 256 + len(SPECIAL_TOKENS)
    if vocab_size < smallest:
        raise InputError(f"a vocabulary of {vocab_size} is too small; it needs {smallest} at least")
    rounded = -(-vocab_size // VOCABULARY_MULTIPLE) * VOCABULARY_MULTIPLE
    if rounded != vocab_size:
        log.info("vocabulary: %d rounded up to %d, a multiple of 64", vocab_size, rounded)
    request = {"vocab_size": rounded, **(made_from or {})}
    if files.is_finished(out):
        manifest = files.read_manifest(out, "tokenizer")
        if made_from is not None and manifest["made_from"] == request:
            log.info("%s is finished already, made from the same text", out)
            return load_tokenizer(out), Fertility(*manifest["facts"]["fertility"])
        raise InputError(f"{out} holds a tokenizer made from something else; choose another --out")
    files.refuse_occupied(out)
    sample = TextSample()
    tokenizer = Tokenizer(_learn(texts, rounded, sample), dict(SPECIAL_TOKENS))
    if not sample.texts:
        raise InputError("there is no text to train a tokenizer on")
    if tokenizer.size < rounded:
        log.warning(
            "the text is too small for a vocabulary of %d: %d entries were found",
            rounded, tokenizer.size,
        )  # fmt: skip
    fertility = tokenizer.fertility(sample.texts)
    facts = describe(tokenizer) | {"fertility": list(fertility)}
    with files.staging(out) as partial:
        tokenizer.save(partial, closing=True)
        files.write_manifest(
            partial, "tokenizer", command=command or [], made_from=request, facts=facts
        )
    return tokenizer, fertility


def _learn(texts: Iterable[str], vocab_size: int, sample: TextSample) -> "Backend":
    from tokenizers import Tokenizer as Backend
    from tokenizers import decoders, models, pre_tokenizers, trainers

    backend = Backend(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=2,
        special_tokens=list(SPECIAL_TOKENS.values()),
        initial_alphabet=sorted(byte_of_character()),
        show_progress=False,
    )
    with progress("reading text for the tokenizer", total=None, unit=" characters") as shown:

        def stream() -> Iterator[str]:
            for text in texts:
                sample.add(text)
                yield from (piece for piece, _ in pieces(text))
                shown.advance(len(text))

        backend.train_from_iterator(stream(), trainer)
    return backend
