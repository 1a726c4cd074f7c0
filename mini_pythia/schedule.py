"""At which steps a run stops to save or to measure."""


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
