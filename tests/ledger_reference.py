"""What a run had seen, found by walking through all its steps and reading row after row."""

from pathlib import Path
from typing import Any

from ettin.data.corpus import Corpus
from ettin.recipe_file import load_recipe
from ettin.schedules import batch_rows, rows_before, total_steps
from ettin.training.setup import make_phases


def walked(run: Path, corpus_path: Path) -> list[dict[str, Any]]:
    """One entry for each chunk that the run trained on, in the order of training."""
    corpus = Corpus.open(corpus_path)
    entries = []
    for at in make_phases(load_recipe(run / "recipe.yaml"), corpus=corpus):
        for number in range(1, total_steps(at.phase) + 1):
            first = rows_before(at.phase, number)
            rows = at.order.rows(first, batch_rows(at.phase, number))
            columns = zip(*(column.tolist() for column in rows), strict=True)
            for place, (source, epoch, row) in enumerate(columns):
                name = at.order.sources[source].name
                table = corpus.table(name, at.phase.context_length)
                for chunk in table.chunks(row):
                    size = len(table.documents.tokens(chunk.document))
                    closes = chunk.start + chunk.length == size
                    entries.append(
                        {
                            "id": table.document_id(chunk.document),
                            "step": at.first_step + number,
                            "phase": at.phase.name,
                            "phase_step": number,
                            "epoch": epoch,
                            "place": place,
                            "position": first + place,
                            "source": name,
                            "row": row,
                            "tokens": [chunk.start, chunk.start + chunk.length],
                            "size": chunk.length + 1 + closes,
                        }
                    )
    return entries
