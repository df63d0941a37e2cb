"""The order of a run as Parquet, a file for each checkpoint: what it had seen that the one before
had not.

    order/step5.parquet  step10.parquet  ext4.parquet  …     columns below, one line a row
    order/manifest.json                                      kind `order-rows`

Written in slabs: memory does not grow with the run.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow
from pyarrow import parquet

from ettin import files
from ettin.console import log, progress
from ettin.data.seen.runs import SeenRun, open_run
from ettin.data.seen.slabs import IntervalHash, Slab, Tables, slabs
from ettin.errors import InputError
from ettin.files import Json

KIND = "order-rows"
"""Not `order`, which is what the published repository of a run's ledger calls itself."""

SCHEMA = pyarrow.schema(
    [
        ("step", pyarrow.int64()),
        ("phase", pyarrow.dictionary(pyarrow.int32(), pyarrow.string())),
        ("phase_step", pyarrow.int64()),
        ("place", pyarrow.int64()),
        ("position", pyarrow.int64()),
        ("source", pyarrow.dictionary(pyarrow.int32(), pyarrow.string())),
        ("epoch", pyarrow.int64()),
        ("row", pyarrow.int64()),
        ("tokens", pyarrow.int32()),
        ("documents", pyarrow.list_(pyarrow.large_string())),
        ("starts", pyarrow.list_(pyarrow.int64())),
        ("ends", pyarrow.list_(pyarrow.int64())),
    ]
)
"""`step` of the run, `phase`, `phase_step`, `place` in the batch, `position` in the phase's order,
`source`, `epoch`, `row`; `tokens` of the row with BOS and EOS; and for each chunk of the row the
document's id, and first and end of its tokens in the document's text."""


@dataclass(frozen=True)
class Exported:
    """What `export` wrote.

    Attributes:
        path: the directory.
        facts: of its manifest: `run`, `rows`, `tokens`, and for each tag of `checkpoints` its
            `file`, first and last `steps`, `rows`, `tokens` and `hash` as `order show` gives it.
    """

    path: Path
    facts: Json


def export(path: Path, *, out: Path, corpus: Path | None = None, command: list[str]) -> Exported:
    """Write every row that a run was trained on, a file for each checkpoint.

    Args:
        path: the run; an unfinished one up to its last checkpoint.
        out: the directory to write.
        corpus: where its corpus lies, if it has moved.
        command: the command line, for the manifest.

    Raises:
        InputError: no run, or `out` holds something else.
        NoSpaceError: the disk is full; nothing appears.
    """
    run = open_run(path, corpus=corpus)
    run.refuse_other_order()
    made_from = {
        "order": run.order,
        "corpus": run.corpus.fingerprint,
        "recipe": run.recipe.fingerprint,
        "until": run.name_of(run.last_step),
    }
    if files.is_finished(out):
        manifest = files.read_manifest(out, KIND)
        if manifest["made_from"] != made_from:
            raise InputError(
                f"{out} is the order of another run, or of this one at another time; choose "
                "another --out or remove it"
            )
        log.info("%s is finished already; nothing to do", out)
        return Exported(out, manifest["facts"])
    tables, segments = Tables(run.corpus), {}
    with files.locked(out), files.staging(out) as partial:
        before = 0
        with progress("export", total=run.last_step) as shown:
            for each in run.checkpoints:
                if each.step > before:
                    name = f"{each.tag}.parquet"
                    segments[each.tag] = {
                        "file": name,
                        "steps": [before + 1, each.step],
                        **_write(partial / name, run, tables, after=before, until=each.step),
                    }
                    before = each.step
                    shown.update(before, each.tag)
        facts = {
            "run": path.name,
            "rows": sum(each["rows"] for each in segments.values()),
            "tokens": sum(each["tokens"] for each in segments.values()),
            "checkpoints": segments,
        }
        files.write_manifest(partial, KIND, command=command, made_from=made_from, facts=facts)
    return Exported(out, facts)


def _write(path: Path, run: SeenRun, tables: Tables, *, after: int, until: int) -> Json:
    """One file; how many rows and tokens it has, and their hash."""
    running = IntervalHash(run.corpus.source_names)
    rows = tokens = 0
    with parquet.ParquetWriter(path, SCHEMA, compression="zstd") as writer:
        for slab in slabs(run, tables, after=after, until=until):
            running.add(slab)
            writer.write_table(_table(slab))
            rows += len(slab.rows.row)
            tokens += int(slab.tokens.sum())
    return {"rows": rows, "tokens": tokens, "hash": running.digits}


def _table(slab: Slab) -> pyarrow.Table:
    count = len(slab.rows.row)
    steps, places = slab.phase.steps_of(slab.first_position, count)
    offsets = pyarrow.array(slab.held.offsets.astype(np.int32))
    names = [source.name for source in slab.phase.order.sources]
    phases = np.zeros(count, dtype=np.int32)
    columns = [
        slab.phase.first_step + steps,
        _named(phases, [slab.phase.phase.name]),
        steps,
        places,
        slab.first_position + np.arange(count, dtype=np.int64),
        _named(slab.rows.source.astype(np.int32), names),
        slab.rows.epoch,
        slab.rows.row,
        slab.row_tokens().astype(np.int32),
        pyarrow.ListArray.from_arrays(offsets, slab.ids),
        pyarrow.ListArray.from_arrays(offsets, pyarrow.array(slab.held.start)),
        pyarrow.ListArray.from_arrays(offsets, pyarrow.array(slab.held.start + slab.held.length)),
    ]
    return pyarrow.table(columns, schema=SCHEMA)


def _named(numbers: np.ndarray[tuple[int], np.dtype[np.int32]], names: list[str]) -> pyarrow.Array:
    return pyarrow.DictionaryArray.from_arrays(pyarrow.array(numbers), pyarrow.array(names))
