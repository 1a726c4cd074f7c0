"""Which stored tensor is which parameter, and the way between their layouts.

A family names its modules (`model.layers.{}.self_attn.q_proj`); their tensors follow from
the parameters: a norm's scale is NAME.weight, a kernel [d_in, d_out] is NAME.weight
[d_out, d_in], a bias NAME.bias. Four things may differ, each one field of Family:

    fused     several matrices are one stored tensor: NeoX's query_key_value has its rows
              ordered [head, query key or value, head_dim], the others one after the other
    columns   GPT-2 stores [d_in, d_out]
    pairs     GPT-J rotates neighbouring dimensions (2i, 2i + 1), everything else here the
              halves (i, i + r / 2): reordering the rows of q and k, r even ones before r odd
              ones in every head, turns one into the other without changing any score

A matrix kept as two thin factors is stored, in this package's own factored.safetensors, as
NAME.factor_in [rank, d_in] and NAME.factor_out [d_out, rank] in place of NAME.weight, its
parameters kernel_in [d_in, rank] and kernel_out [rank, d_out] in place of kernel. Matrices
that were fused are then stored apart, as NAME.q_proj..., and in this package's row order.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import Any

import numpy as np

from truncated_weights.bridge import module
from truncated_weights.bridge.config import Config
from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.families.family import Family

Path = tuple[str | int, ...]
Ranks = Mapping[tuple[int, str], int]
_BEFORE = ("embed_in", "positions", "token_types", "embed_norm")
_KINDS = {"scale": "weight", "kernel": "weight", "embedding": "weight", "bias": "bias"}


@dataclasses.dataclass(frozen=True, eq=False)
class Rule:
    """One stored tensor: its shape, the parameters it fills, and in which order.

    transposed says that a parameter is [d_in, d_out] where the file has [d_out, d_in].
    orders, where rows are fused or reordered, hold one array per parameter: its output j is
    the stored output orders[p][j]. Outputs lie along `axis` of the stored tensor.
    """

    shape: tuple[int, ...]
    paths: tuple[Path, ...]
    transposed: bool = False
    axis: int = 0
    orders: tuple[np.ndarray, ...] | None = None

    @property
    def parameter_shapes(self) -> tuple[tuple[int, ...], ...]:
        """The shape of each parameter this tensor fills."""
        shapes = []
        for index in range(len(self.paths)):
            shape = list(self.shape)
            if self.orders is not None:
                shape[self.axis] = len(self.orders[index])
            shapes.append(tuple(shape[::-1] if self.transposed else shape))
        return tuple(shapes)

    def place(self, parameters: Sequence[np.ndarray], start: int, block: np.ndarray) -> None:
        """Write a block of stored rows, the first of them row `start`, into the parameters."""
        stop = start + len(block)
        for index, parameter in enumerate(parameters):
            target = parameter.T if self.transposed else parameter
            if self.orders is None:
                target[start:stop] = block
            elif self.axis == 1:
                target[start:stop] = block[:, self.orders[index]]
            else:
                order = self.orders[index]
                here = np.flatnonzero((order >= start) & (order < stop))
                target[here] = block[order[here] - start]

    def assemble(self, parameters: Sequence[np.ndarray]) -> np.ndarray:
        """The stored tensor from its parameters; the inverse of place."""
        parts = [p.T if self.transposed else p for p in parameters]
        if self.orders is None:
            return parts[0]
        whole = np.empty(self.shape, parts[0].dtype)
        for part, order in zip(parts, self.orders, strict=True):
            if self.axis == 1:
                whole[:, order] = part
            else:
                whole[order] = part
        return whole


def matrix_name(family: Family, layer: int, matrix: str) -> str:
    """The stored name of a matrix of a layer, without .weight; of its own where it is fused."""
    stored = family.matrices[matrix]
    fused = list(family.matrices.values()).count(stored) > 1
    name = f"{family.layer.format(layer)}.{stored}"
    return f"{name}.{matrix}" if fused else name


def _orders(
    family: Family, config: Config, members: Sequence[str]
) -> tuple[np.ndarray, ...] | None:
    """Where the outputs of matrices that share a stored tensor lie in it; None if plainly."""
    sizes = [config.matrix_shape(name)[1] for name in members]
    if len(members) == 1:
        if family.pairs and members[0] in ("q_proj", "k_proj"):
            return (_halves(config, sizes[0]),)
        return None
    if family.fused == "heads":
        rows = np.arange(sum(sizes)).reshape(-1, len(members), config.head_dim)
        return tuple(rows[:, index].reshape(-1) for index in range(len(members)))
    ends = np.cumsum(sizes)
    return tuple(np.arange(end - size, end) for end, size in zip(ends, sizes, strict=True))


def _halves(config: Config, size: int) -> np.ndarray:
    """In every head the rotated dimensions 0 2 4 ... 1 3 5 ..., the rest as they are."""
    r = config.rotary_dim
    head = np.concatenate([np.arange(0, r, 2), np.arange(1, r, 2), np.arange(r, config.head_dim)])
    return (np.arange(0, size, config.head_dim)[:, None] + head[None]).reshape(-1)


def _plain(name: str, leaves: Mapping[str, tuple[int, ...]], path: Path) -> dict[str, Rule]:
    """A module whose tensors are its parameters, one to one."""
    return {
        f"{name}.{_KINDS[leaf]}": Rule(
            shape[::-1] if leaf == "kernel" else shape, ((*path, leaf),), leaf == "kernel"
        )
        for leaf, shape in leaves.items()
    }


def _shapes(leaves: Mapping[str, object]) -> dict[str, tuple[int, ...]]:
    order = sorted(leaves, key=lambda leaf: (leaf == "bias", leaf))
    return {leaf: leaves[leaf].shape for leaf in order}  # type: ignore[attr-defined]


def _outer(
    family: Family, shapes: Mapping[str, Any], names: Sequence[str]
) -> Iterator[tuple[str, Rule]]:
    """The rules of modules outside the layers, as far as the architecture has them."""
    for name in names:
        if name in shapes:
            yield from _plain(family.outer[name], _shapes(shapes[name]), (name,)).items()


def _matrices(
    family: Family, config: Config, layer: int, ranks: Ranks
) -> Iterator[tuple[str, Rule]]:
    """The rules of a layer's matrices and biases, fused ones in one."""
    for stored in dict.fromkeys(family.matrices.values()):
        members = [n for n, s in family.matrices.items() if s == stored and n in config.matrices]
        if not members:
            continue
        name, orders = f"{family.layer.format(layer)}.{stored}", _orders(family, config, members)
        d_in = config.matrix_shape(members[0])[0]
        d_out = sum(config.matrix_shape(member)[1] for member in members)
        paths: tuple[Path, ...] = tuple(("layers", layer, member) for member in members)
        if any((layer, member) in ranks for member in members):
            for member in members:
                yield from _apart(family, config, layer, member, ranks)
        else:
            kernels = tuple((*path, "kernel") for path in paths)
            if family.columns:
                yield f"{name}.weight", Rule((d_in, d_out), kernels, axis=1, orders=orders)
            else:
                yield f"{name}.weight", Rule((d_out, d_in), kernels, True, orders=orders)
        if members[0] in config.biases:
            biases = tuple((*path, "bias") for path in paths)
            yield f"{name}.bias", Rule((d_out,), biases, orders=orders)


def _apart(
    family: Family, config: Config, layer: int, matrix: str, ranks: Ranks
) -> Iterator[tuple[str, Rule]]:
    """A kernel stored on its own, whole or as two factors."""
    name, path = matrix_name(family, layer, matrix), ("layers", layer, matrix)
    d_in, d_out = config.matrix_shape(matrix)
    if (layer, matrix) not in ranks:
        yield f"{name}.weight", Rule((d_out, d_in), ((*path, "kernel"),), True)
        return
    rank = ranks[layer, matrix]
    yield f"{name}.factor_in", Rule((rank, d_in), ((*path, "kernel_in"),), True)
    yield f"{name}.factor_out", Rule((d_out, rank), ((*path, "kernel_out"),), True)


def rules(family: Family, config: Config, ranks: Ranks | None = None) -> dict[str, Rule]:
    """A rule for every tensor a checkpoint of this architecture must hold, in file order.

    ranks[layer, matrix] is the rank of each matrix stored as two factors; where one of
    several fused matrices is, all of them are stored apart.
    """
    shapes = module.shapes(config)
    table = dict(_outer(family, shapes, [name for name in family.outer if name in _BEFORE]))
    for layer in range(config.num_layers):
        for norm, stored in family.norms.items():
            leaves = shapes["layers"][layer].get(norm)
            if leaves is not None:
                name = f"{family.layer.format(layer)}.{stored}"
                table.update(_plain(name, _shapes(leaves), ("layers", layer, norm)))
        table.update(_matrices(family, config, layer, ranks or {}))
    after = [name for name in family.outer if name not in _BEFORE]
    return table | dict(_outer(family, shapes, after))


def stored_ranks(
    family: Family, config: Config, shapes: Mapping[str, tuple[int, ...]]
) -> dict[tuple[int, str], int]:
    """The ranks that `rules` needs, from the names and shapes of stored tensors.

    Raises CheckpointError for a rank beyond what the matrix can have.
    """
    ranks = {}
    for layer in range(config.num_layers):
        for matrix in config.matrices:
            name = matrix_name(family, layer, matrix)
            shape = shapes.get(f"{name}.factor_in") or shapes.get(f"{name}.factor_out", ())[::-1]
            if shape:
                most = min(config.matrix_shape(matrix))
                if shape[0] > most:
                    raise CheckpointError(f"{name}: rank {shape[0]} exceeds {most}")
                ranks[layer, matrix] = shape[0]
    return ranks


def buffers(family: Family, config: Config) -> frozenset[str]:
    """Names that checkpoints may carry besides parameters; computed here, never read."""
    of_layers = (
        f"{family.layer.format(index)}.{name}"
        for index in range(config.num_layers)
        for name in family.buffers
    )
    return frozenset((*of_layers, *family.skipped))


def copies(family: Family, config: Config) -> dict[str, str]:
    """Names under which a tied head may be stored again -> the tensor they must equal."""
    table = dict(family.copies)
    if config.tied_embeddings and "embed_out" in family.outer and not config.masked:
        table[f"{family.outer['embed_out']}.weight"] = f"{family.outer['embed_in']}.weight"
    return table


def canonical(family: Family, name: str, known: Set[str]) -> str:
    """The name a family's own files have for a tensor saved under an old or a bare one."""
    name = family.aliases.get(name, name)
    if name not in known and f"{family.prefix}{name}" in known:
        return f"{family.prefix}{name}"
    return name
