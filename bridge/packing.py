"""Examples arranged so that what several of them share is computed once, and padding not at all.

In a model that looks back only, what stands at a place is decided by the tokens up to there. Two
prompts "The mother tongue of Ann is" and "The mother tongue of Bo is" have four activations in
common, in every layer and after every cut. The distinct beginnings of all rows are the nodes of a
tree; the network's products run once for each node, and attention alone sees the rows
(bridge.network.Context). Scores are the same up to rounding.

Of the 10,000 CounterFact prompts of arXiv 2402.11655 in GPT-NeoX's tokens, 512 at random have
.78 nodes to a token and .30 to a place of the padded rectangle; 2,000 have .66 and .25.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from bridge.config import Config, LongRope
from bridge.encoding import Batch, flat
from bridge.network import operations

# Nodes must be fewer than this share of places: copies between nodes and rows cost something too.
_FEWER = 0.9
# And a forward pass must be spared so many floating-point operations, a tenth of a second of a
# CPU core: how many nodes there are is a shape of its own, for which everything compiles again.
_SPARED = 1e10


class Packed(NamedTuple):
    """A batch with its nodes; see bridge.network.Packing. A row is one sequence of an example."""

    rows: Batch
    nodes: Int[np.ndarray, "rows length"]
    first: Int[np.ndarray, " nodes"]


def pack(batches: Sequence[Batch], config: Config) -> list[Batch | Packed]:
    """Batches of one shape, packed to one shape; or as they are, where that saves too little.

    A masked model looks ahead, and a LongRope turns a beginning by the length of the whole text:
    there only padding is left out.
    """
    share = not (config.masked or isinstance(config.rope_scaling, LongRope))
    found = [tree(flat(batch.tokens), flat(batch.mask), share=share) for batch in batches]
    size = _room(max(len(first) for _, first in found))
    places = found[0][0].size
    spared = (places - size) * config.num_layers * operations.layer(config, 1)
    if size > _FEWER * places or len(batches) * spared < _SPARED:
        return list(batches)
    # What fills up is a node again that is there; nobody reads it.
    return [
        Packed(batch, nodes, np.pad(first, (0, size - len(first)), mode="edge"))
        for batch, (nodes, first) in zip(batches, found, strict=True)
    ]


def tree(
    tokens: Int[np.ndarray, "rows length"], mask: Bool[np.ndarray, "rows length"], *, share: bool
) -> tuple[Int[np.ndarray, "rows length"], Int[np.ndarray, " nodes"]]:
    """The node at each place (0 at padding) and a place of each node; rows padded on the right.

    Without `share` every real token is a node of its own.
    """
    rows, length = tokens.shape
    nodes = np.zeros((rows, length), np.int32)
    first: list[np.ndarray] = []
    count, behind = 0, np.zeros(rows, np.int64)
    for column in range(length):
        (real,) = np.nonzero(mask[:, column])
        # A node is its parent and its token; without sharing, its row.
        known = behind[real] * (int(tokens.max()) + 1) + tokens[real, column] if share else real
        _, where, which = np.unique(known, return_index=True, return_inverse=True)
        nodes[real, column] = behind[real] = count + which
        first.append(real[where] * length + column)
        count += len(where)
    return nodes, np.concatenate(first).astype(np.int32)


def _room(count: int) -> int:
    """The least of a few sizes that holds so many: at most an eighth more, few to compile."""
    step = max(8, 1 << max(count.bit_length() - 4, 0))
    return -(-count // step) * step
