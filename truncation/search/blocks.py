"""Every head's part of a matrix as a matrix of its own, which directions are chosen from.

A head reads and writes through a block of q_proj, k_proj, v_proj or out_proj; the singular
directions of the whole matrix mix heads, those of the block are the head's alone.
"""

import dataclasses

from truncation.address import Matrices, Params, block
from truncation.notation import Key
from truncation.search.decompositions import Decompositions
from truncation.search.problem import Choice


@dataclasses.dataclass(frozen=True)
class Block:
    """rows and columns of the matrix `whole`; key is "3.k_proj" for "3.k_proj" undivided, and
    its name is "k_proj[5]" for the fifth head's.
    """

    key: Key
    whole: Key
    rows: slice
    columns: slice


def blocks_of(matrices: Matrices, whole: Key, params: Params) -> list[Block]:
    """The blocks of one matrix, as Address.heads divides it."""
    d_in, d_out = matrices[whole].read(params).shape
    down, across = matrices[whole].heads
    if down == across == 1:
        return [Block(whole, whole, slice(0, d_in), slice(0, d_out))]
    found = []
    for i in range(down):
        for j in range(across):
            key = (whole[0], f"{whole[1]}[{max(i, j)}]")
            rows = slice(i * d_in // down, (i + 1) * d_in // down)
            columns = slice(j * d_out // across, (j + 1) * d_out // across)
            found.append(Block(key, whole, rows, columns))
    return found


def decompositions(matrices: Matrices, blocks: list[Block], params: Params) -> Decompositions:
    """Of every block; the whole matrices are known too, as places for biases."""
    parts = {b.key: block(matrices[b.whole], b.rows, b.columns) for b in blocks}
    return Decompositions({**parts, **{b.whole: matrices[b.whole] for b in blocks}}, params)


@dataclasses.dataclass(frozen=True, eq=False)
class BlockChoice(Choice):
    """Components chosen from blocks: masks are by block, biases by whole matrix."""

    blocks: Decompositions = dataclasses.field(kw_only=True)

    def params(self, decompositions: Decompositions) -> Params:
        """New parameters after the choice; those of the whole matrices are not needed."""
        return super().params(self.blocks.at(decompositions.params))
