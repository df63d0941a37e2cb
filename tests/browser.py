"""A page in a headless Chromium, as a reader would meet it, and everything it did that it should
not have.

    with visit(path, width=360) as seen:
        seen.page.locator("button").first.click()
    assert seen.complaints == []

Without a browser a test is skipped. With ETTIN_BROWSER=required in the environment it fails, so
that whoever installed one is told when it is not found.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Dialog, Page

REQUIRED = "ETTIN_BROWSER"
_NAMES = ("chromium", "chromium-browser", "google-chrome")
_PATIENCE_MILLISECONDS = 60_000


@dataclass
class Visit:
    """An open page.

    Attributes:
        page: Playwright's.
        complaints: lines of the console, errors of scripts, dialogs, and requests for anything
            but the page itself, in the order in which they came.
    """

    page: "Page"
    complaints: list[str] = field(default_factory=list)


@contextmanager
def visit(
    path: Path, *, width: int = 1200, dark: bool = False, scripts: bool = True, touch: bool = False
) -> Iterator[Visit]:
    """Open a file, and wait until its figures are drawn; without a browser the test ends here.

    Args:
        path: of the page.
        width: of the window, in pixels.
        dark: whether the reader prefers dark pages.
        scripts: whether the browser runs scripts at all.
        touch: whether there is a finger instead of a mouse.
    """
    browser = next((found for name in _NAMES if (found := shutil.which(name))), None)
    if browser is None:
        _give_up(f"needs a browser: none of {', '.join(_NAMES)} is on the PATH")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        _give_up("needs playwright, which is not installed")
    with sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        context = running.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if dark else "light",
            java_script_enabled=scripts,
            has_touch=touch,
        )
        seen = Visit(context.new_page())
        seen.page.set_default_timeout(_PATIENCE_MILLISECONDS)
        _listen(seen, path.absolute().as_uri())
        seen.page.goto(path.absolute().as_uri())
        if scripts and seen.page.locator("figure").count():
            seen.page.wait_for_selector("html[data-live=yes]")
        yield seen
        running.close()


def _give_up(reason: str) -> NoReturn:
    """Skip the test, or fail it where a browser is required."""
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(f"{reason}, and {REQUIRED}=required")
    pytest.skip(reason)


def _listen(seen: Visit, address: str) -> None:
    heard = seen.complaints
    page = seen.page
    page.on("console", lambda line: heard.append(f"{line.type}: {line.text}"))
    page.on("pageerror", lambda error: heard.append(f"error: {error}"))

    def refuse(dialog: "Dialog") -> None:
        heard.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    page.on("dialog", refuse)
    page.on(
        "request",
        lambda request: None if request.url == address else heard.append(f"asked: {request.url}"),
    )
