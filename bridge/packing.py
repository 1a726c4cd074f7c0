"""Examples arranged so that what several of them share is computed once, and padding not at all.

Of a causal model, whose position p attends to positions q <= p alone, layer by layer

    x^{l+1}_{i,p} = f_l(x^l_{i,p}, {x^l_{i,q} : q <= p}),    x^0_{i,p} = E[z_{i,p}] + P_p

for row i; so by induction over l, x^l_{i,p} is a function of the beginning (z_{i,0}, ..., z_{i,p}):

    z_{i,0..p} = z_{j,0..p}   =>   x^l_{i,p} = x^l_{j,p}   in every layer, before and after any cut.

The distinct beginnings are the nodes of a prefix tree. node(i, p) is that of a place, first(n) one
place i * length + p of node n (the offset into the flattened batch), and

    X_n = x^l at first(n),   x^l_{i,p} = X_{node(i, p)}

take the stream from places to nodes and back. Whatever acts on one place at a time (embedding,
norms, every matrix) runs on X [1, nodes, d]; attention alone, where places meet, sees the rows
(bridge.network.Context), padded to the longest of their block instead of the longest of all.
Products of rows in another number may round otherwise: scores are the same up to rounding.

Of the 10,000 CounterFact prompts of arXiv 2402.11655 in GPT-NeoX's tokens, 512 at random have
.78 nodes to a token and .30 to a place of the padded rectangle; 2,000 have .66 and .25.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Int

from truncated_weights.bridge.config import Config, LongRope
from truncated_weights.bridge.encoding import EncodedBatch, check, flat
from truncated_weights.bridge.network import Context, PrefixTree, RowBlock, context_of, operations

# Nodes must be fewer than this share of places: copies between nodes and rows cost something too.
_FEWER = 0.9
# And a forward pass must be spared so many floating-point operations, a tenth of a second of a
# CPU core: how many nodes there are is a shape of its own, for which everything compiles again.
_SPARED = 1e10

# A batch is made of at least so many pieces, each of rows that begin alike.
_PIECES = 8

# Attention pads rows to the longest of so many blocks, at a multiple of so many tokens.
_BLOCKS, _MULTIPLE = 4, 4
# A row's queries, keys and values are copied, which costs it as much for every place as attending
# to so many (two CPU cores, 16 heads of 64).
_COPIES = 16


class PackedBatch(NamedTuple):
    """A batch and what attention knows of it, its nodes too; see bridge.network.PrefixTree.

    A row is one sequence of an example. The context is on the device: it goes into every layer.
    """

    rows: EncodedBatch
    context: Context

    @property
    def tree(self) -> PrefixTree:
        """Which places have which node."""
        assert self.context.tree is not None
        return self.context.tree


def pack(batches: Sequence[EncodedBatch], config: Config) -> list[EncodedBatch | PackedBatch]:
    """Batches of one shape, packed to one shape; or as they are, where that saves too little.

    A masked model looks ahead, and a LongRope turns a beginning by the length of the whole text:
    there only padding is left out. Raises ValueError for examples that the model cannot read.
    """
    for batch in batches:
        check(config, batch)
    share = shares(config)
    masks = [flat(batch.mask) for batch in batches]
    found = [
        tree(flat(batch.tokens), mask, share=share)
        for batch, mask in zip(batches, masks, strict=True)
    ]
    size = _rounded_up(max(len(first) for _, first in found))
    places = found[0][0].size
    spared = (places - size) * config.num_layers * operations.layer(config, 1)
    if size > _FEWER * places or len(batches) * spared < _SPARED:
        return list(batches)
    shapes = _shapes(masks)
    packed: list[EncodedBatch | PackedBatch] = []
    for batch, mask, (nodes, first) in zip(batches, masks, found, strict=True):
        blocks, in_blocks = _blocks(mask, nodes, shapes)
        # What fills up is a node again that is there; nobody reads it.
        first, in_blocks = (np.pad(x, (0, size - len(x)), mode="edge") for x in (first, in_blocks))
        arrays = jax.tree.map(jnp.asarray, PrefixTree(nodes, first, blocks, in_blocks))
        packed.append(PackedBatch(batch, context_of(jnp.asarray(mask), arrays)))
    return packed


def shares(config: Config) -> bool:
    """Whether a place is decided by the tokens up to it."""
    return not (config.masked or isinstance(config.rope_scaling, LongRope))


def arrange(batch: EncodedBatch, size: int, *, share: bool) -> Int[np.ndarray, " examples"]:
    """The order in which every `size` examples share what they can and have alike many nodes.

    All batches have the shape of the fullest, so that uneven ones would be filled up. Of an
    example the first row counts; its others begin like that one.
    """
    tokens, mask = batch.tokens[:, 0], batch.mask[:, 0]
    # Row beside row with the longest beginning in common.
    order = np.lexsort(np.where(mask, tokens, -1).T[::-1])
    tokens, mask = tokens[order], mask[order]
    alike = (tokens[1:] == tokens[:-1]) & mask[1:] & mask[:-1]
    common = np.cumprod(alike, axis=1).sum(axis=1) if share else np.zeros(len(order) - 1, np.int64)
    lengths = mask.sum(axis=1)
    own = lengths - np.append(0, common)

    # What begins otherwise shares nothing and may go anywhere; long runs of the same beginning
    # are cut, so that they can be dealt out evenly.
    begins = np.flatnonzero(np.append(True, common == 0))
    pieces: list[np.ndarray] = []
    for run in np.split(np.arange(len(order)), begins[1:]):
        pieces += np.array_split(run, -(-len(run) // max(1, size // _PIECES)))
    nodes = [own[piece].sum() + lengths[piece[0]] - own[piece[0]] for piece in pieces]
    each_row = np.array(nodes) / [len(piece) for piece in pieces]

    # Those with most nodes to a row first, always to the batch that has least so far: what comes
    # last then fills up the rows without making a batch much larger than another.
    free = np.full(-(-len(order) // size), size)
    free[-1] -= free.sum() - len(order)
    load = np.zeros(len(free))
    batches: list[list[np.ndarray]] = [[] for _ in free]
    for index in np.argsort(each_row, kind="stable")[::-1]:
        piece, each = pieces[index], each_row[index]
        while len(piece):
            chosen = int(np.argmin(np.where(free > 0, load, np.inf)))
            given, piece = piece[: free[chosen]], piece[free[chosen] :]
            batches[chosen].append(given)
            free[chosen] -= len(given)
            load[chosen] += each * len(given)
    return order[np.concatenate([piece for batch in batches for piece in batch])]


def _shapes(masks: Sequence[Bool[np.ndarray, "rows length"]]) -> list[tuple[int, int]]:
    """How many rows each block has, shortest rows first, and how long the longest may be.

    Of all ways to cut the rows into at most _BLOCKS, the one that leaves attention least to do.
    """
    length = masks[0].shape[1]
    # The row of each rank, as long as it is in any batch: all batches have blocks of one shape.
    longest = np.max([np.sort(mask.sum(axis=1)) for mask in masks], axis=0)
    widths = np.minimum(-(-np.maximum(longest, 1) // _MULTIPLE) * _MULTIPLE, length)
    # Rows of one width stay together, so only where the width changes may a block end.
    ends = [0, *(np.flatnonzero(np.diff(widths)) + 1).tolist(), len(widths)]

    def block(start: int, end: int) -> tuple[int, int]:
        return ends[end] - ends[start], int(widths[ends[end] - 1])

    @functools.cache
    def cheapest(end: int, most: int) -> tuple[int, tuple[tuple[int, int], ...]]:
        """What the rows before ends[end] cost in at most so many blocks, and these."""
        ways = []
        for start in range(end) if most > 1 else (0,):
            cost, before = cheapest(start, most - 1) if start else (0, ())
            count, width = block(start, end)
            ways.append((cost + count * width * (width + _COPIES), (*before, (count, width))))
        return min(ways)

    return list(cheapest(len(ends) - 1, _BLOCKS)[1])


def _blocks(
    mask: Bool[np.ndarray, "rows length"],
    nodes: Int[np.ndarray, "rows length"],
    shapes: Sequence[tuple[int, int]],
) -> tuple[tuple[RowBlock, ...], Int[np.ndarray, " nodes"]]:
    """The rows by their lengths, and for each node a place of the blocks that holds it."""
    order = np.argsort(mask.sum(axis=1), kind="stable").astype(np.int32)
    in_blocks = np.zeros(nodes.max() + 1, np.int32)
    blocks, taken, places = [], 0, 0
    for count, width in shapes:
        rows = order[taken : taken + count]
        block, real = RowBlock(rows, nodes[rows, :width]), mask[rows, :width]
        in_blocks[block.nodes[real]] = places + np.flatnonzero(real)
        blocks.append(block)
        taken, places = taken + count, places + real.size
    return tuple(blocks), in_blocks


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


def _rounded_up(count: int) -> int:
    """The least of a few sizes that holds so many: at most a sixty-fourth more."""
    step = max(8, 1 << max(count.bit_length() - 7, 0))
    return -(-count // step) * step
