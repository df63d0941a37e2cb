"""A report's page as a browser understands it: tags, attributes, text."""

from html.parser import HTMLParser
from pathlib import Path

from ettin.report import make_report


class Page(HTMLParser):
    """The tags, attributes and text of a page, as a browser would understand them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.text += " "
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


def page_of(paths: list[Path], out: Path) -> Page:
    """Make a report and parse its page."""
    summary = make_report(paths, out=out, command=["ettin", "report"])
    return Page(summary.page.read_text(encoding="utf-8"))
