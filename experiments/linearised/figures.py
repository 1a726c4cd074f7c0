"""Figures of the comparison, from its saved arrays alone: one for every width and rate."""

from collections.abc import Iterator, Mapping

import numpy as np
from matplotlib.figure import Figure

from experiments.linearised.settings import Linearised
from experiments.run import style
from experiments.run.style import COLOURS, CYCLE


def draw(config: Linearised, arrays: Mapping[str, np.ndarray]) -> Iterator[tuple[str, Figure]]:
    """p(noise) and p(correct) of every variant, mean and deviation over seeds."""
    for width in config.widths:
        for rate in config.learning_rates:
            canvas, ((left, right),) = style.figure(1, 2, width=6.2, height=2.9)
            for colour, variant in zip(CYCLE * 2, config.variants, strict=False):
                name = f"d{width}/rate{rate:g}/{variant}"
                # Step 0 has no place on a log axis and is the same in all.
                later = arrays[f"{name}/steps"] > 0
                steps = arrays[f"{name}/steps"][later]
                for axes, key in ((left, "p_noise"), (right, "p_correct")):
                    values = arrays[f"{name}/{key}"][later]
                    style.band(axes, steps, values, label=variant, color=colour)
            for axes, key, label, letter, title in (
                (left, "p_noise", "p(noise)", "a", "the noise"),
                (right, "p_correct", "p(correct)", "b", "recall"),
            ):
                curve = arrays[f"d{width}/rate{rate:g}/predicted/{key}"]
                axes.plot(
                    np.arange(1, curve.size),
                    curve[1:],
                    color=COLOURS["theory"],
                    lw=0.7,
                    label="predicted",
                )
                axes.set_ylabel(label)
                style.step_axis(axes)
                style.panel(axes, letter, f"{title}, d = {width}, rate {rate:g}")
                style.legend_below(axes, 2)
            yield f"d{width}_rate{rate:g}", canvas
