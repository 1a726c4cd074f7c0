"""Training a GPT-NeoX model on blocks of packed sequences.

    block [steps, batch, length] -> advance -> the state after any span of its steps

A state is a pytree that holds all there is to continue from, the losses so far included. The
steps of a span run in one dispatch, and spans of any length share one compilation, so that
where a run stops to save or measure changes neither its figures nor its speed. A block split
over devices along its batch axis makes the step data parallel; the state is replicated.
"""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Int32, PRNGKeyArray

from bridge import module
from bridge import network as model
from bridge.config import Config


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to train; hashable, so it may be static under jit.

    AdamW with Pythia's betas and clipping; decay acts on matrices alone. The learning rate
    rises linearly from 0 over warmup_steps, so that the first step moves nothing and step 1 is
    step 0 again, and falls by a cosine to final_fraction of its peak.
    Activations and their gradients are computed in `dtype`; parameters, moments, norms,
    softmax and loss stay float32. Raises ValueError naming a value out of range.
    """

    steps: int
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    final_fraction: float = 0.02
    weight_decay: float = 0.1
    clip_norm: float = 1.0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be positive, got {self.steps}")
        if not 0 <= self.warmup_steps < self.steps:
            raise ValueError(
                f"warmup_steps must be from 0 to steps - 1 = {self.steps - 1}, "
                f"got {self.warmup_steps}"
            )
        for name in ("learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if not 0 <= self.final_fraction <= 1:
            raise ValueError(f"final_fraction must be in [0, 1], got {self.final_fraction}")
        if self.weight_decay < 0:
            raise ValueError(f"weight_decay must not be negative, got {self.weight_decay}")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype must be float32 or bfloat16, got {self.dtype!r}")


class State(NamedTuple):
    """Everything a run continues from; `losses` is NaN at steps not yet taken."""

    params: Any
    opt_state: Any
    step: Int32[Array, ""]
    losses: Float[Array, " steps"]


def optimizer(settings: Settings) -> optax.GradientTransformation:
    """Clipping, then AdamW with warm-up and cosine decay."""
    schedule = optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=settings.learning_rate,
        warmup_steps=settings.warmup_steps,
        decay_steps=settings.steps,
        end_value=settings.final_fraction * settings.learning_rate,
    )
    return optax.chain(
        optax.clip_by_global_norm(settings.clip_norm),
        optax.adamw(
            schedule,
            b1=0.9,
            b2=0.95,
            eps=1e-8,
            weight_decay=settings.weight_decay,
            mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params),
        ),
    )


@functools.partial(jax.jit, static_argnames=("config", "settings"))
def init_state(config: Config, settings: Settings, *, key: PRNGKeyArray) -> State:
    """The state before the first step; a pure function of the key."""
    params = module.init_params(config, key=key)
    return State(
        params=params,
        opt_state=optimizer(settings).init(params),
        step=jnp.zeros((), jnp.int32),
        losses=jnp.full(settings.steps, jnp.nan),
    )


def next_token_loss(
    params: Any, config: Config, tokens: Int[Array, "batch length"], dtype: str = "float32"
) -> Float[Array, ""]:
    """Mean cross-entropy, in nats, of every token but the first given those before it."""
    logits = model.forward(params, config, tokens[:, :-1], dtype=dtype)
    return optax.softmax_cross_entropy_with_integer_labels(logits, tokens[:, 1:]).mean()


# The state is not donated: the caller still reads the parameters of the last stop, to save
# and measure them, while the next span runs.
@functools.partial(jax.jit, static_argnames=("config", "settings"))
def advance(
    state: State,
    block: Int32[Array, "block_steps batch length"],
    start: Int32[Array, ""],
    stop: Int32[Array, ""],
    *,
    config: Config,
    settings: Settings,
) -> State:
    """Take the steps whose batches are block[start], ..., block[stop - 1]."""
    transform = optimizer(settings)

    def step(index: Int32[Array, ""], state: State) -> State:
        loss, gradients = jax.value_and_grad(next_token_loss)(
            state.params, config, block[index], settings.dtype
        )
        updates, opt_state = transform.update(gradients, state.opt_state, state.params)
        return State(
            params=optax.apply_updates(state.params, updates),
            opt_state=opt_state,
            step=state.step + 1,
            losses=state.losses.at[state.step].set(loss),
        )

    return jax.lax.fori_loop(start, stop, step, state)


def data_mesh(devices: Sequence[jax.Device]) -> Mesh:
    """A mesh of one axis, "data"."""
    return Mesh(np.array(devices), ("data",))


def replicate(state: State, mesh: Mesh) -> State:
    """The state on every device of the mesh."""
    return jax.device_put(state, NamedSharding(mesh, PartitionSpec()))


def place_block(
    block: Int32[np.ndarray, "block_steps batch length"], mesh: Mesh
) -> Int32[Array, "block_steps batch length"]:
    """The block with each step's batch divided over the devices of the mesh.

    Raises ValueError where the batch cannot be divided evenly.
    """
    if block.shape[1] % mesh.size:
        raise ValueError(
            f"batch of {block.shape[1]} sequences cannot be divided over {mesh.size} devices"
        )
    return jax.device_put(block, NamedSharding(mesh, PartitionSpec(None, "data", None)))
