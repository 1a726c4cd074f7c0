"""The benchmark itself: everything measured side by side and in turns."""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from truncated_weights.experiments.benchmark import figures, plain, plan
from truncated_weights.experiments.benchmark.operation_count import matrix_product_operations
from truncated_weights.experiments.benchmark.plain import PlainProblem
from truncated_weights.experiments.benchmark.settings import QUICK, Benchmark
from truncated_weights.experiments.run import ram as memory
from truncated_weights.experiments.run import stop, table
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.program import UserError
from truncated_weights.experiments.run.progress import stage
from truncated_weights.experiments.run.study import Memory, Study
from truncated_weights.toy import language, recall, transformer
from truncated_weights.toy.probes import records as probes
from truncated_weights.toy.recall_problem import RecallProblem
from truncated_weights.training import loop as training
from truncated_weights.training import optimizer
from truncated_weights.training.records import Records, costs_of, of_costs, of_rows, rows_of
from truncated_weights.truncation import notation

CADENCE = 5
PLAIN_RECORD = "plain record"


def prepare(config: Benchmark) -> Benchmark:
    """The shapes that are measured; UserError where flags exclude each other."""
    if config.plan:
        if config.quick:
            raise UserError("--quick measures and --plan runs nothing; leave one of the two out")
        return config
    config = resolved(config)
    problem(RecallProblem, config)
    return config


def resolved(config: Benchmark) -> Benchmark:
    """The shapes that are measured; UserError where --quick and a shape exclude each other."""
    if not config.quick:
        return config
    for name, value in QUICK.items():
        if getattr(config, name) not in (value, getattr(Benchmark(), name)):
            raise UserError(f"--quick sets --{name}={value}; leave one of the two out")
    return dataclasses.replace(config, **QUICK)  # type: ignore[arg-type]


def needs(config: Benchmark) -> Memory | None:
    """Memory of a step and of a record; none where nothing is run."""
    if config.plan:
        return None
    config = resolved(config)
    needed = (
        memory.recall(
            num_tokens=64, length=config.length, d_model=config.d_model,
            d_hidden=4 * config.d_model, layers=2, batch_size=batch, num_seeds=1,
        )
        for batch in (config.batch_size, config.probe_batch)
    )  # fmt: skip
    lower = "--d_model, --length, --batch_size or --probe_batch"
    return Memory(max(needed), lower)


def measure(config: Benchmark, directory: RunDirectory) -> Records:
    """Costs of steps and records, and how steps grow; or what a preset would take on --plan."""
    with jax.default_matmul_precision(config.matmul_precision):
        if config.plan:
            return of_costs(plan.summarise(config.plan_preset, config.plan))
        found = of_costs(step_costs(config) | probe_costs(config))
        return found if config.quick else found.with_block("growth", of_rows(growth_costs(config)))


def problem(kind: type[RecallProblem], config: Benchmark, **changes: Any) -> RecallProblem:
    """The default task and model at the benchmark's shapes."""
    shape = dataclasses.replace(config, **changes)
    task = recall.make_task(language.zipf(64), alpha=0.5, length=shape.length)
    model = transformer.TransformerConfig(
        vocab_size=task.vocab_size, length=shape.length, d_model=shape.d_model
    )
    return kind(task, model, shape.batch_size)


def stepper(chosen: RecallProblem, *, num_seeds: int = 1) -> tuple[Callable[[int], None], Any]:
    """advance(num_steps), blocking, on a state of its own; and the trainer."""
    trainer = training.Trainer(
        chosen,
        optimizer.build(optimizer.OptimizerConfig()),
        tuple(range(num_seeds)),
        # Room for the loss of one step; those of later ones are written nowhere.
        num_steps=1,
    )
    holder = [trainer.init()]

    def advance(num_steps: int) -> None:
        holder[0] = trainer.advance(holder[0], num_steps)
        jax.block_until_ready(holder[0])

    return advance, trainer


def medians(work: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each piece of work, all of them in turns; the first is not counted.

    But a plain record, which comes compiled and takes minutes, is made once and counted.
    """
    for name, piece in work.items():
        if name != PLAIN_RECORD:
            stop.check()
            stage(f"compiling {name}")
            jax.block_until_ready(piece())
    taken: dict[str, list[float]] = {name: [] for name in work}
    for turn, (name, piece) in itertools.product(range(rounds), work.items()):
        if name == PLAIN_RECORD and turn:
            continue
        stop.check()
        stage(f"timing {name}")
        began = time.perf_counter()
        jax.block_until_ready(piece())
        taken[name].append(time.perf_counter() - began)
    return {name: float(np.median(seconds)) for name, seconds in taken.items()}


def step_costs(config: Benchmark) -> dict[str, float]:
    """Ours against plain, sampling, and the fraction of the machine's matrix-product rate."""
    ours, theirs = problem(RecallProblem, config), problem(PlainProblem, config)
    steps = 4
    advance, advance_plain = stepper(ours)[0], stepper(theirs)[0]
    draws = jax.jit(lambda key: recall.sample(ours.task, key, batch_size=config.batch_size))
    size = 2048
    square = jax.random.normal(jax.random.key(0), (size, size))
    product = jax.jit(lambda a: a @ a)
    keys = jax.random.split(jax.random.key(1), steps)
    seconds = medians(
        {
            "ours": lambda: advance(steps),
            "plain": lambda: advance_plain(steps),
            "sample": lambda: [draws(key) for key in keys],
            "product": lambda: [product(square) for _ in range(4)],
        },
        config.rounds,
    )
    per_step = {name: value / steps for name, value in seconds.items()}
    rate = 2 * size**3 / per_step["product"]
    counted = {name: operations(p) for name, p in (("ours", ours), ("plain", theirs))}
    tokens = config.batch_size * config.length
    return {
        "step/ours_seconds": per_step["ours"],
        "step/plain_seconds": per_step["plain"],
        "step/plain_over_ours": per_step["plain"] / per_step["ours"],
        "step/ours_tokens_per_second": tokens / per_step["ours"],
        "step/plain_tokens_per_second": tokens / per_step["plain"],
        "step/ours_gigaflop": counted["ours"] / 1e9,
        "step/plain_gigaflop": counted["plain"] / 1e9,
        "machine/product_gigaflop_per_second": rate / 1e9,
        "step/ours_fraction_of_product_rate": counted["ours"] / per_step["ours"] / rate,
        "step/plain_fraction_of_product_rate": counted["plain"] / per_step["plain"] / rate,
        "sampling/share_of_step": per_step["sample"] / per_step["ours"],
    }


def operations(chosen: RecallProblem) -> int:
    """Operations of the matrix products of one loss and gradient."""
    params, frozen = jax.eval_shape(chosen.init, jax.random.key(0))

    def gradient(params: Any, frozen: Any, key: Any) -> Any:
        return jax.grad(chosen.loss)(params, frozen, key, lambda batch: batch)

    return matrix_product_operations(gradient, params, frozen, jax.random.key(0))


def published_truncations() -> list[notation.Intervention]:
    """Cuts of every second-layer matrix at the published rho, 0, 0.1 and 0.2."""
    names = ("fc_in", "fc_out", "out_proj", "v_proj", "ov")
    return [
        notation.parse(f"1.{name}@{rho}")
        for name, rho in itertools.product(names, ("0", "0.1", "0.2"))
    ]


def probe_costs(config: Benchmark) -> dict[str, float]:
    """A record, and CADENCE steps with the record after them, ours and plain.

    The record is of probe_batch sequences with noise and as many without, as the published run
    takes it whatever it trains on; steps of batch_size and of probe_batch sequences.
    """
    work: dict[str, Callable[[], Any]] = {
        "our record": record(probes, config),
        PLAIN_RECORD: record(plain, config),
    }
    batches = sorted({config.batch_size, config.probe_batch})
    for batch in batches:
        for name, kind in (("our", RecallProblem), ("plain", PlainProblem)):
            advance = stepper(problem(kind, config, batch_size=batch))[0]
            work[f"{name} step {batch}"] = functools.partial(advance, 1)
    seconds = medians(work, config.rounds)
    ours, theirs = seconds["our record"], seconds[PLAIN_RECORD]
    found = {
        "record/ours_seconds": ours,
        "record/plain_seconds": theirs,
        "record/plain_over_ours": theirs / ours,
    }
    for batch in batches:
        our_step, plain_step = seconds[f"our step {batch}"], seconds[f"plain step {batch}"]
        found[f"cadence/{batch}/ours_seconds"] = CADENCE * our_step + ours
        found[f"cadence/{batch}/record_share"] = ours / (CADENCE * our_step + ours)
        found[f"cadence/{batch}/plain_over_ours"] = (CADENCE * plain_step + theirs) / (
            CADENCE * our_step + ours
        )
    return found


def record(kind: Any, config: Benchmark) -> Callable[[], Any]:
    """A record of the published truncations on weights as drawn, compiled."""
    chosen = problem(RecallProblem, config)
    measure = kind.measure_models(published_truncations(), batch_size=config.probe_batch)
    weights, key = chosen.init(jax.random.key(0)), jax.random.key(1)

    def measured(params: Any, frozen: Any) -> Any:
        return measure(chosen, params, frozen, key)

    stage("compiling a record")
    compiled = jax.jit(measured).lower(*weights).compile()
    return lambda: compiled(*weights)


def growth_costs(config: Benchmark) -> list[dict[str, Any]]:
    """Seconds per step as one shape doubles, the others held at a smaller base."""
    base = dataclasses.replace(config, length=64, d_model=64, batch_size=32)
    work: dict[tuple[str, int], Callable[[], Any]] = {}
    for shape, sizes in {
        "length": (64, 128, 256),
        "d_model": (64, 128, 256),
        "batch_size": (32, 64, 128),
    }.items():
        for size in sizes:
            advance = stepper(problem(RecallProblem, base, **{shape: size}))[0]
            work[shape, size] = functools.partial(advance, 4)
    for seeds in (1, 2, 4):
        advance = stepper(problem(RecallProblem, base), num_seeds=seeds)[0]
        work["num_seeds", seeds] = functools.partial(advance, 4)
    seconds = medians(
        {f"{shape} {size}": piece for (shape, size), piece in work.items()}, config.rounds
    )
    return [
        {"shape": shape, "size": size, "seconds": value / 4}
        for (shape, size), value in zip(work, seconds.values(), strict=True)
    ]


def summarise(config: Benchmark, records: Records) -> dict[str, float]:
    """Every cost, and growth/SHAPE/SIZE."""
    growth = rows_of(records.growth) if "growth" in records else []
    return costs_of(records) | {
        f"growth/{row['shape']}/{row['size']}": row["seconds"] for row in growth
    }


def tell(config: Benchmark, records: Records, summary: Mapping[str, float]) -> None:
    """Print the figures and what they say."""
    if config.plan:
        return
    rows = [{"measured": name, "": f"{value:.4g}"} for name, value in summary.items()]
    print(table.text(rows))
    print(
        f"A step takes {1e3 * summary['step/ours_seconds']:.3g} ms, the plain formulation "
        f"{summary['step/plain_over_ours']:.2f} times as long; a record "
        f"{summary['record/ours_seconds']:.3g} s, the plain one "
        f"{summary['record/plain_over_ours']:.1f} times as long."
    )


STUDY = Study(
    name="benchmark",
    settings=Benchmark,
    prepare=prepare,
    measure=measure,
    figures=figures.figures,
    summarise=summarise,
    tell=tell,
    memory=needs,
)
