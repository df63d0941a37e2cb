"""Layers as plain dictionaries, put together into one specification.

    spec = assembled([stacked([layer(chart, values), …], width=620, height=200)], spacing=26)

Altair copies and checks a chart, its numbers included, every time that something is added to it, so
that a figure of a hundred layers takes a minute. Here each layer is written down once, its numbers
are put into it as they are, and the rest is nesting.
"""

from functools import cache
from typing import TYPE_CHECKING, Any

from ettin.files import Json, fingerprint
from ettin.report.chart import styled
from ettin.report.interaction import hideable, with_hidden

if TYPE_CHECKING:
    import altair as alt

_OF_WHOLE = ("$schema", "config", "params")


def bare(**channels: Any) -> "alt.Chart":
    """A chart without numbers, with some channels."""
    import altair as alt

    chart: alt.Chart = alt.Chart().encode(**channels)
    return chart


def layer(chart: "alt.Chart", values: list[Json], *, hidden_by: str | None = None) -> Json:
    """A chart with its numbers.

    Args:
        chart: of `bare`, with a mark and all channels.
        values: one dictionary a point.
        hidden_by: the field that names the series of a point, where the page may hide it.
    """
    whole = chart if hidden_by is None else hideable(chart, hidden_by)
    # What a layer may not be is found where it is drawn, and every figure is drawn.
    spec: Json = whole.to_dict(validate=False)
    kept = {key: value for key, value in spec.items() if key not in _OF_WHOLE}
    return {**kept, "data": {"values": values}}


def stacked(layers: list[Json], *, width: int, height: float, title: Json | None = None) -> Json:
    """Layers on top of one another, in pixels without axes and labels."""
    panel: Json = {"layer": layers, "width": width, "height": height}
    return panel if title is None else {**panel, "title": title}


def assembled(panels: list[Json], *, spacing: int) -> Json:
    """Panels below one another, in the colours and the font of all figures.

    Numbers are named by their content, so that what several layers or both layouts draw is in a
    page once.
    """
    datasets: dict[str, list[Json]] = {}
    named = []
    for panel in panels:
        layers = []
        for each in panel["layer"]:
            values = each["data"]["values"]
            name = f"data-{fingerprint(values)}"
            datasets[name] = values
            layers.append({**each, "data": {"name": name}})
        named.append({**panel, "layer": layers})
    return {**_frame(), "vconcat": named, "spacing": spacing, "datasets": datasets}


@cache
def _frame() -> Json:
    """What every whole specification has, as other figures have it."""
    spec: Json = with_hidden(styled(bare().mark_point())).to_dict()
    return {key: spec[key] for key in _OF_WHOLE}
