"""The study itself: settle, measure the curvature, watch, predict, compare, draw."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from experiments.plateau import figures
from experiments.plateau.settings import LAGS, Plateau
from experiments.run import memory as memory_limit
from experiments.run import stop, table
from experiments.run.directory import RunDirectory, open_finished, open_run
from experiments.run.program import Place, RunFailedError, user_errors
from experiments.run.progress import Progress, say
from theory import plateau
from toy import language, recall, transformer
from toy.probes import wander
from toy.recall_problem import RecallProblem
from training import seeds

Arrays = Mapping[str, np.ndarray]
# Settling steps sent to the device at once; a stop is obeyed between them.
AT_ONCE = 200


def main(config: Plateau, place: Place) -> None:
    """Settings in, run directory out."""
    sequences = max(*config.batch_sizes, wander.WATCHED_ON, wander.BENT_ON)
    activations = 1.0 * sequences * config.length * (16 * config.d_model + 2 * config.length)
    weights = 24 * config.d_model**2 + 2 * config.d_model * (config.num_tokens + config.length)
    memory_limit.require(
        4 * (activations + (4.0 + wander.LANCZOS_STEPS) * weights) + 16.0 * config.num_tokens**2,
        "--d_model, --length, --batch_sizes or --num_tokens",
    )
    with user_errors():
        task = recall.make_task(
            language.zipf(config.num_tokens), alpha=config.alpha, length=config.length
        )
    directory = open_run(place, config)
    report(config, run(config, task, directory), directory)


def redraw(out: str) -> None:
    """Draw the figure of a finished run again, from its arrays alone."""
    directory, config = open_finished(out, "plateau", Plateau)
    arrays = directory.read_arrays()
    print(directory.save_figure(figures.draw(config, arrays, compare(config, arrays)), "plateau"))


def run(config: Plateau, task: recall.Task, directory: RunDirectory) -> dict[str, Any]:
    """Watch what an interrupted run has not kept; predict, compare, draw.

    RunFailedError, with everything written but a summary, where no cell has a seed left.
    """
    watchers = {
        size: wander.Watcher(
            RecallProblem(
                task,
                transformer.TransformerConfig(
                    task.vocab_size, config.length, d_model=config.d_model
                ),
                size,
            )
        )
        for size in config.batch_sizes
    }
    arrays: dict[str, np.ndarray] = {}
    found = cells(config)
    progress = Progress(len(found) * config.num_seeds, label="run")
    directory.rewrite_metrics([])
    for index, (size, rate, momentum) in enumerate(found):
        name = cell_name(size, rate, momentum)
        kept = directory.kept(name.replace("/", "_"))
        if kept is None:
            here = _watch(
                config, watchers[size], rate, momentum, progress, index * config.num_seeds
            )
            directory.keep(name.replace("/", "_"), here)
        else:
            here = kept[0]
        arrays |= {f"{name}/{key}": value for key, value in here.items()}
        told = {"sharpness": float(seeds.mean(here["sharpness"].ravel()))}
        told |= {kind: float(seeds.mean(here[kind].std(axis=1))) for kind in config.kinds}
        if gone := int((~alive(here, config.kinds)).sum()):
            told["seeds_lost"] = gone
        directory.append_metrics({"step": index + 1, **{f"{name}/{k}": v for k, v in told.items()}})
        progress.update((index + 1) * config.num_seeds, **told)
    progress.close()
    directory.write_arrays(arrays)
    rows = compare(config, arrays)
    directory.write_csv("plateau.csv", rows)
    if not any(row["seeds"] for row in rows):
        raise RunFailedError(
            f"all seeds of all {len(rows)} cells left the finite numbers; lower --learning_rates "
            "or --momenta"
        )
    directory.save_figure(figures.draw(config, arrays, rows), "plateau")
    summary = summarise(rows)
    directory.finish(summary)
    return summary | {"rows": rows}


def cells(config: Plateau) -> list[tuple[int, float, float]]:
    """(batch, rate, momentum), batches slowest: each is a program of its own."""
    return list(itertools.product(config.batch_sizes, config.learning_rates, config.momenta))


def cell_name(size: int, rate: float, momentum: float) -> str:
    """How a cell is called in arrays."""
    return f"batch{size}/rate{rate:g}/momentum{momentum:g}"


def _watch(
    config: Plateau,
    watcher: wander.Watcher,
    rate: float,
    momentum: float,
    progress: Progress,
    done: int,
) -> dict[str, np.ndarray]:
    """p(noise) [seeds, watched] by kind, sharpness [seeds, 2], modes [seeds, nodes], labels.

    NaN in all of a seed's where any of them is not finite.
    """
    found: dict[str, list[Any]] = {}
    for place, seed in enumerate(range(config.seed, config.seed + config.num_seeds)):
        stop.check()
        drawn = wander.Numbers(rate, momentum)
        settled = watcher.start(seed)
        for begin in range(0, config.settling, AT_ONCE):
            stop.check()
            count = min(AT_ONCE, config.settling - begin)
            settled = watcher.advance(settled, drawn, seed, count)
        here: dict[str, Any] = {}
        state = settled
        for kind in config.kinds:
            stop.check()
            numbers = drawn._replace(fair=float(kind == "fair"))
            state, series = watcher.watch(settled, numbers, seed, config.watched)
            here[kind] = series
            if kind == config.kinds[0]:
                # At both ends of what is compared: the curvature drifts under way.
                ends = [watcher.curvature(settled), watcher.curvature(state)]
        here["sharpness"] = [float(end.sharpness) for end in ends]
        here["curvatures"] = np.concatenate([end.modes.curvatures for end in ends])
        here["weights"] = np.concatenate([end.modes.weights for end in ends]) / len(ends)
        finite = all(np.all(np.isfinite(value)) for value in here.values())
        if not finite:
            cell = cell_name(watcher.problem.batch_size, rate, momentum)
            say(f"{cell}: seed {seed} left the finite numbers; the others go on")
        for key, value in here.items():
            kept = np.asarray(value, np.float64)
            found.setdefault(key, []).append(kept if finite else np.full_like(kept, np.nan))
        progress.tick(done + place + 1)
    return {k: np.array(v) for k, v in found.items()} | {"labels": np.array(watcher.labels())}


def compare(config: Plateau, arrays: Arrays) -> list[dict[str, Any]]:
    """One row per cell: what was measured, and what one mode and all modes predict of it.

    seeds, seeds_lost: of how many it is; a row whose seeds are all lost says nothing else.
    beyond_edge: measured sharpness at or above the edge of stability, where nothing is predicted.
    """
    rows = []
    for size, rate, momentum in cells(config):
        name = cell_name(size, rate, momentum)
        own = f"{name}/"
        here = {key.removeprefix(own): v for key, v in arrays.items() if key.startswith(own)}
        kept = alive(here, config.kinds)
        here = {k: v[kept] if k != "labels" else v for k, v in here.items()}
        edge = plateau.edge_of_stability(rate, momentum)
        row: dict[str, Any] = {
            "batch": size, "rate": rate, "momentum": momentum,
            "labels_a_step": float(here["labels"]), "edge": edge,
            "seeds": int(kept.sum()), "seeds_lost": int((~kept).sum()),
        }  # fmt: skip
        if not kept.any():
            rows.append(row | {"sharpness": None, "beyond_edge": None})
            continue
        row["sharpness"] = sharp = float(here["sharpness"].mean())
        for kind in config.kinds:
            seen = plateau.observed(here[kind], lags=LAGS)
            row |= {
                f"{kind}/mean": float(here[kind].mean()),
                f"{kind}/deviation": seen.deviation,
                f"{kind}/error": plateau.deviation_error(seen, here[kind].size),
                f"{kind}/dip": _finite(seen.period / 2),
            }
        if {"drawn", "fair"} <= set(config.kinds):
            # Labels and sequences strike independently, so that their variances add.
            rest = row["drawn/deviation"] ** 2 - row["fair/deviation"] ** 2
            row["labels/deviation"] = float(np.sqrt(max(rest, 0.0)))
        row["beyond_edge"] = bool(max(sharp, here["curvatures"].max()) >= edge)
        if not row["beyond_edge"]:
            shared = {"learning_rate": rate, "momentum": momentum, "labels": row["labels_a_step"]}
            one = plateau.wander(sharpness=sharp, alpha=config.alpha, lags=LAGS, **shared)
            modes = predicted(here, window=config.watched, **shared)
            row |= {
                "one_mode/deviation": one.deviation,
                "one_mode/dip": _finite(plateau.first_dip(one.correlation)),
                "modes/deviation": modes.deviation,
                "modes/dip": _finite(modes.period / 2),
            }
            correlation = plateau.observed(here[config.kinds[0]], lags=LAGS).correlation
            for label, model in (("one_mode", one), ("modes", modes)):
                gap = model.correlation[1:13] - correlation[1:13]
                row[f"{label}/correlation_gap"] = float(np.sqrt(np.mean(gap**2)))
        rows.append(row)
    return rows


def alive(here: Arrays, kinds: Sequence[str]) -> np.ndarray:
    """Whether a seed of a cell stayed finite [seeds]."""
    return np.all([np.isfinite(here[kind]).all(axis=1) for kind in kinds], axis=0)


def predicted(here: Arrays, **settings: Any) -> plateau.Wander:
    """All modes of all seeds, each seed weighing the same."""
    curvatures = here["curvatures"].ravel()
    # Rounding leaves nodes at or below zero, which weigh next to nothing and never move.
    floor = 1e-6 * curvatures.max()
    return plateau.wander_of_modes(
        np.maximum(curvatures, floor),
        here["weights"].ravel() / len(here["weights"]),
        lags=LAGS,
        **settings,
    )


def compared(rows: list[dict[str, Any]]) -> tuple[tuple[str, str], ...]:
    """What is predicted, and the column that it is a prediction of: what labels do, if known."""
    known = [key for row in rows for key in row]
    kind = next(key.split("/")[0] for key in known if key.endswith("/mean"))
    whose = "labels" if "labels/deviation" in known else kind
    return ("deviation", f"{whose}/deviation"), ("dip", f"{kind}/dip")


def summarise(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Every row, and over the rows the mean factor of measured over predicted and its spread."""
    summary: dict[str, Any] = {}
    for row in rows:
        name = cell_name(row["batch"], row["rate"], row["momentum"])
        told = {k: v for k, v in row.items() if k not in ("batch", "rate", "momentum")}
        summary |= {f"{name}/{k}": v for k, v in told.items()}
    for model in ("one_mode", "modes"):
        for figure, measured in compared(rows):
            pairs = [(row.get(measured), row.get(f"{model}/{figure}")) for row in rows]
            logs = np.log([m / p for m, p in pairs if m and p])
            if logs.size:
                summary[f"{model}/{figure}/factor"] = float(np.exp(logs.mean()))
                summary[f"{model}/{figure}/spread"] = float(np.exp(logs.std()))
                summary[f"{model}/{figure}/worst"] = float(np.exp(np.abs(logs).max()))
    summary["cells"] = len(rows)
    summary["seeds_lost"] = sum(row["seeds_lost"] for row in rows)
    summary["beyond_edge"] = sum(bool(row["beyond_edge"]) for row in rows)
    return summary


def report(config: Plateau, summary: Mapping[str, Any], directory: RunDirectory) -> None:
    """Print every cell, and how far the two models are off."""
    rows = summary["rows"]
    kind = config.kinds[0]
    print(
        table.text(
            [
                {
                    "batch, rate, mu": f"{row['batch']} {row['rate']:g} {row['momentum']:g}",
                    "seeds": seeds.of_how_many(row),
                    "sharp.": _told(row["sharpness"], 1),
                    "edge": f"{row['edge']:.0f}",
                    **{k: _told(row.get(f"{k}/deviation"), 4) for k in config.kinds},
                    "±": _told(row.get(f"{kind}/error"), 4),
                    "labels'": _told(row.get("labels/deviation"), 4),
                    "modes": _told(row.get("modes/deviation"), 4),
                    "one mode": _told(row.get("one_mode/deviation"), 4),
                    "dip": _told(row.get(f"{kind}/dip"), 1),
                    "modes' dip": _told(row.get("modes/dip"), 1),
                }
                for row in rows
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
    print(f"figures: {directory.path / 'figures'}")


def _told(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
