"""Tables of the report: each a list of plain values, shown on the page and saved as CSV and JSON,
and as Parquet where the types of its columns are stated.

A table holds numbers, not text made of numbers; how a column is shown stands beside its heading.
A table without rows is left out of the page.
"""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ettin.console import duration, human
from ettin.files import Json, write_atomic
from ettin.report.collect import BASELINES, Export, Run, number
from ettin.report.labels import labels_of

SAME_NATS = 0.005
"""Losses closer than this are called equal: the page shows two decimals."""


_BASELINES_NOTE = (
    "The baselines are n-gram models fitted on exactly the tokens the run consumed, scored on the "
    "same labels. Objectives label different tokens, so compare a run with its own baselines first."
)


class Column(NamedTuple):
    """One column: its key in the rows, its heading, and how a value is written on the page."""

    key: str
    heading: str
    show: Callable[[Any], str] = str


@dataclass(frozen=True)
class Table:
    """One table.

    Attributes:
        name: file name without ending, and the anchor on the page.
        title: what it shows.
        note: what a reader must know to read it; may be empty.
        columns: in the order shown.
        rows: one dictionary a row, with a value for every column; None where nothing is known. They
            may hold more than the columns that the page shows.
        rows_on_page: those shown, where the page does not show all.
        types: column → Arrow's name of its type, for tables that others compute with.
    """

    name: str
    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[Json, ...]
    rows_on_page: tuple[Json, ...] | None = None
    types: dict[str, str] = field(default_factory=dict)

    @property
    def known_columns(self) -> list[Column]:
        """The columns of which at least one row knows something."""
        return [
            column
            for column in self.columns
            if any(row.get(column.key) is not None for row in self._shown_rows)
        ]

    @property
    def shown(self) -> list[list[str]]:
        """The rows as text, for the page; what is unknown is a dash."""
        return [
            [
                "–" if row.get(column.key) is None else column.show(row[column.key])
                for column in self.known_columns
            ]
            for row in self._shown_rows
        ]

    @property
    def _shown_rows(self) -> tuple[Json, ...]:
        return self.rows if self.rows_on_page is None else self.rows_on_page


def save(table: Table, folder: Path) -> list[Path]:
    """Write a table as CSV and as JSON, and as Parquet if it has types; returns the paths."""
    contents: dict[str, str | bytes] = {
        ".csv": table_csv(table.rows),
        ".json": json.dumps(list(table.rows), indent=2, ensure_ascii=False) + "\n",
    }
    if table.types:
        contents[".parquet"] = _parquet(table)
    for ending, content in contents.items():
        write_atomic(folder / (table.name + ending), content)
    return [folder / (table.name + ending) for ending in contents]


def table_csv(rows: tuple[Json, ...]) -> str:
    """Dictionaries as CSV with a header line; a value that is missing stays empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _parquet(table: Table) -> bytes:
    """The rows as a Parquet file, without anything that depends on when it was written."""
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema(
        [(name, pyarrow.type_for_alias(alias)) for name, alias in table.types.items()]
    )
    rows = [{name: row.get(name) for name in table.types} for row in table.rows]
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), sink)
    return bytes(sink.getvalue().to_pybytes())


def losses(runs: tuple[Run, ...]) -> Table:
    """Final held-out losses beside the baselines, with a verdict in words."""
    names = labels_of(runs)
    rows = [
        {
            "run": names[run.path],
            "objective": run.objective,
            "held_out_loss": run.validation_loss,
            **{baseline: run.baselines.get(baseline) for baseline in BASELINES},
            "verdict": verdict(run.validation_loss, run.baselines),
        }
        for run in runs
    ]
    compared = any(run.baselines for run in runs)
    return Table(
        name="losses",
        title="Held-out loss" + (" beside two baselines" if compared else ""),
        note="Nats per label, on documents that were never trained on. "
        + (_BASELINES_NOTE if compared else "Objectives label different tokens."),
        columns=(
            Column("run", "run"),
            Column("objective", "objective"),
            Column("held_out_loss", "held-out loss", "{:.2f}".format),
            *(Column(baseline, baseline, "{:.2f}".format) for baseline in BASELINES),
            Column("verdict", "in words"),
        ),
        rows=tuple(rows),
    )


def verdict(loss: float | None, baselines: dict[str, float]) -> str | None:
    """How a loss compares with its baselines, in words; None when there is nothing to compare.

    Example:
        >>> verdict(5.0, {"unigram": 6.31, "bigram": 4.97})
        '1.31 nats below the unigram baseline, 0.03 nats above the bigram baseline'
    """
    if loss is None or not baselines:
        return None
    parts = []
    for name, nats in baselines.items():
        gap = loss - nats
        if abs(gap) < SAME_NATS:
            parts.append(f"level with the {name} baseline")
        else:
            side = "above" if gap > 0 else "below"
            parts.append(f"{abs(gap):.2f} nats {side} the {name} baseline")
    return ", ".join(parts)


def parity(exports: tuple[Export, ...]) -> Table:
    """How exactly each export computes what was trained."""
    rows = []
    for export in exports:
        largest = number(export.parity.get("largest_logit_difference"))
        allowed = number(export.parity.get("tolerance"))
        rows.append(
            {
                "export": export.name,
                "objective": _described(export).get("objective"),
                "variant": _described(export).get("variant"),
                "tag": _described(export).get("tag"),
                "largest_difference": largest,
                "allowed": allowed,
                "rows": export.parity.get("rows"),
                "longest_row_tokens": export.parity.get("longest_row_tokens"),
                "holds": None if largest is None or allowed is None
                else "yes" if largest <= allowed else "NO",
            }
        )  # fmt: skip
    return Table(
        name="parity",
        title="Do the exports compute what was trained?",
        note="The largest absolute difference between the logits of the trained model and those "
        "of the export in transformers, in fp32, on real rows longer than the local window.",
        columns=(
            Column("export", "export"),
            Column("objective", "objective"),
            Column("variant", "variant"),
            Column("tag", "checkpoint"),
            Column("largest_difference", "largest difference", small),
            Column("allowed", "allowed", small),
            Column("rows", "rows"),
            Column("longest_row_tokens", "longest row (tokens)", whole),
            Column("holds", "holds"),
        ),
        rows=tuple(rows),
    )


def speed(runs: tuple[Run, ...]) -> Table:
    """How fast each run was, and what it took."""
    names = labels_of(runs)
    rows = [
        {
            "run": names[run.path],
            "parameters": run.facts.get("parameters"),
            "tokens": run.facts.get("tokens"),
            "steps": run.facts.get("steps"),
            "seconds": run.facts.get("seconds"),
            "tokens_per_second": run.tokens_per_second,
            "peak_memory_bytes": run.facts.get("peak_memory_bytes"),
            "device": run.facts.get("device"),
            "threads": run.facts.get("threads"),
        }
        for run in runs
    ]
    return Table(
        name="speed",
        title="Time and memory",
        note="Tokens are text tokens, padding excluded; tokens/s is the median over steps.",
        columns=(
            Column("run", "run"),
            Column("parameters", "parameters", amount),
            Column("tokens", "tokens", amount),
            Column("steps", "steps", whole),
            Column("seconds", "time", _seconds),
            Column("tokens_per_second", "tokens/s", whole),
            Column("peak_memory_bytes", "peak memory", memory),
            Column("device", "device"),
            Column("threads", "threads"),
        ),
        rows=tuple(rows),
    )


def memory(value: object) -> str:
    """Bytes as `870 MiB` or `2.1 GiB`."""
    size = number(value)
    if size is None:
        return str(value)
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def _described(export: Export) -> Json:
    """What the export states of the run it came from."""
    described = export.facts.get("ettin")
    return described if isinstance(described, dict) else {}


def amount(value: object) -> str:
    """`1.63M`, `816k`: a count as people say it."""
    size = number(value)
    return str(value) if size is None else human(size)


def small(value: float) -> str:
    """`2.4e-6`, `1e-4`: as people write small numbers."""
    digits, _, exponent = f"{value:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(exponent)}"


def score(value: object) -> str:
    """`0.412`: a score, or its error, with three decimals."""
    size = number(value)
    return str(value) if size is None else f"{size:.3f}"


def whole(value: object) -> str:
    """`1,024`: a whole number with its thousands apart."""
    size = number(value)
    return str(value) if size is None else f"{size:,.0f}"


def _seconds(value: object) -> str:
    size = number(value)
    return str(value) if size is None else duration(size)
