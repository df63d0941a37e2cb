"""Hostile run names, paths and samples reach the report as text, and nothing of them runs."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from ettin.files import write_json
from ettin.report import make_report
from ettin.report.collect import plain
from ettin.report.document import checked, inline
from ettin.report.labels import shortened
from tests.browser import visit
from tests.made_up_runs import SAMPLES, made_up_record, write_run
from tests.pages import Page, hash_of, page_of, without_scripts
from tests.restated import restated

HOSTILE = "<script>alert(1)</script>](javascript:alert(2))\"'><img src=x onerror=alert(3)>&amp;"
INTO_SCRIPTS = "</script><!--<script>ran=1\u2028\"];ran=1//';ran=1//${ran=1}\\"


@pytest.fixture(scope="module", name="report")
def _report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on what is hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    made = write_hostile(folder / "made")
    make_report([made], out=folder / "report", command=["ettin", "report"])
    return folder / "report"


def page_in(report: Path) -> Page:
    """Its page, parsed."""
    return Page((report / "index.html").read_text(encoding="utf-8"))


def write_hostile(folder: Path) -> Path:
    """A pair, samples and records that try to run a script wherever they have text."""
    for name, objective in (("encoder", "mlm"), ("decoder", "clm")):
        corpus = {"path": HOSTILE, "fingerprint": "c"}
        run = write_run(folder / f"{HOSTILE.replace('/', '∕')}{name}", objective, corpus=corpus)
        restated(run, lambda facts: facts.update(size=HOSTILE))
        write_run(folder / f"{name}<svg onload=alert(4)>", objective, device=HOSTILE)
    _write_hostile_phases(folder)
    samples = json.loads(json.dumps(SAMPLES).replace("self", json.dumps(HOSTILE)[1:-1]))
    write_json(folder / "samples.json", {**samples, "model": HOSTILE, "objective": HOSTILE})
    record = {"model": HOSTILE, "task": HOSTILE, "metric": HOSTILE, "value": HOSTILE}
    write_json(folder / "record.json", record)
    for name, value in ((HOSTILE, 0.5), (INTO_SCRIPTS, 0.6)):
        baselines = {INTO_SCRIPTS: 0.2, HOSTILE: 0.3}
        scored = made_up_record(
            name, model=name, metric="accuracy", value=value, baselines=baselines, tag=None
        )
        write_json(folder / f"{value}.json", scored)
    return folder


def _write_hostile_phases(folder: Path) -> None:
    """A run with a hostile phase, and one that began with and read from hostile places."""
    run = write_run(folder / "phases", "mlm", phases=("pretraining", "decay"))
    recipe = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").write_text(recipe.replace("name: decay", f"name: {json.dumps(HOSTILE)}"))
    words = ("where", "kind", "objective", "phase", "tag", "tokens", "weights", "path")
    read = {"name": "cross", "source_tokens": {HOSTILE: 5, "x": HOSTILE}, "epochs": {HOSTILE: "x"}}
    start = dict.fromkeys(words, HOSTILE)
    write_run(folder / "cross", "mntp", phases=("cross",), start=start)
    restated(folder / "cross", lambda facts: facts.update(phases=[read]))


def test_hostile_text_reaches_the_page_as_text_alone(report: Path) -> None:
    page = page_in(report)
    assert page.text.count("<script>alert(1)</script>](javascript:alert(2))") >= 5
    assert not {"script", "img", "iframe", "object", "link", "base", "form"} & set(page.tags)
    assert [name for name, _ in page.attributes if name.startswith("on") or name == "style"] == []
    links = [value for name, value in page.attributes if name in {"href", "src", "xlink:href"}]
    assert links
    assert all(re.fullmatch(r"(figures|tables)/[a-z0-9.-]+|#[a-z0-9-]+", link) for link in links)


def test_hostile_text_in_specifications_is_json_without_anything_that_html_reads(
    report: Path,
) -> None:
    page = page_in(report)
    assert not {"<", ">", "&", "'", "\u2028"} & set("".join(page.data))
    held = [json.dumps(json.loads(data), ensure_ascii=False) for data in page.data]
    for text in (INTO_SCRIPTS, HOSTILE):
        assert any(json.dumps(text, ensure_ascii=False) in data for data in held), text


def test_hostile_text_is_nowhere_in_a_formula_of_a_specification(
    report: Path,
) -> None:
    def formulas(found: object) -> list[str]:
        if isinstance(found, list):
            return [one for item in found for one in formulas(item)]
        if not isinstance(found, dict):
            return []
        here = [found[key] for key in ("filter", "labelExpr", "expr", "calculate") if key in found]
        return here + [one for item in found.values() for one in formulas(item)]

    page = page_in(report)
    found = [formula for data in page.data for formula in formulas(json.loads(data))]
    assert len(found) > 10
    assert not [formula for formula in found if re.search(r"script|alert|ran", str(formula))]


@pytest.mark.parametrize("script", ["a = '</SCRIPT>'", "// <!-- note", "'<script>'"])
def test_a_script_that_html_would_end_early_is_refused(script: str) -> None:
    assert inline("a < b") == "a < b"
    with pytest.raises(ValueError, match="the script holds"):
        inline(script)


def test_hostile_text_in_the_saved_figure_is_text_alone(report: Path) -> None:
    drawn = [Page(path.read_text()) for path in (report / "figures").glob("learning-*.svg")]
    text = "\n".join(page.text for page in drawn)
    assert shortened(HOSTILE) in text
    assert "encoder<svg …d=alert(4)>" in text
    for page in drawn:
        assert page.tags.count("svg") == 1
        assert "script" not in page.tags


@pytest.mark.parametrize(
    "inside",
    [
        "<script>alert(1)</script>",
        "<image href='https://example.org/x.png'/>",
        "<foreignObject><b/></foreignObject>",
        "<g onload='alert(1)'/>",
        "<g style='background: url(https://example.org)'/>",
        "<a href='javascript:alert(1)'><text>here</text></a>",
    ],
)
def test_a_figure_with_anything_but_shapes_and_text_is_refused(inside: str) -> None:
    svg = "<svg xmlns='http://www.w3.org/2000/svg'><g><text>{}</text></g></svg>"
    assert checked(svg.format("loss"))
    with pytest.raises(ValueError, match="the figure holds"):
        checked(svg.format(inside))


def test_the_policy_allows_the_page_s_own_style_and_scripts_alone(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "mlm")
    summary = make_report([run], out=tmp_path / "report", command=[])
    html = summary.page.read_text(encoding="utf-8")
    page = Page(html)
    [style] = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    assert len(page.scripts) == 2
    scripts = " ".join(f"'{hash_of(script)}'" for script in page.scripts)
    assert page.policy == (
        f"default-src 'none'; script-src {scripts}; style-src '{hash_of(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    assert "://" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", without_scripts(html))
    assert "://" not in "".join(page.data)


def test_a_page_without_figures_has_no_script(tmp_path: Path) -> None:
    record = {"model": "m", "task": "lm/arc", "metric": "acc", "value": "not a number"}
    write_json(tmp_path / "results" / "a.json", record)
    page = page_of([tmp_path / "results"], tmp_path / "report")
    assert "script-src 'none'" in page.policy
    assert page.scripts == page.data == []


def test_control_characters_and_lone_surrogates_become_visible() -> None:
    assert plain("a\x00b\ud800c\u202ed\te\n") == "a\ufffdb\ufffdc\ufffdd\te\n"


def test_samples_with_broken_text_are_still_written(tmp_path: Path) -> None:
    path = tmp_path / "samples.json"
    path.write_text(
        '{"kind": "samples", "generation": [{"prompt": "\\ud800\\u0000", "text": null}]}'
    )
    assert "\ufffd\ufffd" in page_of([path], tmp_path / "report").text


@pytest.mark.browser
def test_a_browser_shows_hostile_text_and_runs_nothing_of_it(report: Path) -> None:
    with visit(report / "index.html") as seen:
        text = seen.page.locator("body").inner_text()
        assert text.count(HOSTILE) >= 5
        assert INTO_SCRIPTS.partition("\u2028")[0] in text
        buttons = seen.page.locator(".legend button").all_inner_texts()
        assert {shortened(HOSTILE), shortened(INTO_SCRIPTS)} <= set(buttons)
        scores = seen.page.locator("figure[aria-labelledby='figure-scores']")
        dots = scores.locator(".wide .vega-embed .mark-symbol path")
        said = []
        for dot in dots.all():
            dot.hover(force=True)
            said += seen.page.locator("#tip dd").all_text_contents()
        assert {HOSTILE, INTO_SCRIPTS} <= set(said)
        for button in seen.page.locator(".legend button").all():
            button.click()
            button.click()
        assert seen.page.evaluate("typeof ran") == "undefined"
        assert seen.page.locator("main img, main iframe, main a[href^=javascript]").count() == 0
    assert seen.complaints == []


@pytest.mark.browser
def test_long_names_do_not_make_a_page_wider_than_a_telephone(report: Path) -> None:
    with visit(report / "index.html", width=360) as seen:
        assert seen.page.evaluate("document.scrollingElement.scrollWidth <= window.innerWidth")
        buttons = [each.bounding_box() for each in seen.page.locator(".legend button").all()]
        assert len(buttons) > 4
        assert all(box and box["x"] >= 0 and box["x"] + box["width"] <= 360 for box in buttons)
    assert seen.complaints == []


@pytest.mark.browser
@pytest.mark.parametrize(
    "change",
    [
        lambda html: html.replace("<style>", "<style> "),
        lambda html: html.replace("</body>", "<script>ran = 1</script></body>"),
        lambda html: html.replace("<figcaption>", '<img src="x.png"><figcaption>'),
        lambda html: html.replace("<h1>", '<h1 onclick="1" style="color: red">'),
    ],
    ids=["another style", "another script", "an image", "attributes"],
)
def test_a_browser_refuses_what_the_policy_does_not_name(
    change: Callable[[str], str], tmp_path: Path
) -> None:
    run = write_run(tmp_path / "run", "mlm")
    page = make_report([run], out=tmp_path / "report", command=[]).page
    html = page.read_text(encoding="utf-8")
    assert change(html) != html
    page.write_text(change(html), encoding="utf-8")
    with visit(page) as seen:
        assert seen.page.evaluate("typeof ran") == "undefined"
    assert any("Content Security Policy" in complaint for complaint in seen.complaints)
