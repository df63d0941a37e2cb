"""What the benchmark of training speed found: one result file a machine and day, table, picture.

    results/2026-01-31-some-cpu-2-cores-training-speed.json     and the picture beside it, .png

Each cell carries the commit and the settings it was measured with, so that a file can be
continued: a cell that is there with the same commit and settings is not measured again.
"""

import datetime
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.result_files import hardware, spread
from ettin import files
from ettin.files import Json
from ettin.recipe import Objective
from ettin.report.chart import INK, MUTED, PALETTE

NAME = "training-speed"
OURS, THEIRS = "ettin", "transformers"
_PNG_SCALE = 2.0


@dataclass(frozen=True)
class Cell:
    """One thing to measure.

    Attributes:
        size: a preset.
        objective: `mlm` or `clm`.
        context_length: tokens.
        threads: of torch.
    """

    size: str
    objective: Objective
    context_length: int
    threads: int

    @property
    def label(self) -> str:
        """For people: `17m mlm 1,024, 2 threads`."""
        plural = "s" if self.threads > 1 else ""
        return (
            f"{self.size} {self.objective} {self.context_length:,}, {self.threads} thread{plural}"
        )


@dataclass(frozen=True)
class Repeat:
    """One timing of each contender on the same steps.

    Attributes:
        text_tokens: tokens of the chunks, BOS and EOS included, padding never.
        ours: seconds.
        theirs: seconds.
    """

    text_tokens: int
    ours: float
    theirs: float


def summarise(repeats: list[Repeat], *, flops_per_token: float, matmul_rate: float) -> Json:
    """What a cell's repeats say.

    Args:
        repeats: at least one.
        flops_per_token: of the training that both do, useful work alone.
        matmul_rate: FLOP/s of plain matrix products in the same run.

    Returns:
        For each contender text tokens per second and the share of the matmul rate, and their
        ratio: the median of the ratios within repeats, since what disturbs a shared machine
        disturbs both timings of a repeat alike.
    """
    summary: Json = {"ratio": spread([each.theirs / each.ours for each in repeats])}
    for name, seconds in (
        (OURS, [each.ours for each in repeats]),
        (THEIRS, [each.theirs for each in repeats]),
    ):
        rates = spread(
            [each.text_tokens / taken for each, taken in zip(repeats, seconds, strict=True)]
        )
        summary[name] = {
            "text_tokens_per_second": rates,
            "share_of_matmul_rate": rates["median"] * flops_per_token / matmul_rate,
        }
    return summary


def table(results: Json) -> str:
    """The cells of a result file as aligned text, one line a cell; medians, [lowest – highest]."""
    header = ("cell", "ettin tokens/s", "transformers tokens/s", "ratio", "of matmul rate", "text")
    rows: list[tuple[str, ...]] = [header]
    for cell in results["cells"]:
        summary = cell["summary"]
        rates = [_shown(summary[name]["text_tokens_per_second"], ",.0f") for name in (OURS, THEIRS)]
        shares = [f"{summary[name]['share_of_matmul_rate']:.0%}" for name in (OURS, THEIRS)]
        rows.append(
            (
                Cell(**cell["cell"]).label,
                *rates,
                _shown(summary["ratio"], ".2f"),
                " / ".join(shares),
                f"{cell['text_share_of_padded']:.0%}",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(
            f"{entry:<{width}}" if place == 0 else f"{entry:>{width}}"
            for place, (entry, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
    lines += ["", "text: share of the padded positions that hold text"]
    commits = {cell["commit"] for cell in results["cells"]}
    if len(commits) > 1:
        lines += ["", "The cells are of different commits:"]
        lines += [f"  {Cell(**each['cell']).label}: {each['commit']}" for each in results["cells"]]
    return "\n".join(lines)


def _shown(values: Json, form: str) -> str:
    middle, low, high = (format(values[key], form) for key in ("median", "lowest", "highest"))
    return f"{middle} [{low} – {high}]"


def draw(results: Json, path: Path) -> None:
    """Horizontal bars of text tokens per second, one panel a cell; a line from worst to best."""
    import altair as alt
    import vl_convert

    points = [_point(cell, name) for cell in results["cells"] for name in (OURS, THEIRS)]
    hardware = results["hardware"]
    place = {"y": alt.Y("contender:N", sort=[OURS, THEIRS], title=None)}
    base = alt.Chart(alt.InlineData(values=points)).properties(width=460, height=44)
    bars = base.mark_bar(height=15).encode(
        x=alt.X("median:Q", title="text tokens per second, fp32, padding not counted"),
        color=alt.Color(
            "contender:N", scale=alt.Scale(domain=[OURS, THEIRS], range=PALETTE[:2]), legend=None
        ),
        **place,
    )
    lines = base.mark_rule(color=INK).encode(x="lowest:Q", x2="highest:Q", **place)
    texts = base.mark_text(align="left", dx=8, color=INK).encode(
        x="highest:Q", text="text:N", **place
    )
    facet = alt.Row(
        "cell:N",
        sort=list(dict.fromkeys(point["cell"] for point in points)),
        title=None,
        header=alt.Header(labelAngle=0, labelAlign="left", labelColor=INK),
    )
    chart = (
        alt.layer(bars, lines, texts)
        .facet(row=facet, spacing=6)
        .properties(
            title=alt.Title(
                "Training speed on the same text, same shapes, same weights",
                subtitle=f"{hardware['cpu']}, {hardware['cores']} cores, on {results['date']}; "
                "bars are medians, lines go from the slowest repeat to the fastest",
                anchor="start",
                subtitleColor=MUTED,
            )
        )
        .resolve_scale(x="shared")
        .configure_view(stroke=None)
        .configure_axis(grid=False)
    )
    files.write_atomic(path, vl_convert.vegalite_to_png(chart.to_dict(), scale=_PNG_SCALE))


def _point(cell: Json, name: str) -> Json:
    rates = cell["summary"][name]["text_tokens_per_second"]
    text = f"{rates['median']:,.0f}"
    if name == OURS:
        text += f"  ({cell['summary']['ratio']['median']:.2f} ×)"
    return {**rates, "cell": Cell(**cell["cell"]).label, "contender": name, "text": text}


def open_results(folder: Path, *, commit: str) -> tuple[Path, Json]:
    """The file to write to, and what stands in it already.

    The newest file of this hardware that holds a cell of this commit is continued, whatever its
    date, so that a run may pass midnight; else a file of today, which may hold other commits'.
    """
    machine = hardware()
    for path in sorted(folder.glob(f"*-{machine['slug']}-{NAME}.json"), reverse=True):
        results = files.read_json(path)
        if any(cell["commit"] == commit for cell in results["cells"]):
            return path, results
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    path = folder / f"{today}-{machine['slug']}-{NAME}.json"
    if path.exists():
        return path, files.read_json(path)
    return path, {
        "date": today,
        "hardware": machine,
        "cells": [],
    }


def is_measured(results: Json, cell: Cell, *, commit: str, settings: Json) -> bool:
    """Whether a cell stands in a file with this commit and these settings."""
    return any(
        (each["cell"], each["commit"], each["settings"]) == (asdict(cell), commit, settings)
        for each in results["cells"]
    )


def put(results: Json, measured: Json) -> None:
    """Enter a cell in the place of an older measurement of it, or at the end."""
    cells = results["cells"]
    for place, each in enumerate(cells):
        if each["cell"] == measured["cell"]:
            cells[place] = measured
            return
    cells.append(measured)
