"""The verification run: each family once, then the table, the summary and the figures."""

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait

from scipy import stats

from truncated_weights.experiments.run import stop
from truncated_weights.experiments.run.directory import RunDirectory, open_finished, open_run
from truncated_weights.experiments.run.program import Place
from truncated_weights.experiments.run.progress import Progress
from truncated_weights.experiments.verify_theory import effort, figures, table
from truncated_weights.experiments.verify_theory.effort import Arrays, Effort, Family
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
from truncated_weights.experiments.verify_theory.table import Row

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


def main(config: VerifyTheory, place: Place) -> int:
    """Settings in, run directory out; 1 if a verdict fails."""
    directory = open_run(place, config)
    return report(run(config, directory), directory)


def redraw(out: str) -> None:
    """Draw the figures of a finished run again, from its arrays alone."""
    directory, _ = open_finished(out, "verify_theory", VerifyTheory)
    for name, figure in figures.draw(directory.read_arrays()):
        print(directory.save_figure(figure, name))


def run(config: VerifyTheory, directory: RunDirectory, sizes: Effort | None = None) -> list[Row]:
    """Verify the families not yet done in this directory, then write table and figures."""
    sizes = sizes or (effort.QUICK if config.quick else effort.FULL)
    progress = Progress(len(config.families), label="family")
    directory.rewrite_metrics([])
    found = {}
    for name, arrays, seconds in _simulated(directory, config.families, sizes, config.seed):
        found[name] = outcome = FAMILIES[name].judge(sizes, arrays)
        directory.append_metrics(
            {"step": len(found), f"{name}/rows": len(outcome.rows), f"{name}/seconds": seconds}
        )
        rows = [row for each in found.values() for row in each.rows]
        progress.update(len(found), rows=len(rows), failed=len(table.failures(rows)))
    progress.close()
    # In the order of the settings, whichever came first.
    rows = [row for name in config.families for row in found[name].rows]
    drawn = {k: v for name in config.families for k, v in found[name].arrays.items()}
    directory.write_arrays(drawn)
    directory.write_json("table.json", table.records(rows))
    directory.write_text("table.md", table.markdown(rows))
    for name, figure in figures.draw(drawn):
        directory.save_figure(figure, name)
    directory.finish(summarise(rows))
    return rows


def _simulated(
    directory: RunDirectory, names: Sequence[str], sizes: Effort, seed: int
) -> Iterator[tuple[str, Arrays, float]]:
    """Families as they are done, by this run or an interrupted one, and the seconds of each.

    AT_ONCE of them are under way together, so that their seconds add up to more than the run's.
    """
    ahead = []
    for name in names:
        if (kept := directory.kept(name)) is None:
            ahead.append(name)
            continue
        arrays, known = kept
        yield name, arrays, known["seconds"]
    pool = ThreadPoolExecutor(AT_ONCE)
    try:
        waiting = {pool.submit(_timed, FAMILIES[name], sizes, seed): name for name in ahead}
        while waiting:
            done, _ = wait(waiting, timeout=0.1, return_when=FIRST_COMPLETED)
            stop.check()
            for future in done:
                name, (arrays, seconds) = waiting.pop(future), future.result()
                directory.keep(name, arrays, {"seconds": seconds})
                yield name, arrays, seconds
    finally:
        # Nobody waits for what is under way: whoever comes here early is about to leave.
        pool.shutdown(wait=False, cancel_futures=True)


def _timed(family: Family, sizes: Effort, seed: int) -> tuple[Arrays, float]:
    began = time.monotonic()
    arrays = family.simulate(sizes, seed)
    return arrays, round(time.monotonic() - began, 2)


def summarise(rows: Sequence[Row]) -> dict[str, float]:
    """The flat dictionary of summary.json."""
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


def report(rows: Sequence[Row], directory: RunDirectory) -> int:
    """Print the table and what it says; 1 if a verdict fails."""
    print(table.told(rows))
    failed = table.failures(rows)
    for row in failed:
        print(f"FAIL {row.family}: {row.name} ({row.setting})")
    told = summarise(rows)
    print(
        f"{len(rows)} rows, {len(failed)} failed; z limit {told['z_limit']:.2f} for single numbers "
        f"and {told['z_limit_of_entries']:.2f} for the worst of many, for a false alarm rate of "
        f"{table.FALSE_ALARMS:g} over the table"
    )
    print(f"figures: {directory.path / 'figures'}")
    return 1 if failed else 0
