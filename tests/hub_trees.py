"""How the stand-in for the hub lists a commit's tree, and sends a stretch of a file."""

import hashlib
import re
from typing import Any

LARGE = (".safetensors", ".arrow", ".parquet")
"""Endings of what the hub keeps as large files."""


def git_hash(content: bytes) -> str:
    """The name that git gives a file's content."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def list_tree(
    tree: dict[str, bytes], folder: str, *, recursive: bool
) -> list[dict[str, Any]] | None:
    """The entries in a folder, and with `recursive` those below; None when there is no such one."""
    start = f"{folder}/" if folder else ""
    below = sorted(name for name in tree if name.startswith(start))
    if not below:
        return None
    names = [name[len(start) :].split("/") for name in below]
    folders = {"/".join(parts[:depth]) for parts in names for depth in range(1, len(parts))}
    entries = [_folder(start + each) for each in sorted(folders) if recursive or "/" not in each]
    return entries + [
        _file(name, tree[name])
        for name, parts in zip(below, names, strict=True)
        if recursive or len(parts) == 1
    ]


def stretch(content: bytes, wanted: str) -> tuple[int, bytes]:
    """Status and content for a file of which the header `Range` names a stretch, or nothing."""
    matched = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted)
    if not matched:
        return 200, content
    return 206, content[int(matched[1]) : int(matched[2]) + 1 if matched[2] else None]


def _folder(name: str) -> dict[str, Any]:
    return {"type": "directory", "path": name, "size": 0, "oid": git_hash(name.encode())}


def _file(name: str, content: bytes) -> dict[str, Any]:
    """A file as the hub's listing states it; a large one is named by the hash of its pointer."""
    entry: dict[str, Any] = {"type": "file", "path": name, "size": len(content)}
    if not name.endswith(LARGE):
        return {**entry, "oid": git_hash(content)}
    sha256 = hashlib.sha256(content).hexdigest()
    pointer = (
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {len(content)}\n"
    )
    lfs = {"oid": sha256, "size": len(content), "pointerSize": len(pointer)}
    return {**entry, "oid": git_hash(pointer.encode()), "lfs": lfs}
