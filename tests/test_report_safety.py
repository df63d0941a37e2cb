"""Hostile run names, paths and samples reach the report as text, and a browser agrees."""

import base64
import hashlib
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from ettin.files import write_json, write_manifest
from ettin.report import make_report
from ettin.report.collect import plain
from ettin.report.labels import shortened
from ettin.report.page import checked
from tests.made_up_runs import SAMPLES, write_run
from tests.pages import Page, page_of

HOSTILE = "<script>alert(1)</script>](javascript:alert(2))\"'><img src=x onerror=alert(3)>&amp;"


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A pair, samples and a record that try to run a script wherever they have text."""
    folder = tmp_path / "made"
    for name, objective in (("encoder", "mlm"), ("decoder", "clm")):
        corpus = {"path": HOSTILE, "fingerprint": "c"}
        write_run(
            folder / f"{HOSTILE.replace('/', '∕')}{name}", objective, size=HOSTILE, corpus=corpus
        )
        write_run(folder / f"{name}<svg onload=alert(4)>", objective, device=HOSTILE)
    _write_hostile_phases(folder)
    samples = json.loads(json.dumps(SAMPLES).replace("self", json.dumps(HOSTILE)[1:-1]))
    write_json(folder / "samples.json", {**samples, "model": HOSTILE, "objective": HOSTILE})
    record = {"model": HOSTILE, "task": HOSTILE, "metric": HOSTILE, "value": HOSTILE}
    write_json(folder / "record.json", record)
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
    manifest = json.loads((folder / "cross" / "manifest.json").read_text())
    (folder / "cross" / "manifest.json").unlink()
    facts = {**manifest["facts"], "phases": [read]}
    write_manifest(folder / "cross", "run", command=[], made_from={}, facts=facts)


def test_hostile_text_reaches_the_page_as_text_alone(hostile: Path, tmp_path: Path) -> None:
    page = page_of([hostile], tmp_path / "report")
    assert page.text.count("<script>alert(1)</script>](javascript:alert(2))") >= 5
    assert not {"script", "img", "iframe", "object", "link", "base", "form"} & set(page.tags)
    assert [name for name, _ in page.attributes if name.startswith("on") or name == "style"] == []
    links = [value for name, value in page.attributes if name in {"href", "src", "xlink:href"}]
    assert links
    assert all(re.fullmatch(r"(figures|tables)/[a-z0-9.-]+", link) for link in links)


def test_hostile_text_in_the_saved_figure_is_text_alone(hostile: Path, tmp_path: Path) -> None:
    make_report([hostile], out=tmp_path / "report", command=[])
    drawn = Page((tmp_path / "report" / "figures" / "learning-curves.svg").read_text())
    assert shortened(HOSTILE) in drawn.text
    assert "encoder<svg …d=alert(4)>" in drawn.text
    assert drawn.tags.count("svg") == 1
    assert "script" not in drawn.tags


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


def test_the_policy_forbids_everything_but_the_page_s_own_style(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", "mlm")
    summary = make_report([run], out=tmp_path / "report", command=[])
    html = summary.page.read_text(encoding="utf-8")
    policy = _policy(html)
    [style] = re.findall(r"<style>(.*?)</style>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"style-src 'sha256-{digest}'" in policy
    assert "script-src" not in policy
    assert "://" not in re.sub(r'xmlns(:xlink)?="[^"]*"', "", html)


def _policy(html: str) -> str:
    found = re.search(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    assert found is not None
    return found[1]


def test_control_characters_and_lone_surrogates_become_visible() -> None:
    assert plain("a\x00b\ud800c\u202ed\te\n") == "a\ufffdb\ufffdc\ufffdd\te\n"


def test_samples_with_broken_text_are_still_written(tmp_path: Path) -> None:
    path = tmp_path / "samples.json"
    path.write_text(
        '{"kind": "samples", "generation": [{"prompt": "\\ud800\\u0000", "text": null}]}'
    )
    assert "\ufffd\ufffd" in page_of([path], tmp_path / "report").text


@pytest.mark.browser
def test_a_browser_applies_the_style_and_runs_nothing(hostile: Path, tmp_path: Path) -> None:
    browsers = ("chromium", "chromium-browser", "google-chrome")
    browser = next((found for name in browsers if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip("needs chromium")
    page = make_report([hostile], out=tmp_path / "report", command=[]).page

    def opened(*flags: str) -> subprocess.CompletedProcess[str]:
        quiet = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"]
        profile = f"--user-data-dir={tmp_path / 'profile'}"
        return subprocess.run(
            [browser, *quiet, profile, *flags, page.as_uri()],
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip

    shown = opened("--dump-dom")
    assert "How they learned" in shown.stdout
    assert not re.search("Refused|Content Security Policy|CONSOLE", shown.stderr)
    # A style that is not the one hashed is refused, and this is how that would have shown.
    html = page.read_text(encoding="utf-8")
    page.write_text(html.replace("<style>", "<style> "), encoding="utf-8")
    assert re.search("Content Security Policy", opened("--dump-dom").stderr)
