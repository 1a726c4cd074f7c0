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
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from pythia.config import Config

Path = tuple[str | int, ...]
ALIASES = {"lm_head.weight": "embed_out.weight"}
_FUSED = ("q_proj", "k_proj", "v_proj")


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


def rules(config: Config) -> dict[str, Rule]:
    """A rule for every tensor a checkpoint of this architecture must hold, in file order."""
    d, d_ff, vocab = config.d_model, config.d_ff, config.vocab_size
    table: dict[str, Rule] = {
        "gpt_neox.embed_in.weight": Rule((vocab, d), (("embed_in", "embedding"),))
    }

    def norm(name: str, *path: str | int) -> None:
        table[f"{name}.weight"] = Rule((d,), ((*path, "scale"),))
        table[f"{name}.bias"] = Rule((d,), ((*path, "bias"),))

    def linear(name: str, d_in: int, d_out: int, *path: str | int) -> None:
        table[f"{name}.weight"] = Rule((d_out, d_in), ((*path, "kernel"),), transposed=True)
        table[f"{name}.bias"] = Rule((d_out,), ((*path, "bias"),))

    for index in range(config.num_layers):
        name = f"gpt_neox.layers.{index}"
        norm(f"{name}.input_layernorm", "layers", index, "attn_norm")
        norm(f"{name}.post_attention_layernorm", "layers", index, "mlp_norm")
        for kind, shape in (("weight", (3 * d, d)), ("bias", (3 * d,))):
            leaf = "kernel" if kind == "weight" else "bias"
            paths: tuple[Path, ...] = tuple(("layers", index, part, leaf) for part in _FUSED)
            rule = Rule(shape, paths, transposed=kind == "weight", head_dim=config.head_dim)
            table[f"{name}.attention.query_key_value.{kind}"] = rule
        linear(f"{name}.attention.dense", d, d, "layers", index, "out_proj")
        linear(f"{name}.mlp.dense_h_to_4h", d, d_ff, "layers", index, "fc_in")
        linear(f"{name}.mlp.dense_4h_to_h", d_ff, d, "layers", index, "fc_out")
    norm("gpt_neox.final_layer_norm", "final_norm")
    if not config.tied_embeddings:
        out = Rule((vocab, d), (("embed_out", "kernel"),), transposed=True)
        table["embed_out.weight"] = out
    return table


def buffers(config: Config) -> frozenset[str]:
    """Names that old checkpoints carry besides parameters; computed here, never read."""
    return frozenset(
        f"gpt_neox.layers.{index}.attention.{name}"
        for index in range(config.num_layers)
        for name in ("bias", "masked_bias", "rotary_emb.inv_freq")
    )
