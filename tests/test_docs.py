"""The documentation is true: its keys, commands and links are those of the project."""

import re
import shlex
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer
from packaging.requirements import Requirement
from pydantic_core import PydanticUndefined

from ettin import files
from ettin.arguments import spread
from ettin.cli import app
from ettin.console import read_json_lines
from ettin.evaluation.quick import quick
from ettin.export import export
from ettin.presets import Size
from ettin.recipe import Dimensions, Phase, Recipe, Strict
from ettin.recipe_file import load_recipe
from ettin.report.page import make_report
from ettin.training.trainer import train
from tests.recipes import tiny_recipe
from tests.test_requirements import LOCK, project, read_lock, unsatisfied

ROOT = Path(__file__).parent.parent
PAGES = sorted((ROOT / "docs").glob("*.md"))
TEXTS = [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
MODELS: dict[str, type[Strict]] = {"Recipe": Recipe, "Phase": Phase, "Dimensions": Dimensions}

FROM_SIZE = {*Size._fields, "shape"}

FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
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
        name: Key(
            _kind(schema[name]),
            "from `size`" if name in FROM_SIZE else _default(field.get_default()),
        )
        for name, field in model.model_fields.items()
    }


def _kind(schema: dict[str, Any]) -> str:
    if "anyOf" in schema:
        (schema,) = [each for each in schema["anyOf"] if each.get("type") != "null"]
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
    return "optional" if value in (None, {}) else f"`{value}`"


@pytest.mark.parametrize("name", MODELS)
def test_every_key_of_a_recipe_is_documented_and_nothing_more(name: str) -> None:
    page = documented((ROOT / "docs" / "recipes.md").read_text(encoding="utf-8"))
    assert page[name] == declared(MODELS[name])


def test_a_key_that_drifted_is_seen() -> None:
    true = {name: key for name, key in declared(Phase).items() if name == "mask_rate"}
    line = "| `mask_rate` | number ≥ 0, ≤ 1 | `{}` | Share. |\n"
    assert documented("## Phase: a stretch\n" + line.format(0.3)) == {"Phase": true}
    assert documented("## Phase\n" + line.format(0.4)) != {"Phase": true}


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
        quick(out / "exports" / name, corpus_path=corpus_directory, out=out / "results", command=[])
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
    if names[1] == "train":
        load_recipe(ROOT / "recipes" / "nano.yaml", overrides=given["overrides"])
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
        "ettin check",
        "ettin check one two",
    ],
)
def test_a_command_that_does_not_exist_is_found(line: str) -> None:
    assert mistakes_in(line, whole=True) != []


# --- links


def broken_links(path: Path) -> list[str]:
    """Links of a page to files or headings of this repository that are not there."""
    wrong = []
    for target in LINK.findall(FENCE.sub("", path.read_text(encoding="utf-8"))):
        if re.match(r"[a-z]+:", target):
            continue
        name, _, anchor = target.partition("#")
        file = path.parent / name if name else path
        if not file.exists():
            wrong.append(f"{path.name}: {target} is not there")
        elif anchor and anchor not in anchors_of(file):
            wrong.append(f"{path.name}: {name} has no heading for #{anchor}")
    return wrong


def anchors_of(path: Path) -> set[str]:
    """Headings of a Markdown file, as Python-Markdown makes anchors of them."""
    text = FENCE.sub("", path.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    plain = (
        re.sub(r"[^\w\s-]", "", heading.encode("ascii", "ignore").decode()) for heading in headings
    )
    return {re.sub(r"[-\s]+", "-", heading.strip().lower()) for heading in plain}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_link_inside_the_project_leads_somewhere(path: Path) -> None:
    assert broken_links(path) == []


def test_a_link_that_leads_nowhere_is_found(tmp_path: Path) -> None:
    page = tmp_path / "a.md"
    page.write_text("# A name\n[a](b.md) [b](#a-name) [c](#gone) [d](https://example.org)\n")
    assert broken_links(page) == ["a.md: b.md is not there", "a.md:  has no heading for #gone"]


# --- the site


def test_every_module_stands_in_the_reference() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    listed = re.findall(r"^::: (\S+)$", text, re.MULTILINE)
    modules = {
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts)
        for path in (ROOT / "src").rglob("*.py")
        if not path.stem.startswith("__")
    }
    assert sorted(listed) == sorted(modules)


def test_the_lock_holds_what_the_documentation_is_built_with() -> None:
    wanted = [Requirement(text) for text in project()["dependency-groups"]["docs"]]
    pins, _ = read_lock(LOCK.read_text(encoding="utf-8"))
    assert unsatisfied(wanted, pins) == []


class Loads(HTMLParser):
    """Collects what a browser fetches for a page."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the address of a script, style, picture, frame or hint."""
        values = dict(attrs)
        if address := values.get("src") or (values.get("href") if tag == "link" else None):
            self.found.append(address)


@pytest.mark.slow
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(
    tmp_path: Path,
) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    pages = sorted(tmp_path.glob("*.html"))
    assert {page.stem for page in PAGES} <= {page.stem for page in pages}
    for page in pages:
        reader = Loads()
        reader.feed(page.read_text(encoding="utf-8"))
        assert reader.found
        assert [each for each in reader.found if re.match(r"(https?:)?//", each)] == []
