"""Train to the end: measure, save, continue, stop when asked, and return what it ends with."""

import dataclasses
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from truncated_weights.training import processes
from truncated_weights.training.checkpoint import Store
from truncated_weights.training.records import Record as Record
from truncated_weights.training.trainer import Feed as Feed
from truncated_weights.training.trainer import Measure as Measure
from truncated_weights.training.trainer import Problem as Problem
from truncated_weights.training.trainer import Shard as Shard
from truncated_weights.training.trainer import State as State
from truncated_weights.training.trainer import Trainer as Trainer

# A dispatch is sent so long that it takes about this; a stop is obeyed after two of them.
SECONDS_PER_DISPATCH = 1.0


class NonFiniteError(ArithmeticError):
    """Every run left the finite numbers; step and seed of the first that did.

    first_bad: the step of each [runs].
    """

    def __init__(self, first_bad: np.ndarray, seeds: Sequence[int]):
        first = int(np.argmin(first_bad))
        self.step, self.seed, self.first_bad = int(first_bad[first]), int(seeds[first]), first_bad
        super().__init__(f"the loss of seed {self.seed} is not finite at step {self.step}")


class End(NamedTuple):
    """How a run ended: its state, and whether it was stopped before its last step."""

    state: State
    stopped: bool

    @property
    def step(self) -> int:
        """How many steps were made."""
        return int(self.state.step)


@dataclasses.dataclass(frozen=True)
class Measurement:
    """A measure taken at certain steps; name: the block of records that it fills."""

    name: str
    measure: Measure
    steps: frozenset[int]


def run(
    trainer: Trainer,
    measurements: Sequence[Measurement] = (),
    *,
    report: Callable[[Record], Any] = lambda record: None,
    store: Store | None = None,
    checkpoint_steps: Iterable[int] = (),
    before_save: Callable[[int, State], Any] = lambda step, state: None,
    should_stop: Callable[[], bool] = lambda: False,
    tick: Callable[[int], Any] = lambda step: None,
    start: State | None = None,
) -> End:
    """Train to trainer.num_steps, from the last checkpoint in the store where it has one.

    report: called with a Record wherever something is measured or saved, one dispatch late.
    checkpoint_steps: where the state is stored, beside the last step. All records up to a
        checkpoint, its own included, are reported and before_save(step, state) is called before
        it is written, so that who keeps them then loses none.
    should_stop: asked between dispatches of about SECONDS_PER_DISPATCH; once true, the state is
        stored where it is and the run ends, to be continued.
    tick: called with every step that is known to be done.
    start: where to begin instead of trainer.init(), where the store has nothing.

    With several runs, one that leaves the finite numbers goes on as NaN while the others train.
    Raises NonFiniteError when all have, before any later checkpoint.
    """
    restored = store.restore(trainer.abstract()) if store else None
    state = restored if restored is not None else start if start is not None else trainer.init()
    begun = restored is not None
    step = int(state.step)
    end = trainer.num_steps
    planned_saves = {*checkpoint_steps, end} if store else set()
    saves = {s for s in planned_saves if s > step or not begun}
    planned = {end, *planned_saves}.union(*(m.steps for m in measurements))
    stops = sorted(s for s in planned if s <= end and (s > step or not begun))
    # A checkpoint of an earlier stop on request: not part of the run, gone after the next one.
    extra = step if begun and step not in planned_saves else None
    since = max((s for s in planned if s <= step), default=0)
    compiled = [(m, trainer.measure(m.measure)) for m in measurements]
    spans, pace = trainer.spans(step), _Pace()
    waiting: _Waiting | None = None

    def flush() -> None:
        nonlocal waiting
        if waiting is not None:
            record = waiting.fetch(trainer.seeds)
            waiting = None
            if record.measured or record.step in saves:
                report(record)

    def save(step: int) -> None:
        nonlocal extra
        assert store is not None
        before_save(step, state)
        store.save(step, state)
        if extra is not None:
            store.delete(extra)
            extra = None

    try:
        for stop in stops:
            while step < stop:
                if processes.anywhere(should_stop()):
                    flush()
                    if store is not None and step not in saves and step not in (extra, 0):
                        _refuse_all_bad(np.asarray(trainer.gather(state.first_bad)), trainer.seeds)
                        save(step)
                    return End(state, stopped=True)
                count = min(stop - step, processes.least(pace.steps))
                state = spans.advance(state, count)
                step += count
                pace.sent(step, trainer.gather(state.first_bad), tick)
            measured = {m.name: measure(state) for m, measure in compiled if stop in m.steps}
            loss = trainer.gather(_mean_loss(state.losses, since, stop))
            since = stop
            # Copied, because the next advance consumes the state it lives in.
            latest = _Waiting(stop, loss, trainer.gather(state.first_bad), measured)
            flush()
            waiting = latest
            if stop in saves:
                flush()
                save(stop)
        flush()
    finally:
        spans.close()
        if store is not None:
            store.wait()
    return End(state, stopped=False)


def log_spaced(num_steps: int, *, every: int, first: int = 1) -> frozenset[int]:
    """0, first, 2 first, 4 first, ... and every multiple of `every`, up to num_steps."""
    doubling = {first << k for k in range(num_steps.bit_length() + 1)}
    steps = {0, num_steps} | doubling | set(range(0, num_steps + 1, max(every, 1)))
    return frozenset(s for s in steps if s <= num_steps)


class _Waiting(NamedTuple):
    """A record still on the device."""

    step: int
    loss: Array
    first_bad: Array
    measured: dict[str, Any]

    def fetch(self, seeds: Sequence[int]) -> Record:
        loss, bad, measured = jax.device_get((self.loss, self.first_bad, self.measured))
        _refuse_all_bad(bad, seeds)
        return Record(self.step, loss, measured, bad)


def _refuse_all_bad(bad: np.ndarray, seeds: Sequence[int]) -> None:
    if np.all(bad >= 0):
        raise NonFiniteError(bad, seeds)


class _Pace:
    """Sends one dispatch ahead of the device, each of about SECONDS_PER_DISPATCH."""

    def __init__(self) -> None:
        self.steps = 1
        self._sent: tuple[int, Array] | None = None
        self._done, self._when = 0, time.monotonic()

    def sent(self, step: int, token: Array, tick: Callable[[int], Any]) -> None:
        """A dispatch up to this step is on its way; wait for the one before."""
        if self._sent is not None:
            before, ready = self._sent
            jax.block_until_ready(ready)
            now = time.monotonic()
            each = (now - self._when) / max(before - self._done, 1)
            # Twice at most, because the first dispatches contain the compilation.
            self.steps = max(1, min(2 * self.steps, int(SECONDS_PER_DISPATCH / max(each, 1e-9))))
            self._done, self._when = before, now
            tick(before)
        self._sent = (step, token)


@jax.jit
def _mean_loss(losses: Array, start: int | Array, stop: int | Array) -> Array:
    taken = jnp.arange(losses.shape[1])[None]
    here = (taken >= start) & (taken < stop)
    return jnp.sum(jnp.where(here, losses, 0), axis=1) / (stop - start)
