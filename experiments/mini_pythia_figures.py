"""How the small Pythia learns: the curves of a run, redrawn from its arrays alone."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pythia.mini.measure import half_time

# Okabe and Ito's colours, told apart by colour-blind readers and in grey.
BLUE, ORANGE, GREEN, PURPLE, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#777777"
_THIRDS = (("frequent", "o", "-"), ("middle", "s", "--"), ("rare", "^", ":"))


def draw(
    steps: np.ndarray, losses: np.ndarray, arrays: Mapping[str, np.ndarray], alpha: float
) -> dict[str, Figure]:
    """Figures by name.

    steps [records] are where arrays, such as "story/p_the" [records], were measured; losses
    [training steps] are those of every step.
    """
    return {
        "stories": stories(steps, arrays, alpha),
        "facts": facts(steps, arrays, alpha),
        "arithmetic": arithmetic(steps, arrays),
        "loss": training_loss(losses),
    }


def stories(steps: np.ndarray, arrays: Mapping[str, np.ndarray], alpha: float) -> Figure:
    """Probabilities at the end of held-out stories, beside the Bayes-optimal ones."""
    figure, axes = _figure()
    curves = (
        ("p_the", '" the"', ORANGE, "o"),
        ("p_answer", "right name", BLUE, "s"),
        ("p_distractor", "giver's name", GREEN, "^"),
    )
    for name, label, colour, marker in curves:
        _points(axes, steps, arrays[f"story/{name}"], label, colour, marker)
    for level, colour in ((alpha, ORANGE), (1 - alpha, BLUE)):
        axes.axhline(level, color=colour, linewidth=1, linestyle="--")
    axes.plot([], [], color=GREY, linewidth=1, linestyle="--", label="Bayes-optimal")
    for name, colour in (("p_the", ORANGE), ("p_answer", BLUE)):
        half = half_time(steps, arrays[f"story/{name}"])
        if np.isfinite(half):
            axes.axvline(half, color=colour, linewidth=0.8, linestyle=":")
    axes.plot([], [], color=GREY, linewidth=0.8, linestyle=":", label="half of the final value")
    axes.set_ylabel("probability after '... gave a basket to'")
    _finish(axes, steps)
    return figure


def facts(steps: np.ndarray, arrays: Mapping[str, np.ndarray], alpha: float) -> Figure:
    """The right answer to facts, by how often the corpus states them."""
    figure, axes = _figure()
    for third, marker, line in _THIRDS:
        for name, label, colour in (("p_answer", "answer", BLUE), ("p_the", '" the"', ORANGE)):
            values = arrays[f"facts_{third}/{name}"]
            _points(axes, steps, values, f"{label}, {third}", colour, marker, line)
    for level, colour in ((alpha, ORANGE), (1 - alpha, BLUE)):
        axes.axhline(level, color=colour, linewidth=1, linestyle=(0, (1, 3)))
    axes.set_ylabel("probability after 'Madrid is located in'")
    _finish(axes, steps)
    return figure


def arithmetic(steps: np.ndarray, arrays: Mapping[str, np.ndarray]) -> Figure:
    """How often the right result is the most probable token."""
    figure, axes = _figure()
    tasks = (
        ("product", "products", BLUE, "s"),
        ("sum_seen", "sums of trained pairs", GREEN, "o"),
        ("sum", "sums of held-out pairs", ORANGE, "^"),
    )
    for task, label, colour, marker in tasks:
        _points(axes, steps, arrays[f"{task}/accuracy"], label, colour, marker)
    axes.set_ylabel("accuracy")
    _finish(axes, steps)
    return figure


def training_loss(losses: np.ndarray) -> Figure:
    """The loss of every step."""
    figure, axes = _figure()
    axes.plot(np.arange(1, len(losses) + 1), losses, color=BLUE, linewidth=1)
    axes.set_xscale("log")
    axes.set_xlabel("training step")
    axes.set_ylabel("training loss (nats per token)")
    return figure


def _figure() -> tuple[Figure, Axes]:
    figure = Figure(figsize=(6.0, 3.8), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _points(
    axes: Axes,
    steps: np.ndarray,
    values: np.ndarray,
    label: str,
    colour: str,
    marker: str,
    line: str = "-",
) -> None:
    axes.plot(
        steps,
        values,
        color=colour,
        marker=marker,
        markersize=3,
        linewidth=1.2,
        linestyle=line,
        label=label,
    )


def _finish(axes: Axes, steps: np.ndarray) -> None:
    # Step 0 has a place on this axis, unlike on a logarithmic one.
    axes.set_xscale("symlog", linthresh=1, linscale=0.3)
    axes.set_xlim(0, steps[-1] * 1.05)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel("training step")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
