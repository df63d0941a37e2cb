"""What training took, by size and role: tokens a second, hours, memory, operations."""

from collections.abc import Callable, Iterable

from ettin.console import duration
from ettin.files import Json
from ettin.recipe import visibility_of
from ettin.report.averages import mean_of_known
from ettin.report.bars import BarPanel, Row, Segment, bars_chart
from ettin.report.chart import MUTED, NARROW, WIDE
from ettin.report.collect import Run, number
from ettin.report.figures import STYLES, Figure
from ettin.report.interaction import Series
from ettin.report.phases import phases_of
from ettin.report.tables import Column, Table, amount, memory, whole
from ettin.shape import Dimensions, Shape

_HOUR = 3600.0
_TOOLTIPS = [
    ("group", "runs", ""), ("count", "how many", "d"), ("tokens_per_second", "tokens/s", ",.0f"),
    ("hours", "hours a run", ",.3~f"), ("total_hours", "hours in all", ",.3~f"),
]  # fmt: skip


def cost_table(runs: tuple[Run, ...]) -> Table:
    """One row a size and role, and a last one for all; nothing for fewer than three runs, of which
    the table of single runs says everything.
    """
    rows = _rows(runs) if len(runs) > 2 else []
    if rows:
        rows.append(
            {
                "size": "all", "role": None, "runs": len(runs), "parameters": None,
                "tokens": None, "tokens_per_second": None, "hours": None,
                "total_hours": _sum(row["total_hours"] for row in rows),
                "peak_memory_bytes": max(
                    (row["peak_memory_bytes"] for row in rows if row["peak_memory_bytes"]),
                    default=None,
                ),
                "flops": _sum(
                    None if row["flops"] is None else row["flops"] * row["runs"] for row in rows
                ),
                "device": None,
            }
        )  # fmt: skip
    return Table(
        name="cost",
        title="What training took",
        note="Means over the runs of a row, but for the hours in all and, in the last row, the "
        "operations. Tokens are text tokens; tokens/s is the median over steps. Operations follow "
        "from the shape (forward and backward, attention included), so they do not depend on the "
        "device. Evaluation is not counted.",
        columns=(
            Column("size", "size"),
            Column("role", "role"),
            Column("runs", "runs"),
            Column("parameters", "parameters", amount),
            Column("tokens", "tokens", amount),
            Column("tokens_per_second", "tokens/s", whole),
            Column("hours", "hours a run", "{:.3g}".format),
            Column("total_hours", "hours in all", "{:.3g}".format),
            Column("peak_memory_bytes", "peak memory", memory),
            Column("flops", "operations", "{:.2e}".format),
            Column("device", "device"),
        ),
        rows=tuple(rows),
    )


def cost_figure(runs: tuple[Run, ...]) -> Figure | None:
    """Tokens a second and hours by size and role; None where one pair is all there is."""
    rows = [row for row in _rows(runs) if row["tokens_per_second"]]
    if len(rows) < 3:
        return None
    panels = [
        _panel("tokens a second", rows, "tokens_per_second", whole, ".3~s"),
        _panel("hours in all runs of a row", [row for row in rows if row["total_hours"]],
               "total_hours", _duration, ".3~g"),
    ]  # fmt: skip
    panels = [panel for panel in panels if panel.rows]
    wide, narrow = (bars_chart(panels, layout, tooltips=_TOOLTIPS) for layout in (WIDE, NARROW))
    devices = ", ".join(dict.fromkeys(str(row["device"]) for row in rows if row["device"]))
    total = _sum(row["total_hours"] for row in rows)
    sentences = ["Above: more is faster; the median over steps, of text tokens."]
    if total is not None:
        sentences.append(f"Below: the time that training took, {_duration(total)} in all.")
    if devices:
        sentences.append(f"Devices: {devices}.")
    sentences.append("Rates depend on the device and on what else it did.")
    roles = dict.fromkeys(str(row["role"]) for row in rows)
    return Figure(
        "cost",
        "What training took",
        " ".join(sentences),
        wide,
        narrow,
        tuple(rows),
        tuple(_series(role) for role in roles),
    )


def flops_of(run: Run) -> float | None:
    """Floating-point operations of a run, from its shape, phases and tokens; None if not stated."""
    shape = _shape(run)
    if shape is None:
        return None
    total = 0.0
    for phase in phases_of(run):
        context, rate = (number(phase.recipe.get(key)) for key in ("context_length", "mask_rate"))
        if phase.tokens is None or context is None or rate is None:
            return None
        total += phase.tokens * shape.flops_per_token(
            context_length=int(context),
            labelled=1.0 if run.objective == "clm" else rate,
            visibility=visibility_of("clm" if run.objective == "clm" else "mlm"),
        )
    return total or None


def _shape(run: Run) -> Shape | None:
    """The shape of a run; the vocabulary follows from the number of parameters."""
    stated, parameters = run.recipe.get("shape"), run.facts.get("parameters")
    if not isinstance(stated, dict) or not isinstance(parameters, int):
        return None
    try:
        body = Dimensions.model_validate(
            {key: value for key, value in stated.items() if key != "vocab_size"}
        )
        smallest = Shape(**body.model_dump(), vocab_size=1)
        # One more entry of the vocabulary is a row of the embedding and a bias of the head.
        entries, rest = divmod(parameters - smallest.parameters, body.hidden_size + 1)
        return None if rest or entries < 0 else Shape(**body.model_dump(), vocab_size=1 + entries)
    except ValueError:
        return None


def _rows(runs: tuple[Run, ...]) -> list[Json]:
    groups: dict[tuple[str, str], list[Run]] = {}
    for run in runs:
        groups.setdefault((str(run.facts.get("size", "?")), run.role), []).append(run)
    ordered = sorted(
        groups.items(),
        key=lambda item: (
            number(item[1][0].facts.get("parameters")) or 0.0,
            list(STYLES).index(item[0][1]) if item[0][1] in STYLES else len(STYLES),
        ),
    )
    return [_row(size, role, members) for (size, role), members in ordered]


def _row(size: str, role: str, runs: list[Run]) -> Json:
    seconds = [number(run.facts.get("seconds")) for run in runs]
    total = _sum(seconds)
    known = sum(each is not None for each in seconds)
    devices = dict.fromkeys(str(run.facts["device"]) for run in runs if run.facts.get("device"))
    peaks = [number(run.facts.get("peak_memory_bytes")) for run in runs]
    return {
        "size": size, "role": role, "runs": len(runs),
        "parameters": runs[0].facts.get("parameters"),
        "tokens": mean_of_known(number(run.facts.get("tokens")) for run in runs),
        "tokens_per_second": mean_of_known(run.tokens_per_second for run in runs),
        "hours": None if total is None else total / known / _HOUR,
        "total_hours": None if total is None else total / _HOUR,
        "peak_memory_bytes": max((peak for peak in peaks if peak), default=None),
        "flops": mean_of_known(flops_of(run) for run in runs), "device": ", ".join(devices) or None,
    }  # fmt: skip


def _panel(
    title: str, rows: list[Json], key: str, show: Callable[[float], str], axis: str
) -> BarPanel:
    bars = tuple(
        Row(
            f"{row['role']} {row['size']}",
            (
                Segment(
                    0.0, float(row[key]), _series(str(row["role"])), "",
                    {"group": f"{row['role']} {row['size']}", "count": row["runs"],
                     **{name: row[name] for name in ("tokens_per_second", "hours", "total_hours")}},
                ),
            ),
            show(float(row[key])),
        )
        for row in rows
    )  # fmt: skip
    return BarPanel(title, bars, max((float(row[key]) for row in rows), default=1.0), axis)


def _duration(hours: float) -> str:
    return duration(hours * _HOUR)


def _series(role: str) -> Series:
    style = STYLES.get(role)
    return Series(role, style.color if style else MUTED)


def _sum(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
