"""A report as a directory: one page that needs nothing else, and what it shows as files.

`make_report` collects what finished stages left, draws, and writes:

    index.html   figures/*.{svg,pdf,png,csv,vl.json}   tables/*.{csv,json,parquet}   manifest.json
"""

import shutil
from pathlib import Path
from typing import NamedTuple

from ettin import files
from ettin.report import figures, tables
from ettin.report.collect import Findings, collect
from ettin.report.contents import suite_figures, suite_tables
from ettin.report.document import document

PAGE = "index.html"


class ReportSummary(NamedTuple):
    """What a report consists of; absolute paths."""

    page: Path
    tables: list[Path]
    figures: list[Path]


def make_report(
    paths: list[Path], *, out: Path, command: list[str], published: bool = False
) -> ReportSummary:
    """Write a report on runs, exports, samples and results.

    Args:
        paths: finished directories, result files, or folders that hold any of these.
        out: where the report goes; a finished report there is replaced, as a whole.
        command: the command line, for the manifest and the page.
        published: show the paper's numbers beside these, marked as published.

    Raises:
        InputError: a path does not exist, nothing to report was found, or `out` holds something
            that is not a report.
    """
    out = out.resolve()
    findings = collect(paths)
    aside = _aside(out)
    if aside.exists() and not out.exists():
        aside.rename(out)  # a replacement was interrupted between its two renames
    replaced = _is_report(out)
    target = out.with_name(out.name + ".new") if replaced else out
    if replaced:
        shutil.rmtree(target, ignore_errors=True)
    with files.staging(target) as folder:
        written = _write(findings, folder, command, published=published)
    if replaced:
        _exchange(target, out)
    return ReportSummary(
        page=out / PAGE,
        tables=[out / path for path in written if path.parts[0] == "tables"],
        figures=[out / path for path in written if path.parts[0] == "figures"],
    )


def _write(findings: Findings, folder: Path, command: list[str], *, published: bool) -> list[Path]:
    """All files of a report; returns their paths, relative to the folder."""
    shown_figures = suite_figures(findings, published=published)
    shown_tables = suite_tables(findings, published=published)
    page = document(
        findings, shown_figures=shown_figures, shown_tables=shown_tables, command=command
    )
    files.write_atomic(folder / PAGE, page)
    written = [path for shown in shown_figures for path in figures.save(shown, folder / "figures")]
    written += [path for shown in shown_tables for path in tables.save(shown, folder / "tables")]
    made_from = {str(run.path): run.digest for run in findings.runs}
    made_from |= {str(export.path): export.digest for export in findings.exports}
    made_from |= findings.results
    facts = {
        "runs": len(findings.runs),
        "exports": len(findings.exports),
        "records": len(findings.records),
        "left_out": findings.left_out,
    }
    files.write_manifest(folder, "report", command=command, made_from=made_from, facts=facts)
    return [path.relative_to(folder) for path in written]


def _is_report(out: Path) -> bool:
    """Whether a report lies there, finished or not: programs that run jobs remove manifests."""
    if files.is_finished(out):
        return bool(files.read_manifest(out)["kind"] == "report")
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    return PAGE in names and names <= {PAGE, "figures", "tables"}


def _aside(out: Path) -> Path:
    return out.with_name(out.name + ".old")


def _exchange(new: Path, old: Path) -> None:
    """Put a finished directory in the place of another; at no moment is there half of one."""
    aside = _aside(old)
    shutil.rmtree(aside, ignore_errors=True)
    old.rename(aside)
    new.rename(old)
    shutil.rmtree(aside)
