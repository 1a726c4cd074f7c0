"""How much each verification simulates: the quick and the full version."""

import dataclasses
from typing import NamedTuple

import numpy as np

from experiments.verify_theory.table import Row


class Outcome(NamedTuple):
    """What one family of predictions returns: its rows and what its figures are drawn from."""

    rows: list[Row]
    arrays: dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Effort:
    """Sizes of the simulations.

    memory_step: step size of the long runs for N = 16, in proportion to N elsewhere.
    embedding_draws: random embeddings per d_model.
    sequences: sampled for moments and gradients. margin_sizes: N of the margin rows.
    replicates: sampled gradients per m. sample_sizes: m.
    training_sizes: N of the learning times. training_step, training_batch: of those runs.
    overlaps, window_alphas: r and alpha of the memories with frequencies, every pair.
    lazy_seeds: Transformers whose kernel and first steps are measured.
    noise_points: (N, alpha) at which the half time of the noise is measured.
    first_draws: gradients at the start, per batch size of first_batches.
    plateau_cells: (learning rate, batch, momentum) of the plateaus, plateau_seeds networks each.
    """

    memory_step: float
    embedding_draws: int
    sequences: int
    margin_sizes: tuple[int, ...]
    replicates: int
    sample_sizes: tuple[int, ...]
    training_sizes: tuple[int, ...]
    training_step: float
    training_batch: int
    overlaps: tuple[float, ...]
    window_alphas: tuple[float, ...]
    lazy_seeds: int
    noise_points: tuple[tuple[int, float], ...]
    first_draws: int
    first_batches: tuple[int, ...]
    plateau_cells: tuple[tuple[float, int, float], ...]
    plateau_seeds: int


QUICK = Effort(
    memory_step=2.0,
    embedding_draws=200,
    sequences=2**16,
    margin_sizes=(8, 16, 32),
    replicates=400,
    sample_sizes=(8, 64, 512, 2048),
    training_sizes=(12, 24),
    training_step=1.0,
    training_batch=64,
    overlaps=(0.2, 0.5),
    window_alphas=(0.3,),
    lazy_seeds=4,
    noise_points=((32, 0.3), (32, 0.5)),
    first_draws=100,
    first_batches=(8, 64),
    plateau_cells=((0.03, 32, 0.9),),
    plateau_seeds=1,
)
FULL = Effort(
    memory_step=0.5,
    embedding_draws=1000,
    sequences=2**19,
    margin_sizes=(8, 16, 32, 64),
    replicates=2400,
    sample_sizes=(8, 64, 512, 8192),
    training_sizes=(12, 24, 40),
    training_step=0.5,
    training_batch=64,
    overlaps=(0.2, 0.5, 0.8),
    window_alphas=(0.1, 0.3, 0.45),
    lazy_seeds=8,
    noise_points=tuple((n, a) for n in (16, 32, 64) for a in (0.2, 0.3, 0.5)),
    first_draws=400,
    first_batches=(8, 32, 128),
    plateau_cells=tuple(
        (r, b, m) for b in (16, 64) for r in (0.015, 0.03, 0.06) for m in (0.8, 0.9)
    ),
    plateau_seeds=2,
)
