"""Which stored tensor is which parameter, and the way between their layouts.

    gpt_neox.embed_in.weight                              embed_in.embedding
    gpt_neox.layers.L.input_layernorm.{weight,bias}       layers[L].attn_norm.{scale,bias}
    ... post_attention_layernorm                          mlp_norm
    ... attention.query_key_value.{weight,bias}           {q,k,v}_proj.{kernel,bias}
    ... attention.dense, mlp.dense_h_to_4h, mlp.dense_4h_to_h    out_proj, fc_in, fc_out
    gpt_neox.final_layer_norm                             final_norm
    embed_out.weight (or lm_head.weight)                  embed_out.kernel

Stored matrices are [d_out, d_in], parameters [d_in, d_out]. The rows of query_key_value
are ordered [head, query key or value, head_dim].

A matrix kept as two thin factors is stored, in this package's own factored.safetensors, as
NAME.factor_in [rank, d_in] and NAME.factor_out [d_out, rank] in place of NAME.weight, its
parameters kernel_in [d_in, rank] and kernel_out [rank, d_out] in place of kernel.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from bridge.config import Config
from bridge.errors import CheckpointError

Path = tuple[str | int, ...]
FACTORED_FILE = "factored.safetensors"
ALIASES = {"lm_head.weight": "embed_out.weight"}
FUSED = ("q_proj", "k_proj", "v_proj")
_MATRICES = {
    **{part: f"attention.query_key_value.{part}" for part in FUSED},
    "out_proj": "attention.dense",
    "fc_in": "mlp.dense_h_to_4h",
    "fc_out": "mlp.dense_4h_to_h",
}


@dataclasses.dataclass(frozen=True)
class Rule:
    """One stored tensor: its shape, where it goes, and whether it is transposed or fused."""

    shape: tuple[int, ...]
    paths: tuple[Path, ...]
    transposed: bool = False
    head_dim: int | None = None

    @property
    def rows(self) -> int:
        """Blocks must be whole multiples of this many rows."""
        return 1 if self.head_dim is None else 3 * self.head_dim

    @property
    def parameter_shape(self) -> tuple[int, ...]:
        """The shape of each parameter this tensor fills."""
        shape = (self.shape[0] // len(self.paths), *self.shape[1:])
        return shape[::-1] if self.transposed else shape

    def place(self, parameters: Sequence[np.ndarray], start: int, block: np.ndarray) -> None:
        """Write a block of stored rows, the first of them row `start`, into the parameters."""
        if self.head_dim is None:
            blocks = [block]
        else:
            split = block.reshape(-1, 3, self.head_dim, *block.shape[1:])
            blocks = [split[:, i].reshape(-1, *block.shape[1:]) for i in range(3)]
        first = start // len(self.paths)
        for parameter, part in zip(parameters, blocks, strict=True):
            target = parameter.T if self.transposed else parameter
            target[first : first + len(part)] = part

    def assemble(self, parameters: Sequence[np.ndarray]) -> np.ndarray:
        """The stored tensor from its parameters; the inverse of place."""
        parts = [p.T if self.transposed else p for p in parameters]
        if self.head_dim is None:
            return parts[0]
        heads = [part.reshape(-1, self.head_dim, *part.shape[1:]) for part in parts]
        return np.stack(heads, axis=1).reshape(self.shape)


def matrix_name(layer: int, matrix: str) -> str:
    """The stored name, without its .weight, of a matrix of a layer."""
    return f"gpt_neox.layers.{layer}.{_MATRICES[matrix]}"


def _norm(name: str, d: int, *path: str | int) -> dict[str, Rule]:
    return {
        f"{name}.weight": Rule((d,), ((*path, "scale"),)),
        f"{name}.bias": Rule((d,), ((*path, "bias"),)),
    }


def _weight(
    config: Config, layer: int, matrix: str, ranks: Mapping[tuple[int, str], int]
) -> dict[str, Rule]:
    """The rule of one kernel, or the two of its factors."""
    name, path = matrix_name(layer, matrix), ("layers", layer, matrix)
    d_in = config.d_ff if matrix == "fc_out" else config.d_model
    d_out = config.d_ff if matrix == "fc_in" else config.d_model
    if (layer, matrix) not in ranks:
        return {f"{name}.weight": Rule((d_out, d_in), ((*path, "kernel"),), transposed=True)}
    rank = ranks[layer, matrix]
    return {
        f"{name}.factor_in": Rule((rank, d_in), ((*path, "kernel_in"),), transposed=True),
        f"{name}.factor_out": Rule((d_out, rank), ((*path, "kernel_out"),), transposed=True),
    }


def _layer(config: Config, layer: int, ranks: Mapping[tuple[int, str], int]) -> dict[str, Rule]:
    d, name = config.d_model, f"gpt_neox.layers.{layer}"
    table = _norm(f"{name}.input_layernorm", d, "layers", layer, "attn_norm")
    table |= _norm(f"{name}.post_attention_layernorm", d, "layers", layer, "mlp_norm")
    fused = f"{name}.attention.query_key_value"
    for leaf, kind, shape in (("kernel", "weight", (3 * d, d)), ("bias", "bias", (3 * d,))):
        paths: tuple[Path, ...] = tuple(("layers", layer, part, leaf) for part in FUSED)
        rule = Rule(shape, paths, transposed=kind == "weight", head_dim=config.head_dim)
        table[f"{fused}.{kind}"] = rule
    if any((layer, part) in ranks for part in FUSED):
        del table[f"{fused}.weight"]
        for part in FUSED:
            table |= _weight(config, layer, part, ranks)
    for matrix in ("out_proj", "fc_in", "fc_out"):
        table |= _weight(config, layer, matrix, ranks)
        d_out = config.d_ff if matrix == "fc_in" else d
        bias = Rule((d_out,), (("layers", layer, matrix, "bias"),))
        table[f"{matrix_name(layer, matrix)}.bias"] = bias
    return table


def rules(config: Config, ranks: Mapping[tuple[int, str], int] | None = None) -> dict[str, Rule]:
    """A rule for every tensor a checkpoint of this architecture must hold, in file order.

    ranks[layer, matrix] is the rank of each matrix stored as two factors; where one of
    q_proj, k_proj, v_proj is, the three kernels are stored apart instead of fused.
    """
    d, vocab = config.d_model, config.vocab_size
    table = {"gpt_neox.embed_in.weight": Rule((vocab, d), (("embed_in", "embedding"),))}
    for layer in range(config.num_layers):
        table |= _layer(config, layer, ranks or {})
    table |= _norm("gpt_neox.final_layer_norm", d, "final_norm")
    if not config.tied_embeddings:
        out = Rule((vocab, d), (("embed_out", "kernel"),), transposed=True)
        table["embed_out.weight"] = out
    return table


def stored_ranks(
    config: Config, shapes: Mapping[str, tuple[int, ...]]
) -> dict[tuple[int, str], int]:
    """The ranks that `rules` needs, from the names and shapes of stored tensors.

    Raises CheckpointError for a rank beyond what the matrix can have.
    """
    ranks = {}
    for layer in range(config.num_layers):
        for matrix in _MATRICES:
            name = matrix_name(layer, matrix)
            shape = shapes.get(f"{name}.factor_in") or shapes.get(f"{name}.factor_out", ())[::-1]
            if shape:
                if shape[0] > config.d_model:
                    raise CheckpointError(f"{name}: rank {shape[0]} exceeds {config.d_model}")
                ranks[layer, matrix] = shape[0]
    return ranks


def buffers(config: Config) -> frozenset[str]:
    """Names that old checkpoints carry besides parameters; computed here, never read."""
    return frozenset(
        f"gpt_neox.layers.{index}.attention.{name}"
        for index in range(config.num_layers)
        for name in ("bias", "masked_bias", "rotary_emb.inv_freq")
    )
