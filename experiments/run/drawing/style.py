"""One look for every figure: sizes for a paper column, colours safe for colour-blind readers."""

import types
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
import numpy as np
import xarray as xr
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.mathtext import MathTextParser
from matplotlib.text import Text

from truncated_weights.training import reductions
from truncated_weights.truncation.files import telling

# Okabe and Ito's palette, by what is drawn, so that one colour means one thing throughout.
COLOURS = {
    "correct": "#0072B2",
    "noise": "#D55E00",
    "neutral": "#4D4D4D",
    "previous": "#009E73",
    "theory": "#000000",
}
CYCLE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#4D4D4D")

SETTINGS: dict[str, Any] = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=CYCLE),
    "lines.linewidth": 1.3,
    "legend.frameon": False,
    "pdf.fonttype": 42,
}
# Where figures appear on a screen, which no figure in a file depends on.
_USERS = ("backend", "backend_fallback", "interactive", "toolbar")


def figure(
    rows: int,
    columns: int,
    *,
    width: float = 7.0,
    height: float = 2.3,
    settings: Mapping[str, Any] = types.MappingProxyType({}),
) -> tuple[Figure, Any]:
    """A figure of rows x columns panels, width inches wide and height inches per row.

    Drawn without pyplot, so that nothing has to be closed. A matplotlibrc of the user's, which
    may ask for LaTeX or for fonts that are not here, has no say. settings: matplotlib's, beside
    the common ones.
    """
    # Settings act where text is made, which is after this returns: a program owns its process.
    own = {name: value for name, value in mpl.rcParamsDefault.items() if name not in _USERS}
    mpl.rcParams.update(own | SETTINGS | dict(settings))  # type: ignore[arg-type]
    canvas = Figure(figsize=(width, height * rows), layout="constrained")
    return canvas, canvas.subplots(rows, columns, squeeze=False)


def band(
    axes: Axes, x: np.ndarray, values: np.ndarray, *, label: str, color: str, **line: Any
) -> None:
    """Mean over seeds [n, seeds] as a line, one standard deviation as a band, without NaN."""
    centre = reductions.finite_mean(values)
    axes.plot(x, centre, label=label, color=color, **line)
    if values.shape[1] > 1:
        spread = reductions.finite_deviation(values)
        axes.fill_between(x, centre - spread, centre + spread, color=color, alpha=0.2, lw=0)


def over_steps(axes: Axes, values: xr.DataArray, **line: Any) -> None:
    """A curve [step, seed] against the training step, on a log scale and so without step 0."""
    later = values.sel(step=values.step > 0).transpose("step", "seed")
    band(axes, later.step.values, later.values, **line)
    step_axis(axes)


def step_axis(axes: Axes) -> None:
    """Training steps on a log scale."""
    axes.set_xscale("log")
    axes.set_xlabel("training step")


def panel(axes: Axes, letter: str, title: str) -> None:
    """Panel letter and title."""
    # Titles are names, also of files: a dollar in one begins no formula.
    plain = telling.shown(title, lines=True).replace("$", r"\$")
    axes.set_title(f"$\\bf{{{letter}}}$  {plain}", loc="left")


def tame(figure: Figure) -> None:
    """Have texts that are no formula though they hold dollars, as a file's name may, shown as such.

    matplotlib would raise when it draws them.
    """
    parser = MathTextParser("path")
    for axes in figure.axes:
        # A logarithmic axis on which nothing is finite has limits about zero, which raise too.
        for scale, limits, limit in (
            (axes.get_xscale(), axes.get_xlim(), axes.set_xlim),
            (axes.get_yscale(), axes.get_ylim(), axes.set_ylim),
        ):
            if scale == "log" and min(limits) <= 0:
                limit(0.1, 1.0)
        # Asked for, tick labels get the texts that they will be drawn with.
        axes.get_xticklabels()
        axes.get_yticklabels()
    for text in figure.findobj(Text):
        if isinstance(text, Text) and "$" in text.get_text():
            try:
                parser.parse(text.get_text(), prop=text.get_fontproperties())
            except ValueError:
                text.set_parse_math(False)


def legend_below(axes: Axes, columns: int = 2) -> None:
    """A legend under the panel, where it hides no data."""
    axes.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.22),
        ncols=columns,
        columnspacing=1.0,
        handlelength=1.6,
    )
