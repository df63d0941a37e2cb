"""What a finished directory holds, apart from how it came about.

    identity(Path("corpus"))       # the same for a copy, and for one that was made again elsewhere
    refuse_incomplete(Path("corpus"))

The `digest` of a manifest proves that the manifest is unaltered. It covers the command and what
went in, with places and times, so directories of equal content made twice have two. The identity
covers what a reader reads: kind, format, the names, sizes and hashes of the files, and those facts
that steer how they are read. Cards are left out: they are for people, and publishing adds them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import xxhash

from ettin import files
from ettin.errors import InputError
from ettin.files import MANIFEST, Json

_CARD = "README.md"
_STEERING = {
    "corpus": (
        "sources.*.shards",
        "sources.*.rows",
        "context_lengths",
        "chunk_rules",
        "tokenizer.size",
        "tokenizer.padded_size",
        "tokenizer.special",
        "tokenizer.ordinary_ranges",
    ),
    "row-order": ("sources.*", "order", "seed", "epochs", "samples", "rows", "context_length"),
}
"""Facts that change what is read of the same files, by kind; `*` is every name, in its order."""


def identity(directory: Path, manifest: Json | None = None) -> str:
    """32 hexadecimal digits (xxh3_128): equal ones for directories of equal content.

    A finished directory inside counts by its own identity.

    Args:
        directory: a finished one; its files are not read, the manifests of those inside are.
        manifest: of it, if it was read already.

    Raises:
        InputError: a manifest is missing or altered.
    """
    stated = manifest or files.read_manifest(directory)
    content: Json = {}
    for name, file in stated["files"].items():
        if name.endswith(f"/{MANIFEST}"):
            content[name] = identity(files.inside(directory, name).parent)
        elif name != _CARD:
            content[name] = [file["bytes"], file["xxh3_128"]]
    steering = [
        [fact, _values(stated["facts"], fact)] for fact in _STEERING.get(stated["kind"], ())
    ]
    return files.fingerprint([stated["kind"], stated["format"], content, steering])


def fingerprint_arrays(arrays: dict[str, npt.NDArray[Any]]) -> str:
    """32 hexadecimal digits (xxh3_128) of named arrays: names, types, shapes and bytes."""
    digest = xxhash.xxh3_128()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(files.canonical_json([name, array.dtype.str, list(array.shape)]))
        digest.update(array.tobytes())
    return digest.hexdigest()


def refuse_incomplete(directory: Path) -> None:
    """Refuse a directory that lacks files of its manifest, or has them in other sizes.

    This costs one look at each file's entry; the bytes are for `ettin check` to compare.

    Raises:
        InputError: names the first such file; or the manifest is missing or altered.
    """
    for name, expected in files.read_manifest(directory)["files"].items():
        path = directory / name
        found = path.stat().st_size if path.is_file() else None
        if found != expected["bytes"]:
            differs = "is missing" if found is None else f"has {found:,} bytes"
            raise InputError(
                f"{path} {differs}, expected {expected['bytes']:,} bytes by the manifest; "
                f"`ettin check {directory}` tells all that is wrong with it"
            )


def _values(facts: Any, path: str) -> Any:
    """What stands at a dotted path; None where nothing does, pairs of name and value for `*`."""
    name, _, rest = path.partition(".")
    if name == "*":
        return [[each, _values(value, rest) if rest else value] for each, value in facts.items()]
    value = facts.get(name)
    return _values(value, rest) if rest and value is not None else value
