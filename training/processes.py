"""What several processes that train one run must agree on.

Each process runs the same program and holds the part of every array that lives on its devices.
All of them must enter the same compiled programs in the same order; what only one of them knows
(its clock, a signal it got) is sent to the others first. With one process all of this is free.
"""

from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def first() -> bool:
    """Whether this is the process that writes and prints: the only one, or number 0."""
    return jax.process_index() == 0


def anywhere(value: bool) -> bool:
    """Whether this is true in any process."""
    return value if jax.process_count() == 1 else bool(np.any(_all(value)))


def least(value: int) -> int:
    """The smallest value any process has."""
    return value if jax.process_count() == 1 else int(np.min(_all(value)))


def tell(text: str) -> str:
    """The text that process 0 passes, in every process; at most ROOM bytes of it."""
    if jax.process_count() == 1:
        return text
    room = np.zeros(ROOM, np.uint8)
    encoded = np.frombuffer(text.encode()[:ROOM], np.uint8)
    room[: encoded.size] = encoded
    received = np.asarray(multihost_utils.broadcast_one_to_all(room))
    return received.astype(np.uint8).tobytes().rstrip(b"\0").decode(errors="ignore")


def whole(leaf: Any) -> np.ndarray:
    """An array of all devices on this host; a collective where it lives on other processes too."""
    if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
        if leaf.is_fully_replicated:
            return np.asarray(leaf)
        return np.asarray(multihost_utils.process_allgather(leaf, tiled=True))
    return np.asarray(leaf)


ROOM = 2048


def _all(value: int) -> np.ndarray:
    return np.asarray(multihost_utils.process_allgather(np.asarray(value)))
