"""What makes a figure interactive in the page, in the words of its own specification.

A figure names its series; the page offers a button for each, and a button that is off puts the name
into the specification's parameter `hidden`, which every layer that shows series reads. Without a
script nothing is hidden, and the figure is the same drawing.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from ettin.files import Json

if TYPE_CHECKING:
    import altair as alt

HIDDEN = "hidden"
"""The parameter of a specification that holds the names of series that are not shown."""


class Series(NamedTuple):
    """What a button of the legend says and looks like; no dash is a solid line."""

    name: str
    color: str
    dash: tuple[int, ...] = ()


def hideable(layer: "alt.Chart", field: str) -> "alt.Chart":
    """A layer whose points vanish while the series that `field` names is hidden."""
    filtered: alt.Chart = layer.transform_filter(f"indexof({HIDDEN}, datum[{field!r}]) < 0")
    return filtered


def hideable_together(layer: "alt.Chart", field: str, *, count: int) -> "alt.Chart":
    """A layer whose points vanish once all series that `field` lists are hidden.

    Args:
        layer: its points hold the names of series as a list.
        field: that list.
        count: how many names each of the lists has.
    """
    shown = [f"indexof({HIDDEN}, datum[{field!r}][{place}]) < 0" for place in range(count)]
    filtered: alt.Chart = layer.transform_filter(" || ".join(shown)) if shown else layer
    return filtered


def tooltips_of(
    points: Iterable[Json], fields: Iterable[tuple[str, str, str]]
) -> list["alt.Tooltip"]:
    """What points say where a page asks for it: those fields that any of them knows.

    Args:
        points: of one layer.
        fields: key of the points, what it is called, its format in D3's words; none for text.
    """
    import altair as alt

    shown = list(points)
    return [
        alt.Tooltip(f"{key}:{'Q' if form else 'N'}", title=title, format=form or alt.Undefined)
        for key, title, form in fields
        if any(point.get(key) is not None for point in shown)
    ]


def with_hidden(chart: Any) -> Any:
    """A whole chart with the parameter that `hideable` layers read; nothing is hidden at first."""
    import altair as alt

    return chart.add_params(alt.param(name=HIDDEN, value=[]))
