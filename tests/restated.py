"""Finished directories that were changed and finished again, so that all hashes are right."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ettin.files import MANIFEST, read_json, write_manifest


def restated(directory: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
    """Write the manifest of a finished directory anew, for what lies there now.

    Args:
        directory: to change.
        change: given the facts that the manifest states, which it may change.
    """
    manifest = read_json(directory / MANIFEST)
    (directory / MANIFEST).unlink()
    change(manifest["facts"])
    write_manifest(
        directory, manifest["kind"], command=manifest["command"],
        made_from=manifest["made_from"], facts=manifest["facts"],
    )  # fmt: skip
    return directory
