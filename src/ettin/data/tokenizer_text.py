"""Train a tokenizer on files: what `ettin tokenizer train` does."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from ettin import files
from ettin.data.preparation.summary import nothing_found
from ettin.data.reading.sources import Tally, list_files, named_sources, read_documents
from ettin.errors import InputError
from ettin.tokenizer import Fertility, Tokenizer
from ettin.tokenizer_training import train_tokenizer


def train(
    places: Sequence[Path | str],
    *,
    exclude: tuple[str, ...],
    text_column: str,
    vocab_size: int,
    out: Path,
    command: list[str],
) -> tuple[Tokenizer, Fertility]:
    """Learn a byte-level BPE from the documents in files and folders, here or elsewhere.

    Args:
        places: files, folders, patterns and URLs of text; see `places`.
        exclude: names or patterns of files and folders to leave out.
        text_column: the column of tables that holds the text.
        vocab_size: entries, special tokens included.
        out: the tokenizer directory.
        command: the command line, for the manifest.

    Returns:
        The tokenizer, and its fertility on a sample of the text.

    Raises:
        InputError: no text there, or a vocabulary too small.
        SourceUnavailableError: a store, or the way to it, failed.
    """
    (source,) = named_sources(places, [], exclude=exclude)
    identity = [[each.relative, each.size, each.version] for each in list_files([source])]
    tally = Tally()
    documents = read_documents(source, tally=tally, text_column=text_column)
    first = next(documents, None)
    if first is None:
        raise InputError(nothing_found(source, tally))
    return train_tokenizer(
        (document.text for document in chain([first], documents)),
        vocab_size=vocab_size,
        out=out,
        made_from={"text": files.fingerprint(identity)},
        command=command,
    )
