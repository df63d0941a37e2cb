"""The colours of series stay apart for every kind of colour vision, on white and on dark pages, and
stand out from the page; dashes tell them apart without any colour.
"""

import re
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ettin.report import page
from ettin.report.chart import GRID, INK, MUTED, PALETTE, PAPER
from ettin.report.figures import STYLES

# Dichromacy as linear maps of linear sRGB (Machado, Oliveira and Fernandes 2009, severity 1.0).
VISION: dict[str, list[list[float]]] = {
    "trichromacy": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216],
                   [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413],
                     [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602],
                   [0.004733, 0.691367, 0.303900]],
}  # fmt: skip
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
WHITE = TO_XYZ.sum(axis=1)
APART = 15.0
"""CIELAB distance; 2.3 can just be seen side by side, thin lines apart need several times that."""
READABLE = 3.0
"""Contrast that WCAG 2.1 asks of graphics (1.4.11) and of large text (1.4.3)."""

Color = npt.NDArray[np.float64]


def linear(color: str) -> Color:
    """`#rrggbb` as linear sRGB."""
    coded = np.array([int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    return np.where(coded <= 0.04045, coded / 12.92, ((coded + 0.055) / 1.055) ** 2.4)


def lab(color: str, vision: str) -> Color:
    """A colour as an eye sees it, in CIELAB."""
    seen = np.clip(np.array(VISION[vision]) @ linear(color), 0, 1)
    scaled = TO_XYZ @ seen / WHITE
    x, y, z = np.where(scaled > 216 / 24389, np.cbrt(scaled), (24389 / 27 * scaled + 16) / 116)
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def contrast(one: str, other: str) -> float:
    """The contrast of two colours, from 1 to 21."""
    low, high = sorted(float(TO_XYZ[1] @ linear(color)) for color in (one, other))
    return (high + 0.05) / (low + 0.05)


def variables() -> list[dict[str, str]]:
    """The colours of the page by name: on white, and on dark."""
    style = Path(page.__file__).with_name("page.css").read_text()
    roots = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    return [dict(re.findall(r"--(\w+): (#\w{6})", root)) for root in roots]


def on_page(colors: dict[str, str]) -> list[str]:
    """What the page makes of each series' colour."""
    style = Path(page.__file__).with_name("page.css").read_text()
    shown = []
    for color, _ in STYLES.values():
        found = re.search(rf'\[stroke="{color}"\] {{ stroke: var\(--(\w+)\)', style)
        assert found is not None
        shown.append(colors[found[1]])
    return shown


@pytest.mark.parametrize("vision", VISION)
def test_series_stay_apart_for_every_kind_of_colour_vision(vision: str) -> None:
    light, dark = variables()
    for colors in ([style.color for style in STYLES.values()], on_page(light), on_page(dark)):
        for one, other in combinations(colors, 2):
            distance = float(np.linalg.norm(lab(one, vision) - lab(other, vision)))
            assert distance > APART, (one, other)


def test_series_stand_out_from_the_page() -> None:
    for colors in variables():
        for color in on_page(colors):
            assert contrast(color, colors["paper"]) > READABLE, color


def test_series_have_dashes_of_their_own_but_for_the_native_pair() -> None:
    dashes = [style.dash for style in STYLES.values()]
    assert dashes[:2] == [(), ()]
    assert len(set(dashes)) == len(dashes) - 1


def test_the_page_changes_every_colour_of_a_figure_with_the_reader_s_preference() -> None:
    style = Path(page.__file__).with_name("page.css").read_text()
    for color in (*PALETTE, MUTED, INK):
        for use in ("fill", "stroke"):
            assert f'[{use}="{color}"] {{ {use}: var(--' in style
    assert f'[stroke="{GRID}"] {{ stroke: var(--' in style
    assert f'[fill="{PAPER}"] {{ fill: var(--' in style
