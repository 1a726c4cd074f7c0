"""What is learned when: the two steps, the conclusion, and the noise beside it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from experiments.run import style
from experiments.run.style import COLOURS, CYCLE

PLACES = {"first": "first step", "second": "second step", "conclusion": "conclusion"}


def curves(arrays: Mapping[str, np.ndarray], alpha: float) -> Figure:
    """Accuracy at each place, and the probabilities of number and noise at the conclusion."""
    canvas, ((left, right),) = style.figure(1, 2, width=6.0, height=2.6)
    steps = arrays["problems/steps"]
    line: dict[str, Any] = {"marker": "o", "ms": 2.5}
    # The colours of probabilities mean something else than places do.
    for (place, label), colour in zip(PLACES.items(), CYCLE[2:], strict=False):
        values = arrays[f"problems/{place}/accuracy"].mean(axis=1)
        left.plot(steps, values, label=label, color=colour, **line)
    for name, label, colour, bayes in (
        ("p_answer", "the right number", "correct", 1 - alpha),
        ("p_the", '" the"', "noise", alpha),
    ):
        values = arrays[f"problems/conclusion/{name}"].mean(axis=1)
        right.plot(steps, values, label=label, color=COLOURS[colour], **line)
        right.axhline(bayes, color=COLOURS[colour], lw=0.8, ls=(0, (1, 1)))
    right.plot([], [], color=COLOURS["neutral"], lw=0.8, ls=(0, (1, 1)), label="Bayes-optimal")
    for letter, axes, title, label in (
        ("a", left, "held-out problems", "accuracy"),
        ("b", right, 'after "The answer is"', "probability"),
    ):
        axes.set_xlim(0, max(1.0, float(steps[-1])) * 1.03)
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("training step")
        axes.set_ylabel(label)
        style.panel(axes, letter, title)
        style.legend_below(axes, 3)
    return canvas
