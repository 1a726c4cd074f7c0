"""The figures of the associative memory, from its settings and records alone."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from truncated_weights.experiments.associative_memory.settings import Memory
from truncated_weights.experiments.run.drawing import style
from truncated_weights.experiments.run.drawing.panel import Figure, Panel
from truncated_weights.experiments.run.drawing.style import COLOURS, CYCLE
from truncated_weights.theory import frequent_memory, frequent_window, memory_flow
from truncated_weights.training.records import Records

MODELS = {"full": ("full", COLOURS["noise"]), "cut": ("top component dropped", COLOURS["correct"])}
EXACT: dict[str, Any] = {"color": COLOURS["theory"], "lw": 0.7}


def predict(config: Memory, steps: np.ndarray) -> memory_flow.Logits:
    """The exact logits of the flow at these steps, for orthonormal embeddings."""
    return memory_flow.logits(config.num_inputs, config.alpha, steps * config.step_size)


def figures(config: Memory, records: Records) -> Iterator[Figure]:
    """Points are measured (means over seeds), lines predicted, for orthonormal embeddings."""
    if "facts" in records:
        times = records.facts.step.values * config.step_size
        shown = sorted({int(np.argmin(np.abs(times - config.time * x))) for x in (0.03, 0.2, 1.0)})
        panels: list[Panel | None] = [margins(config, records, index) for index in shown]
        panels += [None] * (3 - len(panels)) + [window(config, records)]
        yield Figure("by_frequency", panels, columns=2, height=2.6, width=6.2)
    else:
        panels = [logits(config, records), spectrum(config, records), truncated(config, records)]
        yield Figure("memory", panels)


def margins(config: Memory, records: Records, index: int) -> Panel:
    """Margin of every fact against its frequency at one record, before and after the cut."""
    found = records.facts.margin.isel(step=index).mean("seed")
    time = float(found.step) * config.step_size

    def draw(axes: Axes) -> None:
        for model, (label, colour) in MODELS.items():
            here = found.sel(model=model)
            axes.plot(here.frequency, here, "o", ms=2.5, color=colour, label=label)
            if (exact := _exact(config, records, np.array([time]))) is not None:
                axes.plot(here.frequency, frequent_window.margins(exact[model][0]), **EXACT)
        axes.axhline(0.0, color="0.7", lw=0.8, zorder=0)
        axes.set_xscale("log")
        axes.set_xlabel("frequency")
        axes.set_ylabel("correct logit - largest other")

    caption = (
        f"Margins of facts by their frequency at t = {time:.3g}, in the full memory and with its "
        "top component dropped; above 0 the memory is right."
    )
    title = f"t = {time:.3g}: right above the line"
    name = "facts" if index == records.facts.sizes["step"] - 1 else f"facts-{time:.3g}"
    return Panel(name, title, draw, caption, legend=0)


def window(config: Memory, records: Records) -> Panel:
    """The lowest frequency that is known, full and cut, against time."""
    found = records.facts.margin.mean("seed")
    found = found.sel(step=found.step * config.step_size >= config.time / 100)
    times, law = found.step.values * config.step_size, found.frequency.values

    def draw(axes: Axes) -> None:
        exact = _exact(config, records, times)
        for model, (label, colour) in MODELS.items():
            here = found.sel(model=model).transpose("step", "fact").values
            edges = [frequent_window.edge(law, margin) for margin in here]
            axes.plot(times, edges, "o", ms=2.5, color=colour, label=label)
            if exact is not None:
                lines = [frequent_window.margins(z) for z in exact[model]]
                axes.plot(times, [frequent_window.edge(law, line) for line in lines], **EXACT)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlabel("time (step size x steps)")
        axes.set_ylabel("lowest known frequency")

    caption = "The lowest frequency that is known, in the full memory and in the cut one."
    return Panel("facts-window", "between the curves: corrected", draw, caption)


def _exact(config: Memory, records: Records, times: np.ndarray) -> dict[str, list] | None:
    """Exact logits at these times by model; None for random embeddings."""
    if config.d_model:
        return None
    facts = frequent_memory.facts(records.facts.frequency.values, config.alpha, config.shared)
    whole = list(frequent_memory.logits(facts, times))
    return {"full": whole, "cut": [frequent_window.truncated_logits(facts, z) for z in whole]}


def logits(config: Memory, records: Records) -> Panel:
    """The three logits of the theory against time."""
    found = _later(records, "logits")
    times, predicted = _times(config, found), predict(config, found.step.values)

    def draw(axes: Axes) -> None:
        for kind, colour in {"correct": CYCLE[0], "other": CYCLE[2], "noise": CYCLE[1]}.items():
            axes.plot(times, found[kind].mean("seed"), "o", ms=3, color=colour, label=kind)
            line = "predicted" if kind == "noise" else None
            axes.plot(times, getattr(predicted, kind), label=line, **EXACT)
        axes.set_ylabel("logit")
        _time_axis(axes)

    caption = "Logits of the correct class, of the noise and of all others against time."
    return Panel(f"memory-logits-{config.num_inputs}", "logits", draw, caption)


def spectrum(config: Memory, records: Records) -> Panel:
    """Singular values of the logit matrix against time, the noise's marked."""
    found = _later(records, "logits").mean("seed")
    times, predicted = _times(config, found), predict(config, found.step.values)
    values = found.singular_values.transpose("step", "rank").values
    top = found.noise_share.argmax("rank").values

    def draw(axes: Axes) -> None:
        for rank, line in enumerate(values.T):
            label = "measured" if rank == 0 else None
            axes.plot(times, line, "o", ms=2, color="0.6", label=label)
        at_noise = np.take_along_axis(values, top[:, None], axis=1)
        label = "most of the noise class"
        axes.plot(times, at_noise, "o", ms=3, color=COLOURS["noise"], label=label)
        noise = np.sqrt(config.num_inputs + 1) * np.abs(predicted.noise)
        axes.plot(times, predicted.correct - predicted.other, label="signal, predicted", **EXACT)
        axes.plot(times, noise, ls="--", label="noise, predicted", **EXACT)
        axes.set_ylabel("singular value")
        _time_axis(axes)

    caption = "Singular values of signal and noise against time."
    return Panel(f"memory-values-{config.num_inputs}", "spectrum", draw, caption, legend=1)


def truncated(config: Memory, records: Records) -> Panel:
    """p(noise) of the full memory and of its cuts against time."""
    found = _later(records, "memory").p_noise
    models = ["full", *(m for m in map(str, found.model.values) if m != "full")]

    def draw(axes: Axes) -> None:
        for colour, model in zip(CYCLE, models, strict=False):
            values = found.sel(model=model).transpose("step", "seed").values
            style.band(axes, _times(config, found), values, label=model, color=colour)
        axes.axhline(config.alpha, color="0.7", lw=0.8, zorder=0)
        axes.set_ylabel("p(noise)")
        axes.set_yscale("log")
        _time_axis(axes)

    caption = "p(noise) of the full memory stays at alpha; that of its cuts changes with time."
    return Panel(f"memory-noise-{config.num_inputs}", "truncated", draw, caption, legend=1)


def _later(records: Records, block: str) -> xr.Dataset:
    return records[block].sel(step=records[block].step > 0)


def _times(config: Memory, found: xr.Dataset | xr.DataArray) -> np.ndarray:
    return found.step.values * config.step_size


def _time_axis(axes: Axes) -> None:
    axes.set_xscale("log")
    axes.set_xlabel("time (step size x steps)")
