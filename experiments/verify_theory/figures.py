"""Figures of the verification: predictions as lines, measurements as points with error bars."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from truncated_weights.experiments.run.drawing import style
from truncated_weights.experiments.run.drawing.style import COLOURS, CYCLE
from truncated_weights.experiments.verify_theory.families import learning_times as learning
from truncated_weights.experiments.verify_theory.families import memory_flow as memory
from truncated_weights.theory import attention_step, finite_samples, first_step
from truncated_weights.theory import learning_times as reduced

Arrays = Mapping[str, np.ndarray]
POINT: dict[str, Any] = {"ls": "none", "marker": "o", "ms": 3.2, "mfc": "white", "mew": 0.9}


def draw(arrays: Arrays) -> Iterator[tuple[str, Figure]]:
    """Every figure whose family is among the arrays, by name."""
    for group, name, function in (
        ("memory/", "memory", draw_memory),
        ("first/", "first_step", draw_first_step),
        ("learning/", "learning", draw_learning),
    ):
        if any(key.startswith(group) for key in arrays):
            yield name, function(arrays)


def draw_memory(arrays: Arrays) -> Figure:
    """Singular values over time for three N, truncated p(noise), random embeddings."""
    canvas, axes = style.figure(2, 3, height=2.4)
    for column, (letter, size) in enumerate(zip("abc", (2, 4, 8), strict=True)):
        _singular_values(axes[0, column], arrays, size)
        style.panel(axes[0, column], letter, f"singular values, N = {size}")
    _truncated(axes[1, 0], arrays, 2)
    style.panel(axes[1, 0], "d", "p(noise), N = 2")
    _truncated(axes[1, 1], arrays, 8)
    style.panel(axes[1, 1], "e", "p(noise), N = 8")
    _embeddings(axes[1, 2], arrays["memory/embedding"])
    style.panel(axes[1, 2], "f", "random embeddings, N = 4")
    return canvas


def _singular_values(axes: Axes, arrays: Arrays, size: int) -> None:
    times = np.geomspace(1, 1e5, 300)
    curves = memory.curves(size, times)
    for name, color, label in (
        ("signal", COLOURS["correct"], f"signal ({size - 1}-fold)" if size > 2 else "signal"),
        ("noise", COLOURS["noise"], "noise"),
    ):
        axes.plot(times, curves[name], color=color, label=label)
        axes.plot(
            arrays[f"memory/{size}/times"], arrays[f"memory/{size}/{name}"], color=color, **POINT
        )
    gap = np.log(curves["noise"] / curves["signal"])
    for index in np.flatnonzero(gap[:-1] * gap[1:] < 0):
        axes.axvline(times[index], color=COLOURS["neutral"], lw=0.8, ls=":", ymax=0.72)
        axes.text(times[index], 0, " t*", color=COLOURS["neutral"], fontsize=7)
    axes.set_xscale("log")
    axes.set_xlabel("time (step size x steps)")
    axes.set_ylabel("singular value")
    axes.legend(loc="upper left")


def _plain_ticks(axis: Axis, values: Sequence[float] | np.ndarray) -> None:
    """Ticks at these values alone, written as plain numbers."""
    axis.set_major_locator(FixedLocator([float(x) for x in values]))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())


def _truncated(axes: Axes, arrays: Arrays, size: int) -> None:
    times = np.geomspace(1, 1e5, 300)
    curves = memory.curves(size, times)
    for name, color, label in (
        ("full", COLOURS["neutral"], "full"),
        ("signal", COLOURS["correct"], "signal kept"),
        ("noise", COLOURS["noise"], "noise kept"),
    ):
        key = f"{name}/p_noise"
        axes.plot(times, curves[key], color=color, label=label)
        axes.plot(
            arrays[f"memory/{size}/times"], arrays[f"memory/{size}/{key}"], color=color, **POINT
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("time (step size x steps)")
    axes.set_ylabel("p(noise)")
    axes.legend(loc="lower left")


def _embeddings(axes: Axes, table: np.ndarray) -> None:
    d_model, square, error, coefficient = table.T
    line = np.geomspace(d_model[0] / 1.5, d_model[-1] * 1.5, 50)
    axes.plot(line, np.sqrt(coefficient[0] / line), color=COLOURS["theory"], label="sqrt(C(t) / d)")
    root = np.sqrt(square)
    axes.errorbar(d_model, root, yerr=error / (2 * root), color=CYCLE[2], label="measured", **POINT)
    axes.set_xscale("log")
    axes.set_yscale("log")
    _plain_ticks(axes.xaxis, d_model)
    _plain_ticks(axes.yaxis, [0.3, 0.5, 1.0])
    axes.set_xlabel("embedding dimension d")
    axes.set_ylabel("rms deviation of the logits")
    axes.legend()


def draw_first_step(arrays: Arrays) -> Figure:
    """Margins against N, their ratio, deviations against m, attention scores."""
    canvas, axes = style.figure(2, 2, width=6.2, height=2.5)
    _margins(axes[0, 0], arrays["first/margins"])
    style.panel(axes[0, 0], "a", "margin of the noise after one step")
    _ratio(axes[0, 1], arrays["first/margins"])
    style.panel(axes[0, 1], "b", "the feed-forward learns N/2 times faster")
    _deviations(axes[1, 0], arrays["first/deviations"])
    style.panel(axes[1, 0], "c", "sampled step, noise entry at the trigger")
    if "attention/uniform" in arrays:
        _scores(axes[1, 1], arrays["attention/uniform"])
        style.panel(axes[1, 1], "d", "first attention step, N = 16")
    else:
        axes[1, 1].set_axis_off()
    return canvas


def _margins(axes: Axes, table: np.ndarray) -> None:
    sizes = table[:, 0]
    for offset, color, label in ((1, COLOURS["noise"], "F"), (4, COLOURS["correct"], "V")):
        axes.plot(sizes, table[:, offset + 2], color=color, label=f"{label}, exact")
        axes.errorbar(sizes, table[:, offset], yerr=table[:, offset + 1], color=color, **POINT)
    line = np.unique(np.geomspace(sizes[0], sizes[-1], 50).round().astype(int))
    limits = [first_step.asymptotic_margins(int(n), 0.3) for n in line]
    for name in ("feed_forward", "value"):
        axes.plot(line, [getattr(x, name) for x in limits], color=COLOURS["theory"], ls=":", lw=0.9)
    axes.plot([], [], color=COLOURS["theory"], ls=":", lw=0.9, label="N large")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("ordinary tokens N")
    _plain_ticks(axes.xaxis, sizes)
    _plain_ticks(axes.yaxis, [0.01, 0.02, 0.05, 0.1, 0.2, 0.3])
    axes.set_ylabel("noise minus correct logit / step size")
    axes.legend(loc="center right")


def _ratio(axes: Axes, table: np.ndarray) -> None:
    sizes = table[:, 0]
    axes.axhline(2, color=COLOURS["theory"], ls=":", lw=0.9, label="limit")
    axes.plot(sizes, table[:, 9], color=CYCLE[2], label="exact")
    axes.errorbar(sizes, table[:, 7], yerr=table[:, 8], color=CYCLE[2], label="measured", **POINT)
    axes.set_xscale("log", base=2)
    axes.set_xlabel("ordinary tokens N")
    _plain_ticks(axes.xaxis, sizes)
    axes.set_ylabel("N x ratio of margins (V over F)")
    axes.legend(loc="lower right")


def _deviations(axes: Axes, table: np.ndarray) -> None:
    samples, deviation, error, _ = table.T
    line = np.geomspace(samples[0] / 2, samples[-1] * 2, 50)
    exact = finite_samples.sampled_step(
        np.full(4, 0.25), np.full((4, 4), 0.25), trigger=0, alpha=0.3, length=4
    )
    entry = finite_samples.entry_deviations(exact, "feed_forward")[-1, 0]
    axes.plot(
        line, entry / np.sqrt(line), color=COLOURS["theory"], label="sqrt(alpha (1 - alpha) / m)"
    )
    axes.errorbar(samples, deviation, yerr=error, color=COLOURS["noise"], label="measured", **POINT)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("training sequences m")
    axes.set_ylabel("standard deviation")
    axes.legend()


def _scores(axes: Axes, table: np.ndarray) -> None:
    predicted, measured, error = table
    num_tokens = predicted.size // 2
    shown = {
        "etilde(q)": [num_tokens],
        "e(k)": list(range(1, num_tokens - 1)),
        "e(q)": [0],
        "e(tau)": [num_tokens - 1],
        "etilde(k)": list(range(num_tokens + 1, 2 * num_tokens - 1)),
        "etilde(tau)": [2 * num_tokens - 1],
    }
    limit = attention_step.asymptotic_scores(num_tokens - 1, 0.3)
    for row, index in enumerate(shown.values()):
        axes.plot(
            predicted[index],
            np.full(len(index), row),
            "|",
            color=COLOURS["theory"],
            ms=11,
            mew=1.2,
            zorder=3,
        )
        spread = row + np.linspace(-0.25, 0.25, len(index)) if len(index) > 1 else np.array([row])
        axes.errorbar(
            measured[index],
            spread,
            xerr=error[index],
            color=CYCLE[0],
            lw=0.8,
            **{**POINT, "ms": 2.5},
        )
    axes.plot(
        [limit.after_trigger, limit.noise], [0, 3], "x", color=CYCLE[1], ms=5, label="N large"
    )
    axes.plot([], [], "|", color=COLOURS["theory"], ms=9, mew=1.2, label="exact")
    axes.errorbar([], [], xerr=[], color=CYCLE[0], label="measured", **POINT)
    axes.set_xscale("symlog", linthresh=1e-3)
    axes.set_xticks([-1e-3, 0, 1e-3, 1e-2])
    axes.set_yticks(range(len(shown)), list(shown))
    axes.invert_yaxis()
    axes.set_xlabel("score of the key feature / step size")
    axes.legend(loc="lower right")


def draw_learning(arrays: Arrays) -> Figure:
    """p(noise), attention and attribution over training; half times against N."""
    canvas, axes = style.figure(2, 2, width=6.2, height=2.5)
    sizes = [int(n) for n in arrays["learning/half_times"][:, 0]]
    for color, size in zip(CYCLE, sizes, strict=False):
        times = arrays[f"learning/{size}/times"]
        line = np.unique(np.concatenate([np.geomspace(0.5, times[-1], 300)]))
        curves = reduced.curves(size, learning.ALPHA, line)
        for column, name in ((0, "p_noise"), (1, "attention_correct")):
            axes[0, column].plot(line, getattr(curves, name), color=color, label=f"N = {size}")
            _seeds(axes[0, column], times, arrays[f"learning/{size}/{name}"], color)
    for column, (letter, label, title) in enumerate(
        (
            ("a", "p(noise), noisy sequences", "the noise is learned first"),
            ("b", "attention on correct tokens", "then the attention"),
        )
    ):
        axes[0, column].set_xscale("log")
        axes[0, column].set_xlabel("time (step size x steps)")
        axes[0, column].set_ylabel(label)
        axes[0, column].legend(loc="lower right" if column == 0 else "upper left")
        style.panel(axes[0, column], letter, title)
    _half_times(axes[1, 0], arrays["learning/half_times"])
    style.panel(axes[1, 0], "c", "times to half")
    _attribution(axes[1, 1], arrays, sizes[-1])
    style.panel(axes[1, 1], "d", f"who writes the noise margin, N = {sizes[-1]}")
    return canvas


def _seeds(axes: Axes, times: np.ndarray, values: np.ndarray, color: str) -> None:
    """Mean over seeds with half their range, thinned to what a panel can show."""
    kept = np.unique(
        np.searchsorted(times, np.geomspace(0.5, times[-1], 40)).clip(0, len(times) - 1)
    )
    centre, half_range = values.mean(axis=1)[kept], np.ptp(values, axis=1)[kept] / 2
    axes.errorbar(times[kept], centre, yerr=half_range, color=color, lw=0.8, **{**POINT, "ms": 2.5})


def _half_times(axes: Axes, table: np.ndarray) -> None:
    sizes = table[:, 0]
    line = np.unique(np.geomspace(sizes[0] / 1.5, sizes[-1] * 1.5, 16).round().astype(int))
    flow = np.array([tuple(reduced.half_times(int(n), learning.ALPHA)) for n in line])
    law = np.array([tuple(reduced.asymptotic_half_times(int(n), learning.ALPHA)) for n in line])
    for index, color, name in (
        (1, COLOURS["correct"], "attention"),
        (2, COLOURS["neutral"], "ratio"),
        (0, COLOURS["noise"], "p(noise)"),
    ):
        axes.plot(line, flow[:, index], color=color, label=name)
        axes.plot(line, law[:, index], color=color, ls=":", lw=0.9)
        axes.plot(sizes, table[:, 4 + index], color=color, **POINT)
    axes.plot([], [], color=COLOURS["theory"], ls=":", lw=0.9, label="scaling law")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlabel("ordinary tokens N")
    _plain_ticks(axes.xaxis, sizes)
    axes.set_ylabel("time, or ratio of times")
    axes.legend(loc="upper left", ncols=2)
    axes.set_ylim(top=axes.get_ylim()[1] * 12)


def _attribution(axes: Axes, arrays: Arrays, size: int) -> None:
    times = arrays[f"learning/{size}/times"]
    line = np.geomspace(0.5, times[-1], 300)
    curves = reduced.curves(size, learning.ALPHA, line)
    for name, color, label in (
        ("feed_forward_margin", COLOURS["noise"], "written by F"),
        ("attention_margin", COLOURS["correct"], "written through V"),
    ):
        axes.plot(line, getattr(curves, name), color=color, label=label)
        _seeds(axes, times, arrays[f"learning/{size}/{name}"], color)
    axes.axhline(0, color=COLOURS["neutral"], lw=0.6)
    axes.set_xscale("log")
    axes.set_xlabel("time (step size x steps)")
    axes.set_ylabel("noise minus correct logit")
    axes.legend(loc="lower left")
