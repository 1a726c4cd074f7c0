"""The sweep itself: plan, train each group, one table, and what is told of it."""

import functools
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np

from truncated_weights.experiments.run import ram as memory
from truncated_weights.experiments.run import table
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.follow import AllLostError, follow
from truncated_weights.experiments.run.parts import Part, measured
from truncated_weights.experiments.run.program import RunFailedError
from truncated_weights.experiments.run.progress import Part as Within
from truncated_weights.experiments.run.progress import Progress, say
from truncated_weights.experiments.run.study import Input, Memory, Study
from truncated_weights.experiments.sweep import figures, plan, predicted, rows
from truncated_weights.experiments.sweep.plan import Group, Plan
from truncated_weights.experiments.sweep.settings import SETTINGS, Sweep
from truncated_weights.toy.language import file_of
from truncated_weights.toy.probes import deviation
from truncated_weights.toy.probes import records as probes
from truncated_weights.training import reductions
from truncated_weights.training.checkpoint import Store
from truncated_weights.training.loop import Measurement, Record, log_spaced
from truncated_weights.training.records import Records, name, of_rows, rows_of


def measure(plan: Plan, directory: RunDirectory) -> Records:
    """Train the groups not yet done in this directory; sweep.csv and theory.jsonl beside it.

    The blocks of rows.py, and `theory`, the rows of theory.jsonl. RunFailedError, with everything
    written but a summary, where every run was lost.
    """
    config, found = plan.config, []
    directory.own("checkpoints/")
    directory.rewrite_metrics([])
    steps = [len(group.runs) * group.trainer.num_steps for group in plan.groups]
    progress = Progress(sum(steps), label="run-step")
    parts = []
    for index, group in enumerate(plan.groups):
        label, within = f"group{index}", progress.part(sum(steps[:index]), len(group.runs))
        body = functools.partial(train, group, directory, label, config.first_steps, within)
        parts.append(Part(label, body, steps[index]))
    with jax.default_matmul_precision(config.shared()["matmul_precision"]):
        for (part, along), group in zip(
            measured(directory, parts, progress=progress), plan.groups, strict=True
        ):
            # What the group was continued from is no longer needed.
            for leftover in ("states", "records"):
                directory.forget(f"{part.name}.{leftover}")
            found.append(rows.of_group(group, along))
            for line in rows.table(config, rows.joined(config, found[-1:])).lines():
                directory.append_metrics({"step": line["run"] + 1} | line)
                if line["lost_at"] is not None:
                    say(f"run {line['run']} left the finite numbers at step {line['lost_at']}")
    records = rows.joined(config, found)
    whole = rows.table(config, records)
    directory.write_csv("sweep.csv", list(whole.lines()))
    if whole.lost.all():
        directory.write_records(records)
        raise RunFailedError(
            f"all {whole.lost.size} runs left the finite numbers; {directory.path / 'sweep.csv'} "
            "says at which step"
        )
    told = predicted.beside(plan.runs, whole)
    directory.write_jsonl("theory.jsonl", told)
    return records.with_block("theory", of_rows(told)) if told else records


def train(
    group: Group, directory: RunDirectory, label: str, first_steps: int, within: Within
) -> Records:
    """What is measured along the training of a group."""
    config = group.setup.config
    try:
        found, _ = follow(
            group.trainer,
            measurements(group, first_steps),
            directory,
            checkpoint_steps=log_spaced(
                config.steps, every=config.checkpoint_every or config.steps
            ),
            show=shown,
            store=Store(directory.checkpoints / f"{label}.states", keep=2),
            part=f"{label}.records",
            progress=within,
        )
    except AllLostError as error:
        # The other groups have runs of their own.
        return error.records
    return found


def measurements(group: Group, first_steps: int) -> list[Measurement]:
    """Models often, because half times are read off them; spectra at powers of four."""
    setup, config = group.setup, group.setup.config
    # Two records per doubling: a half time is read to a few per cent.
    often = log_spaced(config.steps, every=config.eval_every) | log_spaced(
        config.steps, every=config.steps, first=3
    )
    rarely = {4**k for k in range(20) if 4**k < config.steps} | {0, config.steps}
    models = probes.measure_models(
        setup.interventions, batch_size=config.eval_batch, variants=config.variants
    )
    found = [
        Measurement("models", models, frozenset(often)),
        Measurement("spectra", probes.measure_spectra, frozenset(rarely)),
    ]
    if first_steps:
        found.append(Measurement("first_step", deviation.measure(first_steps), frozenset({0})))
    return found


def shown(record: Record) -> dict[str, float]:
    """What the progress line tells of a record."""
    found = record.measured.get("models")
    if not found or not np.any(record.first_bad < 0):
        return {}
    return {
        metric: float(reductions.finite_mean(found[name(metric, set="clean", model="full")]))
        for metric in ("p_noise", "p_correct")
    }


def summarise(plan: Plan, records: Records) -> dict[str, Any]:
    """Means over seeds of every column at every point, POINT/COLUMN, as in every summary.

    POINT/seeds, POINT/seeds_lost: of how many runs they are, and how many were lost.
    """
    whole = rows.table(plan.config, records)
    summary: dict[str, Any] = {"runs": whole.lost.size, "seeds_lost": int(whole.lost.sum())}
    for point, members in whole.points().items():
        where = ",".join(f"{n}={v}" for n, v in zip(whole.axes, point, strict=True)) or "all"
        gone = int(whole.lost[members].sum())
        summary |= {f"{where}/seeds": members.size - gone, f"{where}/seeds_lost": gone}
        means = reductions.mean(whole.numbers.isel(run=members), "run")
        told = (part.values.tolist() for part in means)
        for column, value, error, count in zip(whole.names, *told, strict=True):
            summary[f"{where}/{column}"] = value
            if count > 1:
                summary[f"{where}/{column}/sem"] = error
            if count < members.size:
                summary[f"{where}/{column}/seeds"] = count
    theory = rows_of(records["theory"]) if "theory" in records else []
    return summary | predicted.summarise(theory)


def tell(plan: Plan, records: Records, found: Mapping[str, Any]) -> None:
    """Print the table, averaged over seeds."""
    whole = rows.table(plan.config, records)
    columns = figures.chosen(plan.config, whole)
    lines = []
    for point, members in whole.points().items():
        line = {n: str(v) for n, v in zip(whole.axes, point, strict=True)}
        left = members[~whole.lost[members]]
        of = f" of {members.size}" if left.size < members.size else ""
        line["seeds"] = f"{left.size}{of}"
        for column in columns:
            values = whole.column(column).isel(run=left)
            line[column] = table.measured(reductions.mean(values, "run"))
        lines.append(line)
    print(table.text(lines))
    print(f"{found['runs']} runs, {found['seeds_lost']} left the finite numbers")


def needs(config: Sweep) -> Memory:
    """What one run alone would not fit; lower bounds, as everywhere."""
    devices = len(plan.devices(config))
    return Memory(
        max(
            memory.recall(
                num_tokens=one.num_tokens + one.num_noise,
                length=one.length,
                d_model=one.d_model,
                d_hidden=one.d_hidden or 4 * one.d_model,
                layers=len(one.feed_forward),
                batch_size=one.batch_size // devices,
                num_seeds=max(config.together, 1),
                eval_batch=one.eval_batch,
            )
            for one in (run.config for run in plan.expand(config))
        ),
        "--d_model, --length, --num_tokens, --together or a batch",
    )


STUDY = Study(
    name="sweep",
    settings=SETTINGS,
    prepare=plan.prepare,
    measure=measure,
    figures=figures.figures,
    summarise=summarise,
    tell=tell,
    inputs=lambda config: {"text": Input(file_of(config.shared()["text"]))},
    memory=needs,
    leaves=("sweep.csv",),
)
