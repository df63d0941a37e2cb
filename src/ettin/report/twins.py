"""Whether a pair is a pair: which runs claim to be twins, and what their files say of it.

Native runs are paired with native ones, by size, seed and corpus. Cross runs are paired with each
other, when they began with checkpoints of the same phase and tag; a decoder from the encoder stands
beside each encoder from the decoder. What cannot be equal because two runs went through different
phases is said to be so, and is no failure.
"""

from typing import NamedTuple

from ettin.files import Json
from ettin.report.collect import Run
from ettin.report.phases import names_of, phases_of
from ettin.report.tables import Column, Table

_PAIRS_IN_FULL = 4
OTHER = "not comparable"
"""What a point says that two runs of different phases cannot share."""


class Pair(NamedTuple):
    """An encoder and a decoder that claim to be twins."""

    encoder: Run
    decoder: Run

    @property
    def variant(self) -> str:
        """`native` or `cross`; both have the same."""
        return self.encoder.variant


def pairs_of(runs: tuple[Run, ...]) -> list[Pair]:
    """Encoders with the decoder that claims to be their twin, native pairs first."""
    decoders = [run for run in runs if run.kind == "decoder"]
    found = []
    for encoder in sorted(runs, key=lambda run: run.variant == "cross"):
        claims = [run for run in decoders if _claim(run) == _claim(encoder)]
        if encoder.kind == "decoder" or not claims:
            continue
        twin = next((run for run in claims if names_of(run) == names_of(encoder)), claims[0])
        if encoder.variant != "cross":
            decoders.remove(twin)
        found.append(Pair(encoder, twin))
    return found


def proof(pair: Pair, place: int) -> Table:
    """What makes a pair a pair, each point with what was found.

    Args:
        pair: two runs that claim to be twins.
        place: from 1, among the pairs of the report.
    """
    differing = names_of(pair.encoder) != names_of(pair.decoder)
    rows = [
        _phases(pair),
        *(_shared_phases(pair) if differing else [_equal(pair, *_ROWS)]),
        _beginnings(pair),
        _equal(pair, *_TOKENS, comparable=not differing),
        _recipes(pair, comparable=not differing),
    ]
    between = "Is it a pair?" if pair.variant != "cross" else "Were they cross-trained alike?"
    return Table(
        name="pair" if place == 1 else f"pair-{place}",
        title=f"{between} {pair.encoder.name} and {pair.decoder.name}",
        note="A pair differs in its objective alone"
        + (" (and in whose weights each began with)" if _began(pair) else "")
        + ". The ledger is a running hash over the rows "
        "that each step trained on; ettin check verifies it inside each run.",
        columns=(Column("point", "same"), Column("holds", "holds"), Column("found", "found")),
        rows=tuple(rows),
    )


def proofs(pairs: list[Pair]) -> list[Table]:
    """The proof of every pair. Of many, one table with a row a pair, and below it the proofs of
    those that do not hold in every point.
    """
    tables = [proof(pair, place) for place, pair in enumerate(pairs, start=1)]
    if len(pairs) <= _PAIRS_IN_FULL:
        return tables
    rows = []
    for pair, table in zip(pairs, tables, strict=True):
        answers = [row["holds"] for row in table.rows]
        rows.append(
            {
                "encoder": pair.encoder.name,
                "decoder": pair.decoder.name,
                "variant": pair.variant,
                "holds": "NO" if "NO" in answers else "yes" if _all_hold(table) else "in part",
                "points": f"{answers.count('yes')} of {len(answers)}",
            }
        )
    summary = Table(
        name="pairs",
        title="Are they pairs?",
        note="For each encoder and decoder: the same phases, rows, order, tokens and first weights "
        "(cross-trained ones: checkpoints of twins), and recipes that differ in the objective "
        "alone. What does not hold in every point is shown below.",
        columns=(
            Column("encoder", "encoder"),
            Column("decoder", "decoder"),
            Column("variant", "variant"),
            Column("holds", "holds"),
            Column("points", "points"),
        ),
        rows=tuple(rows),
    )
    return [summary, *(table for table in tables if not _all_hold(table))]


def _all_hold(table: Table) -> bool:
    return all(row["holds"] in ("yes", "as executed") for row in table.rows)


def differences(one: Json, other: Json, *, prefix: str = "") -> list[str]:
    """Paths of the keys in which two nested dictionaries differ, sorted.

    Objects in a list are told apart by their `name`, if each has one: `phases.decay.tokens`.
    """
    found = []
    for key in sorted({*one, *other}):
        left, right = _by_name(one.get(key)), _by_name(other.get(key))
        if isinstance(left, dict) and isinstance(right, dict):
            found += differences(left, right, prefix=f"{prefix}{key}.")
        elif left != right:
            found.append(prefix + key)
    return found


_ROWS = ("the rows of every step, in order", "ledger_hash")
_TOKENS = ("the text tokens consumed", "tokens")
_WEIGHTS = ("the weights at the start", "initial_weights_hash")


def _claim(run: Run) -> tuple[object, ...]:
    """What twins share; cross runs also the place in their twins' lives at which they began."""
    corpus = run.facts.get("corpus")
    fingerprint = corpus.get("fingerprint") if isinstance(corpus, dict) else corpus
    claim = (run.variant, run.facts.get("size"), run.recipe.get("seed"), fingerprint)
    return (*claim, *_place_of_start(run)) if run.variant == "cross" else claim


def _place_of_start(run: Run) -> tuple[object, object]:
    start = run.start or {}
    return start.get("phase"), start.get("tag")


def _began(pair: Pair) -> bool:
    return pair.encoder.start is not None or pair.decoder.start is not None


def _phases(pair: Pair) -> Json:
    one, other = names_of(pair.encoder), names_of(pair.decoder)
    shown = ", ".join(one)
    if one == other:
        return {"point": "the phases", "holds": "yes", "found": shown or "not stated"}
    return {
        "point": "the phases",
        "holds": "different",
        "found": f"{shown}; and {', '.join(other)}: only what both went through is compared",
    }


def _shared_phases(pair: Pair) -> list[Json]:
    """For each phase that both went through: whether it had the same order, steps and tokens."""
    others = {phase.name: phase for phase in phases_of(pair.decoder)}
    rows = []
    for phase in phases_of(pair.encoder):
        other = others.get(phase.name)
        if other is None:
            continue
        point = f"{phase.name}: the order, the steps and the tokens"
        orders = phase.facts.get("order"), other.facts.get("order")
        if None in orders:
            rows.append({"point": point, "holds": "unknown", "found": "not stated by both runs"})
            continue
        same = (orders[0], phase.steps, phase.tokens) == (orders[1], other.steps, other.tokens)
        found = f"{orders[0]}" if orders[0] == orders[1] else f"{orders[0]} and {orders[1]}"
        counts = dict.fromkeys(
            f"{each.steps:,.0f} steps, {each.tokens:,.0f} tokens"
            for each in (phase, other)
            if each.steps is not None and each.tokens is not None
        )
        rows.append(
            {
                "point": point,
                "holds": "yes" if same else "NO",
                "found": ", ".join([found, " and ".join(counts)]),
            }
        )
    return rows


def _beginnings(pair: Pair) -> Json:
    """The same first weights; or, for runs that took theirs over, twins' checkpoints."""
    if not _began(pair):
        return _equal(pair, *_WEIGHTS)
    places = [_shown_start(run) for run in pair]
    point = "where they began"
    if pair.encoder.start is None or pair.decoder.start is None:
        return {"point": point, "holds": OTHER, "found": " and ".join(places)}
    same = _place_of_start(pair.encoder) == _place_of_start(pair.decoder)
    same = same and pair.encoder.start.get("tokens") == pair.decoder.start.get("tokens")
    return {"point": point, "holds": "yes" if same else "NO", "found": " and ".join(places)}


def _shown_start(run: Run) -> str:
    start = run.start
    if start is None:
        return f"{run.name} with weights of its own"
    tokens = start.get("tokens")
    after = f" after {tokens:,} tokens" if isinstance(tokens, int) else ""
    model = start.get("kind") or "a model"
    return f"{run.name} with {model} {start.get('tag') or start.get('where')}{after}"


def _equal(pair: Pair, point: str, key: str, *, comparable: bool = True) -> Json:
    one, other = pair.encoder.facts.get(key), pair.decoder.facts.get(key)
    if one is None or other is None:
        return {"point": point, "holds": "unknown", "found": "not stated by both runs"}
    shown = [f"{value:,}" if isinstance(value, int) else str(value) for value in (one, other)]
    if one == other:
        return {"point": point, "holds": "yes", "found": shown[0]}
    return {"point": point, "holds": "NO" if comparable else OTHER, "found": " and ".join(shown)}


def _recipes(pair: Pair, *, comparable: bool) -> Json:
    """Twins differ in the objective; in whose weights they began with, if each took over some;
    and as executed, where the published configurations gave twins different RoPE bases.
    """
    differing = differences(pair.encoder.recipe, pair.decoder.recipe)
    allowed = {"objective"} | ({"start_from"} if _began(pair) else set())
    others = [key for key in differing if key not in allowed]
    executed = {run.recipe.get("variant") for run in pair} == {"as-executed"}
    found = f"differ in {', '.join(differing) or 'nothing'}"
    if "objective" in differing and not others:
        holds = "yes"
    elif executed and all(key.endswith("local_rope_theta") for key in others):
        holds, found = "as executed", f"{found}: the published runs did"
    elif not comparable and all(key.startswith("phases") for key in others):
        holds = OTHER
    else:
        holds = "NO"
    return {"point": "the recipes", "holds": holds, "found": found}


def _by_name(value: object) -> object:
    """A list of objects that have names as a dictionary of them; anything else as it is."""
    if not isinstance(value, list) or not value:
        return value
    if not all(isinstance(item, dict) and isinstance(item.get("name"), str) for item in value):
        return value
    return {item["name"]: item for item in value}
