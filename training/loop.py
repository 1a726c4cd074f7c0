"""The training loop of every model here: fresh data each step, many steps per dispatch.

A Problem says how weights start and what the loss of fresh data is. A Trainer compiles one
function that advances the weights by any number of steps; the host only says how many, and
reads results one dispatch late, so the device never waits for it.

Everything is a function of the seed and the step: the data of step n come from
fold_in(key(seed), n). A run cut into other dispatches, or continued from a checkpoint, is
the same run to the bit on the same machine.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt

from training.checkpoint import Store

Weights = Any
Shard = Callable[[Any], Any]
# measure(params, frozen, key) -> named arrays, for one seed
Measure = Callable[[Weights, Weights, PRNGKeyArray], Mapping[str, Array]]


@runtime_checkable
class Problem(Protocol):
    """What is trained on what."""

    def init(self, key: PRNGKeyArray) -> tuple[Weights, Weights]:
        """Weights that are trained and weights that are not."""

    def loss(
        self, params: Weights, frozen: Weights, key: PRNGKeyArray, shard: Shard
    ) -> Float[Array, ""]:
        """Loss on data drawn from key; shard(batch) spreads the batch over devices."""


class State(NamedTuple):
    """One training state; every leaf of the first four has a leading axis of seeds.

    first_bad: the step at which the loss or a weight stopped being finite, -1 while all is.
    """

    params: Weights
    frozen: Weights
    optimizer: Any
    first_bad: Int[Array, " seeds"]
    step: Int[Array, ""]


class NonFiniteError(ArithmeticError):
    """Training left the finite numbers."""

    def __init__(self, step: int, seed: int):
        super().__init__(f"the loss of seed {seed} is not finite at step {step}")
        self.step, self.seed = step, seed


class Record(NamedTuple):
    """What was measured at one step: arrays with a leading axis of seeds.

    loss: mean training loss since the record before; NaN where no step was made.
    measured: by name of the measurement; empty at a checkpoint where nothing was due.
    """

    step: int
    loss: np.ndarray
    measured: dict[str, dict[str, np.ndarray]]


@dataclasses.dataclass(frozen=True, eq=False)
class Trainer:
    """A problem, an optimiser, the seeds trained side by side, and the devices.

    Seed i of several is the run that seed i alone would be, up to rounding.
    """

    problem: Problem
    optimizer: optax.GradientTransformation
    seeds: Sequence[int]
    devices: Sequence[jax.Device] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "_advance", jax.jit(self._advance_all, donate_argnums=0))

    def init(self) -> State:
        """The state at step 0."""

        def one(seed: Array) -> tuple[Weights, Weights, Any]:
            params, frozen = self.problem.init(_key(seed, "init"))
            return params, frozen, self.optimizer.init(params)

        params, frozen, optimizer = jax.jit(self._over_seeds(one))(self._seeds())
        bad = jnp.full(len(self.seeds), -1, jnp.int32)
        return self.place(State(params, frozen, optimizer, bad, jnp.int32(0)))

    def abstract(self) -> State:
        """Shapes, dtypes and placement of a state: what a checkpoint is read into."""
        shapes = jax.eval_shape(self.init)
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self._everywhere()), shapes
        )

    def place(self, state: State) -> State:
        """The same state on every device."""
        return jax.device_put(state, self._everywhere())

    def advance(self, state: State, num_steps: int) -> tuple[State, Float[Array, " seeds"]]:
        """State after num_steps more steps, and the mean loss over them; state is consumed."""
        return self._advance(state, num_steps)  # type: ignore[attr-defined]

    def measure(self, measure: Measure) -> Callable[[State], Mapping[str, Array]]:
        """Compile measure over all seeds; each seed has evaluation data of its own, fixed."""

        def one(params: Weights, frozen: Weights, seed: Array) -> Mapping[str, Array]:
            return measure(params, frozen, _key(seed, "evaluate"))

        compiled = jax.jit(self._over_seeds(one))
        return lambda state: compiled(state.params, state.frozen, self._seeds())

    def _advance_all(self, state: State, num_steps: Array) -> tuple[State, Array]:
        def one(
            params: Weights, frozen: Weights, optimizer: Any, bad: Array, seed: Array
        ) -> tuple[Weights, Any, Array, Array]:
            return self._advance_one(params, frozen, optimizer, bad, seed, state.step, num_steps)

        params, optimizer, bad, loss = self._over_seeds(one)(
            state.params, state.frozen, state.optimizer, state.first_bad, self._seeds()
        )
        return State(params, state.frozen, optimizer, bad, state.step + num_steps), loss

    def _advance_one(
        self,
        params: Weights,
        frozen: Weights,
        optimizer: Any,
        bad: Array,
        seed: Array,
        start: Array,
        num_steps: Array,
    ) -> tuple[Weights, Any, Array, Array]:
        data = _key(seed, "train")

        def step(i: Array, carry: tuple[Weights, Any, Array, Array]) -> tuple:
            params, optimizer, bad, total = carry
            key = jax.random.fold_in(data, start + i)
            loss, gradient = jax.value_and_grad(self.problem.loss)(params, frozen, key, self._shard)
            updates, optimizer = self.optimizer.update(gradient, optimizer, params)
            params = optax.apply_updates(params, updates)
            broke = (bad < 0) & ~_finite(loss, params)
            return params, optimizer, jnp.where(broke, start + i + 1, bad), total + loss

        # A loop of traced length, not a scan: one compilation serves every distance between
        # two records, and cutting a run elsewhere cannot change its arithmetic.
        params, optimizer, bad, total = jax.lax.fori_loop(
            0, num_steps, step, (params, optimizer, bad, jnp.float32(0))
        )
        return params, optimizer, bad, total / num_steps

    def _over_seeds(self, function: Callable) -> Callable:
        if len(self.seeds) > 1:
            return jax.vmap(function)

        # vmap over one seed would turn every matrix product into a batched one.
        def alone(*arguments: Any) -> Any:
            results = function(*jax.tree.map(lambda x: x[0], arguments))
            return jax.tree.map(lambda x: x[None], results)

        return alone

    def _seeds(self) -> UInt[Array, " seeds"]:
        return jnp.asarray(self.seeds, jnp.uint32)

    def _mesh(self) -> Mesh:
        return Mesh(np.asarray(self.devices or jax.local_devices()[:1]), ("batch",))

    def _everywhere(self) -> NamedSharding:
        return NamedSharding(self._mesh(), PartitionSpec())

    def _shard(self, batch: Any) -> Any:
        if len(self.devices) <= 1:
            return batch

        def spread(x: Array) -> Array:
            if x.ndim == 0:
                return x
            return jax.lax.with_sharding_constraint(
                x, NamedSharding(self._mesh(), PartitionSpec("batch"))
            )

        return jax.tree.map(spread, batch)


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A measure taken at certain steps under a name."""

    name: str
    measure: Measure
    steps: frozenset[int]


def run(
    trainer: Trainer,
    measurements: Sequence[Measurement],
    *,
    num_steps: int,
    checkpoint_steps: Iterable[int] = (),
    store: Store | None = None,
) -> Iterator[Record]:
    """Train to num_steps, yielding a record wherever something is measured or saved.

    Continues from the last checkpoint in the store, whose step is not measured again. The
    records up to a checkpoint, its own included, are all yielded before it is written, so that
    a reader who keeps them at that moment loses none. Raises NonFiniteError,
    before any later checkpoint.
    """
    state = store.restore(trainer.abstract()) if store else None
    begun = state is not None
    state = state if state is not None else trainer.init()
    step = int(state.step)
    saves = {s for s in {*checkpoint_steps, num_steps} if s > step or not begun} if store else set()
    stops = {num_steps, *saves}.union(*(m.steps for m in measurements))
    compiled = [(m, trainer.measure(m.measure)) for m in measurements]

    waiting: tuple[int, Array, Array, dict[str, Mapping[str, Array]]] | None = None
    for stop in sorted(s for s in stops if s <= num_steps and (s > step or not begun)):
        state, loss = trainer.advance(state, stop - step)
        step = stop
        measured = {m.name: measure(state) for m, measure in compiled if stop in m.steps}
        # Copied, because the next advance consumes the state it lives in.
        latest = (stop, loss, jnp.copy(state.first_bad), measured)
        if waiting is not None:
            yield from _fetch(trainer, *waiting)
        waiting = latest
        if store is not None and stop in saves:
            yield from _fetch(trainer, *waiting, always=True)
            waiting = None
            store.save(stop, state)
    if waiting is not None:
        yield from _fetch(trainer, *waiting)
    if store is not None:
        store.wait()


def log_spaced(num_steps: int, *, every: int, first: int = 1) -> frozenset[int]:
    """0, first, 2 first, 4 first, ... and every multiple of `every`, up to num_steps."""
    doubling = {first << k for k in range(num_steps.bit_length() + 1)}
    steps = {0, num_steps} | doubling | set(range(0, num_steps + 1, max(every, 1)))
    return frozenset(s for s in steps if s <= num_steps)


def _fetch(
    trainer: Trainer,
    step: int,
    loss: Array,
    first_bad: Array,
    measured: dict[str, Mapping[str, Array]],
    *,
    always: bool = False,
) -> Iterator[Record]:
    bad = np.asarray(first_bad)
    if np.any(bad >= 0):
        seed = int(np.argmax(bad >= 0))
        raise NonFiniteError(int(bad[seed]), int(trainer.seeds[seed]))
    if measured or always:
        yield Record(step, np.asarray(loss), jax.device_get(measured))


def _key(seed: Array, purpose: str) -> PRNGKeyArray:
    return jax.random.fold_in(jax.random.key(seed), ("init", "train", "evaluate").index(purpose))


def _finite(loss: Array, params: Weights) -> Bool[Array, ""]:
    # A sum is NaN or infinite as soon as one of its terms is, and costs one pass.
    total = loss + sum(jnp.sum(x) * 0 for x in jax.tree.leaves(params))
    return jnp.isfinite(total)
