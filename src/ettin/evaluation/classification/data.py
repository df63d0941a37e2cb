"""Examples of classification tasks: GLUE and SNLI by name, or anyone's folder of tables.

    data = read_data(locate("cola", data=Path("data"), path=None, offline=True))
    data.train, data.dev, data.test        # lists of Example; data.labels is () for regression

A folder holds one file a split: `train`, `dev` (or `validation`) and `test`, each `.tsv`, `.csv` or
`.jsonl`, plain or `.gz`. Text columns are found by their names, and the answer stands in `label`
(a class) or `score` (a number). What a folder lacks is filled by one rule, which `facts` states:

    dev is what settings are chosen on; without one, a tenth of the training split is
    without a training split, the dev split is trained on
    one split alone: a fifth of it is the test split

Shares are taken by a hash of the first text, so texts that stand twice, or premises with several
hypotheses, never lie on both sides.
"""

from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path

import numpy as np
import xxhash

from ettin import files
from ettin.errors import InputError, nearest
from ettin.evaluation.classification.files import Row, read_rows, split_files
from ettin.evaluation.classification.tasks import GLUE, KNOWN, Known, download
from ettin.files import Json

TEXT_COLUMNS = (
    ("sentence1", "sentence2"),
    ("premise", "hypothesis"),
    ("question1", "question2"),
    ("question", "sentence"),
    ("sentence",),
    ("text",),
)
"""What texts are called; the first that a table has all of counts."""
TRAINING_MULTIPLE = 8
"""With a limit, training examples a test example."""

_UNLABELLED = ("-1", "-", "")


@dataclass(frozen=True)
class Example:
    """One or two texts, and the number of their class or their score."""

    texts: tuple[str, ...]
    label: float


@dataclass(frozen=True)
class Place:
    """Where the examples of a task are.

    Attributes:
        name: of the task.
        folder: on this machine; None: on the hub.
        known: what is known of it by name; None for a folder of its own.
        identity: fingerprint of the files, or repository, revision and configuration.
    """

    name: str
    folder: Path | None
    known: Known | None
    identity: str


@dataclass(frozen=True)
class TaskData:
    """The examples of a task.

    Attributes:
        labels: names of the classes; `Example.label` counts them. None for regression.
        metrics: the main one first.
        train: examples to learn from.
        dev: those that settings are chosen on.
        test: those that are measured; equal to `dev` where only that is published.
        mismatched: MNLI's second test split; else empty.
        facts: which split of the source became what.
    """

    labels: tuple[str, ...]
    metrics: tuple[str, ...]
    train: list[Example]
    dev: list[Example]
    test: list[Example]
    mismatched: list[Example]
    facts: Json


def locate(name: str, *, data: Path | None, path: Path | None, offline: bool) -> Place:
    """Find a task's examples: its own folder, else under `data`, else on the hub.

    Args:
        name: of the task.
        data: a folder with `classification/NAME` or `glue_like/NAME`.
        path: the folder of this task alone; its classes are read from it.
        offline: the hub is out of reach.

    Raises:
        InputError: unknown name, no such folder, or nothing here while offline.
    """
    if path is not None:
        return _local(name, path, known=None)
    if name not in KNOWN:
        raise InputError(
            f"classification/{name}: no such task, {nearest(name, KNOWN)}; for a folder of your "
            "own give classification=FOLDER"
        )
    known = KNOWN[name]
    tried = [data / group / name for group in ("classification", "glue_like")] if data else []
    for folder in tried:
        if folder.is_dir():
            return _local(name, folder, known=known)
    if offline:
        looked = f"{tried[0]} or {tried[1]} is not there" if tried else "no --data was given"
        raise InputError(
            f"classification/{name}: offline, and {looked}; where there is a network, run "
            f"`ettin prefetch --tasks classification/{name} --out DIR`, then give --data DIR"
        )
    repository, revision = known.hub
    configuration = known.configuration or name
    return Place(name, None, known, f"{repository}/{configuration}@{revision}")


def _local(name: str, folder: Path, *, known: Known | None) -> Place:
    found = split_files(folder)
    prints = [
        [split, [files.fingerprint_file(each) for each in paths]] for split, paths in found.items()
    ]
    return Place(name, folder, known, files.fingerprint(prints))


def read_data(place: Place) -> TaskData:
    """Read all examples of a task and settle which are learnt from and which measured.

    Raises:
        InputError: columns or labels are not what they should be, a split is empty, no network.
    """
    if place.folder is None:
        assert place.known is not None
        rows = download(place.name)
    else:
        rows = {
            split: [row for path in paths for row in read_rows(path)]
            for split, paths in split_files(place.folder).items()
        }
    where = str(place.folder or place.identity)
    for split, content in rows.items():
        if not content:
            raise InputError(f"{where}: split {split} holds no examples")
    columns = {split: _columns(content[0], f"{where}: {split}") for split, content in rows.items()}
    answers = columns[next(iter(rows))][1]
    regression = not place.known.labels if place.known else answers == "score"
    labels = () if regression else _labels(rows, answers, place.known)
    parsed = {
        split: _parsed(
            content,
            columns=columns[split],
            labels=None if regression else labels,
            unlabelled=_UNLABELLED if place.known else (),
            where=f"{where}: {split}",
        )
        for split, content in rows.items()
    }
    if place.known:
        metrics = place.known.metrics
    else:
        metrics = ("spearman", "pearson") if regression else ("accuracy", "f1_macro", "matthews")
    glue = place.known is not None and place.known.hub == GLUE
    arranged = _arranged(parsed, test_first=not glue, where=where)
    return replace(arranged, labels=labels, metrics=metrics)


def limited(data: TaskData, limit: int | None, *, training_limit: int | None) -> TaskData:
    """At most `limit` examples a measured split, and `TRAINING_MULTIPLE` times it to learn from.

    A smaller limit takes a part of what a larger one takes; no seed plays a role.

    Args:
        data: all examples.
        limit: of the splits that are measured; None for all.
        training_limit: of the training split, whatever the limit.
    """
    most = [each for each in (training_limit, limit and limit * TRAINING_MULTIPLE) if each]
    return replace(
        data,
        train=_sample(data.train, min(most, default=None)),
        dev=_sample(data.dev, limit),
        test=_sample(data.test, limit),
        mismatched=_sample(data.mismatched, limit),
    )


def _sample(examples: list[Example], count: int | None) -> list[Example]:
    if count is None or count >= len(examples):
        return examples
    chosen = np.random.default_rng(0).permutation(len(examples))[:count]
    return [examples[each] for each in sorted(chosen.tolist())]


def _columns(row: Row, where: str) -> tuple[tuple[str, ...], str]:
    """The columns of the texts and of the answer."""
    texts = next((each for each in TEXT_COLUMNS if set(each) <= set(row)), None)
    answer = next((each for each in ("label", "score") if each in row), None)
    if texts and answer:
        return texts, answer
    known = "; ".join(", ".join(each) for each in TEXT_COLUMNS)
    lacking = "no text columns" if not texts else "no answers"
    raise InputError(
        f"{where}: {lacking} among the columns {', '.join(row)}; expected one of these sets: "
        f"{known}; and beside it `label` or `score`"
    )


def _labels(rows: dict[str, list[Row]], column: str, known: Known | None) -> tuple[str, ...]:
    """Names of the classes: those of the task, or what the training split holds, sorted."""
    if known:
        return known.labels
    source = next((each for each in ("train", "dev") if each in rows), "test")
    found = {str(row.get(column, "")) for row in rows[source]} - {""}
    if len(found) < 2:
        only = f"only {found.pop()!r}" if found else "none"
        raise InputError(f"split {source} has {only} in column {column}: two classes are needed")
    try:
        return tuple(sorted(found, key=int))
    except ValueError:
        return tuple(sorted(found))


def _parsed(
    rows: list[Row],
    *,
    columns: tuple[tuple[str, ...], str],
    labels: tuple[str, ...] | None,
    unlabelled: tuple[str, ...],
    where: str,
) -> list[Example]:
    """Rows as examples; those that the task's makers left without a label are passed over."""
    texts, answer = columns
    numbers = {name: number for number, name in enumerate(labels or ())}
    if unlabelled:  # a known task: data on the hub count its classes
        numbers |= {str(number): number for number in range(len(numbers))}
    examples = []
    for line, row in enumerate(rows, start=1):
        missing = [each for each in (*texts, answer) if each not in row]
        if missing:
            raise InputError(f"{where}: example {line} lacks the column {missing[0]}")
        empty = [each for each in texts if row[each] is None]
        if empty:
            raise InputError(f"{where}: example {line} has no text in {empty[0]}")
        value = str(row[answer])
        if value in unlabelled:
            continue
        label: float | None = numbers.get(value) if labels is not None else _number(value)
        if label is None:
            expected = "a number" if labels is None else f"one of {', '.join(numbers)}"
            raise InputError(f"{where}: {answer} of example {line} is {value!r}, not {expected}")
        examples.append(Example(tuple(str(row[each]) for each in texts), label))
    return examples


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if isfinite(value) else None


def _arranged(splits: dict[str, list[Example]], *, test_first: bool, where: str) -> TaskData:
    """Settle what is trained on, chosen on and tested on; GLUE is published on its dev splits."""
    there = {split: content for split, content in splits.items() if content}
    mismatched = there.pop("mismatched", [])
    if not there:
        raise InputError(f"{where}: no labelled examples")
    roles: Json
    if len(there) == 1:
        split, content = there.popitem()
        parts = [_bucket(each) for each in content]
        test = [each for each, part in zip(content, parts, strict=True) if part < 2]
        train = [each for each, part in zip(content, parts, strict=True) if part >= 2]
        train, dev = _tenth(train)
        roles = {
            "train": f"seven tenths of {split}, by hash",
            "chosen_on": f"a tenth of {split}, by hash",
            "tested_on": f"a fifth of {split}, by hash",
        }
    else:
        learn = "train" if "train" in there else "dev"
        rest = {split: content for split, content in there.items() if split != learn}
        tested = "test" if "test" in rest and (test_first or "dev" not in rest) else "dev"
        test, train = rest[tested], there[learn]
        roles = {"train": learn, "chosen_on": "dev", "tested_on": tested}
        if "dev" in rest:
            dev = rest["dev"]
        else:
            train, dev = _tenth(train)
            roles |= {
                "train": f"nine tenths of {learn}, by hash",
                "chosen_on": f"a tenth of {learn}, by hash",
            }
    for role, examples in (("train", train), ("chosen_on", dev), ("tested_on", test)):
        if not examples:
            raise InputError(f"{where}: too few examples, none are left for {roles[role]}")
    return TaskData((), (), train, dev, test, mismatched, {"splits": roles})


def _tenth(examples: list[Example]) -> tuple[list[Example], list[Example]]:
    """All but a tenth, and that tenth."""
    kept = [each for each in examples if _bucket(each) != 9]
    return kept, [each for each in examples if _bucket(each) == 9]


def _bucket(example: Example) -> int:
    """0 to 9, the same for all examples that begin with the same text."""
    return xxhash.xxh3_64_intdigest(example.texts[0].encode()) % 10
