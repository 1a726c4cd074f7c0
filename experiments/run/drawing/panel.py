"""A panel: axes drawn once, for figures/ of a run and for the page of the report alike.

A question gives its panels as values, made from its settings and records:

    Panel("learning", "full model, learning", lambda axes: axes.plot(...), caption="...")

`render` sets a Figure of several panels on paper, lettered; `svg` sets one panel on the page, in
colours that follow the reader's theme.
"""

import dataclasses
import io
import re
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib import figure as mpl_figure
from matplotlib.axes import Axes

from truncated_weights.experiments.run.drawing import style

LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Ink that no drawing uses, to be found again in the SVG.
INK = "#010203"
THEMED = {
    INK: "currentColor",
    style.COLOURS["theory"]: "currentColor",
    style.COLOURS["neutral"]: "var(--neutral)",
    style.COLOURS["correct"]: "var(--correct)",
    style.COLOURS["noise"]: "var(--noise)",
    style.COLOURS["previous"]: "var(--previous)",
    "#b2b2b2": "var(--rule)",  # matplotlib's 0.7
}
ON_PAGE: dict[str, Any] = {
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
    ),
    "svg.fonttype": "none",
    "savefig.transparent": True,
}


@dataclasses.dataclass(frozen=True)
class Panel:
    """One set of axes.

    name: its address on the page. title: stands above, and alone there. draw: on the axes given.
    caption: what a reader who cannot see it is told. legend: columns of the one below the axes,
    0 for none (draw may make its own). height: inches on the page.
    """

    name: str
    title: str
    draw: Callable[[Axes], Any]
    caption: str = ""
    legend: int = 2
    height: float = 2.7

    def on(self, axes: Axes) -> None:
        """Draw, and name what was drawn."""
        self.draw(axes)
        if self.legend and axes.get_legend_handles_labels()[0]:
            style.legend_below(axes, self.legend)


@dataclasses.dataclass(frozen=True)
class Figure:
    """Panels side by side, as figures/NAME.png and .pdf have them; None leaves a gap.

    height: inches per row. after: called with the drawn canvas, for what panels share, as a legend
    for all. lettered: whether titles begin with a, b, ... legend: columns of one legend for all
    panels, which then have none of their own on paper; 0 leaves each its own.
    """

    name: str
    panels: Sequence[Panel | None]
    columns: int = 3
    height: float = 2.9
    width: float = 7.0
    after: Callable[[mpl_figure.Figure], Any] | None = None
    lettered: bool = True
    legend: int = 0


def render(figure: Figure) -> mpl_figure.Figure:
    """The figure on paper."""
    columns = min(figure.columns, len(figure.panels))
    rows = -(-len(figure.panels) // columns)
    canvas, grid = style.figure(rows, columns, width=figure.width, height=figure.height)
    shown = 0
    for axes, panel in zip(grid.flat, (*figure.panels, *[None] * columns), strict=False):
        if panel is None:
            axes.set_visible(False)
            continue
        (dataclasses.replace(panel, legend=0) if figure.legend else panel).on(axes)
        if figure.lettered and len(figure.panels) > 1:
            style.panel(axes, LETTERS[shown], panel.title)
        else:
            axes.set_title(panel.title, loc="left")
        shown += 1
    if figure.legend:
        handles, texts = canvas.axes[0].get_legend_handles_labels()
        canvas.legend(handles, texts, loc="outside lower center", ncols=figure.legend)
    if figure.after is not None:
        figure.after(canvas)
    return canvas


def svg(panel: Panel, *, width: float = 3.4) -> str:
    """The panel as inline SVG with an accessible name, theme colours and no ids to clash.

    Its title is left to the page.
    """
    settings = {**ON_PAGE, "svg.hashsalt": panel.name}
    with mpl.rc_context():
        canvas, grid = style.figure(1, 1, width=width, height=panel.height, settings=settings)
        panel.on(grid[0, 0])
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<g id=\"[^\"]*\"", "<g", text)
    text = re.sub(r'(width|height)="[\d.]+pt" ', "", text, count=2)
    for colour, themed in THEMED.items():
        text = re.sub(re.escape(colour), themed, text, flags=re.IGNORECASE)
    text = re.sub(r"font: ([\d.]+)px [^;\"]*", r"font: \1px var(--sans)", text)
    label = escape(f"{panel.title}. {panel.caption}")
    return re.sub(r"<svg ", f'<svg role="img" aria-label="{label}" ', text, count=1).strip()


def standalone(text: str) -> str:
    """An SVG of `svg` as a file of its own, in the colours of paper."""
    text = text.replace("var(--sans)", "sans-serif")
    for colour, themed in THEMED.items():
        text = text.replace(themed, "#000000" if colour == INK else colour)
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def escape(text: str) -> str:
    """Text as an attribute may hold it."""
    for sign, name in (("&", "amp"), ('"', "quot"), ("<", "lt"), (">", "gt")):
        text = text.replace(sign, f"&{name};")
    return text
