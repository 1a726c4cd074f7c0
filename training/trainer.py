"""The training loop of every model here: many steps per dispatch, the host one dispatch late.

A Problem says how weights start and what the loss of one step's data is. A Trainer compiles one
function that advances the weights by any number of steps; `run` says how many, measures, saves,
and returns the state it ends with.

Everything is a function of the seed and the step: the data of step n come from
fold_in(key(seed), n), or are row n of what a Feed makes on the host. A run cut into other
dispatches, or continued from a checkpoint, is the same run; to the bit on the same device with the
same number of cores and flags of XLA, which otherwise take sums in another order.

Runs side by side are one leading axis: a seed each, and each its own numbers where `values`
gives some (alpha, learning rate, ...), which are traced, so that new numbers compile nothing.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, UInt

from truncated_weights.training import runs
from truncated_weights.training.prefetch import prefetch
from truncated_weights.training.records import Name

Weights = Any
Values = Mapping[str, Any]  # arrays of the host or the device
Shard = Callable[[Any], Any]
# measure(problem, params, frozen, key) -> named arrays, for one run; problem has its own numbers
Measure = Callable[[Any, Weights, Weights, PRNGKeyArray], Mapping[Name, Array]]
Optimizer = Any  # an optax.GradientTransformation, or a function of the values giving one


@runtime_checkable
class Problem(Protocol):
    """What is trained on what.

    One whose numbers can be traced also has given(values) -> Problem, the same problem with
    these in place of its own; one whose loss changes along training has at(step) -> Problem.
    """

    def init(self, key: PRNGKeyArray) -> tuple[Weights, Weights]:
        """Weights that are trained and weights that are not."""

    def loss(
        self, params: Weights, frozen: Weights, data: Any, shard: Shard, /
    ) -> Float[Array, ""]:
        """Loss of one step: data is the key to draw from, or one row of a Feed's block.

        shard(batch) spreads a batch over the devices along its first axis.
        """


class State(NamedTuple):
    """All that a run continues from; every leaf but `step` has a leading axis of runs.

    losses: of every step, NaN where none was taken yet. first_bad: the step at which the loss
    or a weight stopped being finite, -1 while all is.
    """

    params: Weights
    frozen: Weights
    optimizer: Any
    losses: Float[Array, "runs steps"]
    first_bad: Int[Array, " runs"]
    step: Int[Array, ""]


@dataclasses.dataclass(frozen=True, eq=False)
class Feed:
    """Data made on the host: make(n) has the steps from n * block_steps on as its first axis.

    It is made ahead on a thread of its own, and again from any block on: a pure function of n.
    """

    make: Callable[[int], Any]
    block_steps: int


@dataclasses.dataclass(frozen=True, eq=False)
class Trainer:
    """A problem, an optimiser, how long, which runs side by side, and the devices.

    Run i of several is the run that seed i and values i alone would be: its data exactly, its
    weights up to rounding.
    values: {name: [runs, ...]}, given to the problem (Problem.given) and to the optimiser,
    which is then a function of them.
    devices: divided into a mesh of (runs, batch), see training/runs.py; one by default. All
    processes of a run name the same devices, in the same order.
    together: runs that a device does at once; 0 is what was measured to be fastest there.
    """

    problem: Problem
    optimizer: Optimizer
    seeds: Sequence[int]
    devices: Sequence[jax.Device] = ()
    num_steps: int = dataclasses.field(kw_only=True)
    values: Values = dataclasses.field(default_factory=dict, kw_only=True)
    feed: Feed | None = dataclasses.field(default=None, kw_only=True)
    together: int = dataclasses.field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        for name, value in self.values.items():
            if len(value) != len(self.seeds):
                raise ValueError(
                    f"values of {name} are for {len(value)} runs, there are {len(self.seeds)}"
                )
        object.__setattr__(self, "_advance", jax.jit(self._advance_all, donate_argnums=0))

    def init(self) -> State:
        """The state at step 0."""

        def one(seed: Array, values: Values) -> tuple[Weights, Weights]:
            return self._problem(values).init(_key(seed, "init"))

        begin = jax.jit(self._over_runs(one), out_shardings=self._by_run)
        return self.begin(*begin(self._seeds, self._values))

    def begin(self, params: Weights, frozen: Weights) -> State:
        """The state at step 0 with these weights, whose leading axis is that of the runs."""

        def one(params: Weights, values: Values) -> Any:
            return self._descent(values).init(params)

        params, frozen = jax.device_put((params, frozen), self._by_run)
        descend = jax.jit(self._over_runs(one), out_shardings=self._by_run)
        optimizer = descend(params, self._values)

        def counters() -> tuple:
            losses = jnp.full((len(self.seeds), self.num_steps), jnp.nan, jnp.float32)
            return losses, jnp.full(len(self.seeds), -1, jnp.int32), jnp.int32(0)

        placed = (self._by_run, self._by_run, self._everywhere)
        losses, bad, step = jax.jit(counters, out_shardings=placed)()
        return State(params, frozen, optimizer, losses, bad, step)

    def abstract(self) -> State:
        """Shapes, dtypes and placement of a state: what a checkpoint is read into."""
        return jax.tree.map(
            lambda x, where: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where),
            jax.eval_shape(self.init),
            self._placement(),
        )

    def place(self, state: State) -> State:
        """The same state on these devices, each run's on its own."""
        return jax.device_put(state, self._placement())

    def gather(self, values: Any) -> Any:
        """A copy of arrays on the device that every process can read whole."""
        return self._copy(values)

    def advance(self, state: State, num_steps: int) -> State:
        """The state after num_steps more steps; the one given is consumed.

        A trainer with a feed goes on by `spans`, which brings the data.
        """
        return self._advance(state, num_steps, self._seeds, self._values, None, 0)  # type: ignore[attr-defined]

    def spans(self, start: int) -> "Spans":
        """Going on from this step, with the data of the feed where there is one."""
        return Spans(self, start)

    def measure(self, measure: Measure) -> "Measuring":
        """Compile measure over all runs; each has evaluation data of its own, fixed."""

        def one(params: Weights, frozen: Weights, seed: Array, values: Values) -> Any:
            return measure(self._problem(values), params, frozen, _key(seed, "evaluate"))

        compiled = jax.jit(self._over_runs(one), out_shardings=self._everywhere)
        return Measuring(compiled, self._seeds, self._values)

    def traced(self) -> jax.stages.Traced:
        """One step, traced from shapes alone: to be lowered, compiled or counted, never run.

        Of a trainer without a feed, whose data are drawn on the device.
        """
        return self._advance.trace(  # type: ignore[attr-defined]
            self.abstract(), 1, self._seeds, self._values, None, 0
        )

    def _problem(self, values: Values) -> Any:
        return self.problem.given(values) if values else self.problem  # type: ignore[attr-defined]

    def _descent(self, values: Values) -> optax.GradientTransformation:
        if isinstance(self.optimizer, optax.GradientTransformation):
            return self.optimizer
        return self.optimizer(values)

    def _advance_all(
        self,
        state: State,
        num_steps: Array,
        seeds: Array,
        values: Values,
        block: Any,
        block_start: Array,
    ) -> State:
        def one(
            params: Weights,
            frozen: Weights,
            optimizer: Any,
            losses: Array,
            bad: Array,
            seed: Array,
            values: Values,
        ) -> tuple:
            problem, descent = self._problem(values), self._descent(values)
            key = _key(seed, "train")

            def step(i: Array, carry: tuple) -> tuple:
                params, optimizer, losses, bad = carry
                now = state.step + i
                if block is None:
                    data = jax.random.fold_in(key, now)
                else:
                    data = jax.tree.map(lambda x: x[now - block_start], block)
                here = problem.at(now) if hasattr(problem, "at") else problem
                loss, gradient = jax.value_and_grad(here.loss)(params, frozen, data, self._shard)
                updates, optimizer = descent.update(gradient, optimizer, params)
                params = optax.apply_updates(params, updates)
                broke = (bad < 0) & ~_finite(loss, params)
                losses = losses.at[now].set(loss.astype(losses.dtype))
                return params, optimizer, losses, jnp.where(broke, now + 1, bad)

            # A loop of traced length, not a scan: one compilation serves every distance between
            # two records, and cutting a run elsewhere cannot change its arithmetic.
            return jax.lax.fori_loop(0, num_steps, step, (params, optimizer, losses, bad))

        params, optimizer, losses, bad = self._over_runs(one)(
            state.params, state.frozen, state.optimizer, state.losses, state.first_bad,
            seeds, values,
        )  # fmt: skip
        return State(params, state.frozen, optimizer, losses, bad, state.step + num_steps)

    def _over_runs(self, function: Callable) -> Callable:
        number = len(self.seeds)
        together = self.together or runs.together_by_default(self._mesh.devices.flat[0], number)
        return runs.over(function, self._mesh, number, together)

    @functools.cached_property
    def _mesh(self) -> Mesh:
        return runs.mesh(tuple(self.devices) or tuple(jax.local_devices()[:1]), len(self.seeds))

    @functools.cached_property
    def _seeds(self) -> UInt[Array, " runs"]:
        return runs.put(np.asarray(self.seeds, np.uint32), self._mesh, runs.RUNS)

    @functools.cached_property
    def _values(self) -> dict[str, Array]:
        return {name: runs.put(v, self._mesh, runs.RUNS) for name, v in self.values.items()}

    @functools.cached_property
    def _copy(self) -> Callable:
        copy = functools.partial(jax.tree.map, jnp.copy)
        return jax.jit(copy, out_shardings=self._everywhere)

    @property
    def _everywhere(self) -> NamedSharding:
        return NamedSharding(self._mesh, PartitionSpec())

    @property
    def _by_run(self) -> NamedSharding:
        return NamedSharding(self._mesh, runs.RUNS)

    def _placement(self) -> State:
        """Where each leaf of a state lives, in the form of a state."""
        whole = jax.tree.map(lambda _: self._by_run, jax.eval_shape(self.init))
        return whole._replace(step=self._everywhere)

    def _shard(self, batch: Any) -> Any:
        if self._mesh.shape["batch"] == 1:
            return batch
        # Where the runs have devices of their own, this is read on the mesh of one of them.
        where = (
            runs.BATCH if self._mesh.shape["runs"] > 1 else NamedSharding(self._mesh, runs.BATCH)
        )

        def spread(x: Array) -> Array:
            return x if x.ndim == 0 else jax.lax.with_sharding_constraint(x, where)

        return jax.tree.map(spread, batch)

    def place_block(self, block: Any) -> Any:
        """A host-made block with each step's batch divided over the devices.

        Raises ValueError where the batch cannot be divided evenly.
        """
        size = self._mesh.shape["batch"]
        for leaf in jax.tree.leaves(block):
            if leaf.shape[1] % size:
                raise ValueError(
                    f"batch of {leaf.shape[1]} sequences cannot be divided over {size} devices"
                )
        return jax.device_put(block, NamedSharding(self._mesh, PartitionSpec(None, "batch")))


class Measuring(NamedTuple):
    """A measure over all runs, compiled when it is first called with a state."""

    compiled: Any
    seeds: Array
    values: Values

    def __call__(self, state: State) -> Mapping[Name, Array]:
        """What is measured of a state, on the device."""
        return self.compiled(state.params, state.frozen, self.seeds, self.values)

    def traced(self, state: State) -> jax.stages.Traced:
        """Traced for a state, or for its shapes alone (Trainer.abstract)."""
        return self.compiled.trace(state.params, state.frozen, self.seeds, self.values)


class Spans:
    """Advances a state over any number of steps, fetching each block of the feed once."""

    def __init__(self, trainer: Trainer, start: int):
        self._trainer = trainer
        self._step = start
        self._number = -1
        self._block: Any = None
        self._blocks: Iterator[Any] = iter(())
        feed = trainer.feed
        if feed is not None and start < trainer.num_steps:
            first, last = start // feed.block_steps, -(-trainer.num_steps // feed.block_steps)
            self._number = first - 1
            self._blocks = prefetch(feed.make, first, last)

    def advance(self, state: State, num_steps: int) -> State:
        """The state after num_steps more steps; the one given is consumed."""
        trainer, feed, goal = self._trainer, self._trainer.feed, self._step + num_steps
        while self._step < goal:
            count, begin = goal - self._step, 0
            if feed is not None:
                if self._step // feed.block_steps != self._number:
                    self._number += 1
                    self._block = trainer.place_block(next(self._blocks))
                begin = self._number * feed.block_steps
                count = min(count, begin + feed.block_steps - self._step)
            state = trainer._advance(  # type: ignore[attr-defined]
                state, count, trainer._seeds, trainer._values, self._block, begin
            )
            self._step += count
        return state

    def close(self) -> None:
        """Stop the thread that makes data."""
        if hasattr(self._blocks, "close"):
            self._blocks.close()


def _key(seed: Array, purpose: str) -> PRNGKeyArray:
    return jax.random.fold_in(jax.random.key(seed), ("init", "train", "evaluate").index(purpose))


def _finite(loss: Array, params: Weights) -> Bool[Array, ""]:
    # A sum is NaN or infinite as soon as one of its terms is, and costs one pass.
    total = loss + sum(jnp.sum(x) * 0 for x in jax.tree.leaves(params))
    return jnp.isfinite(total)
