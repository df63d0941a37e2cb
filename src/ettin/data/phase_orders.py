"""The order of a phase's rows, for whoever trains on them and for whoever asks afterwards.

order_of(recipe, phase, corpus)           # computed from the mixture, or stored: `row_order`
sources_of(order, phase, corpus)          # rows, tokens and epochs of each source, beforehand
"""

from pathlib import Path

from ettin.data.corpus import Corpus
from ettin.data.order import make_order
from ettin.data.stored_order import AnyOrder, StoredOrder
from ettin.errors import InputError
from ettin.files import fingerprint
from ettin.recipe import Phase, Recipe
from ettin.shares import Drawn, drawn, has_budgets, rows_of, supply_of, weights_of


def order_of(
    recipe: Recipe, phase: Phase, corpus: Corpus, *, stored_at: Path | None = None
) -> AnyOrder:
    """The order of a phase's rows.

    Args:
        recipe: whose seed and mixture make it.
        phase: one of its phases.
        corpus: what is read.
        stored_at: where the order that the phase's `row_order` names lies now.

    Raises:
        InputError: the corpus lacks rows of its context length, or a source of its mixture; a
            budget does not fit the phase; a stored order is missing, too short, or of other rows.
    """
    if phase.row_order is not None:
        return _stored(phase, corpus, stored_at or Path(phase.row_order))
    rows = {name: len(corpus.table(name, phase.context_length)) for name in corpus.source_names}
    weights = weights_of(recipe, phase, supply_of(corpus.facts, phase.context_length))
    budgets = has_budgets(recipe.mixture_of(phase))
    return make_order(
        seed=recipe.seed,
        phase=phase.order,
        rows=rows,
        mixture=weights,
        pass_rows=rows_of(phase) if budgets else None,
    )


def sources_of(order: AnyOrder, phase: Phase, corpus: Corpus) -> dict[str, Drawn]:
    """What a phase reads of each source of its order."""
    weights = {source.name: source.weight for source in order.sources}
    supply = supply_of(corpus.facts, phase.context_length)
    return drawn(weights, supply=supply, rows=rows_of(phase))


def fingerprint_of(orders: list[AnyOrder]) -> str:
    """Identifies the rows of every step of a run by the orders of its phases."""
    return fingerprint([order.fingerprint for order in orders])


def _stored(phase: Phase, corpus: Corpus, path: Path) -> StoredOrder:
    """The stored order of a phase, if it holds all that the phase reads.

    Raises:
        InputError: it does not, or there is none.
    """
    if not path.is_dir():
        raise InputError(
            f"the row_order of {phase.name}, {path}, is not there; bring it back, or store it "
            f"again: ettin order store {corpus.path} --context-length {phase.context_length} "
            f"--out {path}"
        )
    order = StoredOrder.open(path, corpus, context_length=phase.context_length)
    needed = -(-rows_of(phase) // order.length)
    if needed > order.epochs:
        raise InputError(
            f"{phase.name} reads {rows_of(phase):,} rows, and {path} holds {order.epochs} epochs "
            f"of {order.length:,}; store {needed}: ettin order store {corpus.path} --epochs "
            f"{needed} --out ANOTHER_ORDER"
        )
    return order
