"""From axes to runs, and from runs to groups that one compiled program trains side by side.

Two runs share a program when they differ in traced numbers alone: seed, alpha, initial scale,
learning rate, momentum, weight decay, Adam's b2, and the law of a Zipf language. Everything else
decides shapes or the program itself, and each of its combinations is a group of its own.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from truncated_weights.experiments.sweep.settings import AXES, Sweep
from truncated_weights.toy import recall
from truncated_weights.toy.settings import NoisyRecall
from truncated_weights.toy.setup import Setup, build
from truncated_weights.training import optimizer, runs
from truncated_weights.training.trainer import Trainer

# Traced by the training problem and the optimiser, whatever else a run is.
_NUMBERS = ("alpha", "initial_scale", *optimizer.TRACED)
_LAW = ("concentration", "zipf_exponent")


@dataclasses.dataclass(frozen=True)
class Run:
    """One run: its place in the table, its values on all axes, and its whole configuration."""

    index: int
    values: dict[str, Any]
    config: NoisyRecall

    @property
    def seed(self) -> int:
        """The seed of this run alone."""
        return self.config.seed


@dataclasses.dataclass(frozen=True, eq=False)
class Group:
    """Runs of one shape, and what they are trained with.

    tasks: of each run by itself. setup: of the first, with room for all of them.
    """

    runs: tuple[Run, ...]
    tasks: tuple[recall.Task, ...]
    setup: Setup
    trainer: Trainer


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """A sweep and the groups that it is carried out in."""

    config: Sweep
    groups: tuple[Group, ...]

    @property
    def runs(self) -> dict[int, tuple[Run, recall.Task]]:
        """Every run and its task by the run's place in the table."""
        return {
            run.index: (run, task)
            for group in self.groups
            for run, task in zip(group.runs, group.tasks, strict=True)
        }


def prepare(config: Sweep) -> Plan:
    """The groups of a sweep; ValueError where settings cannot be."""
    return Plan(config, group(expand(config), devices(config), together=config.together))


def devices(config: Sweep) -> Sequence[jax.Device]:
    """Those that runs are spread over; ValueError where there are not as many as asked for."""
    present, count = jax.devices(), config.shared()["devices"]
    if count > len(present):
        raise ValueError(f"devices={count}, but there are {len(present)}")
    if jax.process_count() > 1 and count not in (0, len(present)):
        raise ValueError(f"devices={count}: several processes use all of theirs, {len(present)}")
    return present[: count or len(present)]


def varied(config: Sweep) -> tuple[str, ...]:
    """The axes with more than one value, in the order of the settings."""
    return tuple(name for name, values in config.axes().items() if len(values) > 1)


def expand(config: Sweep) -> tuple[Run, ...]:
    """All runs: the product over axes (zipped ones as one), seeds fastest."""
    axes = config.axes()
    tied = {name: joined for joined in config.zip for name in joined.split("+")}
    together: dict[str, list[str]] = {}
    for name in AXES:
        together.setdefault(tied.get(name, name), []).append(name)
    dimensions = []
    for names in together.values():
        columns = zip(*(axes[name] for name in names), strict=True)
        dimensions.append([dict(zip(names, values, strict=True)) for values in columns])
    shared = config.shared()
    first = shared["seed"]
    found: list[Run] = []
    for place in itertools.product(*dimensions):
        values: dict[str, Any] = {k: v for part in place for k, v in part.items()}
        for seed in range(first, first + shared["num_seeds"]):
            settings = {**shared, **values, "seed": seed, "num_seeds": 1}
            found.append(Run(len(found), values, NoisyRecall(**settings)))
    return tuple(found)


def group(
    chosen: Sequence[Run], devices: Sequence[jax.Device], *, together: int = 0
) -> tuple[Group, ...]:
    """The runs by shape, in order of first appearance; ValueError where settings cannot be."""
    setups: dict[NoisyRecall, Setup] = {}
    members: dict[Any, list[Run]] = {}
    for run in chosen:
        # Seeds share a setup: building one draws sequences to see how many positions it needs.
        point = dataclasses.replace(run.config, seed=0)
        if point not in setups:
            setups[point] = build(point)
        members.setdefault(_shape(point, setups[point].task), []).append(run)
    found = []
    for together_here in members.values():
        own = [setups[dataclasses.replace(run.config, seed=0)] for run in together_here]
        found.append(_group(tuple(together_here), own, devices, together))
    return tuple(found)


def _shape(config: NoisyRecall, task: recall.Task) -> tuple[Any, ...]:
    """What runs of one group have in common."""
    traced = [*_NUMBERS]
    # Laws derived from the language before training stay constants of the program.
    if config.language == "zipf" and not config.text and task.output_law is None:
        traced += [] if config.random_triggers else _LAW
    first = NoisyRecall()
    fixed = dataclasses.replace(config, **{name: getattr(first, name) for name in traced})
    return fixed, task.triggers, task.noise


def _group(
    chosen: tuple[Run, ...], setups: Sequence[Setup], devices: Sequence[jax.Device], together: int
) -> Group:
    tasks = [setup.task for setup in setups]
    # One shape for all: room for the scored positions of whichever run has most. More room than
    # a run alone would have changes nothing but padding.
    task = dataclasses.replace(
        tasks[0],
        capacity=max(task.capacity for task in tasks),
        clean_capacity=max(task.clean_capacity for task in tasks),
    )
    setup = setups[0]
    setup = dataclasses.replace(
        setup,
        config=dataclasses.replace(setup.config, devices=1),
        task=task,
        problem=dataclasses.replace(setup.problem, task=task),
    )
    values = {
        name: np.array([getattr(run.config, name) for run in chosen], np.float32)
        for name in _NUMBERS
        if name != "b2" or setup.config.optimizer != "sgd"
    }
    if len({tuple(getattr(run.config, name) for name in _LAW) for run in chosen}) > 1:
        first = [recall.cumulative(np.asarray(task.initial)[None])[0] for task in tasks]
        values["initial"] = np.stack(first)
        values["transition"] = np.stack(
            [recall.cumulative(np.asarray(t.transition)) for t in tasks]
        )
    across = runs.mesh(devices, len(chosen)).shape["batch"]
    if setup.config.batch_size % across:
        raise ValueError(
            f"{len(chosen)} runs on {len(devices)} devices put each run on {across}, over which "
            f"batch_size={setup.config.batch_size} does not divide; change devices or num_seeds"
        )
    trainer = dataclasses.replace(
        setup.trainer(),
        seeds=tuple(run.seed for run in chosen),
        devices=tuple(devices),
        values=values,
        together=together,
    )
    return Group(chosen, tuple(tasks), setup, trainer)
