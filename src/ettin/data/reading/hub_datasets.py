"""Which files of a data set on the Hugging Face hub are its data, of the split `train`.

    names = ["README.md", "data/train-00000-of-00001.parquet", "data/test-00000-of-00001.parquet"]
    choose_files(names, card="", url="hf://datasets/me/mine")
        # (["data/train-00000-of-00001.parquet"], ["data/test-00000-of-00001.parquet"])

The card (README.md) may name the files of each configuration and split, as
https://huggingface.co/docs/hub/datasets-manual-configuration has it. Where it does not, names tell:
the files of the most common format that we read, in whose path `train` stands, or else no word for
another split. On the branch `refs/convert/parquet`, where the hub keeps every data set as parquet,
the folders are `configuration/split`.
"""

import re
from collections import Counter
from pathlib import PurePosixPath
from typing import Any

from ettin.data.reading.places import Pattern, protocol_of
from ettin.errors import InputError

CARD = "README.md"
TRAIN = "train"
CONVERTED = "refs/convert/parquet"

_TABLES = (".parquet", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt")
_PACKED = (".gz", ".zst")
_SPLIT_WORDS = {
    TRAIN: ("train", "training"),
    "validation": ("validation", "valid", "val", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
}
_WORD = re.compile("[A-Za-z]+")
_SHOWN = 8

Splits = dict[str, list[str]]
"""Split → patterns of its files."""


def choose_files(names: list[str], *, card: str, url: str) -> tuple[list[str], list[str]]:
    """The files to read of a data set.

    Args:
        names: all files of it.
        card: its README.md; empty when there is none.
        url: how the data set was given; for messages.

    Returns:
        The files to read, and those in a format that we read that are passed over; both sorted.

    Raises:
        InputError: several configurations, no split `train`, nothing that we read, or files that
            are named but not there.
    """
    readable = sorted(name for name in names if _format(name) in _TABLES)
    configurations = _configurations(names, card=card, url=url)
    if configurations:
        chosen = _named(names, configurations, url=url)
    else:
        chosen = _of_train(_most_common(readable), url=url)
    if not chosen:
        raise InputError(_nothing_to_read(names, url))
    return chosen, [name for name in readable if name not in set(chosen)]


def _format(name: str) -> str:
    """The ending that tells a file's format."""
    endings = PurePosixPath(name.lower()).suffixes
    if endings and endings[-1] in _PACKED:
        endings.pop()
    return endings[-1] if endings else ""


def _configurations(names: list[str], *, card: str, url: str) -> dict[str, Splits]:
    """Configuration → split → patterns; empty where nobody says."""
    if url.endswith(f"@{CONVERTED}"):
        converted: dict[str, Splits] = {}
        for name in names:
            configuration, _, rest = name.partition("/")
            split, slash, _ = rest.partition("/")
            if slash and _format(name) in _TABLES:
                converted.setdefault(configuration, {})[split] = [f"{configuration}/{split}/*"]
        return converted
    entries = _front_matter(card).get("configs")
    found: dict[str, Splits] = {}
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        name = str(entry.get("config_name", "default"))
        splits = _splits(entry, names, url=url)
        if entry.get("default") is True:
            return {name: splits}
        found[name] = splits
    return {"default": found["default"]} if "default" in found else found


def _front_matter(card: str) -> dict[str, Any]:
    """The YAML between the two lines of dashes that a card begins with."""
    import yaml

    matched = re.match(r"\s*---\s*\n(.*?)\n---\s*(?:\n|$)", card, re.DOTALL)
    try:
        held = yaml.safe_load(matched[1]) if matched else None
    except yaml.YAMLError as error:
        raise InputError(
            f"{CARD} of the data set cannot be read ({' '.join(str(error).split())}); "
            "give a path or a pattern of its files"
        ) from error
    return held if isinstance(held, dict) else {}


def _splits(entry: dict[str, Any], names: list[str], *, url: str) -> Splits:
    """The patterns of one configuration, in any of the forms that cards have."""
    folder = str(entry.get("data_dir") or "").strip("/")
    told = entry.get("data_files")
    if told is None:
        inside = [name for name in names if name.startswith(f"{folder}/") or not folder]
        return {TRAIN: _of_train(_most_common(sorted(inside)), url=url)}
    if isinstance(told, dict):
        told = [{"split": split, "path": path} for split, path in told.items()]
    splits: Splits = {}
    for each in told if isinstance(told, list) else [told]:
        split, paths = (each.get("split", TRAIN), each.get("path")) if isinstance(
            each, dict
        ) else (TRAIN, each)  # fmt: skip
        for path in paths if isinstance(paths, list) else [paths]:
            if protocol_of(str(path)):
                raise InputError(f"{url}: its card names data elsewhere, {path}; give that itself")
            inner = str(path).removeprefix("./")
            splits.setdefault(str(split), []).append(f"{folder}/{inner}" if folder else inner)
    return splits


def _named(names: list[str], configurations: dict[str, Splits], *, url: str) -> list[str]:
    """The files of the one configuration and its split `train`."""
    if len(configurations) > 1:
        raise InputError(
            f"{url} has {len(configurations)} configurations; choose one by its files:\n"
            + _choices(url, {name: _train_of(each) for name, each in configurations.items()})
        )
    (splits,) = configurations.values()
    patterns = _train_of(splits)
    if not patterns:
        raise InputError(
            f"{url} has no split {TRAIN!r}; choose one by its files:\n" + _choices(url, splits)
        )
    wanted = [Pattern(tuple(part for part in each.split("/") if part)) for each in patterns]
    chosen = sorted(
        name for name in names if any(pattern.matches(name.split("/")) for pattern in wanted)
    )
    unread = sorted({_format(name) or name for name in chosen if _format(name) not in _TABLES})
    if unread:
        raise InputError(
            f"{url} has its data as {', '.join(unread)}, which is not read. {_advice(url)}"
        )
    if not chosen:
        raise InputError(f"{url}: its card names {', '.join(patterns)}, where no file is")
    return chosen


def _train_of(splits: Splits) -> list[str]:
    """The patterns of the split `train`, or of the only one."""
    return splits.get(TRAIN, []) if len(splits) > 1 else next(iter(splits.values()), [])


def _choices(url: str, named: dict[str, list[str]]) -> str:
    """Lines with what to give instead, for a message."""
    lines = [
        f"  {name}: " + " ".join(f"'{url}/{each}'" for each in patterns[:_SHOWN])
        for name, patterns in named.items()
    ]
    more = [f"  … and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
    return "\n".join(lines[:_SHOWN] + more)


def _most_common(names: list[str]) -> list[str]:
    """The files of the most common format that we read."""
    formats = Counter(_format(name) for name in names if _format(name) in _TABLES)
    if not formats:
        return []
    common = max(formats, key=lambda each: (formats[each], -_TABLES.index(each)))
    return [name for name in names if _format(name) == common]


def _of_train(names: list[str], *, url: str) -> list[str]:
    """Those in whose path `train` stands, or else no other split."""
    splits: dict[str, list[str]] = {}
    for name in names:
        splits.setdefault(_split_of(name), []).append(name)
    chosen = splits.get(TRAIN) or splits.get("", [])
    if names and not chosen:
        raise InputError(
            f"{url} has no split {TRAIN!r} (found: {', '.join(sorted(splits))}); choose files by "
            f"their path, such as '{url}/{names[0]}'"
        )
    return chosen


def _split_of(name: str) -> str:
    """The split whose word stands last in a path; empty when none does."""
    for word in reversed(_WORD.findall(name.lower())):
        for split, words in _SPLIT_WORDS.items():
            if word in words:
                return split
    return ""


def _nothing_to_read(names: list[str], url: str) -> str:
    kinds = Counter(_format(name) or "no ending" for name in names if not name.startswith("."))
    there = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(_SHOWN)) or "no file"
    return f"{url} has no {', '.join(_TABLES)} (or these as .gz, .zst) but {there}. {_advice(url)}"


def _advice(url: str) -> str:
    return f"The hub may have it as parquet: {url.partition('@')[0]}@{CONVERTED}"
