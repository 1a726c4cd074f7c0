"""A noisy-recall run in one call, without a run directory.

history = toy.train(alpha=0.3, steps=500)
history["clean/1.mlp@0/p_correct"]          # one number per record
history.plot().savefig("recall.png")
"""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from toy import transformer
from toy.settings import NoisyRecall
from toy.setup import Setup, build
from training import loop, seeds
from training.trajectory import Trajectory

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, eq=False)
class History:
    """What a run was, what was recorded along it, and the weights it ended with.

    history[name] is [records], or [runs, records] where there are several seeds; names are
    SET/MODEL/METRIC as in summary.json, recall/..., feed_forward_margin/..., spectrum/..., loss.
    steps: when those of SET/MODEL/METRIC were taken; steps_of(name) for any other.
    weights: trained and frozen together, with a leading axis of runs where there are several.
    """

    setup: Setup
    arrays: Mapping[str, np.ndarray]
    weights: Any

    def __getitem__(self, name: str) -> np.ndarray:
        values = self.arrays[f"{self._group(name)}/{name}"]
        return values[:, 0] if values.shape[1] == 1 else np.moveaxis(values, 1, 0)

    @property
    def steps(self) -> np.ndarray:
        """Steps at which the models were measured."""
        return self.arrays["models/steps"]

    def steps_of(self, name: str) -> np.ndarray:
        """Steps at which this quantity was measured."""
        return self.arrays[f"{self._group(name)}/steps"]

    def names(self) -> tuple[str, ...]:
        """All that was recorded."""
        return tuple(name.split("/", 1)[1] for name in self.arrays if not name.endswith("/steps"))

    def plot(self) -> "Figure":
        """p(correct) and p(noise) on clean sequences, full model and followed cuts.

        Means over the seeds that did not leave the finite numbers.
        """
        from matplotlib.figure import Figure

        left = seeds.surviving(self.arrays)
        figure = Figure(figsize=(8, 3), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, metric in zip(panels, ("p_correct", "p_noise"), strict=True):
            for model in ("full", *map(str, self.setup.interventions)):
                values = left[f"models/clean/{model}/{metric}"]
                axes.plot(self.steps, seeds.mean(values), label=model)
            axes.set_xscale("symlog", linthresh=1)
            axes.set_xlabel("step")
            axes.set_title(f"{metric}, clean sequences")
        panels[1].legend(fontsize="small")
        return figure

    def _group(self, name: str) -> str:
        for group in ("models", "mechanisms", "spectra", "bigrams", "train"):
            if f"{group}/{name}" in self.arrays:
                return group
        raise KeyError(f"{name} was not recorded; history.names() lists what was")


def train(**settings: Any) -> History:
    """Train with these settings (toy.settings.NoisyRecall has them all, with their defaults).

    Raises ValueError naming a setting that cannot be, NonFiniteError where every seed diverges.
    """
    config = NoisyRecall(**settings)
    setup, trajectory = build(config), Trajectory()
    with jax.default_matmul_precision(config.matmul_precision):
        end = loop.run(setup.trainer(), setup.measurements(), report=trajectory.add)
    weights = transformer.combine(end.state.params, end.state.frozen)
    if config.num_seeds == 1:
        weights = jax.tree.map(lambda leaf: leaf[0], weights)
    return History(setup, trajectory.arrays(), weights)
