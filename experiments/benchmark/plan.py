"""Memory and operations of a preset of experiments.noisy_recall, read from its programs.

Every program is compiled at its full size and none is run. The compiler is this machine's: where
an accelerator is asked about, it is given the program that would be given to an accelerator, and
what it says of temporaries is near what one would need, not the same.
"""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax

from truncated_weights.experiments.benchmark.operation_count import Count, count
from truncated_weights.experiments.run import flags, stop, table
from truncated_weights.experiments.run.devices import DEVICES
from truncated_weights.experiments.run.program import user_errors
from truncated_weights.experiments.run.progress import stage
from truncated_weights.toy import setup as recall_setup
from truncated_weights.toy.settings import NoisyRecall
from truncated_weights.training import slices

PRESETS = Path(__file__).parents[1] / "noisy_recall"
# Characters of Tiny Shakespeare, one of which is the noise.
SYMBOLS = 65


@dataclasses.dataclass(frozen=True)
class Compiled:
    """One program: what is counted in it, and what the compiler says of it.

    times: how often a run calls it. products: loops counted every turn, those whose number of
    turns the data decide once. Of xla_operations and xla_moved the compiler counts every loop
    once. Bytes: arguments, results (those that take the place of an argument left out) and
    temporaries.
    """

    times: int
    products: Count
    xla_operations: float
    xla_moved: float
    arguments: int
    results: int
    temporaries: int

    @property
    def memory(self) -> int:
        """Bytes that it needs while it runs."""
        return self.arguments + self.results + self.temporaries


def read(preset: str) -> NoisyRecall:
    """The settings of a flag file; of a text, of which only the size counts, so many tokens."""
    values = flags.Values()
    flags.define(NoisyRecall, values)
    with user_errors():
        values([preset, f"--flagfile={PRESETS / preset}.flags"])
        config = flags.read(NoisyRecall, values)
    if config.noise:
        config = dataclasses.replace(config, noise=(), existing_noise=True, num_tokens=SYMBOLS)
    return config


def programs(config: NoisyRecall, *, accelerator: bool) -> dict[str, Compiled]:
    """Every program of a run, compiled as for this machine or as an accelerator is given it."""
    setup = recall_setup.build(config)
    trainer = setup.trainer()
    state = trainer.abstract()
    sliced = slices.for_accelerator() if accelerator else contextlib.nullcontext()
    with sliced:
        traced = {"step": (config.steps, trainer.traced())}
        for one in setup.measurements():
            measured = trainer.measure(one.measure).traced(state)
            traced[f"record of {one.name}"] = len(one.steps), measured
        traced["evaluation"] = 1, trainer.measure(setup.last()).traced(state)
    return {name: compiled(name, *one) for name, one in traced.items()}


def compiled(name: str, times: int, traced: jax.stages.Traced) -> Compiled:
    """One program through the compiler."""
    stop.check()
    stage(f"compiling: {name}")
    made: Any = traced.lower().compile()
    memory, cost = made.memory_analysis(), made.cost_analysis()
    return Compiled(
        times,
        count(traced.jaxpr.jaxpr, turns=1),
        cost.get("flops", 0.0),
        cost.get("bytes accessed", 0.0),
        memory.argument_size_in_bytes,
        memory.output_size_in_bytes - memory.alias_size_in_bytes,
        memory.temp_size_in_bytes,
    )


def bounds(found: Mapping[str, Compiled], device: str) -> dict[str, tuple[float, float]]:
    """Seconds of each program by operations and by bandwidth, from the maker's figures.

    By bandwidth: where the factors and the result of every product pass through memory, and
    everything else is part of them.
    """
    of = DEVICES[device]
    return {
        name: (one.products.operations / of.operations["float32"],
               one.products.moved / of.bandwidth)
        for name, one in found.items()
    }  # fmt: skip


def summarise(preset: str, device: str) -> dict[str, float]:
    """Compile for this machine and as for the device, print both tables, return all figures."""
    config, summary = read(preset), {}
    with user_errors():
        recall_setup.build(config).trainer()
    places = {"here": programs(config, accelerator=False)}
    places[device] = programs(config, accelerator=True)
    for place, found in places.items():
        for name, one in found.items():
            for field, value in _flat(one).items():
                summary[f"{place}/{name.replace(' ', '_')}/{field}"] = value
    limits = bounds(places[device], device)
    for name, (by_operations, by_bandwidth) in limits.items():
        label = f"{device}/{name.replace(' ', '_')}"
        summary[f"{label}/seconds_by_operations"] = by_operations
        summary[f"{label}/seconds_by_bandwidth"] = by_bandwidth
    report(preset, device, places, limits)
    return summary


def report(
    preset: str,
    device: str,
    places: Mapping[str, Mapping[str, Compiled]],
    limits: Mapping[str, tuple[float, float]],
) -> None:
    """Print what each program is and what it says of the device."""
    for place, found in places.items():
        print(f"As {'this machine' if place == 'here' else f'one {place}'} is given the programs:")
        print(table.text([{"program": name} | _columns(one) for name, one in found.items()]))
        print()
    found, of = places[device], DEVICES[device]
    least = {name: found[name].times * max(both) for name, both in limits.items()}
    rows = [
        {
            "program": name,
            "calls": found[name].times,
            "ms by operations": 1e3 * both[0],
            "ms by bandwidth": 1e3 * both[1],
            "s in the run": least[name],
        }
        for name, both in limits.items()
    ]
    print(table.text(rows))
    most = max(one.memory for one in found.values())
    fits = "fits" if most < of.memory else "does not fit"
    print(
        f"{preset} on one {device}: at least {sum(least.values()):.3g} s by the maker's "
        f"{of.operations['float32'] / 1e12:g} TFLOP/s in float32 and {of.bandwidth / 1e12:g} TB/s, "
        "decompositions and all but products left out, loops whose length the data decide counted "
        f"once. {most / 1e9:.2g} GB {fits} into "
        f"{of.memory / 1e9:.0f} GB. A bound and no measurement: nothing was run"
    )


def _flat(one: Compiled) -> dict[str, float]:
    fields = {k: v for k, v in vars(one).items() if k != "products"}
    return fields | {f"products_{k}": v for k, v in one.products._asdict().items()}


def _columns(one: Compiled) -> dict[str, float]:
    return {
        "GFLOP of products": one.products.operations / 1e9,
        "their GB": one.products.moved / 1e9,
        "decompositions": one.products.decompositions,
        "XLA: GFLOP": one.xla_operations / 1e9,
        "GB": one.xla_moved / 1e9,
        "arguments MB": one.arguments / 1e6,
        "results MB": one.results / 1e6,
        "temporaries MB": one.temporaries / 1e6,
    }
