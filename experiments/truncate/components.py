"""What each removed component of a recall run says: its direction read by the unembedding."""

from collections.abc import Callable
from typing import Any

import numpy as np

from truncated_weights.toy.layer import unembedding
from truncated_weights.toy.transformer_config import TransformerConfig
from truncated_weights.truncation.decode import decode
from truncated_weights.truncation.notation import Intervention
from truncated_weights.truncation.search.effects import mean_input
from truncated_weights.truncation.search.scorer import Scorer

MOST = 8


def writers(config: TransformerConfig, layer: int) -> tuple[str, ...]:
    """The matrices whose output is added to the stream as it is, no ReLU in between."""
    kind = config.feed_forward[layer]
    last = {"mlp": ("fc_out",), "linear_mlp": ("fc_out",), "linear": ("fc_in",)}.get(kind, ())
    return ("out_proj", "ov", *last)


def removed(
    scorer: Scorer,
    config: TransformerConfig,
    cut: Intervention,
    examples: np.ndarray,
    name: Callable[[int], str],
) -> list[dict[str, Any]]:
    """Rows of truncation.decode for the largest removed components, tokens by `name`.

    Components point the way that the mean input of these examples pushes them; `middle` is where
    5 and 95 % of all tokens' logits lie.
    """
    readout = np.asarray(unembedding(config, scorer.params), np.float64)
    if config.layer_norm:
        readout = readout - readout.mean(axis=0, keepdims=True)
    rows: list[dict[str, Any]] = []
    cuts = scorer.decompositions.resolve(cut)
    for key, mask in scorer.decompositions.masks(cut).items():
        gone = np.flatnonzero(mask == 0)[:MOST].tolist()
        if key[1] not in writers(config, key[0]) or not gone:
            continue
        parts = scorer.decompositions.components(cuts[key])
        pushed = mean_input(scorer, scorer.params, key, examples)
        for row in decode(parts, readout, mean_input=pushed, components=gone):
            sign = 1.0 if row["end"] == "+" else -1.0
            logits = sign * np.asarray(parts.vt[row["component"]], np.float64) @ readout
            about = {"intervention": str(cut), "layer": key[0], "matrix": key[1]}
            row["tokens"] = [name(token) for token in row["tokens"]]
            row["middle"] = np.quantile(logits, [0.05, 0.95]).tolist()
            rows.append(about | row)
    return rows
