"""What the makers of accelerators say of them, for counting what was not run."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Device:
    """What the maker says of an accelerator: memory, bytes and operations per second."""

    memory: float
    bandwidth: float
    operations: dict[str, float]


# float32 is that of the vector units: products here are exact, without TensorFloat32.
DEVICES = {
    "h200": Device(141e9, 4.8e12, {"float32": 67e12, "bfloat16": 989e12}),
    "h100": Device(80e9, 3.35e12, {"float32": 67e12, "bfloat16": 989e12}),
    "a100": Device(80e9, 2.0e12, {"float32": 19.5e12, "bfloat16": 312e12}),
}
