"""The facts of a small Pythia: prompts, true frequencies, and which memory each belongs to."""

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from truncated_weights.bridge.tasks import Example
from truncated_weights.bridge.tasks.general import plain_jsonl
from truncated_weights.experiments.run.program import UserError, user_errors
from truncated_weights.training.records import Name, labelled

PARTS = ("validation", "test")
THIRDS = ("frequent", "middle", "rare")


@dataclasses.dataclass(frozen=True, eq=False)
class Kind:
    """Facts that are asked alike ("... is located in"): one memory.

    where: their places among all facts. share: how much of the facts' text they are.
    frequencies: of these facts alone, summing to one. answers: numbered from 0.
    """

    where: np.ndarray
    share: float
    frequencies: np.ndarray
    answers: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Facts:
    """Every fact once, those for choosing first.

    frequency: probability that a document of the corpus states the fact. alpha: of " the".
    """

    examples: tuple[Example, ...]
    frequency: np.ndarray
    alpha: float
    validation: np.ndarray
    test: np.ndarray

    @functools.cached_property
    def kinds(self) -> Mapping[str, Kind]:
        """The facts by how they are asked."""
        groups = np.array([example.group for example in self.examples])
        answers = np.array([example.answer for example in self.examples])
        found = {}
        for name in sorted(set(groups.tolist())):
            where = np.flatnonzero(groups == name)
            mass = self.frequency[where].sum()
            numbers = np.unique(answers[where], return_inverse=True)[1]
            found[name] = Kind(
                where, float(mass / self.frequency.sum()), self.frequency[where] / mass, numbers
            )
        return found

    def labelled(self, values: Mapping[Name, Any]) -> xr.Dataset:
        """What is said of every fact as a block, with frequency and part of each, and alpha."""
        part = np.array(PARTS)[np.isin(np.arange(len(self.examples)), self.test).astype(int)]
        return labelled(values, {}).assign_coords(
            frequency=("fact", self.frequency), part=("fact", part), alpha=self.alpha
        )


def tested(block: xr.Dataset) -> xr.Dataset:
    """The facts for testing of a block that Facts.labelled made."""
    return block.isel(fact=block.part.values == "test")


def read(run: str) -> Facts:
    """The facts that a run of train_mini_pythia asks for; UserError where it has none."""
    parts: list[list[Example]] = []
    for part in PARTS:
        files = [Path(run) / "prompts" / part / f"facts_{third}.jsonl" for third in THIRDS]
        if missing := [file for file in files if not file.is_file()]:
            raise UserError(f"--runs: {missing[0]} is missing; expected a run of the small Pythia")
        with user_errors():
            parts.append([example for file in files for example in plain_jsonl.read(file)])
    examples = tuple(example for part in parts for example in part)
    if odd := [e.prompt for e in examples if not {"frequency", "p_the"} <= set(e.covariates)]:
        raise UserError(f"--runs={run}: {odd[0]!r} has no frequency or no p_the")
    alphas = {example.covariates["p_the"] for example in examples}
    frequency = np.array([example.covariates["frequency"] for example in examples])
    if len(alphas) > 1 or not 0.0 < min(alphas) < 1.0 or not frequency.min() > 0.0:
        raise UserError(f"--runs={run}: facts need one alpha above 0 and positive frequencies")
    half = len(parts[0])
    return Facts(examples, frequency, alphas.pop(), np.arange(half), np.arange(half, len(examples)))


def same(one: Facts, other: Facts) -> bool:
    """Whether two runs ask for the same facts, so that their seeds can be taken together."""
    return one.alpha == other.alpha and [_told(e) for e in one.examples] == [
        _told(e) for e in other.examples
    ]


def _told(example: Example) -> str:
    return json.dumps([example.prompt, example.answer, example.covariates["frequency"]])
