"""What a training step costs, and where the time goes; everything in one run, as ratios.

    python -m experiments.benchmark
    python -m experiments.benchmark --length=256 --d_model=256 --batch_size=64 --probe_batch=512

Measures, side by side and in turns: the plain formulation of the model (every position, every
matrix by itself) and ours, the machine's matrix-product rate, drawing the data, the probes at
the published cadence (every 5 steps, all truncations), and how a step grows with length,
width, batch and seeds. About six minutes on two CPU cores; --quick about one.
"""

import dataclasses
import functools
import itertools
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from absl import flags

from experiments.benchmark.operation_count import matrix_product_operations
from experiments.benchmark.plain import PlainProblem
from experiments.run import program, style
from experiments.run.directory import RunDirectory, open_run
from experiments.run.program import user_errors
from toy import language, recall, recall_problem, transformer
from toy.recall_problem import RecallProblem
from training import loop as training
from training import optimizer
from truncation import intervention


def define_flags() -> None:
    """Typed flags with bounds and one-line help."""
    flags.DEFINE_integer("length", 256, "Tokens in a sequence.", lower_bound=8)
    flags.DEFINE_integer("d_model", 256, "Width.", lower_bound=8)
    flags.DEFINE_integer("batch_size", 64, "Sequences per step.", lower_bound=1)
    flags.DEFINE_integer("probe_batch", 512, "Batch, and evaluation set, of the probes' share.")
    flags.DEFINE_integer(
        "rounds", 3, "Times everything is measured; medians are told.", lower_bound=1
    )
    flags.DEFINE_bool("quick", False, "Small shapes and no growth: a check that all of it runs.")
    flags.DEFINE_enum(
        "matmul_precision", "highest", ["highest", "high", "default"], "On accelerators."
    )
    program.define_output_flags("benchmark")


CADENCE = 5


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig:
    """Every flag of this program, under the same name."""

    length: int
    d_model: int
    batch_size: int
    probe_batch: int
    rounds: int
    quick: bool
    matmul_precision: str


def main() -> None:
    """Flags in, run directory out."""
    config = program.config_from_flags(BenchmarkConfig)
    if config.quick:
        config = dataclasses.replace(config, length=64, d_model=64, batch_size=16, probe_batch=32)
    with user_errors():
        problem(RecallProblem, config)
    directory = open_run(flags.FLAGS.out, config, overwrite=flags.FLAGS.overwrite)
    with jax.default_matmul_precision(config.matmul_precision):
        summary = run(config, directory)
    for name, value in summary.items():
        print(f"{name:42s} {value:12.4g}")


def run(config: BenchmarkConfig, directory: RunDirectory) -> dict[str, float]:
    """Measure everything, write the table and the figure of growth."""
    summary = step_costs(config) | probe_costs(config)
    if not config.quick:
        growth = growth_costs(config)
        summary |= growth
        directory.save_figure(draw(growth), "growth")
    directory.finish(summary)
    return summary


def problem(kind: type[RecallProblem], config: BenchmarkConfig, **changes: Any) -> RecallProblem:
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
        chosen, optimizer.build(optimizer.OptimizerConfig()), tuple(range(num_seeds))
    )
    holder = [trainer.init()]

    def advance(num_steps: int) -> None:
        holder[0], loss = trainer.advance(holder[0], num_steps)
        jax.block_until_ready((holder[0], loss))

    return advance, trainer


def medians(work: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each piece of work, all of them in turns, compiled beforehand."""
    for piece in work.values():
        jax.block_until_ready(piece())
    taken: dict[str, list[float]] = {name: [] for name in work}
    for _, (name, piece) in itertools.product(range(rounds), work.items()):
        began = time.perf_counter()
        jax.block_until_ready(piece())
        taken[name].append(time.perf_counter() - began)
    return {name: float(np.median(seconds)) for name, seconds in taken.items()}


def step_costs(config: BenchmarkConfig) -> dict[str, float]:
    """Ours against plain, sampling, and the fraction of the machine's matrix-product rate."""
    ours, plain = problem(RecallProblem, config), problem(PlainProblem, config)
    steps = 4
    advance, advance_plain = stepper(ours)[0], stepper(plain)[0]
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
    counted = {name: operations(p) for name, p in (("ours", ours), ("plain", plain))}
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


def published_truncations() -> list[intervention.Intervention]:
    """The cuts of the reference run: second-layer matrices at rho 0, 0.1 and 0.2."""
    names = ("fc_in", "fc_out", "out_proj", "v_proj", "ov")
    return [
        intervention.parse(f"1.{name}@{rho}")
        for name, rho in itertools.product(names, ("0", "0.1", "0.2"))
    ]


def probe_costs(config: BenchmarkConfig) -> dict[str, float]:
    """The probes at the published cadence against the training between them."""
    chosen = problem(RecallProblem, config, batch_size=config.probe_batch)
    advance, trainer = stepper(chosen)
    measure = trainer.measure(
        recall_problem.measure_models(
            chosen.task, chosen.config, published_truncations(), batch_size=config.probe_batch
        )
    )
    state = trainer.init()
    seconds = medians(
        {"train": lambda: advance(CADENCE), "probe": lambda: measure(state)},
        max(1, config.rounds - 1),
    )
    return {
        "probes/seconds": seconds["probe"],
        "probes/training_between_seconds": seconds["train"],
        "probes/share_of_training": seconds["probe"] / seconds["train"],
    }


def growth_costs(config: BenchmarkConfig) -> dict[str, float]:
    """Seconds per step as one shape doubles, the others held at a smaller base."""
    base = dataclasses.replace(config, length=64, d_model=64, batch_size=32)
    work: dict[str, Callable[[], Any]] = {}
    for name, values in {
        "length": (64, 128, 256),
        "d_model": (64, 128, 256),
        "batch_size": (32, 64, 128),
    }.items():
        for value in values:
            advance = stepper(problem(RecallProblem, base, **{name: value}))[0]
            work[f"growth/{name}/{value}"] = functools.partial(advance, 4)
    for seeds in (1, 2, 4):
        advance = stepper(problem(RecallProblem, base), num_seeds=seeds)[0]
        work[f"growth/num_seeds/{seeds}"] = functools.partial(advance, 4)
    return {name: value / 4 for name, value in medians(work, config.rounds).items()}


def draw(growth: dict[str, float]) -> Any:
    """Seconds per step against each shape, with slope one for the eye."""
    canvas, (panels,) = style.figure(1, 4)
    for axes, shape in zip(panels, ("length", "d_model", "batch_size", "num_seeds"), strict=True):
        points = {
            int(name.rsplit("/", 1)[1]): value
            for name, value in growth.items()
            if name.startswith(f"growth/{shape}/")
        }
        x, y = np.array(list(points)), np.array(list(points.values()))
        axes.plot(x, y, "o-")
        axes.plot(x, y[0] * x / x[0], color="0.7", lw=0.8, label="proportional")
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xlabel(shape)
    panels[0].set_ylabel("seconds per step")
    panels[0].legend()
    return canvas


if __name__ == "__main__":
    define_flags()
    program.run_flags(main)
