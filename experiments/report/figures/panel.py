"""A panel of the page: one small matplotlib figure, told in words too, as SVG that follows a theme.

Panels stand side by side where there is room and one below the other on a phone. Colours that
mean something are written as CSS variables and lines and letters as currentColor, so that one
drawing serves light and dark.
"""

import dataclasses
import io
import re
from collections.abc import Callable, Iterable
from typing import Any

import matplotlib as mpl
from matplotlib import ticker
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.run import style

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
SETTINGS: dict[str, Any] = {
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK
    ),
    "svg.fonttype": "none",
    "savefig.transparent": True,
}
WIDTH, HEIGHT = 3.4, 2.7


@dataclasses.dataclass(frozen=True)
class Panel:
    """title stands above, alt is what a reader who cannot see it is told."""

    name: str
    title: str
    alt: str
    svg: str

    def standalone(self) -> str:
        """The same as a file of its own, in the colours of paper."""
        text = self.svg.replace("var(--sans)", "sans-serif")
        for colour, themed in THEMED.items():
            text = text.replace(themed, "#000000" if colour == INK else colour)
        return f'<?xml version="1.0" encoding="utf-8"?>\n{text}\n'


def draw(
    name: str, title: str, alt: str, body: Callable[[Axes], None], *, height: float = HEIGHT
) -> Panel:
    """body draws on the axes; the panel holds the result."""
    with mpl.rc_context():
        drawn: dict[Any, Any] = {**SETTINGS, "svg.hashsalt": name}
        mpl.rcParams.update(drawn)
        canvas, axes = style.figure(1, 1, width=WIDTH, height=height)
        body(axes[0, 0])
        return Panel(name, title, alt, svg(canvas, title, alt))


def svg(canvas: Figure, title: str, alt: str) -> str:
    """The figure as inline SVG with an accessible name, theme colours and no ids to clash."""
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
    label = escape(f"{title}. {alt}")
    return re.sub(r"<svg ", f'<svg role="img" aria-label="{label}" ', text, count=1).strip()


def escape(text: str) -> str:
    """Text as an attribute may hold it."""
    for sign, name in (("&", "amp"), ('"', "quot"), ("<", "lt"), (">", "gt")):
        text = text.replace(sign, f"&{name};")
    return text


def below(axes: Axes, columns: int = 2) -> None:
    """A legend under the panel, if there is anything to name."""
    if axes.get_legend_handles_labels()[0]:
        style.legend_below(axes, columns)


def steps(axes: Axes, values: Iterable[int]) -> None:
    """Training steps on a scale that is logarithmic and holds 0."""
    axes.set_xscale("symlog", linthresh=1, linscale=0.4)
    axes.set_xlabel("training step")
    last = max(values)
    axes.set_xlim(0, last)
    ticks = [0, 1, 10, 100, 1000, 10_000]
    axes.set_xticks([tick for tick in ticks if tick <= last])
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(ticker.NullLocator())
