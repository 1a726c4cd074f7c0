"""The figures of the associative memory, from its saved arrays alone."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from experiments.associative_memory.settings import Memory
from experiments.run import style
from experiments.run.style import COLOURS, CYCLE
from theory import frequent_memory, frequent_window, memory_flow
from training import seeds


def predict(config: Memory, steps: np.ndarray) -> memory_flow.Logits:
    """The exact logits of the flow at these steps, for orthonormal embeddings."""
    return memory_flow.logits(config.num_inputs, config.alpha, steps * config.step_size)


def draw(
    config: Memory, cuts: Sequence[str], arrays: Mapping[str, np.ndarray]
) -> Iterator[tuple[str, Figure]]:
    """Every figure of a run, by name, of the seeds that were not lost."""
    arrays = seeds.surviving(arrays)
    if "facts/frequencies" in arrays:
        yield "by_frequency", draw_facts(config, arrays)
    else:
        yield "memory", draw_memory(config, cuts, arrays)


def draw_facts(config: Memory, arrays: Mapping[str, np.ndarray]) -> Figure:
    """Margin against frequency at three times, before and after the cut; the window in time.

    Points are measured (mean over seeds), lines predicted, for orthonormal embeddings.
    """
    canvas, axes = style.figure(2, 2, width=6.2, height=2.6)
    law = arrays["facts/frequencies"]
    steps = arrays["memory/steps"]
    times = steps * config.step_size
    found = {
        name: seeds.mean(arrays[f"memory/facts/{name}/margin"], axis=1) for name in ("full", "cut")
    }
    shown = sorted({int(np.argmin(np.abs(times - config.time * x))) for x in (0.03, 0.2, 1.0)})
    later = np.flatnonzero(times >= config.time / 100)
    facts = frequent_memory.facts(law, config.alpha, config.shared)
    exact = frequent_memory.logits(facts, times) if config.d_model == 0 else None
    colours = {"full": COLOURS["noise"], "cut": COLOURS["correct"]}
    labels = {"full": "full", "cut": "top component dropped"}
    for panel, (letter, index) in zip(axes.flat, zip("abc", shown, strict=False), strict=False):
        for name, colour in colours.items():
            panel.plot(law, found[name][index], "o", ms=2.5, color=colour, label=labels[name])
            if exact is not None:
                z = exact[index]
                z = frequent_window.truncated_logits(facts, z) if name == "cut" else z
                panel.plot(law, frequent_window.margins(z), color=COLOURS["theory"], lw=0.7)
        panel.axhline(0.0, color="0.7", lw=0.8, zorder=0)
        panel.set_xscale("log")
        panel.set_xlabel("frequency")
        panel.set_ylabel("correct logit - largest other")
        style.panel(panel, letter, f"t = {times[index]:.3g}: right above the line")
    last = axes[1, 1]
    for name, colour in colours.items():
        edges = [frequent_window.edge(law, margin) for margin in found[name][later]]
        last.plot(times[later], edges, "o", ms=2.5, color=colour, label=labels[name])
        if exact is not None:
            lines = [
                frequent_window.truncated_logits(facts, z) if name == "cut" else z
                for z in exact[later]
            ]
            predicted = [frequent_window.edge(law, frequent_window.margins(z)) for z in lines]
            last.plot(times[later], predicted, color=COLOURS["theory"], lw=0.7)
    last.set_xscale("log")
    last.set_yscale("log")
    last.set_xlabel("time (step size x steps)")
    last.set_ylabel("lowest known frequency")
    style.panel(last, "d", "between the curves: corrected")
    style.legend_below(last, 2)
    return canvas


def draw_memory(config: Memory, cuts: Sequence[str], arrays: Mapping[str, np.ndarray]) -> Figure:
    """Logits, singular values and p(noise) against time: points measured, lines predicted."""
    canvas, ((left, middle, right),) = style.figure(1, 3, height=2.9)
    later = arrays["memory/steps"] > 0
    steps = arrays["memory/steps"][later]
    times = steps * config.step_size
    predicted = predict(config, steps)
    names = {"correct": CYCLE[0], "other": CYCLE[2], "noise": CYCLE[1]}
    for name, colour in names.items():
        measured = seeds.mean(arrays[f"memory/logits/{name}"][later], axis=1)
        left.plot(times, measured, "o", ms=3, color=colour, label=name)
        line = "predicted" if name == "noise" else None
        left.plot(times, getattr(predicted, name), color=COLOURS["theory"], lw=0.7, label=line)
    left.set_ylabel("logit")
    style.panel(left, "a", "logits")

    values = seeds.mean(arrays["memory/logits/singular_values"][later], axis=1)
    share = seeds.mean(arrays["memory/logits/noise_share"][later], axis=1)
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
