"""How much each verification simulates: the quick and the full version."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import NamedTuple

import xarray as xr

from truncated_weights.experiments.verify_theory.table import Row
from truncated_weights.training.records import Records


class Outcome(NamedTuple):
    """What judging one family returns: its rows, and further blocks that its figures show."""

    rows: list[Row]
    shown: Mapping[str, xr.Dataset] = {}


class Family(NamedTuple):
    """Predictions of one kind, in two halves that do not see each other.

    simulate: what is measured, by simulation alone; nothing of theory/ is asked, so that neither
    a setting nor an allowance of the simulation can follow a wrong formula. Names of blocks begin
    with the family's, so that those of all families fit into one file.
    judge: the rows, from what was measured and from theory/.
    """

    simulate: Callable[["Effort", int], Records]
    judge: Callable[["Effort", Records], Outcome]


def at(block: xr.Dataset, **where: object) -> xr.Dataset:
    """A block that `records.labelled` made, whose coordinates are text, at these coordinates."""
    return block.sel({axis: str(place) for axis, place in where.items()})


@dataclasses.dataclass(frozen=True)
class Effort:
    """Sizes of the simulations.

    memory_step: step size of the long runs for N = 16, in proportion to N elsewhere.
    embedding_draws: random embeddings per d_model, and random inputs of a memory.
    sequences: sampled for moments and gradients. margin_sizes: N of the margin rows.
    margin_sequences: sampled for each of those.
    replicates: sampled gradients per m. sample_sizes: m. singles: sequences taken one by one.
    score_sizes: N of the attention scores that are extrapolated.
    training_sizes: N of the learning times. training_step, training_batch: of those runs.
    overlaps, window_alphas: r and alpha of the memories with frequencies, every pair.
    path_sizes: N at which the paths of attention are measured.
    lazy_seeds: Transformers whose kernel and first steps are measured.
    noise_points: (N, alpha) at which the half time of the noise is measured.
    first_draws: gradients at the start, per batch size of first_batches.
    label_draws: batches of labels drawn by themselves, and points of other cheap sampling.
    plateau_cells: (learning rate, batch, momentum) of the plateaus, plateau_seeds networks each.
    balls: heavy balls watched at once.
    """

    memory_step: float
    embedding_draws: int
    sequences: int
    margin_sizes: tuple[int, ...]
    margin_sequences: int
    replicates: int
    sample_sizes: tuple[int, ...]
    singles: int
    score_sizes: tuple[int, ...]
    training_sizes: tuple[int, ...]
    training_step: float
    training_batch: int
    overlaps: tuple[float, ...]
    window_alphas: tuple[float, ...]
    path_sizes: tuple[int, ...]
    lazy_seeds: int
    noise_points: tuple[tuple[int, float], ...]
    first_draws: int
    first_batches: tuple[int, ...]
    label_draws: int
    plateau_cells: tuple[tuple[float, int, float], ...]
    plateau_seeds: int
    balls: int


QUICK = Effort(
    memory_step=4.0,
    embedding_draws=200,
    sequences=2**16,
    margin_sizes=(8, 16, 32),
    margin_sequences=2**16,
    replicates=1000,
    sample_sizes=(8, 64, 512),
    singles=2**17,
    score_sizes=(12, 24),
    training_sizes=(12, 24),
    training_step=1.0,
    training_batch=64,
    overlaps=(0.2, 0.5),
    window_alphas=(0.3,),
    path_sizes=(8, 32),
    lazy_seeds=24,
    noise_points=((32, 0.3), (32, 0.5)),
    first_draws=100,
    first_batches=(8, 64),
    label_draws=200_000,
    plateau_cells=((0.03, 32, 0.9),),
    plateau_seeds=1,
    balls=20_000,
)
FULL = Effort(
    memory_step=1.0,
    embedding_draws=1000,
    sequences=2**19,
    margin_sizes=(8, 16, 32, 64),
    margin_sequences=2**17,
    replicates=2400,
    sample_sizes=(8, 64, 512, 8192),
    singles=2**20,
    score_sizes=(16, 32),
    training_sizes=(12, 24, 40),
    training_step=0.5,
    training_batch=64,
    overlaps=(0.2, 0.5, 0.8),
    window_alphas=(0.1, 0.3, 0.45),
    path_sizes=(8, 16, 32, 64),
    lazy_seeds=64,
    noise_points=tuple((n, a) for n in (16, 32, 64) for a in (0.2, 0.3, 0.5)),
    first_draws=400,
    first_batches=(8, 32, 128),
    label_draws=2_000_000,
    plateau_cells=tuple(
        (r, b, m) for b in (16, 64) for r in (0.015, 0.03, 0.06) for m in (0.8, 0.9)
    ),
    plateau_seeds=2,
    balls=100_000,
)
