"""Figures of the verification: predictions as lines, measurements as points with error bars."""

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.ticker import FixedLocator, FuncFormatter, NullFormatter

from truncated_weights.experiments.run.drawing.panel import Figure, Panel
from truncated_weights.experiments.run.drawing.style import COLOURS, CYCLE
from truncated_weights.experiments.verify_theory import table
from truncated_weights.experiments.verify_theory.effort import at
from truncated_weights.experiments.verify_theory.families import learning_times as learning
from truncated_weights.experiments.verify_theory.families import memory_flow as memory
from truncated_weights.experiments.verify_theory.settings import VerifyTheory
from truncated_weights.theory import attention_step, finite_samples, first_step, memory_spectrum
from truncated_weights.theory import learning_times as reduced
from truncated_weights.training.records import Records

POINT: dict[str, Any] = {"ls": "none", "marker": "o", "ms": 3.2, "mfc": "white", "mew": 0.9}
TIMES = np.geomspace(1, 1e5, 300)


def figures(config: VerifyTheory, records: Records) -> Iterator[Figure]:
    """The whole table at a glance, then what the families show that are among the records."""
    yield Figure("table", [distances(records)], height=4.0, width=4.6)
    if "memory" in records:
        panels = [singular_values(records, size) for size in (2, 4, 8)]
        panels += [truncated(records, size) for size in (2, 8)]
        yield Figure("memory", [*panels, embeddings(records)], height=2.4)
    if "first" in records:
        scored = scores(records) if "attention_scores" in records else None
        panels = [margins(records), ratio(records), deviations(records)]
        yield Figure("first_step", [*panels, scored], columns=2, width=6.2, height=2.5)
    if "learning" in records:
        panels = [
            curves(records, "p_noise"), curves(records, "attention_correct"),
            half_times(records), attribution(records),
        ]  # fmt: skip
        yield Figure("learning", panels, columns=2, width=6.2, height=2.5)


def distances(records: Records) -> Panel:
    """Every row's distance from its prediction, over what it may be."""
    rows = table.of_block(records.table)
    limits, families = table.levels(rows), list(dict.fromkeys(row.family for row in rows))

    def used(row: table.Row) -> float:
        allowed = limits.allowed(row)
        return abs(row.difference) / allowed if allowed else 0.0 if limits.passes(row) else np.inf

    def draw(axes: Axes) -> None:
        for place, family in enumerate(families):
            here = np.array([used(row) for row in rows if row.family == family])
            spread = (np.arange(here.size) % 5 - 2) * 0.11
            inside = here <= 1
            for chosen, colour in ((inside, COLOURS["correct"]), (~inside, COLOURS["noise"])):
                shown = np.nan_to_num(np.minimum(here[chosen], 1.2), nan=1.2)
                axes.plot(shown, place + spread[chosen], "o", ms=2, color=colour)
        axes.axvline(1.0, color=COLOURS["noise"], lw=0.8)
        axes.set_yticks(range(len(families)), families)
        axes.invert_yaxis()
        axes.set_xlim(-0.02, 1.25)
        axes.set_xlabel("distance from the prediction / allowed")

    failed = len(table.failures(rows))
    caption = (
        f"{len(rows)} rows in {len(families)} families, {failed} beyond what they may be. Each "
        "point is a row: its distance from the prediction over what its own error and tolerance "
        "allow."
    )
    return Panel("theory", "Predictions against simulations", draw, caption, legend=0)


def singular_values(records: Records, size: int) -> Panel:
    """Signal and noise over five decades, and where they cross."""
    run = memory.recorded(records.memory, size=size)
    exact = memory_spectrum.singular_values(size, memory.ALPHA, TIMES)
    signal = f"signal ({size - 1}-fold)" if size > 2 else "signal"

    def draw(axes: Axes) -> None:
        for predicted, measured, colour, label in (
            (exact.signal, run.signal, COLOURS["correct"], signal),
            (exact.noise, run.noise, COLOURS["noise"], "noise"),
        ):
            axes.plot(TIMES, predicted, color=colour, label=label)
            axes.plot(run.time, measured, color=colour, **POINT)
        gap = np.log(exact.noise / exact.signal)
        for time in TIMES[np.flatnonzero(gap[:-1] * gap[1:] < 0)]:
            axes.axvline(time, color=COLOURS["neutral"], lw=0.8, ls=":", ymax=0.72)
            axes.text(time, 0, " t*", color=COLOURS["neutral"], fontsize=7)
        _time_axis(axes, "singular value", "upper left")

    caption = (
        f"Singular values of signal and noise of the memory of {size} inputs against time: lines "
        "predicted, points from gradient descent; t* where the noise overtakes."
    )
    return _panel(f"theory-values-{size}", f"singular values, N = {size}", draw, caption)


def truncated(records: Records, size: int) -> Panel:
    """p(noise) of the memory whole, and of its signal and its noise alone."""
    run = memory.recorded(records.memory, size=size)

    kinds: tuple[tuple[Literal["full", "signal", "noise"], str, str], ...] = (
        ("full", COLOURS["neutral"], "full"),
        ("signal", COLOURS["correct"], "signal kept"),
        ("noise", COLOURS["noise"], "noise kept"),
    )

    def draw(axes: Axes) -> None:
        for kept, colour, label in kinds:
            predicted = memory_spectrum.truncated_probabilities(
                size, memory.ALPHA, TIMES, keep=kept
            )
            axes.plot(TIMES, predicted.noise, color=colour, label=label)
            axes.plot(run.time, run.p_noise.sel(kept=kept), color=colour, **POINT)
        axes.set_yscale("log")
        _time_axis(axes, "p(noise)", "lower left")

    caption = (
        f"p(noise) of the memory of {size} inputs against time, full and with its signal or its "
        "noise component alone: lines predicted, points measured."
    )
    return _panel(f"theory-truncated-{size}", f"p(noise), N = {size}", draw, caption)


def embeddings(records: Records) -> Panel:
    """How far random embeddings are from orthonormal ones."""
    found = records.memory_deviations
    width, root = found.d_model.values, np.sqrt(found.square.values)

    def draw(axes: Axes) -> None:
        line = np.geomspace(width[0] / 1.5, width[-1] * 1.5, 50)
        law = np.sqrt(float(found.coefficient) / line)
        axes.plot(line, law, color=COLOURS["theory"], label="sqrt(C(t) / d)")
        error = found.error.values / (2 * root)
        axes.errorbar(width, root, yerr=error, color=CYCLE[2], label="measured", **POINT)
        axes.set_xscale("log")
        axes.set_yscale("log")
        _plain_ticks(axes.xaxis, width)
        _plain_ticks(axes.yaxis, [0.3, 0.5, 1.0])
        axes.set_xlabel("embedding dimension d")
        axes.set_ylabel("rms deviation of the logits")
        axes.legend()

    caption = (
        "Root mean square deviation of the logits with random embeddings from those with "
        "orthonormal ones, against the dimension of the embeddings."
    )
    title = f"random embeddings, N = {memory.EMBEDDING_SIZE}"
    return _panel("theory-embeddings", title, draw, caption)


def margins(records: Records) -> Panel:
    """Margins that one gradient step gives both matrices, against N."""
    found = records.first_by_size
    sizes = found["size"].values
    line = np.unique(np.geomspace(sizes[0], sizes[-1], 50).round().astype(int))
    limits = [first_step.asymptotic_margins(int(n), 0.3) for n in line]

    def draw(axes: Axes) -> None:
        for measured, limit, colour, label in (
            (found.feed_forward, [x.feed_forward for x in limits], COLOURS["noise"], "F"),
            (found.value, [x.value for x in limits], COLOURS["correct"], "V"),
        ):
            _against(axes, measured, colour, f"{label}, exact")
            axes.plot(line, limit, color=COLOURS["theory"], ls=":", lw=0.9)
        axes.plot([], [], color=COLOURS["theory"], ls=":", lw=0.9, label="N large")
        axes.set_yscale("log")
        _size_axis(axes, sizes)
        _plain_ticks(axes.yaxis, [0.01, 0.02, 0.05, 0.1, 0.2, 0.3])
        axes.set_ylabel("noise minus correct logit / step size")
        axes.legend(loc="center right")

    caption = (
        "Margin of the noise over the correct token that one gradient step writes into the "
        "feed-forward (F) and into the values (V), against the number of tokens."
    )
    return _panel("theory-margins", "margin of the noise after one step", draw, caption)


def ratio(records: Records) -> Panel:
    """N times the ratio of those margins."""
    found = records.first_by_size.ratio

    def draw(axes: Axes) -> None:
        axes.axhline(2, color=COLOURS["theory"], ls=":", lw=0.9, label="limit")
        _against(axes, found, CYCLE[2], "exact", "measured")
        _size_axis(axes, found["size"].values)
        axes.set_ylabel("N x ratio of margins (V over F)")
        axes.legend(loc="lower right")

    caption = "N times the ratio of both margins goes to 2: the feed-forward is N/2 times faster."
    title = "the feed-forward learns N/2 times faster"
    return _panel("theory-ratio", title, draw, caption)


def deviations(records: Records) -> Panel:
    """How one entry of the first step varies with the number of sequences."""
    found = records.first_by_samples
    samples = found.samples.values
    exact = finite_samples.sampled_step(
        np.full(4, 0.25), np.full((4, 4), 0.25), trigger=0, alpha=0.3, length=4
    )
    entry = finite_samples.entry_deviations(exact, "feed_forward")[-1, 0]

    def draw(axes: Axes) -> None:
        line = np.geomspace(samples[0] / 2, samples[-1] * 2, 50)
        law = entry / np.sqrt(line)
        axes.plot(line, law, color=COLOURS["theory"], label="sqrt(alpha (1 - alpha) / m)")
        axes.errorbar(
            samples, found.deviation, yerr=found.error, color=COLOURS["noise"], label="measured",
            **POINT,
        )  # fmt: skip
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("training sequences m")
        axes.set_ylabel("standard deviation")
        axes.legend()

    caption = (
        "Standard deviation of the entry of the feed-forward that answers the trigger with noise, "
        "after one step on m sequences."
    )
    title = "sampled step, noise entry at the trigger"
    return _panel("theory-deviations", title, draw, caption)


def scores(records: Records) -> Panel:
    """What the first step of attention looks for."""
    found = at(records.attention_scores, language="uniform").score.dropna("feature")
    predicted, measured, error = found.sel(of=["predicted", "mean", "error"]).values
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

    def draw(axes: Axes) -> None:
        bar: dict[str, Any] = {"color": COLOURS["theory"], "mew": 1.2}
        for row, index in enumerate(shown.values()):
            axes.plot(predicted[index], [row] * len(index), "|", ms=11, zorder=3, **bar)
            spread = row + (np.linspace(-0.25, 0.25, len(index)) if len(index) > 1 else np.zeros(1))
            axes.errorbar(
                measured[index], spread, xerr=error[index], color=CYCLE[0], lw=0.8,
                **{**POINT, "ms": 2.5},
            )  # fmt: skip
        limits = [limit.after_trigger, limit.noise]
        axes.plot(limits, [0, 3], "x", color=CYCLE[1], ms=5, label="N large")
        axes.plot([], [], "|", ms=9, label="exact", **bar)
        axes.errorbar([], [], xerr=[], color=CYCLE[0], label="measured", **POINT)
        axes.set_xscale("symlog", linthresh=1e-3)
        axes.set_xticks([-1e-3, 0, 1e-3, 1e-2])
        axes.set_yticks(range(len(shown)), list(shown))
        axes.invert_yaxis()
        axes.set_xlabel("score of the key feature / step size")
        axes.legend(loc="lower right")

    caption = (
        "Score of every key feature after the first step of attention: highest for what follows a "
        "trigger (etilde(q)), positive for ordinary tokens, negative for the noise token (tau)."
    )
    title = f"first attention step, N = {num_tokens - 1}"
    return _panel("theory-scores", title, draw, caption)


def curves(records: Records, metric: str) -> Panel:
    """One metric of the trained networks over training, for every N."""
    label, title, place = {
        "p_noise": ("p(noise), noisy sequences", "the noise is learned first", "lower right"),
        "attention_correct": ("attention on correct tokens", "then the attention", "upper left"),
    }[metric]

    def draw(axes: Axes) -> None:
        for colour, size in zip(CYCLE, _trained(records), strict=False):
            _learned(axes, records, size, metric, colour, f"N = {size}")
        _time_axis(axes, label, place)

    caption = f"{label} over training: lines from the reduced flow, points trained networks."
    return _panel(f"theory-learning-{metric}", title, draw, caption)


def half_times(records: Records) -> Panel:
    """When noise and attention are half learned, against N."""
    found = records.learning_half_times.sel(of="measured")
    sizes = found["size"].values
    line = np.unique(np.geomspace(sizes[0] / 1.5, sizes[-1] * 1.5, 16).round().astype(int))
    flow = [reduced.half_times(int(n), learning.ALPHA) for n in line]
    law = [reduced.asymptotic_half_times(int(n), learning.ALPHA) for n in line]

    def draw(axes: Axes) -> None:
        for quantity, colour, label in (
            ("attention", COLOURS["correct"], "attention"),
            ("ratio", COLOURS["neutral"], "ratio"),
            ("noise", COLOURS["noise"], "p(noise)"),
        ):
            axes.plot(line, [getattr(x, quantity) for x in flow], color=colour, label=label)
            axes.plot(line, [getattr(x, quantity) for x in law], color=colour, ls=":", lw=0.9)
            axes.plot(sizes, found[quantity], color=colour, **POINT)
        axes.plot([], [], color=COLOURS["theory"], ls=":", lw=0.9, label="scaling law")
        axes.set_yscale("log")
        _size_axis(axes, sizes)
        axes.set_ylabel("time, or ratio of times")
        axes.legend(loc="upper left", ncols=2)
        axes.set_ylim(top=axes.get_ylim()[1] * 12)

    caption = (
        "Times to half of p(noise) and of attention, and their ratio, against the number of "
        "tokens: lines from the reduced flow, dotted its scaling law, points trained networks."
    )
    return _panel("theory-half-times", "times to half", draw, caption)


def attribution(records: Records) -> Panel:
    """Which matrix writes the margin of the noise, for the largest N."""
    size = _trained(records)[-1]

    def draw(axes: Axes) -> None:
        for margin, colour, label in (
            ("feed_forward_margin", COLOURS["noise"], "written by F"),
            ("attention_margin", COLOURS["correct"], "written through V"),
        ):
            _learned(axes, records, size, margin, colour, label)
        axes.axhline(0, color=COLOURS["neutral"], lw=0.6)
        _time_axis(axes, "noise minus correct logit", "lower left")

    caption = (
        f"Margin of the noise over the correct token that feed-forward and values write over "
        f"training, N = {size}."
    )
    title = f"who writes the noise margin, N = {size}"
    return _panel("theory-attribution", title, draw, caption)


def _panel(name: str, title: str, draw: Any, caption: str) -> Panel:
    """A panel with its legend inside."""
    return Panel(name, title, draw, caption, legend=0)


def _trained(records: Records) -> list[int]:
    return list(map(int, records.learning_half_times["size"].values))


def _learned(axes: Axes, records: Records, size: int, metric: str, colour: str, label: str) -> None:
    """The reduced flow, and the mean over seeds with half their range, thinned to what shows."""
    run = learning.recorded(records.learning, size)
    times, values = run.time.values, run[metric].values
    line = np.geomspace(0.5, times[-1], 300)
    predicted = reduced.curves(size, learning.ALPHA, line)
    axes.plot(line, getattr(predicted, metric), color=colour, label=label)
    kept = np.unique(
        np.searchsorted(times, np.geomspace(0.5, times[-1], 40)).clip(0, len(times) - 1)
    )
    centre, half_range = values.mean(axis=1)[kept], np.ptp(values, axis=1)[kept] / 2
    axes.errorbar(
        times[kept], centre, yerr=half_range, color=colour, lw=0.8, **{**POINT, "ms": 2.5}
    )


def _against(axes: Axes, found: Any, colour: str, exact: str, measured: str | None = None) -> None:
    """A quantity [size, of]: predicted as a line, measured with its error."""
    sizes = found["size"].values
    axes.plot(sizes, found.sel(of="predicted"), color=colour, label=exact)
    axes.errorbar(
        sizes, found.sel(of="measured"), yerr=found.sel(of="error"), color=colour, label=measured,
        **POINT,
    )  # fmt: skip


def _time_axis(axes: Axes, label: str, legend: Any) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("time (step size x steps)")
    axes.set_ylabel(label)
    axes.legend(loc=legend)


def _size_axis(axes: Axes, sizes: np.ndarray) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xlabel("ordinary tokens N")
    _plain_ticks(axes.xaxis, sizes)


def _plain_ticks(axis: Axis, values: Sequence[float] | np.ndarray) -> None:
    """Ticks at these values alone, written as plain numbers."""
    axis.set_major_locator(FixedLocator([float(x) for x in values]))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}"))
    axis.set_minor_formatter(NullFormatter())
