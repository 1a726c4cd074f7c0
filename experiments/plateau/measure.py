"""The study itself: settle, measure the curvature, watch, predict, compare, tell."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from truncated_weights.experiments.plateau import figures
from truncated_weights.experiments.plateau.compare import (
    MODELS,
    axes,
    cell_name,
    compare,
    compared,
    grid,
    rows,
)
from truncated_weights.experiments.plateau.settings import Plateau
from truncated_weights.experiments.run import stop, table
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.parts import Part, measured, on_grid
from truncated_weights.experiments.run.program import RunFailedError
from truncated_weights.experiments.run.progress import say
from truncated_weights.experiments.run.study import Memory, Study
from truncated_weights.toy import language, recall, transformer
from truncated_weights.toy.probes import wander
from truncated_weights.toy.recall_problem import RecallProblem
from truncated_weights.training import reductions
from truncated_weights.training.records import Records, of_how_many

# Settling steps sent to the device at once; a stop is obeyed between them.
AT_ONCE = 200


@dataclasses.dataclass(frozen=True)
class Plan:
    """The settings, and who watches at each batch size: a program of its own for each."""

    config: Plateau
    watchers: Mapping[int, wander.Watcher]


def prepare(config: Plateau) -> Plan:
    """Noisy recall over a Zipf language, one trigger; ValueError where it does not fit."""
    law = language.zipf(config.num_tokens)
    task = recall.make_task(law, alpha=config.alpha, length=config.length)
    model = transformer.TransformerConfig(task.vocab_size, config.length, d_model=config.d_model)
    return Plan(
        config,
        {size: wander.Watcher(RecallProblem(task, model, size)) for size in config.batch_sizes},
    )


def measure(plan: Plan, directory: RunDirectory) -> Records:
    """Watch what an interrupted run has not kept; predict and compare.

    watched: p_noise [batch, rate, momentum, seed, kind, step], the curvatures behind it (see
    `watch`), and labels [batch], the mean number of scored positions. cells: what was measured of
    them and what is predicted (see compare.py).
    """
    config, found = plan.config, []
    numbers = tuple(range(config.seed, config.seed + config.num_seeds))
    parts = [
        Part(f"{cell_name(*cell)}/seed{seed}", functools.partial(watch, plan, *cell, seed))
        for cell in grid(config)
        for seed in numbers
    ]
    directory.rewrite_metrics([])
    for _, records in measured(directory, parts, label="run", show=shown):
        found.append(records.watched)
        done, rest = divmod(len(found), len(numbers))
        if not rest:
            here = on_grid(found[-len(numbers) :], {"seed": numbers})
            name = cell_name(*grid(config)[done - 1])
            line = {f"{name}/{key}": value for key, value in told(here).items()}
            directory.append_metrics({"step": done, **line})
    labels = [plan.watchers[size].labels() for size in config.batch_sizes]
    watched = on_grid(found, {**axes(config), "seed": numbers}).assign(labels=("batch", labels))
    cells = compare(config, watched)
    directory.write_csv("plateau.csv", rows(config, cells))
    return Records({"watched": watched, "cells": cells})


def shown(records: Records) -> dict[str, float]:
    """What the progress line tells of one network."""
    return told(records.watched.expand_dims("seed"))


def told(watched: xr.Dataset) -> dict[str, float]:
    """What metrics.jsonl tells of a cell: means over the seeds that were not lost."""
    deviations = watched.p_noise.std("step")
    found = {"sharpness": float(reductions.mean(watched.sharpness.mean("end")).value)}
    for kind in map(str, watched.kind.values):
        found[kind] = float(reductions.mean(deviations.sel(kind=kind)).value)
    gone = int(np.isnan(watched.sharpness).any("end").sum())
    return found | ({"seeds_lost": gone} if gone else {})


def watch(plan: Plan, size: int, rate: float, momentum: float, seed: int) -> Records:
    """Block `watched` of one network, NaN throughout where any of it is not finite.

    p_noise [kind, step] after each step; at both ends of what the first kind is compared over,
    because the curvature drifts under way: sharpness [end], curvature and weight [end, mode], the
    curvatures along the gradient of p(noise) and its squared components.
    """
    config, watcher = plan.config, plan.watchers[size]
    drawn = wander.Numbers(rate, momentum)
    settled = watcher.start(seed)
    for begin in range(0, config.settling, AT_ONCE):
        stop.check()
        count = min(AT_ONCE, config.settling - begin)
        settled = watcher.advance(settled, drawn, seed, count)
    series: list[Any] = []
    ends: list[wander.Curvature] = []
    for kind in config.kinds:
        stop.check()
        numbers = drawn._replace(fair=float(kind == "fair"))
        state, p_noise = watcher.watch(settled, numbers, seed, config.watched)
        series.append(p_noise)
        ends = ends or [watcher.curvature(settled), watcher.curvature(state)]
    found = xr.Dataset(
        {
            "p_noise": (("kind", "step"), np.array(series, np.float64)),
            "sharpness": ("end", np.array([end.sharpness for end in ends], np.float64)),
            "curvature": (
                ("end", "mode"), np.array([end.modes.curvatures for end in ends], np.float64),
            ),
            "weight": (("end", "mode"), np.array([end.modes.weights for end in ends], np.float64)),
        },
        {
            "kind": list(config.kinds),
            "step": config.settling + np.arange(1, config.watched + 1),
            "end": ["first", "last"],
        },
    )  # fmt: skip
    if not all(np.isfinite(values).all() for values in found.values()):
        cell = cell_name(size, rate, momentum)
        say(f"{cell}: seed {seed} left the finite numbers; the others go on")
        found = found * np.nan
    return Records({"watched": found})


def summarise(plan: Plan, records: Records) -> dict[str, Any]:
    """Every cell, and over the cells the mean factor of measured over predicted and its spread.

    RunFailedError where no cell has a seed left.
    """
    config, cells = plan.config, records.cells
    if not cells.seeds.any():
        raise RunFailedError(
            f"all seeds of all {cells.seeds.size} cells left the finite numbers; lower "
            "--learning_rates or --momenta"
        )
    summary: dict[str, Any] = {}
    for row in rows(config, cells):
        name = cell_name(row.pop("batch"), row.pop("rate"), row.pop("momentum"))
        summary |= {f"{name}/{key}": value for key, value in row.items()}
    for model in MODELS:
        for figure, kind in compared(config).items():
            seen, expected = (cells[figure].sel(kind=k).values.ravel() for k in (kind, model))
            known = (seen > 0) & (expected > 0)
            logs = np.log(seen[known] / expected[known])
            if logs.size:
                summary[f"{model}/{figure}/factor"] = float(np.exp(logs.mean()))
                summary[f"{model}/{figure}/spread"] = float(np.exp(logs.std()))
                summary[f"{model}/{figure}/worst"] = float(np.exp(np.abs(logs).max()))
    summary["cells"] = cells.seeds.size
    for count in ("seeds", "seeds_lost", "beyond_edge"):
        summary[count] = int(cells[count].sum())
    return summary


def tell(plan: Plan, records: Records, summary: Mapping[str, Any]) -> None:
    """Print every cell, and how far the two models are off."""
    kind = plan.config.kinds[0]
    print(
        table.text(
            [
                {
                    "batch, rate, mu": f"{row['batch']} {row['rate']:g} {row['momentum']:g}",
                    "seeds": of_how_many(row),
                    "sharp.": _shown(row.get("sharpness"), 1),
                    "edge": f"{row['edge']:.0f}",
                    **{k: _shown(row.get(f"{k}/deviation"), 4) for k in plan.config.kinds},
                    "±": _shown(row.get(f"{kind}/error"), 4),
                    "labels'": _shown(row.get("labels/deviation"), 4),
                    "modes": _shown(row.get("modes/deviation"), 4),
                    "one mode": _shown(row.get("one_mode/deviation"), 4),
                    "dip": _shown(row.get(f"{kind}/dip"), 1),
                    "modes' dip": _shown(row.get("modes/dip"), 1),
                }
                for row in rows(plan.config, records.cells)
            ]
        )
    )
    for model in ("modes", "one_mode"):
        if f"{model}/deviation/factor" in summary:
            print(
                f"{model.replace('_', ' ')}: deviation measured over predicted "
                f"{summary[f'{model}/deviation/factor']:.3f}, spread "
                f"{summary[f'{model}/deviation/spread']:.3f}, worst cell a factor "
                f"{summary[f'{model}/deviation/worst']:.2f}"
            )
    print(f"{summary['beyond_edge']} of {summary['cells']} cells at the edge of stability")


def _shown(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def needs(config: Plateau) -> Memory:
    """A batch through the network, and its weights once for every direction of Lanczos."""
    sequences = max(*config.batch_sizes, wander.CLEAN_SEQUENCES, wander.CURVATURE_SEQUENCES)
    activations = 1.0 * sequences * config.length * (16 * config.d_model + 2 * config.length)
    weights = 24 * config.d_model**2 + 2 * config.d_model * (config.num_tokens + config.length)
    return Memory(
        4 * (activations + (4.0 + wander.LANCZOS_STEPS) * weights) + 16.0 * config.num_tokens**2,
        "--d_model, --length, --batch_sizes or --num_tokens",
    )


STUDY = Study(
    name="plateau",
    settings=Plateau,
    prepare=prepare,
    measure=measure,
    figures=figures.figures,
    summarise=summarise,
    tell=tell,
    memory=needs,
)
