"""What a search would take on another machine: hours and memory, counted and not run."""

import dataclasses
from collections.abc import Sequence

import jax

from truncated_weights.bridge import encoding, module, packing, scoring, surgery
from truncated_weights.bridge.config import Config
from truncated_weights.bridge.encoding import EncodedBatch
from truncated_weights.bridge.network import operations
from truncated_weights.experiments.run import table as terminal
from truncated_weights.experiments.run.devices import DEVICES, Device
from truncated_weights.experiments.run.inputs.model_settings import ModelSettings
from truncated_weights.experiments.run.inputs.model_setup import GIGABYTE, Questions
from truncated_weights.experiments.truncate_model.plan import Plan
from truncated_weights.truncation.editing import resolve
from truncated_weights.truncation.notation import Intervention, Key

# Shares of the maker's figures that large products, and decompositions, are taken to reach.
PRODUCTS, DECOMPOSITIONS = 0.5, 0.02


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Seconds by part, and bytes by what they hold."""

    seconds: dict[str, float]
    bytes: dict[str, float]


def estimate(
    config: ModelSettings,
    architecture: Config,
    one: Questions,
    candidates: Sequence[Intervention],
    device: Device,
) -> Estimate:
    """A grid over these candidates on validation, full model and choice on test.

    Time is the larger of operations and of reading weights, batch by batch. Decompositions are
    in float32 whatever dtype is.
    """
    batch = one.encoded.batch
    rows, asking = batch.tokens.shape[1], batch.at.shape[2]
    matrices = surgery.matrices(architecture)
    keys: list[Key] = [min(resolve(cut, matrices)) for cut in candidates]
    size = {"float32": 4, "bfloat16": 2}[config.dtype]
    weights = size * sum(leaf.size for leaf in jax.tree.leaves(module.shapes(architecture)))
    by_layer = size * sum(
        operations.matrix(architecture, name) // 2 for name in architecture.matrices
    )
    rate, chosen = device.operations[config.dtype] * PRODUCTS, len(one.validation)
    fit = scoring.batch_size(
        architecture, batch, memory=int(config.memory_gb * GIGABYTE), dtype=config.dtype
    )
    tokens = _places(encoding.select(one.encoded, one.validation[:fit]).batch, architecture)

    def seconds(flops: float, layers: float, examples: int) -> float:
        read = -(-examples // fit) * layers * by_layer
        return max(rows * examples * flops / rate, read / device.bandwidth)

    total = architecture.num_layers
    passes = {
        "decompositions": sum(operations.decomposition(architecture, name) for _, name in set(keys))
        / (device.operations["float32"] * DECOMPOSITIONS),
        "streams below": seconds(
            (total - 1) * operations.layer(architecture, tokens), total - 1, chosen
        ),
        "candidates": sum(
            seconds(operations.candidate(architecture, key, tokens, asking), total - key[0], chosen)
            for key in keys
        ),
        "test": 2 * seconds(operations.forward(architecture, tokens, asking), total, len(one.test)),
    }
    largest = max(max(architecture.matrix_shape(name)) for _, name in keys)
    streams = size * rows * chosen * tokens * architecture.d_model
    held = {
        "weights": float(weights),
        "activations of a batch": float(
            fit * scoring.bytes_per_example(architecture, batch, config.dtype)
        ),
        "kept streams": min(float(streams), config.prefix_gb * GIGABYTE),
        # Two thin sides of every matrix that is cut, kept for all its fractions.
        "decompositions": 4.0
        * sum(
            min(shape) * (sum(shape) + 1)
            for shape in (architecture.matrix_shape(name) for _, name in set(keys))
        ),
        "one decomposition at work": 3 * 4.0 * largest * min(largest, architecture.d_model),
    }
    return Estimate(passes, held)


def _places(batch: EncodedBatch, architecture: Config) -> int:
    """Places of a row at which products run: without padding, what rows share counted once."""
    (one,) = packing.pack([batch], architecture)
    if isinstance(one, packing.PackedBatch):
        return -(-len(one.tree.first) // len(one.tree.nodes))
    return batch.tokens.shape[2]


def report(plan: Plan) -> None:
    """Print hours and memory of every task's search on --plan."""
    config = plan.config
    device = DEVICES[config.plan]
    for one in plan.questions:
        found = estimate(config, plan.architecture, one, plan.interventions, device)
        print(
            f"{one.name} on one {config.plan}, {config.dtype}: {len(plan.interventions)} cuts, "
            f"{len(one.validation)} examples for choosing and {len(one.test)} for testing, "
            f"of {one.encoded.batch.tokens.shape[2]} tokens"
        )
        times = [{"": name, "hours": value / 3600} for name, value in found.seconds.items()]
        times.append({"": "together", "hours": sum(found.seconds.values()) / 3600})
        print(terminal.text(times))
        rows = [{"": name, "GB": value / 1e9} for name, value in found.bytes.items()]
        needed = sum(found.bytes.values())
        rows.append({"": "together", "GB": needed / 1e9})
        print(terminal.text(rows))
        fits = "fits" if needed < device.memory else "does not fit"
        peak = device.operations[config.dtype] / 1e12
        print(
            f"{needed / 1e9:.0f} GB {fits} into {device.memory / 1e9:.0f} GB. Products are taken "
            f"to reach {PRODUCTS:.0%} of the maker's {peak:g} TFLOP/s, decompositions "
            f"{DECOMPOSITIONS:.0%} of float32's; nothing was run"
        )
