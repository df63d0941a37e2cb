"""Examples of generative tasks in files, where there is no network or the data are one's own.

    DIR/lm_eval/<task>/<split>.jsonl[.gz]       one object a line, columns as on the hub

Splits are `train`, `validation`, `test`; a suffix says more about one (`validation_sub3000`). All
paradigms of BLiMP lie in one file of any name, told apart by `UID`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ettin import files
from ettin.errors import InputError, nearest
from ettin.evaluation.rows import read_json_rows
from ettin.files import Json

FOLDER = "lm_eval"
"""Under `--data`."""
SPLITS = ("validation", "test", "train")
"""Those that there are, the one first that others are filled from."""
OTHER_NAMES: dict[str, tuple[str, ...]] = {"lambada_openai": ("lambada",)}
"""Task → other names that its folder may have."""
ONE_FILE = {"blimp"}
"""Tasks of many parts that lie in one file together; its split is `train`, as on the hub."""

_ENDINGS = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True)
class LocalData:
    """The files of one task.

    Attributes:
        folder: where they lie.
        splits: split → its file.
    """

    folder: Path
    splits: dict[str, Path]

    @property
    def fingerprint(self) -> str:
        """Identifies the content of all files, 32 hexadecimal digits."""
        return files.fingerprint(
            {split: files.fingerprint_file(path) for split, path in self.splits.items()}
        )


def find_local_data(name: str, *, data: Path | None, path: Path | None) -> LocalData | None:
    """The files of a task, or None where no folder was given.

    Args:
        name: of the task.
        data: a folder with data of several tasks, in the layout above.
        path: the folder of this task alone; wins.

    Raises:
        InputError: the folder is not there, or holds no split.
    """
    if path is None and data is None:
        return None
    folder: Path = path if path is not None else _folder_in(data or Path(), name)
    if not folder.is_dir():
        raise InputError(f"{folder}, given for the task lm/{name}, is not a folder")
    found: dict[str, Path] = {}
    for file in sorted(folder.iterdir()):
        if not file.name.endswith(_ENDINGS):
            continue
        split = file.name.partition(".")[0].partition("_")[0]
        split = "train" if name in ONE_FILE else split
        if split in SPLITS:
            if split in found:
                raise InputError(
                    f"{folder} holds two files for the split {split!r}: {found[split].name} and "
                    f"{file.name}; keep one"
                )
            found[split] = file
    if not found:
        there = ", ".join(sorted(each.name for each in folder.iterdir())) or "nothing"
        raise InputError(
            f"{folder} holds no split of lm/{name}: expected {', '.join(sorted(SPLITS))} as "
            f"SPLIT.jsonl or SPLIT.jsonl.gz; found {there}"
        )
    return LocalData(folder, found)


def read_rows(path: Path) -> list[Json]:
    """The objects in a file of JSON lines.

    Raises:
        InputError: a line is no JSON object, or there is none at all.
    """
    rows = list(read_json_rows(path))
    if not rows:
        raise InputError(f"{path} is empty: a split needs at least one example")
    return rows


def common_columns(rows: Sequence[Json]) -> list[str]:
    """Columns that every row has, in the order of the first; others would be filled with nulls."""
    shared = set(rows[0]).intersection(*rows[1:])
    return [column for column in rows[0] if column in shared]


def _folder_in(data: Path, name: str) -> Path:
    root = data / FOLDER
    for each in (name, *OTHER_NAMES.get(name, ())):
        if (root / each).is_dir():
            return root / each
    expected = root / name
    if not root.is_dir():
        raise InputError(
            f"{data} holds no data for lm/{name}: expected {expected}/SPLIT.jsonl[.gz]; "
            "`ettin prefetch` fetches it from the hub"
        )
    there = sorted(each.name for each in root.iterdir())
    raise InputError(f"{expected} is not there; {nearest(name, there)}")
