"""The sweep itself: plan, train each group, one table, figures."""

import time
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from experiments.run import memory, provenance, stop, table
from experiments.run.directory import RunDirectory, open_finished, open_run
from experiments.run.follow import AllLostError, follow
from experiments.run.program import Place, RunFailedError, user_errors
from experiments.run.progress import Part, Progress, say
from experiments.sweep import figures, plan, predicted, rows
from experiments.sweep.plan import Group
from experiments.sweep.settings import SETTINGS, Sweep
from toy.probes import deviation, records
from training import processes, seeds
from training.checkpoint import Store
from training.loop import Measurement, Record, log_spaced


def main(config: Sweep, place: Place) -> None:
    """Settings in, run directory out."""
    shared = config.shared()
    with user_errors():
        runs = plan.expand(config)
        devices = _devices(shared["devices"])
        _require_memory(runs, len(devices), config.together)
        groups = plan.group(runs, devices, together=config.together)
    text = shared["text"]
    digests = {"text": provenance.of_files(text)} if text else {}
    directory = open_run(place, config, inputs={"text": text}, digests=digests)
    with jax.default_matmul_precision(shared["matmul_precision"]):
        found = run(config, groups, directory)
    if processes.first():
        report(config, found, directory)


def run(config: Sweep, groups: Sequence[Group], directory: RunDirectory) -> list[rows.Row]:
    """Train the groups not yet done in this directory, then write table, summary and figures.

    RunFailedError, with everything written but a summary, where every run was lost.
    """
    began = time.monotonic()
    columns = plan.varied(config)
    found: list[rows.Row] = []
    arrays: dict[str, np.ndarray] = {}
    total = sum(len(group.runs) * group.trainer.num_steps for group in groups)
    progress = Progress(total, label="run-step")
    directory.rewrite_metrics([])
    done = 0
    for index, group in enumerate(groups):
        if processes.anywhere(stop.asked()):
            raise stop.Interrupted
        size = len(group.runs)
        measured = _measured(
            directory, f"group{index}", group, config.first_steps, progress.part(done, size)
        )
        done += size * group.trainer.num_steps
        here = rows.of_group(group, measured, columns)
        for row in here:
            directory.append_metrics({"step": row["run"] + 1} | row)
            if row["lost_at"] is not None:
                say(f"run {row['run']} left the finite numbers at step {row['lost_at']}")
        found += here
        arrays |= {f"group{index}/{name}": value for name, value in measured.items()}
        arrays[f"group{index}/runs"] = np.array([run.index for run in group.runs])
    progress.close()
    found = rows.whole(found)
    directory.write_arrays(arrays)
    directory.write_csv("sweep.csv", found)
    if all(row["lost_at"] is not None for row in found):
        raise RunFailedError(
            f"all {len(found)} runs left the finite numbers; {directory.path / 'sweep.csv'} says "
            "at which step"
        )
    by_index = {
        run.index: (run, task)
        for group in groups
        for run, task in zip(group.runs, group.tasks, strict=True)
    }
    told = predicted.beside([(*by_index[row["run"]], row) for row in found])
    directory.write_jsonl("theory.jsonl", told)
    for name, figure in figures.draw(config, found, arrays, told):
        directory.save_figure(figure, name)
    summary = summarise(config, found) | predicted.summarise(told)
    directory.finish(summary | {"seconds": round(time.monotonic() - began, 2)})
    return found


def redraw(out: str, **drawing: Any) -> None:
    """Draw the figures of a finished sweep again, from what it saved."""
    directory, config = open_finished(out, "sweep", SETTINGS, drawing)
    lines = directory.read_rows("metrics.jsonl")
    found = rows.whole([{k: v for k, v in line.items() if k != "step"} for line in lines])
    told = directory.read_rows("theory.jsonl")
    for name, figure in figures.draw(config, found, directory.read_arrays(), told):
        print(directory.save_figure(figure, name))


def summarise(config: Sweep, found: Sequence[rows.Row]) -> dict[str, Any]:
    """Means over seeds of every column at every point, POINT/COLUMN, as seeds.told has them.

    POINT/seeds, POINT/seeds_lost: of how many runs they are, and how many were lost.
    """
    columns = plan.varied(config)
    summary: dict[str, Any] = {
        "runs": len(found),
        "seeds_lost": sum(row["lost_at"] is not None for row in found),
    }
    for point, members in points(columns, found).items():
        where = ",".join(f"{n}={v}" for n, v in zip(columns, point, strict=True)) or "all"
        gone = sum(row["lost_at"] is not None for row in members)
        summary |= {f"{where}/seeds": len(members) - gone, f"{where}/seeds_lost": gone}
        for column in members[0]:
            if column not in ("run", "seed", "lost_at", *columns):
                summary |= seeds.told(f"{where}/{column}", _numbers(members, column))
    return summary


def points(
    columns: Sequence[str], found: Sequence[rows.Row]
) -> dict[tuple[Any, ...], list[rows.Row]]:
    """The rows of each point: its seeds."""
    grouped: dict[tuple[Any, ...], list[rows.Row]] = {}
    for row in found:
        grouped.setdefault(tuple(row[name] for name in columns), []).append(row)
    return grouped


def report(config: Sweep, found: Sequence[rows.Row], directory: RunDirectory) -> None:
    """Print the table, averaged over seeds, and where the whole of it is."""
    columns = plan.varied(config)
    shown = figures.chosen(config, found)
    lines = []
    for point, members in points(columns, found).items():
        line: dict[str, Any] = {n: str(v) for n, v in zip(columns, point, strict=True)}
        gone = sum(row["lost_at"] is not None for row in members)
        line["seeds"] = seeds.of_how_many({"seeds": len(members) - gone, "seeds_lost": gone})
        for column in shown:
            kept = [row for row in members if row["lost_at"] is None]
            line[column] = _told(_numbers(kept, column))
        lines.append(line)
    print(table.text(lines))
    lost = sum(row["lost_at"] is not None for row in found)
    print(
        f"{len(found)} runs, {lost} left the finite numbers; table: {directory.path / 'sweep.csv'}"
    )
    print(f"figures: {directory.path / 'figures'}")


def _measured(
    directory: RunDirectory, name: str, group: Group, first_steps: int, progress: Part
) -> dict[str, np.ndarray]:
    """What was measured along a group, kept by an interrupted sweep or trained now."""
    kept = directory.kept(name)
    if processes.tell("kept" if kept else ""):
        if kept is None:
            raise RunFailedError(
                f"{directory.path} is not on a file system that all processes of this run share"
            )
        progress.skip(group.trainer.num_steps)
        return kept[0]
    config = group.setup.config
    directory.own("checkpoints/")
    try:
        arrays, _ = follow(
            group.trainer,
            _measurements(group, first_steps),
            directory,
            checkpoint_steps=log_spaced(
                config.steps, every=config.checkpoint_every or config.steps
            ),
            show=lambda record: _shown(record),
            store=Store(directory.checkpoints / f"{name}.states", keep=2),
            part=f"{name}.records",
            progress=progress,
        )
    except AllLostError as error:
        # The other groups have runs of their own.
        arrays = error.arrays
        progress.tick(group.trainer.num_steps)
    directory.keep(name, arrays)
    # What the group was continued from is no longer needed.
    for part in ("states", "records"):
        directory.forget(f"{name}.{part}")
    return arrays


def _measurements(group: Group, first_steps: int) -> list[Measurement]:
    """Models often, because half times are read off them; spectra at powers of four."""
    setup, config = group.setup, group.setup.config
    # Two records per doubling: a half time is read to a few per cent.
    often = log_spaced(config.steps, every=config.eval_every) | log_spaced(
        config.steps, every=config.steps, first=3
    )
    rarely = {4**k for k in range(20) if 4**k < config.steps} | {0, config.steps}
    models = records.measure_models(
        setup.interventions, batch_size=config.eval_batch, variants=config.variants
    )
    found = [
        Measurement("models", models, frozenset(often)),
        Measurement("spectra", records.measure_spectra, frozenset(rarely)),
    ]
    if first_steps:
        found.append(Measurement("first", deviation.measure(first_steps), frozenset({0})))
    return found


def _shown(record: Record) -> dict[str, float]:
    full = record.measured.get("models")
    if not full or not np.any(record.first_bad < 0):
        return {}
    names = {"p_noise": "clean/full/p_noise", "p_correct": "clean/full/p_correct"}
    return {short: float(seeds.mean(full[name])) for short, name in names.items()}


def _devices(count: int) -> Sequence[jax.Device]:
    present = jax.devices()
    if count > len(present):
        raise ValueError(f"devices={count}, but there are {len(present)}")
    if jax.process_count() > 1 and count not in (0, len(present)):
        raise ValueError(f"devices={count}: several processes use all of theirs, {len(present)}")
    return present[: count or len(present)]


def _require_memory(runs: Sequence[plan.Run], devices: int, together: int) -> None:
    """Refuse what one run alone would not fit; lower bounds, as everywhere."""
    for config in {run.config for run in runs if run.seed == runs[0].seed}:
        memory.require(
            memory.recall(
                num_tokens=config.num_tokens + config.num_noise,
                length=config.length,
                d_model=config.d_model,
                d_hidden=config.d_hidden or 4 * config.d_model,
                layers=len(config.feed_forward),
                batch_size=config.batch_size // devices,
                num_seeds=max(together, 1),
                eval_batch=config.eval_batch,
            ),
            "--d_model, --length, --num_tokens, --together or a batch",
        )


def _told(values: np.ndarray) -> str:
    """Mean and standard error as one cell, and of how many runs where some have no such figure."""
    found = seeds.told("", values)
    of = found.get("/seeds", values.size)
    if not of:
        return "-"
    text = f"{found['']:.3g}" + (f" ± {found['/sem']:.2g}" if "/sem" in found else "")
    return text if of == values.size else f"{text} ({of} of {values.size})"


def _numbers(members: Sequence[rows.Row], column: str) -> np.ndarray:
    """A column of some rows [rows], NaN where there is none."""
    values = [row.get(column) for row in members]
    return np.array([np.nan if value is None else value for value in values], np.float64)
