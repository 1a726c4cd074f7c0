"""The settings of the phase diagram; PhaseDiagram() is the default map."""

import dataclasses

from truncated_weights.training.settings import Settings, setting


@dataclasses.dataclass(frozen=True)
class PhaseDiagram(Settings):
    """What is mapped, and what is trained to check the map."""

    times: tuple[float, ...] = setting(
        (10.0, 100.0, 10000.0), "Flow times, one panel each.", lower=1e-6, upper=1e7, required=True
    )
    max_inputs: int = setting(64, "Largest N; the smallest is 2.", lower=3, upper=16_384)
    resolution: int = setting(40, "Values of alpha in the map.", lower=2, upper=10_000)
    points: int = setting(32, "Trained memories.", lower=1, upper=10_000)
    step_size: float = setting(
        0.125, "Learning rate over N, so that all N are as accurate.", lower=1e-6, upper=1.0
    )
    seed: int = setting(0, "Seed of where the points lie.", lower=0, upper=2**31)
