"""The verification: each family simulated once and judged, their rows in one table."""

import dataclasses
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from typing import Any

import xarray as xr
from scipy import stats

from truncated_weights.experiments.run import stop
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.progress import Progress
from truncated_weights.experiments.run.study import Study
from truncated_weights.experiments.verify_theory import effort, figures, table
from truncated_weights.experiments.verify_theory.effort import Effort, Family
from truncated_weights.experiments.verify_theory.families import (
    attention_step,
    first_step,
    frequent_memory,
    input_overlap,
    lazy,
    learning_times,
    memory_decay,
    memory_flow,
    plateau,
    recall_chain,
    shared_answers,
    transformer,
)
from truncated_weights.experiments.verify_theory.settings import VerifyTheory
from truncated_weights.training.records import Records, of_rows

FAMILIES = {
    name: Family(module.simulate, module.judge)
    for name, module in (
        ("memory", memory_flow),
        ("frequent", frequent_memory),
        ("answers", shared_answers),
        ("overlap", input_overlap),
        ("decay", memory_decay),
        ("chain", recall_chain),
        ("first", first_step),
        ("attention", attention_step),
        ("learning", learning_times),
        ("lazy", lazy),
        ("transformer", transformer),
        ("plateau", plateau),
    )
}

# Families under way together. Most of their time is compilation, which leaves cores idle.
AT_ONCE = 2
# The block in which a family's seconds are kept beside what it measured.
COST = "cost"


@dataclasses.dataclass(frozen=True)
class Plan:
    """The settings, and how much they simulate."""

    config: VerifyTheory
    sizes: Effort


def prepare(config: VerifyTheory) -> Plan:
    """Nothing can be wrong here that the settings have not refused."""
    return Plan(config, effort.QUICK if config.quick else effort.FULL)


def measure(plan: Plan, directory: RunDirectory) -> Records:
    """Verify the families not yet done in this directory.

    What each family measured, its blocks named after it; what its figures show beside that; and
    `table`, one row per prediction (see table.records), which is table.json and table.md too.
    """
    names = plan.config.families
    progress = Progress(len(names), label="family")
    directory.rewrite_metrics([])
    blocks, rows = {}, {}
    for name, found, seconds in _simulated(directory, plan):
        outcome = FAMILIES[name].judge(plan.sizes, found)
        blocks[name], rows[name] = {**found, **outcome.shown}, outcome.rows
        directory.append_metrics(
            {"step": len(rows), f"{name}/rows": len(outcome.rows), f"{name}/seconds": seconds}
        )
        so_far = [row for each in rows.values() for row in each]
        progress.update(len(rows), rows=len(so_far), failed=len(table.failures(so_far)))
    progress.close()
    # In the order of the settings, whichever came first.
    whole = [row for name in names for row in rows[name]]
    told = table.records(whole)
    directory.write_json("table.json", told)
    directory.write_text("table.md", table.markdown(whole))
    named = {block: data for name in names for block, data in blocks[name].items()}
    return Records(named | {"table": of_rows(told)})


def _simulated(directory: RunDirectory, plan: Plan) -> Iterator[tuple[str, Records, float]]:
    """Families as they are done, by this run or an interrupted one, and the seconds of each.

    AT_ONCE of them are under way together, so that their seconds add up to more than the run's.
    """
    ahead = []
    for name in plan.config.families:
        if (kept := directory.kept_records(name)) is None:
            ahead.append(name)
            continue
        yield name, *_apart(kept)
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        waiting = {pool.submit(_timed, FAMILIES[name], plan): name for name in ahead}
        while waiting:
            done, _ = wait(waiting, timeout=0.1, return_when=FIRST_COMPLETED)
            stop.check()
            for future in done:
                name, found = waiting.pop(future), future.result()
                directory.keep_records(name, found)
                yield name, *_apart(found)
    finally:
        # Nobody waits for what is under way: whoever comes here early is about to leave.
        pool.shutdown(wait=False, cancel_futures=True)


def _timed(family: Family, plan: Plan) -> Records:
    """What a family measures, and the seconds that it took."""
    began = time.monotonic()
    found = family.simulate(plan.sizes, plan.config.seed)
    seconds = round(time.monotonic() - began, 2)
    return found.with_block(COST, xr.Dataset({"seconds": seconds}))


def _apart(kept: Records) -> tuple[Records, float]:
    found = {block: data for block, data in kept.items() if block != COST}
    return Records(found), float(kept[COST].seconds)


def summarise(plan: Plan, records: Records) -> dict[str, float]:
    """How many rows, how many failed, where the limits are; then every row."""
    rows = table.of_block(records.table)
    limits = table.levels(rows)
    summary: dict[str, float] = {
        "rows": len(rows),
        "failed": len(table.failures(rows)),
        "z_limit": float(stats.norm.isf(limits.numbers / 2)),
        "z_limit_of_entries": float(stats.norm.isf(limits.entries / 2)),
    }
    for row in rows:
        key = f"{row.family}/{row.name}/{row.setting}"
        summary[f"{key}/predicted"] = row.predicted
        summary[f"{key}/measured"] = row.measured
        if row.error is not None:
            summary[f"{key}/sem"] = row.error
    return summary


def tell(plan: Plan, records: Records, summary: Mapping[str, Any]) -> int:
    """Print the table and what it says; 1 if a verdict fails."""
    rows = table.of_block(records.table)
    print(table.told(rows))
    failed = table.failures(rows)
    for row in failed:
        print(f"FAIL {row.family}: {row.name} ({row.setting})")
    print(
        f"{len(rows)} rows, {len(failed)} failed; z limit {summary['z_limit']:.2f} for single "
        f"numbers and {summary['z_limit_of_entries']:.2f} for the worst of many, for a false "
        f"alarm rate of {table.FALSE_ALARMS:g} over the table"
    )
    return 1 if failed else 0


STUDY = Study(
    name="verify_theory",
    settings=VerifyTheory,
    prepare=prepare,
    measure=measure,
    figures=figures.figures,
    summarise=summarise,
    tell=tell,
)
