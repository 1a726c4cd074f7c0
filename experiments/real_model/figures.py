"""The figures of a real model, from its settings and records alone."""

from collections.abc import Iterator

import xarray as xr
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from truncated_weights.experiments.real_model import verdict
from truncated_weights.experiments.real_model.settings import RealModel
from truncated_weights.experiments.run.drawing.panel import Figure, Panel
from truncated_weights.experiments.run.drawing.style import COLOURS, CYCLE
from truncated_weights.training.records import Records
from truncated_weights.truncation.notation import parse

FULL = verdict.FULL
MARKERS = {"fc_in": "o", "fc_gate": "s", "fc_out": "D"}


def figures(config: RealModel, records: Records) -> Iterator[Figure]:
    """By layer; every cut of one layer; what stands beside a gain; what it costs."""
    found = records.changes
    yield Figure(
        "real_model",
        [by_layer(found), traded(config, found), beside(records, found), cost(records, found)],
        columns=2, height=2.9, width=7.0,
    )  # fmt: skip


def _layer(model: str) -> int:
    return int(parse(model).cuts[0].layer)


def _models(found: xr.Dataset) -> list[str]:
    return [model for model in map(str, found.model.values) if model != FULL]


def by_layer(found: xr.Dataset) -> Panel:
    """Where cutting makes the model name a country: accuracy and p(" the") along the layers."""
    here = found.sel(wording="asked")
    ways: dict[str, list[str]] = {}
    for model in _models(found):
        ways.setdefault(model.split(".", 1)[1], []).append(model)
    along = {way: models for way, models in ways.items() if len(models) > 1}

    def draw(axes: Axes) -> None:
        for line, (way, models) in zip(("-", "--"), along.items(), strict=False):
            ordered = sorted(models, key=_layer)
            layers = [_layer(model) for model in ordered]
            for metric, kind in (("accuracy", "correct"), ("p_the", "noise")):
                said = "accuracy" if metric == "accuracy" else 'p(" the")'
                axes.plot(
                    layers, here[metric].sel(model=ordered), line, marker="o", ms=3,
                    color=COLOURS[kind], label=f"{said}, {way}",
                )  # fmt: skip
        for metric, kind in (("accuracy", "correct"), ("p_the", "noise")):
            axes.axhline(float(here[metric].sel(model=FULL)), color=COLOURS[kind], lw=0.6, ls=":")
        axes.set_xlabel("layer that is cut")
        axes.set_ylabel("mean over cities")
        axes.set_ylim(-0.02, None)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))

    caption = 'Accuracy and p(" the") where one layer is cut; dotted: the full model.'
    return Panel("real-layers", 'one late layer says " the"', draw, caption, legend=1, height=3.4)


def traded(config: RealModel, found: xr.Dataset) -> Panel:
    """Every cut of the one layer: p(" the") against accuracy, by matrix and metric."""
    here = found.sel(wording="asked")
    layers = [_layer(model) for model in _models(found)]
    layer = max(set(layers), key=layers.count)

    def draw(axes: Axes) -> None:
        seen = set()
        for model in _models(found):
            (cut,) = parse(model).cuts
            if int(cut.layer) != layer or model.split(".", 1)[1] not in _of_layer(config):
                continue
            label = f"{cut.matrix}, {cut.metric or 'by size'}"
            axes.plot(
                float(here.p_the.sel(model=model)), float(here.accuracy.sel(model=model)),
                MARKERS[cut.matrix], ms=5, color=CYCLE[1] if cut.metric else CYCLE[0],
                mfc="none" if str(cut.rho).split(":")[-1].startswith("-") else None,
                label=None if label in seen else label,
            )  # fmt: skip
            seen.add(label)
        axes.plot(
            float(here.p_the.sel(model=FULL)), float(here.accuracy.sel(model=FULL)), "k*", ms=8,
            label="full model",
        )  # fmt: skip
        axes.set_xlabel('p(" the")')
        axes.set_ylabel("accuracy")

    caption = f"Cuts of layer {layer}: filled, the largest are kept; hollow, they are dropped."
    return Panel("real-cuts", f"every cut of layer {layer}", draw, caption, legend=2, height=3.4)


def _of_layer(config: RealModel) -> set[str]:
    return {f"{matrix}@{rho}" for matrix in MARKERS for rho in config.rhos}


def _shown(records: Records, found: xr.Dataset) -> list[str]:
    """The chosen cut, and of each metric the one that is most often right."""
    here, best = found.accuracy.sel(wording="asked"), [verdict.chosen(records)]
    metrics = dict.fromkeys(parse(model).cuts[0].metric for model in _models(found))
    for metric in metrics:
        of = [m for m in _models(found) if parse(m).cuts[0].metric == metric]
        best += [max(of, key=lambda model: float(here.sel(model=model)))] if of else []
    return list(dict.fromkeys(best))


def beside(records: Records, found: xr.Dataset) -> Panel:
    """What stands beside a gain in accuracy: the reworded prompt, and the choice of countries."""
    models = _shown(records, found)
    rows = (
        ("as asked", "accuracy", "asked"),
        ("reworded", "accuracy", "reworded"),
        ("among the\ncountries", "closed", "asked"),
    )

    def draw(axes: Axes) -> None:
        for place, model in enumerate(models):
            for row, (_, variable, wording) in enumerate(rows):
                here = found.sel(model=model, wording=wording)
                middle, low, high = (100 * float(here[f"{variable}_{end}"]) for end in verdict.ENDS)
                axes.errorbar(
                    middle, -row - 0.18 * (place - (len(models) - 1) / 2),
                    xerr=[[middle - low], [high - middle]], fmt="o", ms=4, capsize=2,
                    color=CYCLE[place], label=model if row == 0 else None,
                )  # fmt: skip
        axes.axvline(0, color="0.7", lw=0.8)
        axes.set_yticks([-row for row in range(len(rows))], [told for told, *_ in rows])
        axes.set_xlabel("change in points, 95 % interval")

    caption = "Changes of accuracy as asked, reworded, and of the choice among the countries."
    return Panel("real-beside", "wording or knowledge?", draw, caption, legend=1, height=3.2)


def cost(records: Records, found: xr.Dataset) -> Panel:
    """The loss on plain text that a gain is paid with."""
    here = found.sel(wording="asked")
    loss = records.text.loss

    def draw(axes: Axes) -> None:
        for model in _models(found):
            (cut,) = parse(model).cuts
            axes.plot(
                float(loss.sel(model=model) - loss.sel(model=FULL)),
                100 * float(here.accuracy_change.sel(model=model)),
                MARKERS[cut.matrix], ms=4, color=CYCLE[1] if cut.metric else CYCLE[0], alpha=0.8,
            )  # fmt: skip
        axes.axhline(0, color="0.7", lw=0.8)
        axes.axvline(0, color="0.7", lw=0.8)
        axes.set_xscale("symlog", linthresh=0.1)
        axes.margins(x=0.08)
        axes.set_xlabel("change of the loss on plain text, nats a token")
        axes.set_ylabel("change of accuracy, points")

    caption = "Change of accuracy against the change of loss on plain text, of every cut."
    return Panel("real-cost", "what it costs elsewhere", draw, caption, legend=0)
