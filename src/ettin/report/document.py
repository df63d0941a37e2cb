"""The page as HTML: one file that works without a network, and runs nothing that was given to it.

    findings, figures, tables  →  <!DOCTYPE html>…

Every figure is in the page twice: as a drawing that needs no script, and as a specification from
which `page.js` makes a drawing that answers to pointers and buttons. Run names, sample text and
predictions are hostile input. They meet the page through an autoescaping template, as JSON without
any character that HTML reads, and as drawings that are checked here. Formulas in specifications are
interpreted, never turned into code. A content security policy then forbids every script and every
style but the page's own, by their hashes, and everything that would be loaded.
"""

import base64
import functools
import hashlib
import platform
import shlex
import xml.etree.ElementTree as ElementTree
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ettin import files
from ettin.files import Json
from ettin.report.collect import Findings, plain
from ettin.report.figures import Figure, svg
from ettin.report.sentences import sentences_of, title_of
from ettin.report.tables import Table

_FOLDER = Path(__file__).parent
_DRAWN = {"svg", "g", "path", "line", "rect", "text", "tspan", "defs", "clipPath"}
_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy")


def document(
    findings: Findings,
    *,
    shown_figures: list[Figure],
    shown_tables: list[Table],
    command: list[str],
) -> str:
    """The page as HTML text; it holds scripts only where it holds figures.

    Args:
        findings: what is reported.
        shown_figures: in the order of the page.
        shown_tables: the same.
        command: the command line that makes the report.
    """
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    # A number that JSON has no word for would be no JSON to a browser.
    environment.policies["json.dumps_kwargs"] = {
        "sort_keys": True,
        "allow_nan": False,
        "separators": (",", ":"),
    }
    style = _read("page.css")
    scripts = [_drawing_library(), _read("page.js")] if shown_figures else []
    return environment.from_string(_read("page.html")).render(
        policy=policy(style, scripts),
        style=style,
        scripts=[inline(script) for script in scripts],
        title=title_of(findings),
        sentences=sentences_of(findings),
        drawn=[_shown_figure(figure) for figure in shown_figures],
        tables=shown_tables,
        samples=[_shown_samples(samples) for samples in findings.samples],
        left_out=findings.left_out,
        commands=_commands(findings, command),
        versions=_versions(findings),
    )


def policy(style: str, scripts: list[str]) -> str:
    """A content security policy under which a page applies `style`, runs `scripts`, and no more."""
    allowed = " ".join(_hash(script) for script in scripts) or "'none'"
    return (
        f"default-src 'none'; script-src {allowed}; style-src {_hash(style)}; "
        "base-uri 'none'; form-action 'none'"
    )


def checked(drawing: str) -> str:
    """An SVG that is nothing but shapes and text.

    Raises:
        ValueError: it holds an element or an attribute that could load, link or run something.
    """
    for element in ElementTree.fromstring(drawing).iter():  # our renderer's output  # noqa: S314
        name = element.tag.rpartition("}")[2]
        if name not in _DRAWN:
            raise ValueError(f"the figure holds a <{name}>, expected shapes and text alone")
        for attribute in element.attrib:
            local = attribute.rpartition("}")[2].lower()
            if local.startswith("on") or local in {"href", "style", "src"}:
                raise ValueError(f"the figure holds the attribute {attribute!r}")
    return drawing


def inline(script: str) -> str:
    """A script that HTML reads to its end and no further.

    Raises:
        ValueError: it holds what would end it early, or hide its end.
    """
    for mark in ("</script", "<script", "<!--"):
        if mark in script.lower():
            raise ValueError(f"the script holds {mark!r}, expected a script that fits into a page")
    return script


@functools.cache
def _drawing_library() -> str:
    """Vega-Embed with Vega-Lite, Vega and its interpreter of formulas, as the renderer of the still
    drawings brings them, so that both draw alike.
    """
    import vl_convert

    return str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))


def _hash(content: str) -> str:
    digest = hashlib.sha256(content.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")


def _shown_figure(figure: Figure) -> Json:
    layouts = {"wide": figure.wide, "narrow": figure.narrow}
    return {
        "figure": figure,
        # The renderer escapes and `checked` refuses whatever is not plain drawing, so that the
        # template may take these as they are.
        "still": {layout: checked(svg(spec)) for layout, spec in layouts.items()},
        "live": {
            **{layout: _bare(spec) for layout, spec in layouts.items()},
            # Named by their content, so that what both layouts draw is there once.
            "datasets": figure.narrow.get("datasets", {}) | figure.wide.get("datasets", {}),
            "series": [series._asdict() for series in figure.series],
        },
    }


def _bare(spec: Json) -> Json:
    """A specification without its data, and without the address of its grammar, which nothing in
    a page would open.
    """
    return {key: value for key, value in spec.items() if key not in {"$schema", "datasets"}}


def _shown_samples(samples: Json) -> Json:
    """Samples with every key the template reads, whatever the file left out."""
    return {
        "model": samples.get("model", "a model"),
        "objective": samples.get("objective"),
        "cache_equal": samples.get("cache_equal"),
        "fill_mask": [
            {
                "document": item.get("document"),
                "text": item.get("text", ""),
                "mask_answer": item.get("mask_answer"),
                "predictions": [
                    {"token": one.get("token", ""), "probability": _percent(one.get("probability"))}
                    for one in _objects(item.get("predictions"))
                ],
            }
            for item in _objects(samples.get("fill_mask"))
        ],
        "generation": [
            {
                "document": item.get("document"),
                "prompt": item.get("prompt", ""),
                "drawn": item.get("drawn"),
                "text": item.get("text", ""),
            }
            for item in _objects(samples.get("generation"))
        ],
    }


def _objects(value: object) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _percent(value: object) -> str:
    return f"{100 * value:.1f} %" if isinstance(value, float | int) else "–"


def _commands(findings: Findings, command: list[str]) -> list[str]:
    made = [run.command for run in findings.runs]
    made += [export.command for export in findings.exports]
    return [plain(shlex.join(one)) for one in dict.fromkeys([*made, tuple(command)]) if one]


def _versions(findings: Findings) -> dict[str, str]:
    """What made the runs, and what is installed where this page was made."""
    trained = sorted({run.version for run in findings.runs})
    found = {"ettin (runs)": ", ".join(trained)} if trained else {}
    found |= {"ettin (this page)": files.ettin_version(), "Python": platform.python_version()}
    for library in _LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
