"""What of a file leaves the machine: facts stay, and what only this machine understands goes.

File by file:

    config.json                the start's `where` becomes what it is: encoder@decay40
    manifest.json              no command line; made from fingerprints, not from places; sizes and
                               hashes are those of the published files
    recipe.yaml                `corpus` and `start_from` name no place
    start.json, state.json     no path of the corpus, of the start
    everything else            as it is: weights, tokenizer, parity, metrics, ledger

`refuse_leaks` then looks at every file that is to be uploaded for what must not be in it.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import get_token

from ettin import files
from ettin.errors import ProblemsFound
from ettin.files import Json
from ettin.records import kind_of_objective

_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|CREDENTIAL", re.IGNORECASE)
_SHORTEST_SECRET = 8
_HUB = "hf:"
_LEARNED = {"tokenizer.json"}
"""Holds pieces of text, which may look like a path and is none."""
_DATA = (".safetensors", ".arrow")


def config(value: Json) -> Json:
    """A `config.json` without the place of the start."""
    described = dict(value["ettin"])
    if described.get("start"):
        described["start"] = start(described["start"])
    return {**value, "ettin": described}


def start(value: Json) -> Json:
    """What a run started from, by what it is instead of where it lay.

    A place on the hub, written as `hf:org/name`, is kept.
    """
    name = _name_of_start(value)
    return {key: name if key in {"where", "path"} else value[key] for key in value}


def begun(value: Json) -> Json:
    """A `start.json`, a `state.json` or the facts of a run, without places."""
    cleaned = dict(value)
    if isinstance(cleaned.get("corpus"), dict):
        cleaned["corpus"] = {"path": "corpus", "fingerprint": cleaned["corpus"]["fingerprint"]}
    if cleaned.get("start"):
        cleaned["start"] = start(cleaned["start"])
    return cleaned


def recipe(values: Json, *, begun_with: Json | None) -> str:
    """A `recipe.yaml` without places.

    Args:
        values: the recipe.
        begun_with: what the run started from; None: its own weights.
    """
    cleaned = {**values, "corpus": None}
    if cleaned.get("start_from"):
        cleaned["start_from"] = _name_of_start(begun_with) if begun_with else None
    return str(yaml.safe_dump(cleaned, sort_keys=False, allow_unicode=True))


def manifest(original: Json, directory: Path, *, kind: str, made_from: Json, facts: Json) -> Json:
    """The manifest of a published directory, for what lies in it now.

    Args:
        original: that of the directory it was made from; its version is kept.
        directory: complete but for its manifest.
        kind: what it is now.
        made_from: fingerprints of what went in.
        facts: without places.
    """
    stated: Json = {
        "kind": kind,
        "format": original["format"],
        "ettin": original["ettin"],
        "command": [],
        "made_from": made_from,
        "facts": facts,
        "files": {
            name: {
                "bytes": (directory / name).stat().st_size,
                "xxh3_128": files.fingerprint_file(directory / name),
            }
            for name in files.list_files(directory)
        },
    }
    return {**stated, "digest": files.fingerprint(stated)}


def refuse_leaks(tree: Path, *, inputs: Iterable[Path]) -> None:
    """Look at every file of a tree for places of this machine and for secrets.

    Args:
        tree: what is to be uploaded.
        inputs: the directories that it was made from.

    Raises:
        ProblemsFound: some file holds such; the file is named, the secret is not.
    """
    places, secrets = _places(inputs), _secrets()
    problems = []
    for folder, _, names in os.walk(tree):
        for name in sorted(names):
            path = Path(folder) / name
            text = _readable(path)
            searched = [] if name in _LEARNED else places
            found = [f"the path {each}" for each in searched if each.encode() in text]
            found += [f"the value of {key}" for key, each in secrets.items() if each in text]
            problems += [f"{path.relative_to(tree)} holds {each}" for each in found]
    if problems:
        raise ProblemsFound(
            "not published, since it would give away what belongs to this machine:\n"
            + "\n".join(f"  - {each}" for each in problems)
        )


def _name_of_start(value: Json) -> str:
    where = str(value.get("where"))
    if where.startswith(_HUB):
        return where
    kind = kind_of_objective(str(value.get("objective")))
    return f"{kind}@{value['tag']}" if value.get("tag") else kind


def _places(inputs: Iterable[Path]) -> list[str]:
    """Paths that say where this machine keeps things: the home, what was given, what holds it."""
    folders: set[Path] = {Path.home(), Path.cwd()}
    for each in inputs:
        folders |= {each, each.parent}
    # A home such as /root is no more than a word; with a slash it is the beginning of a place.
    home = f"{Path.home()}/" if len(Path.home().parts) == 2 else None
    return sorted([*(str(each) for each in folders if len(each.parts) > 2), *filter(None, [home])])


def _secrets() -> dict[str, bytes]:
    """Name → value of what the environment and `hf auth login` keep secret."""
    named: dict[str, Any] = {key: os.environ[key] for key in os.environ if _SECRET.search(key)}
    named["the hub's token"] = get_token()
    return {
        key: value.encode()
        for key, value in named.items()
        if value and len(value) >= _SHORTEST_SECRET and not _is_place(value)
    }


def _is_place(value: str) -> bool:
    """Whether a value is where a secret is kept; a long one is no name that a disk could have."""
    try:
        return Path(value).exists()
    except OSError:
        return False


def _readable(path: Path) -> bytes:
    """What of a file is text: all of it, or of weights their header."""
    if not path.name.endswith(_DATA):
        return path.read_bytes()
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little") if path.suffix == ".safetensors" else 0
        return file.read(min(length, path.stat().st_size))
