"""What was watched in every cell, against what one mode and all modes predict of it.

A cell is a batch, a rate and a momentum. Its figures have an axis `kind`:

    drawn, fair   measured: mean, deviation, error of the deviation, dip, correlation [lag]
    labels        the deviation that labels make, where both were watched
    one_mode      predicted from the sharpness: deviation, dip, correlation
    modes         predicted from all modes: the same
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from truncated_weights.experiments.plateau.settings import KINDS, LAGS, Plateau
from truncated_weights.experiments.run.parts import on_grid
from truncated_weights.theory import plateau
from truncated_weights.training.records import Name, labelled, name, spelled

MODELS = ("one_mode", "modes")


def axes(config: Plateau) -> dict[str, Sequence[Any]]:
    """The axes of the cells; batches slowest, because each is a program of its own."""
    return {
        "batch": config.batch_sizes, "rate": config.learning_rates, "momentum": config.momenta,
    }  # fmt: skip


def grid(config: Plateau) -> list[tuple[int, float, float]]:
    """(batch, rate, momentum) of every cell."""
    return list(itertools.product(*axes(config).values()))


def cell_name(batch: int, rate: float, momentum: float) -> str:
    """How a cell is called in files and summary."""
    return f"batch{batch}/rate{rate:g}/momentum{momentum:g}"


def at(config: Plateau, block: xr.Dataset) -> list[tuple[tuple[int, float, float], xr.Dataset]]:
    """Every cell and what a block holds of it."""
    return [(cell, block.sel(dict(zip(axes(config), cell, strict=True)))) for cell in grid(config)]


def compare(config: Plateau, watched: xr.Dataset) -> xr.Dataset:
    """Figures [batch, rate, momentum] of every cell, NaN where there are none.

    seeds, seeds_lost: of how many it is; where all are lost nothing is measured. beyond_edge:
    measured sharpness at or above the edge of stability, where nothing is predicted.
    """
    found = [
        labelled(of_cell(config, here, rate, momentum), {})
        for (_, rate, momentum), here in at(config, watched)
    ]
    return on_grid(found, axes(config))


def names(config: Plateau) -> list[Name]:
    """The figures of a cell, in the order in which a table has them."""
    whose = (*config.kinds, *(["labels"] if set(config.kinds) == set(KINDS) else []))
    told = ("mean", "deviation", "error", "dip")
    return [
        *map(name, ("labels_a_step", "edge", "seeds", "seeds_lost", "sharpness")),
        *(name(f, kind=k) for k in whose for f in (told if k in KINDS else ("deviation",))),
        name("beyond_edge"),
        *(name(f, kind=k) for k in MODELS for f in ("deviation", "dip", "correlation_gap")),
    ]


def of_cell(
    config: Plateau, here: xr.Dataset, rate: float, momentum: float
) -> Mapping[Name, float | np.ndarray]:
    """The figures of one cell by name."""
    lost = here.p_noise.isnull().any(("kind", "step"))
    here = here.sel(seed=~lost)
    edge, labels = plateau.edge_of_stability(rate, momentum), float(here.labels)
    # Every cell has every figure, so that all have the same shape.
    found: dict[Name, Any] = dict.fromkeys(names(config), np.nan)
    nothing = np.full(LAGS + 1, np.nan)
    found |= {name("correlation", "lag", kind=k): nothing for k in (*config.kinds, *MODELS)}
    found |= {
        name("labels_a_step"): labels,
        name("edge"): edge,
        name("seeds"): here.sizes["seed"],
        name("seeds_lost"): int(lost.sum()),
        name("beyond_edge"): False,
    }
    if not here.sizes["seed"]:
        return found
    seen = {}
    for kind in config.kinds:
        series = here.p_noise.sel(kind=kind).transpose("seed", "step").values
        seen[kind] = plateau.observed(series, lags=LAGS)
        found |= _told(kind, seen[kind], seen[kind].period / 2)
        found[name("mean", kind=kind)] = float(series.mean())
        found[name("error", kind=kind)] = plateau.deviation_error(seen[kind], series.size)
    if set(seen) == set(KINDS):
        # Labels and sequences strike independently, so that their variances add.
        rest = seen["drawn"].deviation ** 2 - seen["fair"].deviation ** 2
        found[name("deviation", kind="labels")] = float(np.sqrt(max(rest, 0.0)))
    found[name("sharpness")] = sharp = float(here.sharpness.mean())
    found[name("beyond_edge")] = bool(max(sharp, float(here.curvature.max())) >= edge)
    if not found[name("beyond_edge")]:
        shared = {"learning_rate": rate, "momentum": momentum, "labels": labels}
        one = plateau.wander(sharpness=sharp, alpha=config.alpha, lags=LAGS, **shared)
        modes = predicted(here, window=config.watched, **shared)
        found |= _told("one_mode", one, plateau.first_dip(one.correlation))
        found |= _told("modes", modes, modes.period / 2)
        first = seen[config.kinds[0]].correlation
        for model, wander in zip(MODELS, (one, modes), strict=True):
            gap = wander.correlation[1:13] - first[1:13]
            found[name("correlation_gap", kind=model)] = float(np.sqrt(np.mean(gap**2)))
    return found


def _told(kind: str, wander: plateau.Wander, dip: float) -> dict[Name, Any]:
    return {
        name("deviation", kind=kind): wander.deviation,
        name("dip", kind=kind): dip if np.isfinite(dip) else np.nan,
        name("correlation", "lag", kind=kind): wander.correlation,
    }


def predicted(here: xr.Dataset, **settings: Any) -> plateau.Wander:
    """All modes of all seeds, each seed weighing the same."""
    curvatures = here.curvature.values.ravel()
    # Rounding leaves nodes at or below zero, which weigh next to nothing and never move.
    floor = 1e-6 * curvatures.max()
    return plateau.wander_of_modes(
        np.maximum(curvatures, floor),
        here.weight.values.ravel() / here.sharpness.size,
        lags=LAGS,
        **settings,
    )


def compared(config: Plateau) -> dict[str, str]:
    """What is predicted, and the kind that it is a prediction of: what labels do, if known."""
    whose = "labels" if set(config.kinds) == set(KINDS) else config.kinds[0]
    return {"deviation": whose, "dip": config.kinds[0]}


def rows(config: Plateau, found: xr.Dataset) -> list[dict[str, Any]]:
    """The cells as a table, one row each, columns by flat name; None where there is no figure."""

    def value(here: xr.Dataset, key: Name) -> Any:
        item = here[key.variable].sel(dict(key.at)).item()
        return None if np.isnan(item) else item

    return [
        dict(zip(axes(config), cell, strict=True))
        | {spelled(key): value(here, key) for key in names(config)}
        for cell, here in at(config, found)
    ]
