"""A report's page as a browser understands it: tags, attributes, text, and what it would run."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

from ettin.report import make_report


class Page(HTMLParser):
    """A page, or a drawing, as a browser would understand it.

    Attributes:
        tags: in order. Scripts that the page's own policy names by their hashes are not among them,
            nor are scripts of a type that no browser runs: `script` there is one that got in.
        attributes: of all tags, with their values.
        text: whatever is read, with spaces between elements; no script.
        policy: the content security policy, empty without one.
        scripts: the scripts that the policy names.
        data: the content of scripts that are data.
    """

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = self.policy = ""
        self.scripts: list[str] = []
        self.data: list[str] = []
        self._script: str | None = None
        self._type = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append(tag)
        self.text += " "
        self.attributes += list(given.items())
        if given.get("http-equiv") == "Content-Security-Policy":
            self.policy = given["content"]
        if tag == "script":
            self._script, self._type = "", given.get("type", "")

    def handle_data(self, data: str) -> None:
        if self._script is None:
            self.text += data
        else:
            self._script += data

    def handle_endtag(self, tag: str) -> None:
        if tag != "script" or self._script is None:
            return
        if self._type == "application/json":
            self.data.append(self._script)
        elif f"'{hash_of(self._script)}'" in self.policy:
            self.scripts.append(self._script)
        else:
            self.text += self._script
            self._script = None
            return
        self.tags.remove("script")
        self._script = None


def hash_of(content: str) -> str:
    """What a policy calls a script or a style that stands in the page."""
    return f"sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}"


def without_scripts(html: str) -> str:
    """A page without the content of its scripts."""
    return re.sub(r"(<script[^>]*>).*?</script>", r"\1</script>", html, flags=re.DOTALL)


def page_of(paths: list[Path], out: Path) -> Page:
    """Make a report and parse its page."""
    summary = make_report(paths, out=out, command=["ettin", "report"])
    return Page(summary.page.read_text(encoding="utf-8"))
