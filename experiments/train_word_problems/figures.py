"""What is learned when: the two steps, the conclusion, and the noise beside it."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments.run import style

PLACES = ("first", "second", "conclusion")


def curves(arrays: Mapping[str, np.ndarray], alpha: float) -> Figure:
    """Accuracy at each place, and the probabilities of number and noise at the conclusion."""
    figure, panels = style.figure(1, 2)
    steps = arrays["problems/steps"]
    for place, label in zip(PLACES, ("first step", "second step", "conclusion"), strict=True):
        panels[0, 0].plot(steps, arrays[f"problems/{place}/accuracy"].mean(axis=1), label=label)
    panels[0, 0].set(xlabel="step", ylabel="accuracy on held-out problems")
    for name, label, colour in (
        ("p_answer", "number", "correct"),
        ("p_the", '" the"', "noise"),
    ):
        values = arrays[f"problems/conclusion/{name}"].mean(axis=1)
        panels[0, 1].plot(steps, values, label=label, color=style.COLOURS[colour])
    panels[0, 1].axhline(alpha, color=style.COLOURS["theory"], lw=0.6, ls=":")
    panels[0, 1].set(xlabel="step", ylabel='probability after "The answer is"')
    for axes in panels[0]:
        axes.legend()
    return figure
