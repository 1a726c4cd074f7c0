"""How the small Pythia learns: redrawn from the arrays of a run alone."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from experiments.run.style import COLOURS, figure, legend_below, panel
from mini_pythia.measure import half_time

_THIRDS = (("frequent", "-", "s"), ("middle", "--", "^"), ("rare", ":", "D"))
_BAYES: dict[str, Any] = {"linewidth": 0.8, "linestyle": (0, (1, 1))}


def curves(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What is drawn, from the arrays of trajectory.npz, which have an axis of runs.

    "story/p_the" [records] and the like at "steps" [records], and "loss" [training steps].
    """
    found = {
        name.removeprefix("prompts/"): values[:, 0]
        for name, values in arrays.items()
        if name.startswith("prompts/") and name != "prompts/steps"
    }
    return {"steps": arrays["prompts/steps"], **found, "loss": arrays["losses"][0]}


def draw(arrays: Mapping[str, np.ndarray], alpha: float) -> Iterator[tuple[str, Figure]]:
    """Each figure with its name; arrays as `curves` gives them."""
    canvas, axes = figure(2, 2, height=2.9)
    _stories(axes[0, 0], arrays, alpha)
    _facts(axes[0, 1], arrays, alpha)
    _arithmetic(axes[1, 0], arrays)
    _loss(axes[1, 1], arrays["loss"])
    yield "learning", canvas


def _stories(axes: Axes, arrays: Mapping[str, np.ndarray], alpha: float) -> None:
    panel(axes, "a", 'held-out stories, "... gave a basket to"')
    curves = (
        ("p_the", '" the"', COLOURS["noise"], "o", alpha),
        ("p_answer", "right name", COLOURS["correct"], "s", 1 - alpha),
        ("p_distractor", "giver's name", COLOURS["previous"], "^", 0.0),
    )
    for name, label, colour, marker, bayes in curves:
        values = arrays[f"story/{name}"]
        axes.plot(arrays["steps"], values, marker=marker, ms=2.5, color=colour, label=label)
        axes.axhline(bayes, color=colour, **_BAYES)
        half = half_time(arrays["steps"], values)
        if bayes and np.isfinite(half):
            axes.plot(half, values[-1] / 2, marker="*", ms=9, color=colour, mec="white", mew=0.5)
    axes.plot([], [], color=COLOURS["neutral"], label="Bayes-optimal", **_BAYES)
    axes.plot([], [], "*", ms=7, color=COLOURS["neutral"], label="half of the final value")
    _probability_over_steps(axes, arrays["steps"])
    legend_below(axes, columns=3)


def _facts(axes: Axes, arrays: Mapping[str, np.ndarray], alpha: float) -> None:
    panel(axes, "b", 'facts, "Madrid is located in"')
    steps = arrays["steps"]
    # The thirds share one curve of " the" within its own wobble; three would hide the answers.
    noise = np.mean([arrays[f"facts_{third}/p_the"] for third, _, _ in _THIRDS], axis=0)
    axes.plot(steps, noise, color=COLOURS["noise"], marker="o", ms=2.5, label='" the", all facts')
    for third, line, marker in _THIRDS:
        answer = arrays[f"facts_{third}/p_answer"]
        style: dict[str, Any] = {
            "color": COLOURS["correct"],
            "linestyle": line,
            "marker": marker,
            "ms": 2.5,
        }
        axes.plot(steps, answer, label=f"answer, {third} facts", **style)
    for bayes, colour in ((alpha, COLOURS["noise"]), (1 - alpha, COLOURS["correct"])):
        axes.axhline(bayes, color=colour, **_BAYES)
    _probability_over_steps(axes, arrays["steps"])
    legend_below(axes, columns=2)


def _arithmetic(axes: Axes, arrays: Mapping[str, np.ndarray]) -> None:
    panel(axes, "c", "arithmetic")
    tasks = (
        ("product", "products", COLOURS["correct"], "s"),
        ("sum_seen", "sums of trained pairs", COLOURS["previous"], "o"),
        ("sum", "sums of held-out pairs", COLOURS["noise"], "^"),
    )
    for task, label, colour, marker in tasks:
        values = arrays[f"{task}/accuracy"]
        axes.plot(arrays["steps"], values, marker=marker, ms=2.5, color=colour, label=label)
    _probability_over_steps(axes, arrays["steps"])
    axes.set_ylabel("accuracy")
    legend_below(axes, columns=2)


def _loss(axes: Axes, losses: np.ndarray) -> None:
    panel(axes, "d", "training")
    axes.plot(np.arange(1, len(losses) + 1), losses, color=COLOURS["neutral"], linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xlabel("training step")
    axes.set_ylabel("loss (nats per token)")


def _probability_over_steps(axes: Axes, steps: np.ndarray) -> None:
    # Step 0 has a place on this axis, unlike on a logarithmic one.
    axes.set_xscale("symlog", linthresh=1, linscale=0.3)
    axes.set_xlim(0, steps[-1] * 1.1)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("training step")
    axes.set_ylabel("probability")
