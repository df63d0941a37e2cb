"""The floors: a file imports only from lower floors, and the exceptions stand in one table.

Every import counts, wherever it stands: in a function, under `TYPE_CHECKING`, or as a string given
to `import_module`. Only the rules about torch look at module level alone, since they are about what
a person waits for.
"""

import ast
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "ettin"

# A module that is not placed here fails. A package places all its files.
FLOORS = {
    "": 0, "errors": 0, "files": 0, "console": 0, "numbers": 0,
    "fields": 1, "shape": 1, "recipe": 1, "recipe_file": 1, "suite_file": 1, "yaml_file": 1,
    "task_names": 1, "model_words": 1,
    "presets": 1, "schedules": 1, "records": 1, "random_bits": 1, "identity": 1,
    "shares": 1, "fast_encoding": 1, "gigatoken_encoding": 1,
    "mixtures": 1,
    "tokenizer": 1, "tokenizer_training": 1, "byte_level": 1, "text_pieces": 1,
    "tokenizer_comparison": 1,
    "model": 2, "objectives": 2, "data": 2, "huggingface": 2,
    "training": 3,
    "export": 4, "model_card": 4,
    "evaluation": 5,
    "suite": 6, "report": 6, "publish": 6, "check": 6, "quickstart": 6,
    "cli": 7, "commands": 7, "arguments": 7, "__main__": 7,
}  # fmt: skip

LIGHT = {":errors", ":console", ":numbers", ":arguments", ":cli"}
BY_STRING = {"import_module", "importlib.import_module", "__import__"}
BRINGS_TORCH = {"torch", "transformers", "optimi", "safetensors.torch", "sentence_transformers"}


class Import(NamedTuple):
    """One import: from which file and line, of what, and whether it runs as the file is loaded."""

    module: str
    line: int
    target: str
    at_load: bool


def floor_of(module: str) -> int | None:
    """The floor of a module, named without `ettin.`; None when it is not placed."""
    return FLOORS.get(module.partition(".")[0])


def group_of(module: str) -> str:
    """The package, or the single file, that a module belongs to."""
    return module.partition(".")[0]


def modules_of(source: Path) -> dict[str, Path]:
    """All modules below a folder, named relative to it: `data.order`; a package by its folder."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = path.relative_to(source).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports_of(source: Path) -> list[Import]:
    """Every import of every file, ours named relative to `ettin`, others by their full name."""
    modules = modules_of(source)
    found: list[Import] = []
    for module, path in modules.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        for node, at_load in _nodes(ast.parse(path.read_text(encoding="utf-8")), at_load=True):
            line = getattr(node, "lineno", 0)
            targets = _targets(node, package, modules)
            found.extend(Import(module, line, target, at_load) for target in targets)
    return found


def _nodes(node: ast.AST, *, at_load: bool) -> Iterator[tuple[ast.AST, bool]]:
    typing_only = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
    for child in ast.iter_child_nodes(node):
        below = at_load and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
        if typing_only and isinstance(node, ast.If) and child in node.body:
            below = False
        yield child, below
        yield from _nodes(child, at_load=below)


def _targets(node: ast.AST, package: str, modules: dict[str, Path]) -> list[str]:
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        start = node.module or ""
        if node.level:
            parents = ["ettin", *package.split(".")] if package else ["ettin"]
            start = ".".join([*parents[: len(parents) - node.level + 1], *filter(None, [start])])
        names = [f"{start}.{alias.name}" for alias in node.names]
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in BY_STRING:
        names = [str(arg.value) for arg in node.args[:1] if isinstance(arg, ast.Constant)]
    return [_own(name, modules) for name in names]


def _own(name: str, modules: dict[str, Path]) -> str:
    """`ettin.data.order.Order` → `:data.order`; a colon marks what is ours."""
    top, _, inside = name.partition(".")
    if top != "ettin":
        return name
    while inside and inside not in modules and floor_of(inside) is not None and "." in inside:
        inside = inside.rpartition(".")[0]
    return ":" + (inside if inside in modules or floor_of(inside) is not None else "")


def unplaced(source: Path) -> list[str]:
    """Modules that the table above does not know."""
    return [
        f"{module} stands on no floor: place it in FLOORS"
        for module in modules_of(source)
        if floor_of(module) is None
    ]


def uphill(source: Path) -> list[str]:
    """Imports of ours that break a rule about floors, each as a sentence."""
    return [
        f"{place(found)} imports {found.target[1:] or 'ettin'} "
        f"(floor {floor_of(found.target[1:])}): {reason}"
        for found in imports_of(source)
        if found.target.startswith(":") and (reason := _refused(found.module, found.target[1:]))
    ]


def place(found: Import) -> str:
    """Where an import stands, for messages."""
    return f"{found.module or 'ettin'} (floor {floor_of(found.module)}), line {found.line},"


def _refused(module: str, target: str) -> str | None:
    own, other = floor_of(module), floor_of(target)
    if own is None or other is None or group_of(module) == group_of(target):
        return None
    if other > own:
        return "imports run downhill only"
    if own == 2 and other == 2:
        return "model, objectives and data do not import each other"
    if own == 6 and other > 1:
        return "floor 6 imports floors 0 and 1 only, and reads the files of other stages"
    if own == 5 and other > 1 and target not in {"data.corpus", "objectives"}:
        return "evaluation imports floors 0 and 1, data.corpus and objectives only"
    return None


def misplaced(source: Path) -> list[str]:
    """Imports of others' packages that stand where they must not."""
    wrong = []
    for found in imports_of(source):
        top = found.target.partition(".")[0]
        if group_of(found.module) == "training" and top == "transformers":
            wrong.append(f"{place(found)} imports transformers: training knows our model alone")
        if floor_of(found.module) == 7 and found.at_load and not _light(found.target):
            wrong.append(f"{place(found)} imports {found.target} when loaded: do it in the command")
    return wrong


def _light(target: str) -> bool:
    top = target.partition(".")[0]
    light = target in LIGHT or group_of(target) == ":commands"
    return top in sys.stdlib_module_names or top == "typer" or light


def waits_for_torch(source: Path) -> list[str]:
    """Modules that must load without torch and do not, with the chain of imports that brings it."""
    loads: dict[str, list[str]] = {module: [] for module in modules_of(source)}
    for found in imports_of(source):
        if found.at_load:
            loads[found.module].append(found.target)
    wrong = []
    for module in loads:
        free = floor_of(module) in {0, 1, 6, 7} or group_of(module) == "data"
        if free and module != "data.batches" and (chain := _chain(module, loads, set())):
            wrong.append(f"{module} loads torch: {' → '.join(chain)}")
    return wrong


def _chain(module: str, loads: dict[str, list[str]], seen: set[str]) -> list[str]:
    """A way from a module to torch through what is imported as files are loaded; or nothing."""
    seen.add(module)
    for target in loads.get(module, []):
        if any(f"{target}.".startswith(f"{name}.") for name in BRINGS_TORCH):
            return [module, target]
    for target in loads.get(module, []):
        inside = target[1:]
        if target.startswith(":") and inside not in seen and (rest := _chain(inside, loads, seen)):
            return [module, *rest]
    return []


def cycles(source: Path) -> list[str]:
    """Circles of imports, each as `a → b → a`."""
    graph: dict[str, set[str]] = {module: set() for module in modules_of(source)}
    for found in imports_of(source):
        if found.target.startswith(":") and found.target[1:] != found.module:
            graph[found.module].add(found.target[1:])
    done: set[str] = set()
    wrong: list[str] = []

    def visit(module: str, path: list[str]) -> None:
        if module in path:
            wrong.append(" → ".join([*path[path.index(module) :], module]))
        elif module not in done:
            for target in sorted(graph.get(module, ())):
                visit(target, [*path, module])
            done.add(module)

    for module in graph:
        visit(module, [])
    return wrong


RULES: list[Callable[[Path], list[str]]] = [unplaced, uphill, misplaced, waits_for_torch, cycles]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_source_tree_keeps_every_rule(rule: Callable[[Path], list[str]]) -> None:
    broken = rule(SOURCE)
    assert not broken, "\n".join(broken)


def test_the_walker_sees_the_imports_of_the_source_tree() -> None:
    seen = {(found.module, found.target) for found in imports_of(SOURCE)}
    assert ("schedules", ":recipe") in seen
    assert ("files", "xxhash") in seen
    assert ("random_bits", "torch") in seen  # under TYPE_CHECKING


def tree(folder: Path, files: dict[str, str]) -> Path:
    """A made-up source tree."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("rule", "files", "sentence"),
    [
        (unplaced, {"sundries.py": ""}, "sundries stands on no floor"),
        (uphill, {"files.py": "from ettin.recipe import a", "recipe.py": ""}, "recipe (floor 1)"),
        (uphill, {"files.py": "def f():\n    import ettin.recipe", "recipe.py": ""}, "line 2"),
        (uphill, {"files.py": "if TYPE_CHECKING:\n  import ettin.cli", "cli.py": ""}, "line 2"),
        (uphill, {"files.py": "import_module('ettin.export')", "export.py": ""}, "downhill"),
        (uphill, {"__init__.py": "from .recipe import x", "recipe.py": ""}, "ettin (floor 0)"),
        (uphill, {"data/a.py": "from ..objectives import x", "objectives.py": ""}, "each other"),
        (uphill, {"model/a.py": "from ettin.data import b", "data/b.py": ""}, "each other"),
        (uphill, {"check.py": "from ettin.report import page", "report/page.py": ""}, "floor 6"),
        (uphill, {"quickstart.py": "from ettin import data", "data/__init__.py": ""}, "floor 6"),
        (uphill, {"report/a.py": "import ettin.training.b", "training/b.py": ""}, "reads the"),
        (uphill, {"evaluation/a.py": "import ettin.export", "export.py": ""}, "evaluation imports"),
        (uphill, {"evaluation/a.py": "from ettin.data import order", "data/order.py": ""}, "only"),
        (misplaced, {"training/a.py": "def f():\n    import transformers.models"}, "transformers"),
        (misplaced, {"cli.py": "import numpy"}, "imports numpy when loaded"),
        (misplaced, {"cli.py": "import ettin.recipe", "recipe.py": ""}, "in the command"),
        (waits_for_torch, {"check.py": "try:\n    import torch\nfinally: pass"}, "check → torch"),
        (waits_for_torch, {"check.py": "if TYPE_CHECKING:\n  pass\nelse:\n  import torch"}, "→"),
        (waits_for_torch, {"data/a.py": "class A:\n    import safetensors.torch"}, "data.a loads"),
        (waits_for_torch, {"data/a.py": "from ettin.data import batches",
                           "data/batches.py": "import torch"}, "data.a → data.batches → torch"),
        (cycles, {"files.py": "import ettin.console", "console.py": "import ettin.files"}, "→"),
        (cycles, {"model/a.py": "from .b import x", "model/b.py": "def f():\n    from . import a"},
         "model.a → model.b → model.a"),
    ],
)  # fmt: skip
def test_each_rule_finds_what_breaks_it(
    rule: Callable[[Path], list[str]], files: dict[str, str], sentence: str, tmp_path: Path
) -> None:
    broken = rule(tree(tmp_path, files))
    assert len(broken) == 1
    assert sentence in broken[0]


@pytest.mark.parametrize(
    "files",
    [
        {"recipe.py": "from ettin.files import fingerprint\nimport ettin", "files.py": ""},
        {"recipe.py": "if TYPE_CHECKING:\n    import torch\ndef f():\n    import torch"},
        {"data/batches.py": "import torch\nimport ettin.data.order", "data/order.py": ""},
        {"report/__init__.py": "from ettin.report import page", "report/page.py": "import jinja2"},
        {"cli.py": "import sys\nimport typer\nfrom ettin.errors import InputError\n"
                   "def f():\n    from ettin.training import trainer",
         "errors.py": "", "training/trainer.py": "import torch"},
        {"evaluation/a.py": "import transformers\nfrom ettin.data.corpus import Corpus\n"
                            "import ettin.objectives", "data/corpus.py": "", "objectives.py": ""},
    ],
)  # fmt: skip
def test_no_rule_finds_fault_with_what_is_allowed(files: dict[str, str], tmp_path: Path) -> None:
    source = tree(tmp_path, {"__init__.py": "", **files})
    assert [broken for rule in RULES for broken in rule(source)] == []
