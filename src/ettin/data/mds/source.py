"""MDS folders as a source: which they are, and their samples as documents.

    data/train/books/split_0/index.json  shard.00000.mds  …      source `books`
    data/train/books/split_1/…
    data/train/arxiv/…                                           source `arxiv`

    for source in mds_sources(Path("data")):
        for shard in list_shards(source, list_files([source]), reading):
            for document in read_shard(shard, rules=SampleRules(tokenizer), reading=reading):
                print(document.id, len(document.tokens))

Samples come in the order of the paths of their shards, and in a shard in its own order, whichever
index lists them: an index in the folder of the shards, or a merged one further up. Tokens are read
from the column `input_ids`, else `tokens`; a column `len`, where there is one, says how many of
them are no padding. Ids come from the column asked for, or from `id` where there is one, else a
sample's place stands for it (`split_0/shard.00000.mds:17`, from 0, named after the raw file). Other
columns are left alone. See `tokenised` for what is done to the tokens.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ettin.data.mds.index import INDEX, SCALARS, DamagedShard, ShardFile, read_index
from ettin.data.mds.shards import ArrayPlaces, MdsShard
from ettin.data.reading.sources import Source
from ettin.data.reading.tally import Reading, SourceFile
from ettin.data.reading.token_tables import holds_token_tables
from ettin.data.reading.tokenised import TOKEN_COLUMNS, SampleRules, Samples, TokenisedDocument
from ettin.errors import InputError
from ettin.mixtures import find_folders, published

ID_COLUMN = "id"
LENGTH_COLUMN = "len"

_SHARDS = ("*.mds", "*.mds.*")
_BLOCK_TOKENS = 1 << 20


def mds_sources(
    folder: Path, *, exclude: tuple[str, ...] = (), mixture: str | None = None
) -> list[Source]:
    """The sources below a folder of published data: one for each folder in it, or in its `train`.

    A folder whose shards lie in it directly is one source; so is one without shards that holds
    parquet tables of tokens (see `token_tables`). `validation` beside `train` is left
    alone: a corpus holds out its own documents.

    Args:
        folder: a data set as downloaded, its `train` folder, or one folder of shards.
        exclude: names or patterns of folders and files to leave out.
        mixture: phases, separated by commas, whose published sources to take, by their names.

    Raises:
        InputError: no shards there, or a mixture that is unknown or not there as a whole.
    """
    if not folder.is_dir():
        raise InputError(f"--mds {folder} is not a folder; it should hold MDS shards")
    top = folder / "train" if (folder / "train").is_dir() else folder
    merged = tuple(path for path in {folder / INDEX, top / INDEX} if path.is_file())
    if mixture is not None:
        found = find_folders(top, [published(phase.strip()) for phase in mixture.split(",")])
    elif _holds_shards(top):
        return [Source(folder.resolve().name, (top,), exclude=exclude, form="mds")]
    else:
        below = sorted(path for path in top.iterdir() if path.is_dir() and path.name[0] != ".")
        found = {path.name: path for path in below if _holds_shards_below(path)}
    if not found and holds_token_tables(top):
        return [Source(folder.resolve().name, (top,), exclude=exclude, form="parquet")]
    if not found:
        raise InputError(
            f"--mds {folder}: neither shards (shard.00000.mds) in it or in a folder below it, nor "
            "parquet tables of tokens"
        )
    return [
        Source(name, (path, *sorted(merged)), exclude=exclude, form="mds")
        for name, path in found.items()
    ]


class NamedShard(NamedTuple):
    """A shard that is there.

    Attributes:
        name: the path of its raw file relative to the source's folder; its places begin by it.
        described: what the index says of it.
        file: what to read: the raw file, or the compressed one.
    """

    name: str
    described: ShardFile
    file: SourceFile


def read_shard(
    shard: NamedShard, *, rules: SampleRules, reading: Reading
) -> Iterator[TokenisedDocument]:
    """All samples of a shard as documents; ids from a column may come twice.

    Args:
        shard: from `list_shards`.
        rules: what is done to the tokens.
        reading: the column of ids (None for `id` where there is one), what to do about damaged
            shards and samples, and where to count.

    Raises:
        InputError: pickles, ids that the tokenizer does not have, a shard without the columns
            asked for, or any defect if defects are to fail.
    """
    tally, before = reading.tally, reading.tally.bytes_read
    name, described, file = shard
    try:
        opened = MdsShard(described, packed=file.path != described.raw.path)
        blocks = _blocks(opened, name, rules, reading)
    except DamagedShard as error:
        reading.defect("damaged MDS shard", name, f"({error})")
        return
    names = _id_column(described, reading.id_column)
    for first, samples in blocks:
        count = len(samples.start)
        ids = opened.contents(names, first, first + count) if names else [b""] * count
        spans = zip(samples.start.tolist(), samples.end.tolist(), strict=True)
        for number, (start, end) in enumerate(spans):
            if end <= start:
                continue
            place = f"{name}:{first + number}"
            known = reading.decode(ids[number], place)
            if names and not known:
                reading.note("no id (the place stands for it)", place)
            tally.documents += 1
            yield TokenisedDocument(known or place, samples.values[start:end], place)
        tally.text_bytes += samples.text_bytes
    tally.bytes_read = before + file.size


def list_shards(source: Source, listed: list[SourceFile], reading: Reading) -> list[NamedShard]:
    """The shards of a source that are there, in the order of their names.

    Args:
        source: from `mds_sources`.
        listed: its files.
        reading: what to do about shards that an index lists and that are missing.

    Raises:
        InputError: an index that names what must not be read, or any defect if defects are to fail.
    """
    top = source.paths[0]
    there = {file.path: file for file in listed}
    found: dict[str, tuple[ShardFile, SourceFile]] = {}
    missing: dict[str, str] = {}
    for path in [path for path in there if path.name == INDEX]:
        try:
            shards = read_index(path.parent)
        except DamagedShard as error:
            reading.defect("damaged index.json", str(path), f"({error})")
            continue
        for shard in shards:
            if not shard.raw.path.is_relative_to(top):
                continue  # a merged index lists the shards of other sources too
            name = shard.raw.path.relative_to(top).as_posix()
            forms = [each.path for each in (shard.raw, shard.packed) if each]
            file = next((there[form] for form in forms if form in there), None)
            if file:
                found.setdefault(name, (shard, file))
            elif not any(form.exists() for form in forms):  # those that are there were excluded
                missing.setdefault(name, str(path))
    for name in sorted(missing.keys() - found.keys()):
        reading.defect("missing MDS shard", name, f"(listed by {missing[name]})")
    return [NamedShard(name, *found[name]) for name in sorted(found)]


def _blocks(
    shard: MdsShard, name: str, rules: SampleRules, reading: Reading
) -> Iterator[tuple[int, Samples]]:
    """The samples of a shard, about a million tokens at a time, each with the first one's number.

    All arrays of the shard are checked before this returns.
    """
    described = shard.described
    names = [column.name for column in described.columns]
    column = next((each for each in TOKEN_COLUMNS if each in names), TOKEN_COLUMNS[0])
    described.column(column)
    places = shard.array_places(column)
    if LENGTH_COLUMN in names and described.column(LENGTH_COLUMN).encoding in SCALARS:
        lengths = shard.numbers(LENGTH_COLUMN)
        wrong = np.flatnonzero((lengths < 0) | (lengths > places.length))
        if len(wrong):
            raise DamagedShard(
                f"{described.raw.path}: sample {wrong[0]} has {places.length[wrong[0]]} tokens, "
                f"its {LENGTH_COLUMN} says {lengths[wrong[0]]}"
            )
        places = places._replace(length=lengths)
    return _cleaned(shard, places, name, rules, reading)


def _cleaned(
    shard: MdsShard, places: ArrayPlaces, name: str, rules: SampleRules, reading: Reading
) -> Iterator[tuple[int, Samples]]:
    ends = np.cumsum(places.length)
    first = 0
    while first < len(shard):
        before = int(ends[first - 1]) if first else 0
        end = max(first + 1, int(np.searchsorted(ends, before + _BLOCK_TOKENS, "right")))
        yield (
            first,
            rules.clean(
                shard.arrays(places, first, end),
                places.length[first:end],
                place=lambda number, begin=first: f"{name}:{begin + number}",  # type: ignore[misc]
                reading=reading,
            ),
        )
        first = end


def _holds_shards(folder: Path) -> bool:
    return any(True for pattern in _SHARDS for _ in folder.glob(pattern))


def _holds_shards_below(folder: Path) -> bool:
    return any(True for pattern in _SHARDS for _ in folder.rglob(pattern))


def _id_column(described: ShardFile, wanted: str | None) -> str | None:
    """The column that holds ids as text, or None where places stand for them.

    Raises:
        InputError: the column asked for is not there, or holds no text.
    """
    names = [column.name for column in described.columns]
    column = wanted or (ID_COLUMN if ID_COLUMN in names else None)
    if column is None:
        return None
    encoding = described.column(column).encoding
    if encoding in ("str", "str_int"):
        return column
    if wanted is None:
        return None
    raise InputError(f"{described.raw.path}: the id column {column!r} has {encoding}, not str")
