"""Ways to generate the same number of tokens, timed in turns."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from truncated_weights import bridge
from truncated_weights.bridge import network
from truncated_weights.experiments.benchmark_generation.settings import BenchmarkGeneration
from truncated_weights.experiments.run import program, stop
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.progress import Progress
from truncated_weights.experiments.run.study import Study
from truncated_weights.training.records import Records, costs_of, of_costs

_FEED_FORWARD = ("fc_gate", "fc_in", "fc_out")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The settings and the model's shape, checked."""

    config: BenchmarkGeneration
    shape: bridge.Config


def prepare(config: BenchmarkGeneration) -> Plan:
    """A model of this shape; ValueError for sizes that do not fit together."""
    return Plan(config, architecture(config))


def architecture(config: BenchmarkGeneration) -> bridge.Config:
    """A Llama of this shape; ValueError for sizes that do not fit together."""
    if config.shared >= config.length:
        raise ValueError(f"shared {config.shared} leaves nothing of a prompt of {config.length}")
    return bridge.Config(
        family="llama",
        vocab_size=config.vocab_size,
        num_layers=config.num_layers,
        d_model=config.d_model,
        num_heads=config.num_heads,
        num_groups=config.num_groups,
        d_ff=config.d_ff,
        max_positions=config.length + config.new_tokens,
        rotary_fraction=1.0,
        norm="rms",
        activation="silu",
        gated=True,
        residual="pre",
        biases=(),
    )


def factored(params: Any, shape: bridge.Config, kept: float, seed: int) -> Any:
    """The parameters with random factors of rank kept * r for every feed-forward matrix."""
    rng = np.random.default_rng(seed)

    def thin(name: str) -> dict[str, jax.Array]:
        d_in, d_out = shape.matrix_shape(name)
        rank = int(kept * min(d_in, d_out))
        return {
            "kernel_in": jnp.asarray(rng.normal(0, 0.02, (d_in, rank)), jnp.float32),
            "kernel_out": jnp.asarray(rng.normal(0, 0.02, (rank, d_out)), jnp.float32),
        }

    layers = [{**layer, **{n: thin(n) for n in _FEED_FORWARD}} for layer in params["layers"]]
    return {**params, "layers": layers}


def whole_passes(checkpoint: bridge.Checkpoint, tokens: np.ndarray, new: int) -> np.ndarray:
    """Greedy tokens from one forward of the whole text each, of one shape."""
    length = tokens.shape[1]
    text = np.pad(tokens, ((0, 0), (0, new)))
    for column in range(length, length + new):
        mask = jnp.broadcast_to(jnp.arange(length + new) < column, text.shape)
        at = jnp.full((len(text), 1), column - 1)
        logits = network.forward(
            checkpoint.params, checkpoint.config, jnp.asarray(text), mask, at=at
        )
        text[:, column] = np.argmax(logits[:, 0], axis=-1)
    return text[:, length:]


def measure(plan: Plan, directory: RunDirectory) -> Records:
    """Time every way; RunFailedError where two do not give the same tokens."""
    config, shape = plan.config, plan.shape
    params = bridge.init_params(shape, key=jax.random.key(config.seed))
    rng = np.random.default_rng(config.seed)
    tokens = rng.integers(0, config.vocab_size, (config.batch_size, config.length), np.int32)
    # Prompts that differ in their first token share no beginning, and cost the same otherwise.
    tokens[:, 0] = np.arange(config.batch_size) % config.vocab_size
    dense = bridge.Checkpoint(shape, params)
    thin = bridge.Checkpoint(shape, factored(params, shape, config.kept, config.seed))

    def cached(model: bridge.Checkpoint, prompts: np.ndarray) -> Callable[[], np.ndarray]:
        return lambda: bridge.generate(model, prompts, max_new_tokens=config.new_tokens, ends=())

    ways: dict[str, Callable[[], np.ndarray]] = {"cached": cached(dense, tokens)}
    if config.whole:
        ways["uncached"] = lambda: whole_passes(dense, tokens, config.new_tokens)
    ways["factored"] = cached(thin, tokens)
    if config.shared:
        alike = tokens.copy()
        alike[:, : config.shared] = tokens[:1, : config.shared]
        ways["shared"] = cached(dense, alike)
    progress = Progress((1 + config.rounds) * len(ways), label="run")
    first, seconds = {}, {name: [] for name in ways}  # type: ignore[var-annotated]
    for turn in range(1 + config.rounds):
        for index, (name, way) in enumerate(ways.items()):
            stop.check()
            start = time.perf_counter()
            found = way()
            if turn == 0:  # compiled, not timed
                first[name] = found
            else:
                seconds[name].append(time.perf_counter() - start)
            progress.update(turn * len(ways) + index + 1)
    progress.close()
    if config.whole and not np.array_equal(first["cached"], first["uncached"]):
        raise program.RunFailedError("kept keys and values chose other tokens than whole passes")
    made = config.batch_size * config.new_tokens
    rates = {name: made / float(np.median(times)) for name, times in seconds.items()}
    costs = {f"tokens_per_second/{name}": rate for name, rate in rates.items()}
    against = {"cached": "uncached", "factored": "cached", "shared": "cached"}
    for name, other in against.items():
        if name in rates and other in rates:
            costs[f"ratio/{name}"] = rates[name] / rates[other]
    return of_costs(costs)


def tell(plan: Plan, records: Records, summary: Mapping[str, float]) -> None:
    """Print every rate and what they are against one another."""
    for way in ("cached", "uncached", "factored", "shared"):
        if (rate := summary.get(f"tokens_per_second/{way}")) is not None:
            print(f"{way:9} {rate:9.1f} tokens per second")
    if plan.config.whole:
        print(f"cached is {summary['ratio/cached']:.1f} times uncached, the same tokens")
    print(f"factored is {summary['ratio/factored']:.2f} times cached")
    if plan.config.shared:
        print(
            f"a beginning of {plan.config.shared} tokens run once is "
            f"{summary['ratio/shared']:.2f} times as fast as run in every prompt"
        )


STUDY = Study(
    name="benchmark_generation",
    settings=BenchmarkGeneration,
    prepare=prepare,
    measure=measure,
    summarise=lambda plan, records: costs_of(records),
    tell=tell,
)
