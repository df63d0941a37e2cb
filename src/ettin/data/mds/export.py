"""A corpus as MDS shards, for those who train with MosaicML's tools.

write_mds(Corpus.open(Path("corpus")), Path("corpus-mds"))
"""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt

from ettin import files
from ettin.console import log, progress
from ettin.data.chunking import RESERVED_TOKENS
from ettin.data.corpus import Corpus
from ettin.data.mds.index import ARRAY
from ettin.data.mds.writing import SHARD_BYTES, MdsWriter, write_index
from ettin.errors import InputError

KIND = "mds"


def write_mds(
    corpus: Corpus,
    out: Path,
    *,
    context_length: int | None = None,
    compression: str | None = None,
    hashes: tuple[str, ...] = (),
    shard_bytes: int = SHARD_BYTES,
    command: list[str] | None = None,
) -> files.Json:
    """Write a corpus as MDS, laid out as the published data are.

        out/train/index.json                      all shards, as MosaicML's trainers ask for
        out/train/<source>/index.json             the shards of one source
        out/train/<source>/shard.00000.mds        id: str, input_ids: ndarray:uint32
        out/validation/…                          the same of the held-out documents
        out/manifest.json                         kind `mds`

    A sample is a document, BOS + its tokens + EOS, under the document's id; with a context length
    it is a chunk by our chunk rule, under `<id>@<first token>`, EOS closing the last one alone.
    Readers that cut samples at their length lose nothing only in the second form.

    Args:
        corpus: what to write.
        out: a new folder.
        context_length: the longest sample in tokens; None for whole documents.
        compression: see `MdsWriter`.
        hashes: see `MdsWriter`.
        shard_bytes: see `MdsWriter`.
        command: the command line, for the manifest.

    Returns:
        The manifest: facts hold samples and tokens (BOS and EOS counted) by split and source. Given
        the same request again, that of the folder that is there.

    Raises:
        InputError: `out` holds something else, or a setting is wrong.
        NoSpaceError: the disk is full.
    """
    if context_length is not None and context_length <= RESERVED_TOKENS:
        raise InputError(f"samples of {context_length} tokens leave no room for text")
    columns = {"id": "str", "input_ids": f"{ARRAY}:uint32"}
    made_from: files.Json = {
        "corpus": corpus.fingerprint,
        "context_length": context_length,
        "compression": compression,
        "hashes": list(hashes),
        "shard_bytes": shard_bytes,
    }
    if files.is_finished(out):
        return _finished(out, made_from)
    facts: files.Json = {}
    total = sum(corpus.source_facts(name)["tokens"] for name in corpus.source_names)
    with files.staging(out) as partial, progress("writing MDS", total=total) as shown:
        for folder, held_out in (("train", False), ("validation", True)):
            merged: list[dict[str, Any]] = []
            facts[folder] = {}
            for source in corpus.source_names:
                samples = tokens = 0
                with MdsWriter(
                    partial / folder / source, columns, compression=compression,
                    hashes=hashes, shard_bytes=shard_bytes,
                ) as writer:  # fmt: skip
                    for name, ids in _samples(corpus, source, held_out, context_length):
                        writer.write({"id": name, "input_ids": ids})
                        samples, tokens = samples + 1, tokens + len(ids)
                        shown.advance(len(ids), source)
                merged += [_below(source, shard) for shard in writer.shards]
                facts[folder][source] = {"samples": samples, "tokens": tokens}
            write_index(partial / folder, merged)
        return files.write_manifest(
            partial, KIND, command=command or [], facts=facts, made_from=made_from
        )


def _finished(out: Path, made_from: files.Json) -> files.Json:
    manifest = files.read_manifest(out, KIND)
    if manifest["made_from"] != made_from:
        raise InputError(
            f"{out} was written from another corpus or with other settings; choose another --out "
            "or remove it"
        )
    log.info("%s is finished already, written from the same corpus", out)
    return manifest


def _samples(
    corpus: Corpus,
    source: str,
    held_out: bool,  # noqa: FBT001 - a part of the corpus, not a switch
    context_length: int | None,
) -> Iterator[tuple[str, npt.NDArray[np.uint32]]]:
    """Names and tokens of the samples of one part of a source, in the order of its documents."""
    documents = corpus.documents(source)
    any_length = corpus.facts["context_lengths"][0]
    table = corpus.table(source, any_length, "held-out" if held_out else "train")
    bos, eos = corpus.special.bos, corpus.special.eos
    for document in np.unique(table.all_chunks().document).tolist():
        text = documents.tokens(document)
        piece = len(text) if context_length is None else context_length - RESERVED_TOKENS
        name = documents.id(document)
        for start in range(0, len(text), piece):
            end = [eos] if start + piece >= len(text) else []
            ids = np.concatenate([[bos], text[start : start + piece], end]).astype(np.uint32)
            yield name if context_length is None else f"{name}@{start}", ids


def _below(folder: str, shard: dict[str, Any]) -> dict[str, Any]:
    """What an index one folder higher says of a shard."""
    moved = dict(shard)
    for key in ("raw_data", "zip_data"):
        if shard[key]:
            name = str(PurePosixPath(folder, shard[key]["basename"]))
            moved[key] = {**shard[key], "basename": name}
    return moved
