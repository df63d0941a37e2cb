"""The page in a real browser: it answers to pointers, fingers and keys, on desks and telephones, in
the light and in the dark, and asks for nothing.
"""

import re
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ettin.report import make_report
from ettin.report.collect import collect
from tests.browser import visit
from tests.made_up_runs import write_records, write_run, write_samples
from tests.test_report_colours import contrast

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser

TARGETS = "figure .{layout} .vega-embed path[fill='{color}'][opacity='0']"
ENCODER, DECODER = "#0072b2", "#d55e00"
READABLE = 4.5
"""Contrast that WCAG 2.1 asks of text (1.4.3)."""


@pytest.fixture(scope="module", name="report")
def _report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of a pair with scores and samples."""
    folder = tmp_path_factory.mktemp("made")
    write_run(folder / "runs" / "encoder", "mlm", phases=("pretraining", "decay"))
    write_run(folder / "runs" / "decoder", "clm", phases=("pretraining", "decay"))
    write_records(folder / "results")
    write_samples(folder / "samples.json")
    return make_report([folder], out=folder / "report", command=["ettin", "report"]).page


def marks(page: "Page", color: str, *, layout: str = "wide") -> int:
    """How many shapes and texts of a colour are drawn live in all figures."""
    fills = page.locator(f"figure .{layout} .vega-embed svg [fill='{color}']").count()
    return fills + page.locator(f"figure .{layout} .vega-embed svg [stroke='{color}']").count()


def rgb(color: str) -> str:
    """`rgb(1, 2, 3)`, as a browser states a colour, as `#010203`."""
    return "#" + "".join(f"{int(each):02x}" for each in re.findall(r"\d+", color)[:3])


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_the_page_is_drawn_live_without_a_complaint_and_fits_the_window(
    report: Path, width: int, dark: bool
) -> None:
    shown, other = ("wide", "narrow") if width > 704 else ("narrow", "wide")
    with visit(report, width=width, dark=dark) as seen:
        page = seen.page
        assert page.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth")
        assert page.locator(f"figure .{shown} .vega-embed svg").count() == 2
        assert page.locator(f"figure .{shown} svg").count() == 2
        assert page.locator(f"figure .{shown}").first.is_visible()
        assert not page.locator(f"figure .{other}").first.is_visible()
        boxes = [button.bounding_box() for button in page.locator(".legend button").all()]
        assert len(boxes) == 4
        assert all(box and box["x"] >= 0 and box["x"] + box["width"] <= width for box in boxes)
    assert seen.complaints == []


def test_the_other_layout_is_drawn_when_the_width_asks_for_it_and_hides_the_same_series(
    report: Path,
) -> None:
    with visit(report) as seen:
        page = seen.page
        page.locator(".legend button").first.click()
        assert page.locator(".narrow .vega-embed").count() == 0
        page.set_viewport_size({"width": 360, "height": 900})
        page.locator("figure .narrow .vega-embed svg").nth(1).wait_for()
        curves = page.locator("figure").first.locator(".narrow .vega-embed")
        curves.locator(f"[stroke='{ENCODER}']").first.wait_for(state="detached")
        assert curves.locator(f"[stroke='{DECODER}']").count() > 0
        page.locator(".legend button").first.click()
        curves.locator(f"[stroke='{ENCODER}']").first.wait_for(state="attached")
    assert seen.complaints == []


def test_a_button_hides_its_series_and_brings_it_back(report: Path) -> None:
    with visit(report) as seen:
        page = seen.page
        encoder, decoder = marks(page, ENCODER), marks(page, DECODER)
        assert encoder > 20
        buttons = page.get_by_role("button", name="encoder", exact=True)
        assert buttons.count() == 2
        for button in buttons.all():
            button.click()
        page.locator(f".wide .vega-embed [fill='{ENCODER}']").first.wait_for(state="detached")
        assert marks(page, ENCODER) == 0
        assert marks(page, DECODER) == decoder
        assert {button.get_attribute("aria-pressed") for button in buttons.all()} == {"false"}
        for button in buttons.all():
            button.click()
        page.locator(f".wide .vega-embed text[fill='{ENCODER}']").nth(4).wait_for()
        assert marks(page, ENCODER) == encoder
        assert {button.get_attribute("aria-pressed") for button in buttons.all()} == {"true"}
    assert seen.complaints == []


def test_buttons_are_reached_and_pressed_by_keyboard_and_show_where_the_focus_is(
    report: Path,
) -> None:
    with visit(report) as seen:
        page = seen.page
        page.keyboard.press("Tab")
        skip = page.evaluate("document.activeElement.getAttribute('href')")
        assert skip == "#content"
        assert page.locator(".skip").bounding_box()["y"] >= 0  # type: ignore[index]
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        button = page.locator(".legend button").first
        assert button.evaluate("each => each === document.activeElement")
        assert button.evaluate("each => getComputedStyle(each).outlineStyle") == "solid"
        for key, pressed in (("Enter", "false"), ("Space", "true")):
            page.keyboard.press(key)
            assert button.get_attribute("aria-pressed") == pressed
            state = "attached" if pressed == "true" else "detached"
            drawn = page.locator("figure").first.locator(f".vega-embed [stroke='{ENCODER}']")
            drawn.first.wait_for(state=state)  # type: ignore[arg-type]
    assert seen.complaints == []


@pytest.mark.parametrize("touch", [False, True], ids=["mouse", "finger"])
def test_a_point_says_its_numbers_until_it_is_left(report: Path, touch: bool) -> None:
    [encoder, _] = collect([report.parents[1] / "runs"]).runs
    tokens, loss = encoder.series("validation_loss")[4]
    with visit(report, width=360 if touch else 1200, touch=touch) as seen:
        page = seen.page
        layout = "narrow" if touch else "wide"
        point = page.locator(TARGETS.format(layout=layout, color=ENCODER)).nth(4)
        point.scroll_into_view_if_needed()
        if touch:
            point.tap()
        else:
            point.hover()
        tip = page.locator("#tip")
        tip.wait_for()
        assert tip.locator("dt").all_inner_texts() == [
            "run", "phase", "text tokens", "loss on held-out text",
        ]  # fmt: skip
        said = ["encoder", "pretraining", f"{tokens:,.0f}", f"{loss:.3f}"]
        assert tip.locator("dd").all_inner_texts() == said
        box = tip.bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= (360 if touch else 1200)
        page.keyboard.press("Escape")
        tip.wait_for(state="hidden")
    assert seen.complaints == []


def test_a_score_says_its_task_its_value_and_its_error(report: Path) -> None:
    with visit(report) as seen:
        dots = seen.page.locator(f"figure .wide path[fill='{DECODER}'][stroke='{DECODER}']")
        dots.last.hover()
        said = seen.page.locator("#tip dd").all_inner_texts()
        assert said == ["decoder", "trained", "quick/likelihood", "accuracy per token", "0.310",
                        "0.040"]  # fmt: skip
    assert seen.complaints == []


@pytest.mark.parametrize("width", [1200, 360])
def test_without_scripts_the_still_figures_are_shown_and_no_button(
    report: Path, width: int
) -> None:
    with visit(report, width=width, scripts=False) as seen:
        shown = seen.page.locator(f"figure .{'wide' if width > 704 else 'narrow'} svg")
        assert shown.count() == 2
        assert all(each.is_visible() for each in shown.all())
        assert seen.page.locator("button").count() == 0
        assert seen.page.get_by_role("img", name="How they learned").count() == 1
    assert seen.complaints == []


def test_every_figure_has_a_name_and_headings_go_down_one_step_at_a_time(report: Path) -> None:
    with visit(report) as seen:
        page = seen.page
        for title in ("How they learned", "What they can do"):
            image = page.get_by_role("img", name=title)
            assert image.count() == 1
            assert image.get_attribute("aria-describedby")
        levels = [int(name[1]) for name in page.locator("h1, h2, h3").evaluate_all(
            "all => all.map(each => each.tagName)")]  # fmt: skip
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in pairwise(levels))
        tables = page.locator("table").count()
        assert page.locator("table caption").count() == tables > 3
        assert page.locator("th:not([scope])").count() == 0
        targets = page.locator("nav a").evaluate_all(
            "all => all.map(each => document.querySelector(each.getAttribute('href'))?.tagName)"
        )
        assert set(targets) == {"H2"}
        assert page.locator(".scroll[tabindex='0'][role=region]").count() > 0


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_text_is_readable_in_the_light_and_in_the_dark(report: Path, dark: bool) -> None:
    with visit(report, dark=dark) as seen:
        page = seen.page
        page.locator(TARGETS.format(layout="wide", color=ENCODER)).nth(4).hover()
        paper = rgb(page.locator("body").evaluate("each => getComputedStyle(each).backgroundColor"))
        assert (paper == "#ffffff") is not dark
        axes = page.locator(".wide .vega-embed svg .mark-text.role-axis-label text")
        assert axes.count() > 10
        inside = {axes.first.evaluate("each => getComputedStyle(each).fill")}
        texts = page.locator("h1, h2, p, figcaption, th, td, a, dt, dd, .legend button")
        inside |= set(texts.evaluate_all("all => all.map(each => getComputedStyle(each).color)"))
        assert len(inside) > 3
        assert all(contrast(rgb(color), paper) > READABLE for color in inside), inside
        drawing = page.locator(".wide .vega-embed svg").first
        behind = drawing.evaluate("each => getComputedStyle(each).backgroundColor")
        assert behind == "rgba(0, 0, 0, 0)"
