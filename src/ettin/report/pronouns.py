"""Which pronouns models choose in WinoGender's gotcha sentences: a figure for each kind of model.

The records of `bias/winogender` hold the shares of sentences in which each gender is preferred. Our
rule and the published protocol are different measures, so that each has figures of its own.
"""

from ettin.console import human
from ettin.files import Json
from ettin.report.averages import chosen, mean_of_known
from ettin.report.bars import BarPanel, Row, Segment, bars_chart
from ettin.report.chart import GRID, NARROW, PALETTE, WIDE
from ettin.report.collect import number
from ettin.report.figures import Figure
from ettin.report.interaction import Series
from ettin.report.labels import shortened
from ettin.report.published import PAPER, published
from ettin.report.tidy import ELSEWHERE, Result, finals

RULE, PROTOCOL = "bias/winogender", "bias/winogender-published"
GENDERS = ("male", "female", "neutral")
_SERIES = (
    Series("male", PALETTE[5]), Series("female", PALETTE[3]), Series("neutral", PALETTE[2])
)  # fmt: skip
_TOOLTIPS = [
    ("model", "model", ""), ("gender", "pronoun", ""), ("share", "share", ".1%"),
    ("error", "standard error", ".1%"), ("preferred_as_gold", "as the sentence has it", ".1%"),
    ("seeds", "training seeds", "d"),
]  # fmt: skip
_ASKED = {
    (RULE, "encoder"): "The pronoun, and the verb that agrees with it, are hidden in all variants "
    "of a sentence, male, female and neutral; the one is chosen whose words are most likely with "
    "all others visible. A tie counts for each of the tied by an equal part.",
    (RULE, "decoder"): "Of three variants of a sentence, male, female and neutral, the one is "
    "chosen that is most likely as a whole. A tie counts for each of the tied by an equal part.",
    (PROTOCOL, "encoder"): "The published protocol: among the 20 most likely tokens at the mask "
    "the pronouns are summed by gender; if there is none, or a tie, it counts as male.",
    (PROTOCOL, "decoder"): "The published protocol: the variant with the lowest perplexity is "
    "chosen; variants may have different numbers of tokens, and a tie counts as male.",
}


def pronoun_figures(results: tuple[Result, ...], *, with_published: bool) -> list[Figure]:
    """A figure for each protocol and kind of model that was measured.

    Args:
        results: of all checkpoints.
        with_published: say in the captions what the paper found.
    """
    found = []
    ended = chosen(finals(results))
    for task in (RULE, PROTOCOL):
        for kind in ("encoder", "decoder"):
            own = [
                result
                for result in ended
                if result.task == task and result.record.get("kind") == kind and _shares(result)
            ]
            if own:
                found.append(_figure(task, kind, own, with_published=with_published))
    return found


def _figure(task: str, kind: str, results: list[Result], *, with_published: bool) -> Figure:
    groups: dict[tuple[str, ...], list[Result]] = {}
    for result in results:
        of_suite = (result.role, result.size or str(result.parameters))
        key = of_suite if result.role != ELSEWHERE else (result.role, result.run)
        groups.setdefault((*key, result.limit), []).append(result)
    rows = [_row(members) for members in groups.values()]
    gold = _gold(results)
    shown = (*rows, _gold_row(*gold)) if gold else tuple(rows)
    panel = BarPanel("share of gotcha sentences", shown, 1.0, ".0%", _SERIES)
    wide, narrow = (bars_chart([panel], layout, tooltips=_TOOLTIPS) for layout in (WIDE, NARROW))
    ending = "" if task == RULE else "-published-protocol"
    title = f"Which pronouns {kind}s choose"
    return Figure(
        f"pronouns-{kind}s{ending}",
        title if task == RULE else f"{title}, by the published protocol",
        _caption(task, kind, results, gold=gold, with_published=with_published),
        wide,
        narrow,
        tuple(part.shown for row in rows for part in row.segments),
        _SERIES,
    )


def _row(results: list[Result]) -> Row:
    """The mean shares of runs that differ in their seed alone."""
    first = results[0]
    name = _name(first)
    runs = len({result.run for result in results})
    gold = mean_of_known(result.value for result in results)
    segments = []
    low = 0.0
    for place, (gender, series) in enumerate(zip(GENDERS, _SERIES, strict=True)):
        share = mean_of_known(_shares(result)[place] for result in results) or 0.0
        error = mean_of_known(_metric(result, gender, "stderr") for result in results)
        said: Json = {
            "model": name, "role": first.role, "size": first.size, "gender": gender,
            "share": share, "error": error, "preferred_as_gold": gold, "seeds": runs,
            "limit": first.limit or None,
        }  # fmt: skip
        text = f"{100 * share:.0f}"
        segments.append(Segment(low, low + share, series, f"{text} %", said, (text,)))
        low += share
    return Row(name, tuple(segments))


def _name(result: Result) -> str:
    if result.role == ELSEWHERE:
        return shortened(result.run)
    size = result.size or (human(result.parameters) if result.parameters else "")
    limited = f", {result.limit} sentences" if result.limit else ""
    return f"{result.role} {size}".strip() + limited


def _gold(results: list[Result]) -> tuple[float, ...]:
    """The shares of the genders that the sentences have; nothing where they cannot be told.

    A record states the sum of their squares, which has one solution only if two genders are
    equally frequent and the third is missing: gotchas are never neutral.
    """
    stated = {round(result.baselines.get("gold_shares", 0.0), 6) for result in results}
    return (0.5, 0.5, 0.0) if stated == {0.5} else ()


def _gold_row(*shares: float) -> Row:
    parts = []
    low = 0.0
    for share, gender, series in zip(shares, GENDERS, _SERIES, strict=True):
        if share:
            faint = Series(series.name, GRID)
            said: Json = {"model": "the sentences", "gender": gender, "share": share}
            text = f"{gender} {100 * share:.0f} %"
            parts.append(Segment(low, low + share, faint, text, said, (f"{100 * share:.0f} %",)))
        low += share
    return Row("the sentences have", tuple(parts))


def _caption(
    task: str, kind: str, results: list[Result], *, gold: tuple[float, ...], with_published: bool
) -> str:
    count = max((result.examples or 0 for result in results), default=0)
    sentences = [
        f"{count:,} sentences whose pronoun goes against the statistics of the occupation that it "
        "refers to (WinoGender's gotchas).",
        _ASKED[task, kind],
    ]
    if gold:
        sentences.append(
            "The last bar: the pronouns that the sentences have; whoever drew from them would "
            "agree with half of the sentences, whoever chose evenly with a third."
        )
    agreed = [result.value for result in results if result.value is not None]
    if agreed:
        low, high = (f"{100 * value:.0f}" for value in (min(agreed), max(agreed)))
        sentences.append(
            f"These models agree with {low if low == high else f'{low} to {high}'} % of them."
        )
    errors = [
        error for result in results for gender in GENDERS
        if (error := _metric(result, gender, "stderr")) is not None
    ]  # fmt: skip
    if errors:
        sentences.append(
            f"Shares have standard errors of up to {100 * max(errors):.0f} percentage points."
        )
    if with_published:
        rows = [row for row in published("pronouns") if row.role == kind]
        said = ", ".join(f"{row.metric} ≈ {row.percent:g} % ({row.model})" for row in rows)
        sentences.append(f"Published ({PAPER}, by the published protocol): {said}.")
    return " ".join(sentences)


def _shares(result: Result) -> tuple[float, ...]:
    """Male, female, neutral; nothing unless all three are stated and are shares."""
    shares = [_metric(result, gender, "value") for gender in GENDERS]
    known = [share for share in shares if share is not None and 0 <= share <= 1]
    return tuple(known) if len(known) == len(GENDERS) and sum(known) < 1.001 else ()


def _metric(result: Result, name: str, key: str) -> float | None:
    stated = result.record.get("metrics")
    score = stated.get(name) if isinstance(stated, dict) else None
    return number(score.get(key)) if isinstance(score, dict) else None
