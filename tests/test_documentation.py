"""What a reader may count on: docstrings, types, file lengths, names, and no loose ends."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LINES_AT_MOST = 350
EMPTY_NAMES = {"utils", "util", "common", "base", "helpers", "helper", "misc"}
LOOSE_END = re.compile(r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b(?!.*https?://)")

Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def public_definitions(path: Path) -> Iterator[Definition]:
    """Public functions and classes of a public module, and the public methods of those classes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (
                    method
                    for method in node.body
                    if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
                    and not method.name.startswith("_")
                )


def undocumented(root: Path) -> list[str]:
    """Modules, classes, functions and methods of the package without a docstring."""
    wrong = []
    for path in sorted((root / "src").rglob("*.py")):
        if not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))):
            wrong.append(f"{path.relative_to(root)} does not say what it is for")
        wrong += [
            f"{path.relative_to(root)}:{node.lineno} {node.name} has no docstring"
            for node in public_definitions(path)
            if not ast.get_docstring(node)
        ]
    return wrong


def untyped(root: Path) -> list[str]:
    """Public functions of the package with an argument or a result of unstated type."""
    wrong = []
    for path in sorted((root / "src").rglob("*.py")):
        for node in public_definitions(path):
            if isinstance(node, ast.ClassDef):
                continue
            spelled = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
            spelled += [extra for extra in (node.args.vararg, node.args.kwarg) if extra]
            bare = [
                argument.arg
                for argument in spelled
                if argument.annotation is None and argument.arg not in {"self", "cls"}
            ]
            bare += [] if node.returns else ["its result"]
            wrong += [
                f"{path.relative_to(root)}:{node.lineno} {node.name}: no type for {name}"
                for name in bare
            ]
    return wrong


def too_long(root: Path) -> list[str]:
    """Python files of more than 350 lines."""
    return [
        f"{path.relative_to(root)} has {count} lines, {LINES_AT_MOST} at most: split it by noun"
        for path in _python(root)
        if (count := len(path.read_text(encoding="utf-8").splitlines())) > LINES_AT_MOST
    ]


def badly_named(root: Path) -> list[str]:
    """Files and folders whose names say nothing about what is in them."""
    return [
        f"{path.relative_to(root)}: name it after what it holds"
        for path in _python(root)
        if EMPTY_NAMES & {*path.relative_to(root).parts[:-1], path.stem}
    ]


def loose_ends(root: Path) -> list[str]:
    """Notes of work left over, without a link to where it is tracked."""
    texts = [*_python(root), *root.glob("*.md"), *root.glob("docs/**/*.md"), root / "Makefile"]
    return [
        f"{path.relative_to(root)}:{number} has a note of work left over and no link to an issue"
        for path in texts
        if path.is_file()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if LOOSE_END.search(line)
    ]


def _python(root: Path) -> list[Path]:
    return [
        path
        for folder in ("src", "tests", "benchmarks", "docs")
        for path in sorted((root / folder).rglob("*.py"))
    ]


Rule = Callable[[Path], list[str]]
RULES: list[Rule] = [undocumented, untyped, too_long, badly_named, loose_ends]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_project_keeps_every_rule(rule: Rule) -> None:
    broken = rule(ROOT)
    assert not broken, "\n".join(broken)


def test_the_rules_look_at_the_package() -> None:
    names = {
        node.name
        for path in (ROOT / "src").rglob("*.py")
        for node in public_definitions(path)
        if path.name in {"files.py", "recipe.py", "shape.py"}
    }
    assert {"staging", "verify", "Recipe", "twin", "parameters"} <= names


@pytest.mark.parametrize(
    ("rule", "name", "text"),
    [
        (undocumented, "src/a.py", "import os\n"),
        (undocumented, "src/a.py", '"""A."""\ndef shown(): pass\n'),
        (undocumented, "src/a.py", '"""A."""\nclass Shown: pass\n'),
        (undocumented, "src/a.py", '"""A."""\nclass S:\n    """S."""\n    def shown(self): pass\n'),
        (untyped, "src/a.py", "def shown(x) -> int: pass\n"),
        (untyped, "src/a.py", "def shown(x: int): pass\n"),
        (untyped, "src/a.py", "async def shown(*x) -> int: pass\n"),
        (untyped, "src/a.py", "class S:\n    def shown(self, *, x) -> int: pass\n"),
        (too_long, "tests/a.py", "\n" * 351),
        (badly_named, "src/utils.py", ""),
        (badly_named, "src/helpers/a.py", ""),
        (loose_ends, "src/a.py", "x = 1  # TO" + "DO: later\n"),
        (loose_ends, "README.md", "FIX" + "ME\n"),
    ],
)
def test_each_rule_finds_what_breaks_it(rule: Rule, name: str, text: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    assert len(rule(tmp_path)) == 1


def test_no_rule_finds_fault_with_what_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    text = (
        '''"""What it is for."""
def shown(x: int, *, y: int) -> int:
    """Said."""
def _hidden(x): pass
class _Hidden:
    def method(self, x): pass
# TO'''
        + "DO: https://example.org/issues/1\n"
        + "\n" * 342
    )
    (tmp_path / "src" / "shown.py").write_text(text, encoding="utf-8")
    assert [broken for rule in RULES for broken in rule(tmp_path)] == []
