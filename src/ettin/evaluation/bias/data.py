"""The sentences of WinoGender (Rudinger et al. 2018, "Gender Bias in Coreference Resolution").

A *frame* is a sentence with its pronoun left open; each comes with three genders. A sentence is a
*gotcha* when its pronoun goes against the statistics of the occupation that it refers to.

A folder holds one of two layouts:

    winogender_all.jsonl  winogender_gotcha.jsonl         sentid, sentence, pronoun, gender, …: the
                                                          hub's data set, one file a configuration
    templates.tsv  all_sentences.tsv  occupations-stats.tsv    as the authors published them

What is a gotcha is read from the first. In the second it is a sentence whose pronoun refers to the
occupation and whose gender is that of less than half of its people, by the US labour statistics.
"""

import csv
import gzip
import io
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ettin import files
from ettin.errors import InputError
from ettin.evaluation.bias.pronouns import CASES, FORMS, GENDERS, Case, Gender, cases_of
from ettin.evaluation.rows import read_json_rows, text_of
from ettin.files import Json

HUB = "oskarvanderwal/winogender"
CONFIGURATIONS = ("all", "gotcha")

_COLUMNS = ("sentid", "sentence", "pronoun", "gender")
_TEMPLATES, _SENTENCES, _STATISTICS = "templates.tsv", "all_sentences.tsv", "occupations-stats.tsv"
_FEMALE_PERCENT = "bls_pct_female"


@dataclass(frozen=True)
class Sentence:
    """One sentence.

    Attributes:
        id: `occupation.participant.answer.gender`; without the gender it names the frame.
        text: the sentence.
        pronoun: the form in it.
        gender: of the pronoun.
        case: of the pronoun.
        gotcha: whether it goes against the statistics.
    """

    id: str
    text: str
    pronoun: str
    gender: Gender
    case: Case
    gotcha: bool

    @property
    def frame(self) -> str:
        """Names the sentence without its pronoun."""
        return self.id.rpartition(".")[0]

    @property
    def template(self) -> str:
        """What frames with a named participant and with `someone` have in common."""
        occupation, _, answer, _ = self.id.split(".")
        return f"{occupation}.{answer}"


def read_sentences(folder: Path) -> list[Sentence]:
    """All sentences of a folder, in the order of the file.

    Raises:
        InputError: neither layout is there, or a file lacks columns, rows or cases.
    """
    if _jsonl(folder, "all") is not None:
        return _from_rows(*(_read_jsonl(folder, name) for name in CONFIGURATIONS), where=folder)
    if all((folder / name).is_file() for name in (_TEMPLATES, _SENTENCES, _STATISTICS)):
        return _from_tables(folder)
    raise InputError(
        f"{folder} holds no WinoGender sentences: expected winogender_all.jsonl and "
        f"winogender_gotcha.jsonl (made by `ettin prefetch --tasks bias/winogender`), or "
        f"{_TEMPLATES}, {_SENTENCES} and {_STATISTICS}"
    )


def download_sentences() -> list[Sentence]:
    """The sentences on the hub.

    Raises:
        InputError: the hub gives us none.
    """
    return _from_rows(*map(_download, CONFIGURATIONS), where=HUB)


def fetch(folder: Path) -> None:
    """Write the hub's rows into a folder that `read_sentences` reads.

    Raises:
        InputError: the hub gives us none.
    """
    rows = {name: _download(name) for name in CONFIGURATIONS}
    _from_rows(*rows.values(), where=HUB)
    for name, found in rows.items():
        lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in found)
        files.write_atomic(folder / f"winogender_{name}.jsonl", "".join(lines))


def _from_rows(rows: list[Json], gotchas: list[Json], *, where: str | Path) -> list[Sentence]:
    """Sentences out of the hub's columns.

    The case of `her` is that of the same sentence about a man.
    """
    for name, found in (("all", rows), ("gotcha", gotchas)):
        _check_columns(found, _COLUMNS, where=f"{where} ({name})")
    marked = {_identifier(row["sentid"]) for row in gotchas}
    unknown = marked - {_identifier(row["sentid"]) for row in rows}
    if unknown:
        raise InputError(f"{where}: the gotcha {min(unknown)} is none of all sentences")
    cases: dict[str, Case] = {}
    for row in rows:
        possible = cases_of(row["pronoun"])
        if len(possible) == 1:
            cases[_identifier(row["sentid"]).rpartition(".")[0]] = possible[0]
    result = []
    for row in rows:
        identifier = _identifier(row["sentid"])
        frame = identifier.rpartition(".")[0]
        if frame not in cases or row["gender"] not in GENDERS:
            raise InputError(
                f"{where}: the case or gender of {row['pronoun']!r} ({row['gender']}) in "
                f"{identifier} is unknown; the other sentences of {frame} must be there too"
            )
        pronoun, gender = str(row["pronoun"]), row["gender"]
        result.append(
            Sentence(
                identifier, row["sentence"], pronoun, gender, cases[frame], identifier in marked
            )
        )
    return result


def _from_tables(folder: Path) -> list[Sentence]:
    """Sentences out of the authors' tables, cases and answers by template."""
    templates = _read_table(folder / _TEMPLATES, ("occupation(0)", "answer", "sentence"))
    statistics = _read_table(folder / _STATISTICS, ("occupation", _FEMALE_PERCENT))
    sentences = _read_table(folder / _SENTENCES, ("sentid", "sentence"))
    cases = {
        (row["occupation(0)"], row["answer"]): case
        for row in templates
        for case in CASES
        if f"${case}_PRONOUN" in row["sentence"]
    }
    female = {row["occupation"]: float(row[_FEMALE_PERCENT]) for row in statistics}
    result = []
    for row in sentences:
        identifier = _identifier(row["sentid"])
        occupation, _, answer, name = identifier.split(".")
        gender = next((each for each in GENDERS if each == name), None)
        case = cases.get((occupation, answer))
        if gender is None or case is None or occupation not in female:
            raise InputError(
                f"{folder / _SENTENCES}: {row['sentid']} has no template in {_TEMPLATES}, or its "
                f"occupation is not in {_STATISTICS}"
            )
        rare = {"male": female[occupation] > 50, "female": female[occupation] < 50}
        gotcha = answer == "0" and rare.get(gender, False)
        pronoun = FORMS[gender][case]
        result.append(Sentence(identifier, row["sentence"], pronoun, gender, case, gotcha))
    return result


def _identifier(sentid: str) -> str:
    """`a.b.0.male.txt` or `a.b.0.male` → the latter."""
    identifier = str(sentid).removesuffix(".txt")
    if not re.fullmatch(r"[^.]+\.[^.]+\.[^.]+\.[^.]+", identifier):
        raise InputError(
            f"the sentence id {sentid!r} is none: expected occupation.participant.answer.gender"
        )
    return identifier


def _jsonl(folder: Path, name: str) -> Path | None:
    paths = (folder / f"winogender_{name}.jsonl{ending}" for ending in ("", ".gz"))
    return next((path for path in paths if path.is_file()), None)


def _read_jsonl(folder: Path, name: str) -> list[Json]:
    path = _jsonl(folder, name)
    if path is None:
        raise InputError(f"{folder} holds no winogender_{name}.jsonl")
    return list(read_json_rows(path))


def _read_table(path: Path, columns: Iterable[str]) -> list[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(text_of(path)), delimiter="\t", quoting=csv.QUOTE_NONE)
    rows = list(reader)
    _check_columns(rows, columns, where=path)
    return rows


def _text(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")


def _check_columns(
    rows: list[Json] | list[dict[str, str]], columns: Iterable[str], *, where: str | Path
) -> None:
    if not rows:
        raise InputError(f"{where} holds no sentences")
    for row in rows:
        missing = [name for name in columns if row.get(name) in (None, "")]
        if missing:
            raise InputError(
                f"{where} lacks {', '.join(missing)} in a row; it has {', '.join(map(str, row))}"
            )


def _download(configuration: str) -> list[Json]:
    import datasets

    try:
        found = datasets.load_dataset(HUB, configuration, split="test")
    except Exception as error:  # the library raises many kinds for the same thing
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"cannot get {HUB} ({configuration}) from the hub: {reason}; give a folder with "
            "bias/winogender in it as --data"
        ) from error
    return [dict(row) for row in found]
