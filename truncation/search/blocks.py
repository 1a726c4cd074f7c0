"""Every head's part of a matrix as a matrix of its own, which directions are chosen from.

Head h of H reads and writes through block W_h of q_proj, k_proj or v_proj = [W_1 ... W_H] (columns)
or out_proj = [W_1; ...; W_H] (rows). A singular direction of the whole matrix mixes heads, one of
W_h = sum_i sigma_i u_i v_i^T is the head's alone. With y = x W, g = dL/dy, and R and C the rows and
columns of W_h, the derivative of L in the mask m_i of a direction of W_h is

    dL/dm_i = sigma_i (x_R u_i) (g_C v_i),

so that one x and one g of the whole matrix score the directions of all its blocks; and the SVDs of
H blocks [d, d / H] take about d^3 / H operations where that of the whole takes d^3.
"""

import dataclasses

from truncated_weights.truncation.address import Matrices, Params, block
from truncated_weights.truncation.notation import Key
from truncated_weights.truncation.search.decompositions import Decompositions
from truncated_weights.truncation.search.problem import Choice


@dataclasses.dataclass(frozen=True)
class HeadBlock:
    """rows and columns of the matrix `whole`.

    key: (3, "k_proj") of an undivided matrix, (3, "k_proj[5]") of the head of index 5.
    """

    key: Key
    whole: Key
    rows: slice
    columns: slice


def blocks_of(matrices: Matrices, whole: Key, params: Params) -> list[HeadBlock]:
    """The blocks of one matrix, as Address.heads divides it, from the first head on."""
    d_in, d_out = matrices[whole].read(params).shape
    down, across = matrices[whole].heads
    if down == across == 1:
        return [HeadBlock(whole, whole, slice(0, d_in), slice(0, d_out))]
    found = []
    for i in range(down):
        for j in range(across):
            key = (whole[0], f"{whole[1]}[{max(i, j)}]")
            rows = slice(i * d_in // down, (i + 1) * d_in // down)
            columns = slice(j * d_out // across, (j + 1) * d_out // across)
            found.append(HeadBlock(key, whole, rows, columns))
    return found


def decompositions(matrices: Matrices, blocks: list[HeadBlock], params: Params) -> Decompositions:
    """Decompositions of every block; the whole matrices have addresses too, to hold biases."""
    parts = {b.key: block(matrices[b.whole], b.rows, b.columns) for b in blocks}
    return Decompositions({**parts, **{b.whole: matrices[b.whole] for b in blocks}}, params)


@dataclasses.dataclass(frozen=True, eq=False)
class BlockChoice(Choice):
    """Components chosen from blocks: masks are by block, biases by whole matrix."""

    blocks: Decompositions = dataclasses.field(kw_only=True)

    def params(self, decompositions: Decompositions) -> Params:
        """New parameters after the choice; those of the whole matrices are not needed."""
        return super().params(self.blocks.at(decompositions.params))
