"""The settings of the verification; VerifyTheory() is the whole of it."""

import dataclasses

from truncated_weights.training.settings import Settings, setting

FAMILIES = (
    "memory", "frequent", "answers", "overlap", "decay", "chain", "first", "attention",
    "learning", "lazy", "transformer", "plateau",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class VerifyTheory(Settings):
    """Which predictions, and how much is simulated for them."""

    quick: bool = setting(False, "Smaller simulations: two minutes instead of perhaps ten.")
    families: tuple[str, ...] = setting(
        FAMILIES, "Predictions to verify.", choices=FAMILIES, required=True
    )
    seed: int = setting(0, "Seed of every simulation.", lower=0, upper=2**31)
