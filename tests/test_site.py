"""The documentation as a site: links lead somewhere, every module is shown, nothing is fetched."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.test_docs import FENCE, PAGES, ROOT, TEXTS
from tests.test_requirements import LOCK, project, read_lock, unsatisfied

LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")

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
