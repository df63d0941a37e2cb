"""What we say we need, what we pin, and what we import are the same."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
LOCK = ROOT / "requirements.lock"
PIN = re.compile(r"(?P<name>[a-z0-9-]+)==(?P<version>[0-9][0-9a-z.]*)")

# Where the name of an import is not that of its distribution, for those that may not be installed.
DISTRIBUTIONS = {"yaml": "pyyaml", "optimi": "torch-optimi", "vl_convert": "vl-convert-python",
                 "sklearn": "scikit-learn"}  # fmt: skip


def project() -> dict[str, Any]:
    """The parsed pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def declared(project: dict[str, Any], *, extras: bool) -> list[Requirement]:
    """The dependencies of the package; with those of its extras, if wanted."""
    texts = list(project["project"]["dependencies"])
    if extras:
        for group in project["project"].get("optional-dependencies", {}).values():
            texts += group
    return [Requirement(text) for text in texts]


def locked_set(project: dict[str, Any]) -> list[Requirement]:
    """What the lock must satisfy: the package, its extras that are tested, tools and build."""
    extras = project["project"]["optional-dependencies"]
    tools = extras["evaluation"] + extras["cluster"] + extras["datatrove"] + extras["fast"]
    tools += project["dependency-groups"]["dev"] + project["build-system"]["requires"]
    return declared(project, extras=False) + [Requirement(text) for text in tools]


def read_lock(text: str) -> tuple[dict[str, str], list[str]]:
    """Name → version of a lock file, and one sentence for each line that is not `name==version`."""
    pins, wrong = {}, []
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    for line in lines:
        if match := PIN.fullmatch(line):
            pins[match["name"]] = match["version"]
        else:
            wrong.append(f"{line!r} is not name==version")
    if list(pins) != sorted(pins) or len(lines) != len(pins) + len(wrong):
        wrong.append("the lines are not sorted, or a name stands there twice")
    return pins, wrong


def unsatisfied(requirements: list[Requirement], pins: dict[str, str]) -> list[str]:
    """Requirements, and requirements of what is pinned, that the pins leave open or contradict."""
    wrong: list[str] = []
    waiting, seen = list(requirements), set()
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        if name not in pins:
            wrong.append(f"{wanted} is not in requirements.lock")
        elif not wanted.specifier.contains(pins[name], prereleases=True):
            wrong.append(f"{wanted} does not admit the locked {pins[name]}")
        if (name, frozenset(wanted.extras)) not in seen:
            seen.add((name, frozenset(wanted.extras)))
            waiting += _needed_by(name, wanted.extras)
    return sorted(set(wrong))


def _needed_by(name: str, extras: set[str]) -> Iterator[Requirement]:
    if name == "torch":  # a GPU build pins its own CUDA libraries, another set in each build
        return
    try:
        texts = requires(name) or []
    except PackageNotFoundError:
        return
    for text in texts:
        wanted = Requirement(text)
        marker = wanted.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in ["", *extras]):
            yield wanted


def undeclared(source: Path, requirements: list[Requirement]) -> list[str]:
    """Imports of other people's packages that no dependency or extra brings."""
    names = {canonicalize_name(requirement.name) for requirement in requirements}
    installed = packages_distributions()
    wrong = []
    for path in sorted(source.rglob("*.py")):
        for top in sorted(_imported(path) - sys.stdlib_module_names - {"ettin"}):
            brings = [*installed.get(top, []), DISTRIBUTIONS.get(top, top)]
            if not names & {canonicalize_name(name) for name in brings}:
                wrong.append(f"{path.name} imports {top}, which pyproject.toml does not declare")
    return wrong


def _imported(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).partition(".")[0])
    return found


def test_the_lock_holds_exact_versions_and_nothing_else() -> None:
    pins, wrong = read_lock(LOCK.read_text(encoding="utf-8"))
    assert wrong == []
    assert "torch" in pins
    assert not {"ettin", "pip"} & set(pins)


def test_the_locked_versions_satisfy_all_that_is_declared() -> None:
    pins, _ = read_lock(LOCK.read_text(encoding="utf-8"))
    assert unsatisfied(locked_set(project()), pins) == []


def test_every_import_is_declared() -> None:
    assert undeclared(ROOT / "src", declared(project(), extras=True)) == []


@pytest.mark.parametrize(
    "line",
    [
        "numpy>=2",
        "numpy",
        "torch==2.13.0+cpu",
        "numpy @ https://example.org/numpy.whl",
        "--extra-index-url https://example.org/simple",
        "numpy==2.4.6 --hash=sha256:00",
        "-e .",
        "zlib==1\nnumpy==2",
        "numpy==2\nnumpy==2",
    ],
)
def test_a_lock_line_that_is_no_exact_version_is_found(line: str) -> None:
    assert len(read_lock(f"# said\n{line}\n")[1]) == 1


def test_a_missing_or_contradicting_pin_is_found() -> None:
    pins, _ = read_lock(LOCK.read_text(encoding="utf-8"))
    requirements = locked_set(project())
    without = {name: version for name, version in pins.items() if name != "markupsafe"}
    assert any("MarkupSafe" in wrong for wrong in unsatisfied(requirements, without))
    assert unsatisfied(requirements, {**pins, "numpy": "1.26.0"})


def test_an_undeclared_import_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("def f():\n    import yaml, pytest\n", encoding="utf-8")
    wrong = undeclared(tmp_path, declared(project(), extras=True))
    assert wrong == ["a.py imports pytest, which pyproject.toml does not declare"]
