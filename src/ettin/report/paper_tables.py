"""The result tables of the paper, with our numbers, the published ones, or both.

Three tables have the paper's columns: encoders, decoders, and both kinds with the models that were
turned into the other kind. Numbers are percent, as printed. A number of ours stands in a column
only where `published.ours` finds task, metric and protocol to be those of the column.
"""

from collections.abc import Iterable

from ettin.files import Json
from ettin.report.collect import number
from ettin.report.figures import STYLES
from ettin.report.labels import shortened
from ettin.report.published import (
    DECODER_COLUMNS,
    ENCODER_COLUMNS,
    GENERATIVE,
    MNLI,
    MSMARCO,
    PAPER,
    PaperColumn,
    Published,
    ours,
    published,
)
from ettin.report.tables import Column, Table, amount
from ettin.report.tidy import ELSEWHERE, Result, finals

_TABLES: tuple[tuple[str, str, tuple[PaperColumn, ...], tuple[str, ...], str], ...] = (
    (
        "encoders", "Encoders on the paper's tasks", ENCODER_COLUMNS, ("encoder",),
        "MNLI is accuracy on the matched set, GLUE the mean of eight tasks, each the mean of its "
        "metrics.",
    ),
    (
        "decoders", "Decoders on the paper's tasks", (*DECODER_COLUMNS, GENERATIVE), ("decoder",),
        "Zero-shot; normalised accuracy for ARC, HS, OBQA and SciQ, exact match for TQA, accuracy "
        "for the others.",
    ),
    (
        "cross", "Both kinds, and each turned into the other", (MSMARCO, MNLI, GENERATIVE),
        tuple(STYLES),
        "nDCG@10 on MS MARCO's dev queries, accuracy on MNLI, the mean of ten generative tasks.",
    ),
)  # fmt: skip
_SLIP = (
    "SciQ and SIQA are as the paper's drawing of the decoders has them; its table 8 prints these "
    "two columns exchanged in the rows of decoders."
)
_PUBLISHED, _OWN = "published", "this report"


class _Read(float):
    """A number that was read from a drawing."""


def paper_tables(results: tuple[Result, ...], *, with_published: bool) -> list[Table]:
    """The three tables; those without a number have no rows.

    Args:
        results: of all checkpoints.
        with_published: show the paper's numbers too.
    """
    ended = finals(results)
    return [
        _table(name, title, columns, note, [
            *_own_rows(ended, columns, roles),
            *(_published_rows(published(name), columns) if with_published else ()),
        ])
        for name, title, columns, roles, note in _TABLES
    ]  # fmt: skip


def _table(
    name: str, title: str, columns: tuple[PaperColumn, ...], note: str, rows: list[Json]
) -> Table:
    notes = [f"In percent. {note}"]
    if any(row["whose"] == _OWN for row in rows):
        notes.append(
            "Ours stand where task and metric are the paper's, no examples were left out and "
            "models were fine-tuned with the preset `published`."
        )
    if any(row["whose"] == _PUBLISHED for row in rows):
        notes.append(
            f"Rows marked published are those of {PAPER}, not measured here. A value with ≈ was "
            "read from a figure."
        )
        notes += [_SLIP] if name == "decoders" else []
        sources = sorted({part.source for part in published(name)})
        notes.append(f"Sources, for each row in the files: {'; '.join(sources)}.")
    return Table(
        name=f"paper-{name}",
        title=title,
        note=" ".join(notes),
        columns=(
            Column("model", "model"),
            Column("whose", "whose"),
            Column("parameters", "parameters", amount),
            *(Column(column.heading, column.heading, _percent) for column in columns),
        ),
        rows=tuple(rows),
    )


def _own_rows(
    ended: Iterable[Result], columns: tuple[PaperColumn, ...], roles: tuple[str, ...]
) -> list[Json]:
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in ended:
        kind = str(result.record.get("kind"))
        if result.role in roles:
            groups.setdefault((result.role, result.size or result.run), []).append(result)
        elif result.role == ELSEWHERE and kind in roles:
            groups.setdefault((kind, shortened(result.run)), []).append(result)
    rows = []
    for (role, size), members in groups.items():
        values = [(column.heading, ours(members, column)) for column in columns]
        if not any(value for _, value in values):
            continue
        elsewhere = members[0].role == ELSEWHERE
        row: Json = {
            "model": size if elsewhere else f"{role} {size}",
            "whose": _OWN,
            "parameters": members[0].parameters,
        }
        row |= {heading: None if value is None else 100 * value.value for heading, value in values}
        seeds = max((value.seeds for _, value in values if value), default=1)
        source = f"mean of {seeds} training seeds" if seeds > 1 else "one training seed"
        rows.append({**row, "read_from_a_figure": None, "source": source})
    return rows


def _published_rows(rows: tuple[Published, ...], columns: tuple[PaperColumn, ...]) -> list[Json]:
    found = []
    for model in dict.fromkeys(
        row.model if row.size == "" else (row.size, row.role) for row in rows
    ):
        own = [row for row in rows if model in (row.model, (row.size, row.role))]
        values = {(row.task, row.metric): row for row in own}
        shown: Json = {
            "model": f"Ettin {own[0].size} {own[0].role}" if own[0].size else own[0].model,
            "whose": _PUBLISHED,
            "parameters": own[0].parameters,
        }
        for column in columns:
            row = values.get((column.task, column.metric))
            read = _Read if row is not None and row.approximate else float
            shown[column.heading] = None if row is None else read(row.percent)
        drawn = [column.heading for column in columns if isinstance(shown[column.heading], _Read)]
        shown["read_from_a_figure"] = ", ".join(drawn) or None
        shown["source"] = "; ".join(dict.fromkeys(row.source for row in own))
        found.append(shown)
    return found


def _percent(value: object) -> str:
    known = number(value)
    return str(value) if known is None else f"{'≈ ' if isinstance(value, _Read) else ''}{known:.1f}"
