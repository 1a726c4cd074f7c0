"""A noisy-recall run as one object: made here in one call, or read from its directory.

run = toy.train(alpha=0.3, steps=500)
run.models.p_correct.sel(set="clean", model="1.mlp@0").mean("seed")     # [step]
run.plot().savefig("recall.png")

again = toy.open("runs/noisy_recall")
"""

import dataclasses
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import xarray as xr

from truncated_weights.toy import parts, transformer
from truncated_weights.toy.settings import NoisyRecall
from truncated_weights.toy.setup import Setup, build
from truncated_weights.training import loop, records, settings
from truncated_weights.training.checkpoint import Store
from truncated_weights.training.records import Recorder, Records
from truncated_weights.truncation.files import arrays, regular, room, strict

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Run:
    """What a run was, what was recorded along it, and the weights it ended with.

    config: its settings. records: blocks of labelled arrays (training/records.py): `models` by set
    and model, `mechanisms`, `spectra` by matrix and rank, `bigrams` where asked for, `train`;
    of a directory also `final`, on more sequences. run.models is run.records["models"].
    """

    config: NoisyRecall
    records: Records
    directory: Path | None = None
    state: Any = None

    def __getattr__(self, block: str) -> xr.Dataset:
        if block.startswith("_"):
            raise AttributeError(block)
        return getattr(self.records, block)

    def __repr__(self) -> str:
        changed = [
            f"{field.name}={getattr(self.config, field.name)!r}"
            for field in dataclasses.fields(self.config)
            if getattr(self.config, field.name) != field.default
        ]
        return f"Run({', '.join(changed)})\n{self.records!r}"

    @functools.cached_property
    def setup(self) -> Setup:
        """Language, task and model that the settings stand for."""
        return build(self.config)

    @functools.cached_property
    def weights(self) -> Any:
        """Trained and frozen together, with a leading axis of seeds where there are several.

        Of a directory: those of its last checkpoint. Raises ValueError where it has none.
        """
        state = self.state
        if state is None:
            assert self.directory is not None
            one = dataclasses.replace(self.config, devices=1)
            store = Store(self.directory / "checkpoints")
            state = store.restore(build(one).trainer().abstract())
            if state is None:
                raise ValueError(f"{self.directory} has no checkpoint")
        weights = transformer.combine(state.params, state.frozen)
        return weights if self.config.num_seeds > 1 else jax.tree.map(lambda x: x[0], weights)

    def plot(self) -> "Figure":
        """p(correct) and p(noise) on clean sequences, full model and followed cuts.

        Means over the seeds that did not leave the finite numbers.
        """
        from matplotlib.figure import Figure

        figure = Figure(figsize=(8, 3), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        clean = self.records.surviving().models.sel(set="clean").mean("seed")
        for axes, metric in zip(panels, ("p_correct", "p_noise"), strict=True):
            for model in ("full", *map(str, self.setup.interventions)):
                axes.plot(clean.step, clean[metric].sel(model=model), label=model)
            axes.set_xscale("symlog", linthresh=1)
            axes.set_xlabel("step")
            axes.set_title(f"{metric}, clean sequences")
        panels[1].legend(fontsize="small")
        return figure


def train(**settings: Any) -> Run:
    """Train with these settings (toy.settings.NoisyRecall has them all, with their defaults).

    attention and activation may be functions of your own (toy/parts.py). Raises ValueError naming
    a setting that cannot be, NonFiniteError where every seed diverges.
    """
    chosen = {"attention", "activation"} & settings.keys()
    own = {name: parts.spelled(settings[name]) for name in chosen}
    config = NoisyRecall(**(settings | own))
    setup = build(config)
    trainer = setup.trainer()
    recorder = Recorder(trainer.seeds)
    with jax.default_matmul_precision(config.matmul_precision):
        end = loop.run(trainer, setup.measurements(), report=recorder.add)
    return Run(config, recorder.records(), state=end.state)


def open(directory: str | Path) -> Run:
    """A run of experiments.noisy_recall, finished or not, of this version or of 0.1.

    Raises FileNotFoundError where there is none, ValueError where it is damaged or of another
    program.
    """
    folder = Path(directory)
    try:
        found = strict.parse(regular.text(folder / "config.json"))
        if found["program"] != "noisy_recall":
            raise ValueError(f"{folder} is a run of {found['program']}, not of noisy_recall")
        config = settings.of_flags(NoisyRecall, found["flags"])
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{folder}/config.json is not that of a run") from error
    return Run(config, _records(folder, config), folder)


def _records(folder: Path, config: NoisyRecall) -> Records:
    """records.nc, or trajectory.npz of version 0.1."""
    file, before = folder / records.FILE, folder / "trajectory.npz"
    if file.exists() or not before.exists():
        try:
            return records.decoded(regular.content(file))
        except records.DamagedRecordsError as error:
            raise ValueError(f"{file}: {error}") from error
    try:
        found = arrays.read(before)
    except (OSError, room.TooLargeError):
        raise
    except Exception as error:  # zipfile, zlib and numpy have an exception for every damage
        raise ValueError(f"{before} is damaged") from error
    return records.of_arrays(found, range(config.seed, config.seed + config.num_seeds))
