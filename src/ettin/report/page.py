"""One page that needs nothing else: no script, no network, no file beside it.

`make_report` collects what finished stages left, draws, and writes a directory:

    index.html   figures/*.{svg,png,csv,vl.json}   tables/*.{csv,json}   manifest.json

Run names, sample text and predictions are hostile input. They meet the page through an
autoescaping template, and the figures through a renderer whose output is checked here; a content
security policy then forbids every script, and every style but the page's own, by its hash.
"""

import base64
import hashlib
import platform
import re
import shlex
import shutil
import xml.etree.ElementTree as ElementTree
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

from ettin import files
from ettin.console import human
from ettin.files import Json
from ettin.report import figures, phases, scores, tables, twins
from ettin.report.collect import Findings, Run, collect, number, plain
from ettin.report.labels import labels_of
from ettin.report.score_chart import score_figure

PAGE = "index.html"
_TEMPLATE = Path(__file__).with_name("page.html")
_DRAWN = {"svg", "g", "path", "line", "rect", "text", "tspan", "defs", "clipPath"}
_LIBRARIES = ("torch", "transformers", "tokenizers", "numpy")


class ReportSummary(NamedTuple):
    """What a report consists of; absolute paths."""

    page: Path
    tables: list[Path]
    figures: list[Path]


def make_report(paths: list[Path], *, out: Path, command: list[str]) -> ReportSummary:
    """Write a report on runs, exports, samples and results.

    Args:
        paths: finished directories, result files, or folders that hold any of these.
        out: where the report goes; a finished report there is replaced, as a whole.
        command: the command line, for the manifest and the page.

    Raises:
        InputError: a path does not exist, nothing to report was found, or `out` holds something
            that is not a report.
    """
    out = out.resolve()
    findings = collect(paths)
    replaced = files.is_finished(out) and files.read_manifest(out)["kind"] == "report"
    target = out.with_name(out.name + ".new") if replaced else out
    if replaced:
        shutil.rmtree(target, ignore_errors=True)
    with files.staging(target) as folder:
        written = _write(findings, folder, command)
    if replaced:
        _exchange(target, out)
    return ReportSummary(
        page=out / PAGE,
        tables=[out / path for path in written if path.parts[0] == "tables"],
        figures=[out / path for path in written if path.parts[0] == "figures"],
    )


def render(
    findings: Findings,
    *,
    shown_figures: list[figures.Figure],
    shown_tables: list[tables.Table],
    command: list[str],
) -> str:
    """The page as HTML text."""
    from jinja2 import Environment, StrictUndefined

    source = _TEMPLATE.read_text(encoding="utf-8")
    style = re.search(r"<style>(.*?)</style>", source, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    drawn: list[Json] = [
        {
            "figure": figure,
            # The renderer escapes and `checked` refuses whatever is not plain drawing, so that
            # the template may take these two as they are.
            "wide": checked(figures.svg(figure.wide)),
            "narrow": checked(figures.svg(figure.narrow)),
        }
        for figure in shown_figures
    ]
    return environment.from_string(source).render(
        style_hash=f"sha256-{digest}",
        title=_title(findings),
        sentences=_sentences(findings),
        drawn=drawn,
        tables=shown_tables,
        samples=[_shown_samples(samples) for samples in findings.samples],
        left_out=findings.left_out,
        commands=_commands(findings, command),
        versions=_versions(findings),
    )


def checked(svg: str) -> str:
    """An SVG that is nothing but shapes and text.

    Raises:
        ValueError: it holds an element or an attribute that could load, link or run something.
    """
    for element in ElementTree.fromstring(svg).iter():  # our renderer's output  # noqa: S314
        name = element.tag.rpartition("}")[2]
        if name not in _DRAWN:
            raise ValueError(f"the figure holds a <{name}>, expected shapes and text alone")
        for attribute in element.attrib:
            local = attribute.rpartition("}")[2].lower()
            if local.startswith("on") or local in {"href", "style", "src"}:
                raise ValueError(f"the figure holds the attribute {attribute!r}")
    return svg


def _write(findings: Findings, folder: Path, command: list[str]) -> list[Path]:
    """All files of a report; returns their paths, relative to the folder."""
    shown_figures = figures.all_figures(findings.runs)
    panels = scores.panels(findings.records)
    if panels:
        shown_figures.append(score_figure(panels))
    shown_tables = _tables(findings)
    page = render(findings, shown_figures=shown_figures, shown_tables=shown_tables, command=command)
    files.write_atomic(folder / PAGE, page)
    written = [path for shown in shown_figures for path in figures.save(shown, folder / "figures")]
    written += [path for shown in shown_tables for path in tables.save(shown, folder / "tables")]
    made_from = {str(run.path): run.digest for run in findings.runs}
    made_from |= {str(export.path): export.digest for export in findings.exports}
    facts = {
        "runs": len(findings.runs),
        "exports": len(findings.exports),
        "records": len(findings.records),
        "left_out": findings.left_out,
    }
    files.write_manifest(folder, "report", command=command, made_from=made_from, facts=facts)
    return [path.relative_to(folder) for path in written]


def _exchange(new: Path, old: Path) -> None:
    """Put a finished directory in the place of another; at no moment is there half of one."""
    aside = old.with_name(old.name + ".old")
    shutil.rmtree(aside, ignore_errors=True)
    old.rename(aside)
    new.rename(old)
    shutil.rmtree(aside)


def _tables(findings: Findings) -> list[tables.Table]:
    """Every table that has something to show, in the order of the page."""
    runs = findings.runs
    found = [
        tables.losses(runs),
        phases.phase_table(runs),
        phases.source_table(runs),
        phases.start_table(runs),
        *(twins.proof(pair, place) for place, pair in enumerate(twins.pairs_of(runs), start=1)),
        tables.parity(findings.exports),
        tables.speed(runs),
        scores.score_table(findings.records),
    ]
    return [table for table in found if table.rows]


def _title(findings: Findings) -> str:
    runs = findings.runs
    native = [run for run in runs if run.variant != "cross"]
    cross = _counted(len(runs) - len(native), "cross-objective run")
    sizes = ", ".join(dict.fromkeys(str(run.facts.get("size", "?")) for run in runs))
    if _is_one_pair(runs):
        turned = f", and {cross}" if cross else ""
        return f"An encoder and its twin, a decoder, of size {sizes}{turned}"
    if native:
        turned = f", and {cross}" if cross else ""
        return f"{_counted(len(native), 'run')} of size {sizes}{turned}"
    return f"{cross} of size {sizes}" if cross else "Exports and results"


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count > 1 else ''}" if count else ""


def _is_one_pair(runs: tuple[Run, ...]) -> bool:
    """Whether the native runs are an encoder and its twin, and no others."""
    pairs = [pair for pair in twins.pairs_of(runs) if pair.variant != "cross"]
    return len(pairs) == 1 and sum(run.variant != "cross" for run in runs) == 2


def _sentences(findings: Findings) -> list[str]:
    """The first lines of the page: what was trained, on what, and how it ended."""
    runs = findings.runs
    names = labels_of(runs)
    native = [run for run in runs if run.variant != "cross"]
    sentences = list(dict.fromkeys(_trained(run, findings, names[run.path]) for run in native))
    merged = {_trained(run, findings, "encoder and the decoder") for run in native}
    if _is_one_pair(runs) and len(merged) == 1:
        sentences = list(merged)
    for run in native:
        words = tables.verdict(run.validation_loss, run.baselines)
        if words:
            sentences.append(
                f"On held-out text the {names[run.path]} ends at {run.validation_loss:.2f} nats "
                f"per label: {words}."
            )
    return sentences + [_cross_trained(run, findings, names) for run in runs if run not in native]


def _cross_trained(run: Run, findings: Findings, names: dict[Path, str]) -> str:
    """One sentence for a cross run; tables say the rest."""
    began = phases.described_start(run, findings.runs, names)
    sentence = f"The {names[run.path]} went on from trained weights ({began})"
    if isinstance(run.facts.get("tokens"), int):
        sentence += f" for {human(run.facts['tokens'])} tokens"
    before = number(run.facts.get("initial_validation_loss"))
    if before is not None and run.validation_loss is not None:
        sentence += f"; held-out loss {before:.2f} before the first step"
        sentence += f", {run.validation_loss:.2f} after the last"
    return f"{sentence}."


def _trained(run: Run, findings: Findings, name: str) -> str:
    facts = run.facts
    parts = [f"The {name}"]
    each = " each" if name.endswith("and the decoder") else ""
    if isinstance(facts.get("parameters"), int):
        parts.append(f"({human(facts['parameters'])} parameters{each})")
    parts.append("consumed" if not each else "each consumed")
    tokens = facts.get("tokens")
    parts.append(f"{human(tokens)} tokens of text" if isinstance(tokens, int) else "text")
    corpus = facts.get("corpus")
    if isinstance(corpus, dict) and corpus.get("path"):
        parts.append(f"from the corpus {corpus['path']}")
        sources = findings.corpora.get(str(corpus["path"]), {}).get("sources", {})
        documents = sum(source.get("documents", 0) for source in sources.values())
        if documents:
            parts.append(f"({documents:,} documents)")
    sentence = " ".join(parts)
    went_through = phases.names_of(run)
    if len(went_through) > 1:
        sentence += f", in {len(went_through)} phases: {', '.join(went_through)}"
    if run.start is not None:
        began = phases.described_start(run, findings.runs, labels_of(findings.runs))
        sentence += f"; it began with trained weights ({began})"
    return f"{sentence}."


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
