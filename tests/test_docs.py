"""The documentation is true: its keys, commands and links are those of the project."""

import re
import shlex
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from pydantic_core import PydanticUndefined

from ettin import files
from ettin.arguments import spread
from ettin.cli import app
from ettin.console import read_json_lines
from ettin.errors import InputError
from ettin.evaluation.models import open_model
from ettin.evaluation.quick.samples import samples
from ettin.export import export
from ettin.fields import Share, Strict
from ettin.numbers import parse_number
from ettin.presets import BATCH_ROWS, PHASES, SIZES, PhaseRow, Size, phase_values
from ettin.recipe import Phase, Recipe, Suite, TrainedTokenizer, Trajectories
from ettin.recipe_file import load_recipe
from ettin.report.page import make_report
from ettin.shape import Dimensions
from ettin.training.trainer import train
from tests.recipes import tiny_recipe

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
MODELS: dict[str, type[Strict]] = {
    "Recipe": Recipe, "Phase": Phase, "Dimensions": Dimensions, "Share": Share,
    "Suite": Suite, "TrainedTokenizer": TrainedTokenizer, "Trajectories": Trajectories,
}  # fmt: skip

FROM_SIZE = {*Size._fields, "shape"}
FROM_NAME = {
    key
    for name in PHASES
    for key in phase_values(
        name, size="17m", objective="mlm", variant="intended", tokens=None, decay_tokens=None
    )
}
A_START: dict[str, Any] = {
    "where": "a model",
    "format": "huggingface",
    "shape": {**SIZES["17m"]._asdict(), "local_reach": 64, "vocab_size": 512},
    "global_rope_theta": 160_000.0,
    "local_rope_theta": 160_000.0,
}
"""What is known of a made-up model that a command on a page starts from."""

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
ROOT_COMMAND: Any = typer.main.get_command(app)


class Key(NamedTuple):
    """What a table says of one key: two cells as they are written."""

    kind: str
    default: str


# --- recipes.md


def documented(text: str) -> dict[str, dict[str, Key]]:
    """Heading → key → type and default, for all tables of a page whose rows begin with a key."""
    found: dict[str, dict[str, Key]] = {}
    heading = ""
    for line in text.splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ").split(":")[0]
        elif match := re.match(r"\| `(\w+)` \| (.*?) \| (.*?) \| \S", line):
            keys = found.setdefault(heading, {})
            assert match[1] not in keys, f"{heading}.{match[1]} stands there twice"
            keys[match[1]] = Key(match[2], match[3])
    return found


def declared(model: type[Strict]) -> dict[str, Key]:
    """Key → type and default of a model, in the words of the page."""
    schema = model.model_json_schema()["properties"]
    return {
        name: Key(_kind(schema[name]), _source(model, name) or _default(field.get_default()))
        for name, field in model.model_fields.items()
    }


def _source(model: type[Strict], name: str) -> str:
    """Where a recipe file's own completion takes a key from; empty if from nowhere."""
    if model is Phase:
        return "from `name`" if name in FROM_NAME else ""
    return "from `size`" if name in FROM_SIZE else ""


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        kinds = [_kind(each) for each in schema["anyOf"] if each.get("type") != "null"]
        return " or ".join(kinds)
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{each}`" for each in schema.get("enum", [schema.get("const")]))
    if schema["type"] == "array":
        return f"list of {_kind(schema['items'])}"
    if schema["type"] == "object":
        return f"name → {_kind(schema['additionalProperties'])}"
    word = {"integer": "count", "number": "number", "string": "text", "boolean": "yes or no"}
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "minimum": "≥", "exclusiveMinimum": ">"}
    limits = [f"{sign} {schema[key]}" for key, sign in signs.items() if key in schema]
    return " ".join([word[schema["type"]], ", ".join(limits)]).strip()


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        value = ", ".join(map(str, value))
    return "optional" if value in (None, {}, "") else f"`{value}`"


@pytest.mark.parametrize("name", MODELS)
def test_every_key_of_a_recipe_is_documented_and_nothing_more(name: str) -> None:
    pages = [ROOT / "docs" / f"{page}.md" for page in ("recipes", "suite")]
    page = documented("".join(path.read_text(encoding="utf-8") for path in pages))
    assert page[name] == declared(MODELS[name])


def test_a_key_that_drifted_is_seen() -> None:
    true = {name: key for name, key in declared(Recipe).items() if name == "validation_rows"}
    line = "| `validation_rows` | count ≥ 1 | `{}` | Rows. |\n"
    assert documented("## Recipe: a run\n" + line.format(64)) == {"Recipe": true}
    assert documented("## Recipe\n" + line.format(65)) != {"Recipe": true}


def cells_below(heading: str, path: Path = ROOT / "docs" / "recipes.md") -> list[list[str]]:
    """The rows of the first table below a heading, its head left out."""
    (section,) = re.findall(
        rf"^## {heading}\n(.*?)(?=^## |\Z)", path.read_text(encoding="utf-8"), re.M | re.S
    )
    table = re.findall(r"^\|.*\|$", section, re.MULTILINE)
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def test_the_table_of_sizes_is_that_of_the_code() -> None:
    rows = {name: Size(*map(_value, cells)) for name, *cells in cells_below("Sizes")[: len(SIZES)]}
    assert rows == SIZES


def test_the_table_of_phases_is_that_of_the_code() -> None:
    columns = zip(*cells_below("Phases, as published")[: len(PhaseRow._fields)], strict=True)
    _, *phases = [PhaseRow(*map(_value, column)) for column in columns]
    assert dict(zip(PHASES, phases, strict=True)) == PHASES
    assert f"and `batch_rows` {BATCH_ROWS}." in (ROOT / "docs/recipes.md").read_text("utf-8")


def _value(cell: str) -> Any:
    """A cell as the tables of the code have it."""
    cell = cell.removeprefix("÷ ")
    if cell in {"–", "the size's"}:
        return None
    return parse_number(cell) if cell[0].isdigit() else cell


# --- formats.md


def fields_of(section: str) -> tuple[set[str], set[str]]:
    """What a section of formats.md names at all, and what its tables list as fields."""
    text = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    body = re.split(r"^## ", text, flags=re.MULTILINE)
    (found,) = [each for each in body if each.startswith(section + "\n")]
    rows = re.findall(r"^\| Field \|.*?\n\n", found + "\n\n", re.MULTILINE | re.DOTALL)
    first = [line.split("|")[1] for row in rows for line in row.splitlines()[2:] if line]
    return set(SPAN.findall(FENCE.sub("", found))), set(SPAN.findall(" ".join(first)))


@pytest.fixture(scope="module")
def made(corpus_directory: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory of each kind, as small as they come."""
    out = tmp_path_factory.mktemp("made")
    steps = {"tokens": 2 * 6 * 64, "warmup_tokens": 0, "decay_tokens": 0}
    never = {"save_every_tokens": None, "validate_every_tokens": None}
    changes = {f"phase_{key}": value for key, value in {**steps, **never}.items()}
    recipe = tiny_recipe(ngram_baselines=True, **changes)
    for name, each in (("encoder", recipe), ("decoder", recipe.twin())):
        train(each, out=out / name, corpus_path=corpus_directory, command=[])
        export(
            str(out / name), out=out / "exports" / name, objective=None, dtype="float32", command=[]
        )
    model = out / "exports" / "encoder"
    export(str(model), out=out / "converted", objective="clm", dtype="float32", command=[])
    for name in ("encoder", "decoder"):
        samples(
            open_model(str(out / "exports" / name)),
            corpus_path=corpus_directory,
            out=out / "results",
            command=[],
        )
    make_report([out / "encoder", out / "results"], out=out / "report", command=[])
    return out


def written(made: Path, corpus: Path, tokenizer: Path) -> dict[str, set[str]]:
    """Section of formats.md → the fields that its files really have."""
    facts = {
        kind: set(files.read_manifest(path)["facts"])
        for kind, path in {
            "Tokenizer": tokenizer,
            "Corpus": corpus,
            "Run": made / "encoder",
            "Checkpoint": made / "encoder" / "checkpoints" / "step0",
            "Export": made / "converted",
            "Report": made / "report",
        }.items()
    }
    run, exported = made / "encoder", made / "converted"
    (source, *_) = files.read_manifest(corpus)["facts"]["sources"].values()
    facts["Corpus"] |= set(source) | set(source["rows"]["64"])
    for name in ("metrics.jsonl", "ledger.jsonl"):
        facts["Run"] |= {key for line in read_json_lines(run / name) for key in line}
    for name in ("start.json", "baselines.json", "sample.json"):
        facts["Run"] |= set(files.read_json(run / name))
    for name in ("state.json", "index.json"):
        facts["Checkpoint"] |= set(files.read_json(run / "checkpoints" / "step0" / name))
    facts["Export"] |= set(files.read_json(exported / "parity.json"))
    facts["Export"] |= set(files.read_json(exported / "config.json")["ettin"])
    samples = [files.read_json(path) for path in (made / "results").rglob("samples.json")]
    facts["Results"] = {key for each in samples for key in each}
    for list_name in ("fill_mask", "generation"):
        facts["Results"] |= {key for each in samples for item in each[list_name] for key in item}
    facts["The manifest"] = set(files.read_manifest(run))
    return facts


@pytest.mark.slow
def test_every_field_that_is_written_is_documented_and_no_other(
    made: Path, corpus_directory: Path, tokenizer_directory: Path
) -> None:
    for section, fields in written(made, corpus_directory, tokenizer_directory).items():
        named, listed = fields_of(section)
        assert fields - named == set(), f"{section} does not say what these are"
        assert listed - fields == set(), f"{section} describes what is not there"


# --- commands


def commands_of(text: str) -> tuple[list[str], list[str]]:
    """Commands of ours in fenced blocks, which are whole, and in running text, which may not be."""
    whole = []
    for language, block in FENCE.findall(text):
        if language in {"", "bash", "console"}:
            lines = block.replace("\\\n", " ").splitlines()
            whole += [line for line in lines if re.match(r"ettin\s", line)]
    spans = (" ".join(span.split()) for span in SPAN.findall(FENCE.sub("", text)))
    return whole, [span for span in spans if span.startswith("ettin ")]


def mistakes_in(line: str, *, whole: bool) -> list[str]:
    """What the command line would not understand, without running anything."""
    words = spread(shlex.split(line)[1:])
    command, names = ROOT_COMMAND, ["ettin"]
    while words and hasattr(command, "commands"):
        if words[0].startswith("-"):
            break
        if words[0] not in command.commands:
            return [f"{line}: {' '.join(names)} has no command {words[0]!r}"]
        names.append(words[0])
        command = command.commands[words.pop(0)]
    known = {"--help"} | {option for each in command.params for option in each.opts}
    unknown = [word for word in words if word.startswith("-") and word not in known]
    if unknown or not whole:
        return [f"{line}: {' '.join(names)} has no option {word}" for word in unknown]
    if "--help" in words:
        return []
    try:
        context = command.make_context(" ".join(names), list(words))
    except Exception as error:  # typer keeps its own copy of the class  # noqa: BLE001
        return [f"{line}: {error}"]
    given = context.params
    return _mistakes_in_recipe(line, given) if names[1] == "train" else []


def _mistakes_in_recipe(line: str, given: dict[str, Any]) -> list[str]:
    """What a shipped recipe would refuse of the overrides, objective and phase of a command."""
    path = ROOT / given["recipe"]
    if path.parent != ROOT / "recipes":  # a file that the page's reader has made
        path = ROOT / "recipes" / "nano.yaml"
    start = A_START if given["start_from"] else None
    try:
        load_recipe(
            path, overrides=given["overrides"], objective=given["objective"], start=start
        ).of_phases(given["phase"])
    except InputError as error:
        return [f"{line}: {error}"]
    return []


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_command_that_is_shown_exists(path: Path) -> None:
    whole, parts = commands_of(path.read_text(encoding="utf-8"))
    wrong = [mistake for line in whole for mistake in mistakes_in(line, whole=True)]
    wrong += [mistake for line in parts for mistake in mistakes_in(line, whole=False)]
    assert wrong == []


def test_commands_are_found_where_they_stand() -> None:
    text = "See `ettin train\n--dry-run`.\n\n```bash\nettin check \\\n  runs\nls\n```\n"
    assert commands_of(text) == (["ettin check    runs"], ["ettin train --dry-run"])
    assert len(commands_of((ROOT / "docs" / "own-text.md").read_text(encoding="utf-8"))[0]) >= 9


@pytest.mark.parametrize(
    "line",
    [
        "ettin convert runs/encoder",
        "ettin tokenizer learn",
        "ettin train recipes/nano.yaml --outt runs/encoder",
        "ettin train recipes/nano.yaml",
        "ettin train recipes/nano.yaml --out runs/encoder phases.0.token=3",
        "ettin train recipes/nano.yaml --out runs/encoder --phase cross",
        "ettin train recipes/continue.yaml --out runs/encoder",
        "ettin train recipes/nono.yaml --out runs/encoder",
        "ettin check",
        "ettin check one two",
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    assert mistakes_in(line, whole=True) != []
