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
from bridge.network import Block, Packing, operations

# Nodes must be fewer than this share of places: copies between nodes and rows cost something too.
_FEWER = 0.9
# And a forward pass must be spared so many floating-point operations, a tenth of a second of a
# CPU core: how many nodes there are is a shape of its own, for which everything compiles again.
_SPARED = 1e10


# Attention pads rows to the longest of so many blocks, at a multiple of so many tokens.
_BLOCKS, _MULTIPLE = 4, 4


class Packed(NamedTuple):
    """A batch with its nodes; see bridge.network.Packing. A row is one sequence of an example."""

    rows: Batch
    packing: Packing


def pack(batches: Sequence[Batch], config: Config) -> list[Batch | Packed]:
    """Batches of one shape, packed to one shape; or as they are, where that saves too little.

    A masked model looks ahead, and a LongRope turns a beginning by the length of the whole text:
    there only padding is left out.
    """
    share = not (config.masked or isinstance(config.rope_scaling, LongRope))
    masks = [flat(batch.mask) for batch in batches]
    found = [
        tree(flat(batch.tokens), mask, share=share)
        for batch, mask in zip(batches, masks, strict=True)
    ]
    size = _room(max(len(first) for _, first in found))
    places = found[0][0].size
    spared = (places - size) * config.num_layers * operations.layer(config, 1)
    if size > _FEWER * places or len(batches) * spared < _SPARED:
        return list(batches)
    shapes = _shapes(masks)
    packed: list[Batch | Packed] = []
    for batch, mask, (nodes, first) in zip(batches, masks, found, strict=True):
        blocks, held = _blocks(mask, nodes, shapes)
        # What fills up is a node again that is there; nobody reads it.
        first, held = (np.pad(x, (0, size - len(x)), mode="edge") for x in (first, held))
        packed.append(Packed(batch, Packing(nodes, first, blocks, held)))
    return packed


def _shapes(masks: Sequence[Bool[np.ndarray, "rows length"]]) -> list[tuple[int, int]]:
    """How many rows each block has, shortest rows first, and how long the longest may be."""
    rows, length = masks[0].shape
    shapes: list[tuple[int, int]] = []
    for part in np.array_split(np.arange(rows), min(_BLOCKS, rows)):
        longest = max(int(np.sort(mask.sum(axis=1))[part[-1]]) for mask in masks)
        width = min(-(-max(longest, 1) // _MULTIPLE) * _MULTIPLE, length)
        # Neighbours of one length are one block.
        before = shapes.pop()[0] if shapes and shapes[-1][1] == width else 0
        shapes.append((before + len(part), width))
    return shapes


def _blocks(
    mask: Bool[np.ndarray, "rows length"],
    nodes: Int[np.ndarray, "rows length"],
    shapes: Sequence[tuple[int, int]],
) -> tuple[tuple[Block, ...], Int[np.ndarray, " nodes"]]:
    """The rows by their lengths, and for each node a place of the blocks that holds it."""
    order = np.argsort(mask.sum(axis=1), kind="stable").astype(np.int32)
    held = np.zeros(nodes.max() + 1, np.int32)
    blocks, taken, places = [], 0, 0
    for count, width in shapes:
        rows = order[taken : taken + count]
        block, real = Block(rows, nodes[rows, :width]), mask[rows, :width]
        held[block.nodes[real]] = places + np.flatnonzero(real)
        blocks.append(block)
        taken, places = taken + count, places + real.size
    return tuple(blocks), held


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
    """The least of a few sizes that holds so many: at most a thirty-second more."""
    step = max(8, 1 << max(count.bit_length() - 6, 0))
    return -(-count // step) * step
