"""The figure of the associative memory, from its saved arrays alone."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.associative_memory.settings import Memory
from experiments.run import style
from experiments.run.style import COLOURS, CYCLE
from theory import memory_flow


def predict(config: Memory, steps: np.ndarray) -> memory_flow.Logits:
    """The exact logits of the flow at these steps, for orthonormal embeddings."""
    return memory_flow.logits(config.num_inputs, config.alpha, steps * config.step_size)


def draw(config: Memory, cuts: Sequence[str], arrays: Mapping[str, np.ndarray]) -> Figure:
    """Logits, singular values and p(noise) against time: points measured, lines predicted."""
    canvas, ((left, middle, right),) = style.figure(1, 3, height=2.9)
    later = arrays["memory/steps"] > 0
    steps = arrays["memory/steps"][later]
    times = steps * config.step_size
    predicted = predict(config, steps)
    names = {"correct": CYCLE[0], "other": CYCLE[2], "noise": CYCLE[1]}
    for name, colour in names.items():
        measured = arrays[f"memory/logits/{name}"][later].mean(axis=1)
        left.plot(times, measured, "o", ms=3, color=colour, label=name)
        line = "predicted" if name == "noise" else None
        left.plot(times, getattr(predicted, name), color=COLOURS["theory"], lw=0.7, label=line)
    left.set_ylabel("logit")
    style.panel(left, "a", "logits")

    values = arrays["memory/logits/singular_values"][later].mean(axis=1)
    share = arrays["memory/logits/noise_share"][later].mean(axis=1)
    for index in range(values.shape[1]):
        label = "measured" if index == 0 else None
        middle.plot(times, values[:, index], "o", ms=2, color="0.6", label=label)
    top = np.argmax(share, axis=1)
    at_noise = np.take_along_axis(values, top[:, None], axis=1)
    middle.plot(times, at_noise, "o", ms=3, color=COLOURS["noise"], label="most of the noise class")
    signal = predicted.correct - predicted.other
    noise = np.sqrt(config.num_inputs + 1) * np.abs(predicted.noise)
    middle.plot(times, signal, color=COLOURS["theory"], lw=0.7, label="signal, predicted")
    middle.plot(times, noise, color=COLOURS["theory"], lw=0.7, ls="--", label="noise, predicted")
    middle.set_ylabel("singular value")
    style.panel(middle, "b", "spectrum")

    for colour, name in zip(CYCLE, ("full", *cuts), strict=False):
        style.band(right, times, arrays[f"memory/{name}/p_noise"][later], label=name, color=colour)
    right.axhline(config.alpha, color="0.7", lw=0.8, zorder=0)
    right.set_ylabel("p(noise)")
    right.set_yscale("log")
    style.panel(right, "c", "truncated")
    for axes in (left, middle, right):
        axes.set_xscale("log")
        axes.set_xlabel("time (step size x steps)")
        style.legend_below(axes, 2 if axes is left else 1)
    return canvas
