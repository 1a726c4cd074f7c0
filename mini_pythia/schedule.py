"""At which steps a run stops to save or to measure."""

import itertools


def checkpoint_steps(total: int, every: int) -> tuple[int, ...]:
    """Pythia's grid: 0, 1, 2, 4, ..., 512, then the multiples of `every`, and the last step.

    Raises ValueError unless total and every are positive.
    """
    for name, value in (("total", total), ("every", every)):
        if value < 1:
            raise ValueError(f"{name} must be positive, got {value}")
    doubling = [0, *(2**k for k in range(10))]
    evenly = range(every, total + 1, every)
    return tuple(
        sorted({step for step in (*doubling, *evenly) if step <= total} - _early(evenly) | {total})
    )


def _early(evenly: range) -> set[int]:
    # Below 512 the doubling grid alone is kept, as in Pythia.
    return {step for step in evenly if step < 512 and step & (step - 1)}


def record_steps(checkpoints: tuple[int, ...], every: int) -> tuple[int, ...]:
    """Steps at which the evaluation prompts are measured: all checkpoints, and every `every`."""
    return tuple(sorted({*checkpoints, *range(0, checkpoints[-1] + 1, every)}))


def segments(
    boundaries: tuple[int, ...], block: int, start: int = 0
) -> tuple[tuple[int, int], ...]:
    """The spans of steps to run without a stop, from `start` to the last boundary.

    Each ends at a boundary or at the end of a block of data, whichever comes first.
    """
    last = boundaries[-1]
    stops = sorted({*boundaries, *range(block, last, block)})
    stops = [start, *(stop for stop in stops if stop > start)]
    return tuple(itertools.pairwise(stops))
