"""Curves along training, told in words by where they begin and end."""

from collections.abc import Sequence

from matplotlib.axes import Axes

from experiments.report.figures.panel import Panel, below, draw, steps
from experiments.report.reading import Found


def over_steps(
    run: Found,
    name: str,
    title: str,
    ylabel: str,
    lines: Sequence[tuple[str, str, str]],
    *,
    top: float = 1.0,
    columns: int = 1,
) -> Panel:
    """Arrays of a run against the training step; lines: (array, colour, label)."""

    def body(axes: Axes) -> None:
        for array, colour, label in lines:
            axes.plot(run.steps(array), run.curve(array), color=colour, label=label)
        steps(axes, run.steps(lines[-1][0]))
        axes.set_ylim(0, top)
        axes.set_ylabel(ylabel)
        below(axes, columns)

    # Read off the arrays, because another run may end elsewhere.
    alt = "; ".join(
        f"{label}: from {run.curve(array)[0].mean():.2f} to {run.curve(array)[-1].mean():.2f}"
        for array, _, label in lines
    )
    return draw(name, title, f"{ylabel} along training. {alt}.", body)
