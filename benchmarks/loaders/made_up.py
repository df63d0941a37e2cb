"""The same made-up documents as a corpus, as MDS, and as one flat array with boundaries.

    folder/corpus/               ours
    folder/mds/                  chunks of at most 1,024 tokens, as MosaicML's writer writes them
    folder/chunks.npy            the same chunks, one after another; uint16
    folder/boundaries.npy        where each begins, and the end of the last; int64
    folder/litdata-*/            the same chunks; written by `litdata_items`, where it is installed

Chunks are cut by our rule and hold BOS and EOS already: the other loaders have only to read, order
and join them.
"""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from ettin import files
from ettin.data.chunking import cut_into_chunks
from ettin.data.corpus_writing import SourceWriter, write_rows
from ettin.data.mds.writing import MdsWriter
from ettin.random_bits import key, keys, nonnegative

CONTEXT_LENGTH = 1024
VOCABULARY = 50_368
BOS, EOS, FIRST_ORDINARY = 0, 1, 4
MEAN_TOKENS = 600
SPREAD = 1.0
SOURCE = "made-up"


def document_sizes(tokens: int) -> npt.NDArray[np.int64]:
    """Tokens of documents that have about so many together: lognormal, 600 on average."""
    draw = np.random.default_rng(0)
    middle = np.log(MEAN_TOKENS) - SPREAD**2 / 2
    sizes = draw.lognormal(middle, SPREAD, int(tokens / MEAN_TOKENS) + 1)
    return np.maximum(1, sizes.astype(np.int64))


def write_formats(folder: Path, tokens: int) -> None:
    """Write all that needs no foreign library, unless it is there."""
    if (folder / "finished").exists():
        return
    sizes = document_sizes(tokens)
    write_corpus(folder / "corpus", sizes)
    documents = np.arange(len(sizes), dtype=np.int64)
    chunks = cut_into_chunks(documents, sizes, context_length=CONTEXT_LENGTH)
    ends = chunks.start + chunks.length == sizes[chunks.document]
    boundaries = np.concatenate([np.zeros(1, np.int64), np.cumsum(chunks.length + 1 + ends)])
    flat = np.lib.format.open_memmap(
        folder / "chunks.npy", mode="w+", dtype=np.uint16, shape=(int(boundaries[-1]),)
    )
    with MdsWriter(folder / "mds", {"input_ids": "ndarray:uint16"}) as writer:
        columns = (*chunks, ends, boundaries[:-1])
        last, text = -1, np.zeros(0, np.uint32)
        for document, start, length, is_end, begin in zip(
            *(column.tolist() for column in columns), strict=True
        ):
            if document != last:
                last, text = document, document_tokens(document, int(sizes[document]))
            chunk = np.empty(length + 1 + is_end, dtype=np.uint16)
            chunk[0], chunk[1 : length + 1] = BOS, text[start : start + length]
            chunk[length + 1 :] = EOS
            flat[begin : begin + len(chunk)] = chunk
            writer.write({"input_ids": chunk})
    flat.flush()
    np.save(folder / "boundaries.npy", boundaries)
    (folder / "finished").touch()


def write_corpus(folder: Path, sizes: npt.NDArray[np.int64]) -> None:
    """Our corpus of documents of these sizes."""
    with SourceWriter(folder / SOURCE, padded_vocab_size=VOCABULARY) as writer:
        for number, size in enumerate(sizes.tolist()):
            writer.add(f"{number:09d}", "made up", document_tokens(number, size))
    finish_corpus(folder, sizes, shards=writer.shard_documents)


def finish_corpus(folder: Path, sizes: npt.NDArray[np.int64], *, shards: list[int]) -> None:
    """The row table, shard by shard in an order like that of hashes, and the manifest."""
    documents = np.random.default_rng(1).permutation(len(sizes))
    shard = np.searchsorted(np.cumsum(shards), documents, "right")
    documents = documents[np.argsort(shard, kind="stable")]
    rows, row_tokens = write_rows(
        folder / SOURCE, documents, sizes[documents], context_length=CONTEXT_LENGTH,
        packing="chunks", held_out=False,
    )  # fmt: skip
    table = {"train": rows, "held_out": 0, "tokens": row_tokens}
    special = {"bos": BOS, "eos": EOS, "pad": 2, "mask": 3}
    files.write_manifest(
        folder,
        "corpus",
        command=[],
        made_from={},
        facts={
            "sources": {SOURCE: {"shards": shards, "rows": {str(CONTEXT_LENGTH): table}}},
            "context_lengths": [CONTEXT_LENGTH],
            "tokenizer": {"special": special, "padded_size": VOCABULARY},
        },
    )


def document_tokens(number: int, size: int) -> npt.NDArray[np.uint32]:
    """Random ordinary tokens, a function of the document's number; uint32 [size]."""
    bits = nonnegative(keys(key(number), np.arange(size, dtype=np.int64)))
    return (FIRST_ORDINARY + bits % (VOCABULARY - FIRST_ORDINARY)).astype(np.uint32)
