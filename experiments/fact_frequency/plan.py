"""What is compared: runs that differ in the seed alone, their facts, their checkpoints."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from truncated_weights.experiments.fact_frequency.checkpoint import candidates
from truncated_weights.experiments.fact_frequency.facts import PARTS, Facts, read, same
from truncated_weights.experiments.fact_frequency.settings import FactFrequency
from truncated_weights.experiments.run import provenance, stop
from truncated_weights.experiments.run.inputs import model_setup
from truncated_weights.experiments.run.program import UserError
from truncated_weights.experiments.run.progress import stage

# Before the 64th step nothing is known yet, not even the noise.
FIRST = 64


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What the flags ask for, checked without reading weights."""

    config: FactFrequency
    facts: Facts
    checkpoints: Mapping[str, Mapping[int, Path]]

    @property
    def names(self) -> tuple[str, ...]:
        """What the runs are called in tables: the last part of their paths where that tells them
        apart, from each other and from "all" of them.
        """
        short = tuple(Path(run).resolve().name for run in self.checkpoints)
        apart = len({*short, "all"}) == len(short) + 1
        return short if apart else tuple(self.checkpoints)

    @property
    def steps(self) -> tuple[int, ...]:
        """The steps of every run."""
        return tuple(next(iter(self.checkpoints.values())))


def prepare(config: FactFrequency) -> Plan:
    """Find facts and checkpoints of every run; UserError says what cannot be."""
    facts = read(config.runs[0])
    found: dict[str, dict[int, Path]] = {}
    for run in config.runs:
        if not same(facts, read(run)):
            raise UserError(f"--runs: {run} asks for other facts than {config.runs[0]}")
        found[run] = _steps(Path(run) / "checkpoints", config.steps)
        if set(found[run]) != set(found[config.runs[0]]):
            raise UserError(f"--runs: {run} has other steps than {config.runs[0]}; see --steps")
    first = next(iter(found[config.runs[0]].values()))
    candidates(config, model_setup.read_architecture(str(first)))
    return Plan(config, facts, found)


def digest(wanted: tuple[int, ...], run: str) -> str:
    """Digest of what is read of a run: its prompts, and the weights at each step."""
    found = [provenance.of_files(Path(run) / "prompts" / part) for part in PARTS]
    for path in _steps(Path(run) / "checkpoints", wanted).values():
        stage(f"reading the weights of {path}")
        stop.check()
        found.append(provenance.of_files(path))
    return provenance.of_text(" ".join(found))


def _steps(folder: Path, wanted: tuple[int, ...]) -> dict[int, Path]:
    names = [path.name.removeprefix("step") for path in folder.glob("step*")]
    there = sorted(int(name) for name in names if name.isdecimal())
    chosen = sorted(wanted) or [step for step in there if step >= FIRST]
    if missing := [step for step in chosen if step not in there]:
        raise UserError(f"--steps: {folder} has no step{missing[0]}")
    if not chosen:
        raise UserError(f"--runs: {folder} holds no stepN directory from step {FIRST} on")
    return {step: folder / f"step{step}" for step in chosen}
