"""What every rule finds, at what price, where it cut, and along training, from records alone."""

from collections.abc import Iterator

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from truncated_weights.experiments.find_noise.settings import FindNoise
from truncated_weights.experiments.run.drawing import heatmaps, style
from truncated_weights.experiments.run.drawing.panel import Figure, Panel
from truncated_weights.experiments.run.drawing.style import COLOURS, CYCLE
from truncated_weights.training import reductions
from truncated_weights.training.records import Records

FOLLOWED = {"full model": "--", "grid": "-", "gradient-guided": ":", "random search": "-.",
            "Gavish-Donoho": "-"}  # fmt: skip


def figures(config: FindNoise, records: Records) -> Iterator[Figure]:
    """The rules, and the grid as a map; points are means over seeds, bars one standard error."""
    rules = records.rules.sel(set="clean")
    panels = [outcomes(rules), prices(rules), places(rules)]
    if records.along.sizes["step"] > 1:
        seed = int(records.choices.seed.min())
        panels.append(along(records.along.sel(set="clean"), seed))
    yield Figure("find_noise", panels, columns=2)
    yield heatmaps.heatmap(records.grid, "p_correct", called="heatmaps")


def outcomes(rules: xr.Dataset) -> Panel:
    """What the choices of the rules lead to on test sequences."""
    names = _names(rules)

    def draw(axes: Axes) -> None:
        for offset, metric, kind in ((0.12, "p_correct", "correct"), (-0.12, "p_noise", "noise")):
            _beside(axes, rules[metric], offset, "o", color=COLOURS[kind], label=f"p({kind})")
        axes.set_xlabel("probability, clean test sequences")

    found = reductions.mean(rules.p_correct).value
    told = ", ".join(f"{rule} {float(found.sel(rule=rule)):.2f}" for rule in names)
    caption = f"By rule, p(correct) and p(noise) of what it chose. p(correct): {told}."
    height = 1.2 + 0.17 * len(names)
    return Panel("rules", "what each rule leads to", draw, caption, height=height)


def prices(rules: xr.Dataset) -> Panel:
    """What is left to find, against what was paid."""
    price = reductions.mean(rules.evaluations).value
    searched = [rule for rule in _names(rules) if float(price.sel(rule=rule)) > 0]
    missing = reductions.mean(1 - rules.p_correct)

    def draw(axes: Axes) -> None:
        for colour, marker, rule in zip((*CYCLE, *CYCLE), "osD^vPX*<>hp", searched, strict=False):
            value, error, _ = (float(part.sel(rule=rule)) for part in missing)
            axes.errorbar(
                float(price.sel(rule=rule)), value, yerr=np.nan_to_num(error), fmt=marker, ms=5,
                capsize=2, color=colour, label=rule,
            )  # fmt: skip
        for axis in (axes.xaxis, axes.yaxis):
            axis.axes.set(**{f"{axis.axis_name}scale": "log"})
            axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("evaluations of the validation set")
        axes.set_ylabel("1 - p(correct), clean test")

    told = ", ".join(f"{rule} {float(price.sel(rule=rule)):.0f}" for rule in searched)
    caption = f"1 - p(correct) of each rule's choice against its evaluations: {told}."
    return Panel("rules-cost", "what it costs", draw, caption, height=3.6)


def places(rules: xr.Dataset) -> Panel:
    """How much of what the cut matrices write towards the noise, and towards outputs, went."""
    known = rules.dropna("rule", how="all", subset=["noise_removed"])

    def draw(axes: Axes) -> None:
        for offset, variable, kind, label in (
            (0.12, "noise_removed", "noise", "towards the noise token"),
            (-0.12, "outputs_removed", "correct", "towards possible answers (mean)"),
        ):
            _beside(axes, known[variable], offset, "s", color=COLOURS[kind], label=label)
        axes.set_xlabel("share of the cut matrices' output energy removed")

    caption = "By rule, the share of the cut matrices' output energy that it removed."
    height = 1.2 + 0.17 * known.sizes["rule"]
    title = "was it the noise that was cut?"
    return Panel("rules-places", title, draw, caption, legend=1, height=height)


def along(rules: xr.Dataset, seed: int) -> Panel:
    """Some of the rules at checkpoints along training, of one seed."""
    steps = np.maximum(rules.step.values, 1)

    def draw(axes: Axes) -> None:
        for colour, (rule, line) in zip(("#4D4D4D", *CYCLE), FOLLOWED.items(), strict=False):
            values = rules.p_correct.sel(rule=rule).values
            axes.plot(steps, values, line, marker="o", ms=3, color=colour, label=rule)
        axes.set_ylim(-0.03, 1.03)
        axes.set_ylabel("p(correct), clean test")
        style.step_axis(axes)

    caption = f"p(correct) of what some rules choose, against the training step, of seed {seed}."
    return Panel("rules-along", f"along training, seed {seed}", draw, caption)


def _names(rules: xr.Dataset) -> list[str]:
    return list(map(str, rules.rule.values))


def _beside(
    axes: Axes, values: xr.DataArray, offset: float, marker: str, *, color: str, label: str
) -> None:
    """One mark and error per rule, the first on top."""
    value, error, _ = reductions.mean(values)
    places = -np.arange(values.sizes["rule"])
    axes.errorbar(
        value.values, places + offset, xerr=np.nan_to_num(error.values), fmt=marker, ms=4,
        capsize=2, color=color, label=label,
    )  # fmt: skip
    axes.set_yticks(places, list(map(str, values.rule.values)))
    axes.set_xlim(-0.03, 1.03)
    axes.grid(axis="y", color="0.92", lw=0.6)
