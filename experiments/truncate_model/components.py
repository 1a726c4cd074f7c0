"""What each removed component says, for the cut matrices that write to the residual stream."""

from typing import Any

import numpy as np

from truncated_weights.bridge import surgery
from truncated_weights.bridge.config import Config
from truncated_weights.bridge.tokenizer import Tokenizer
from truncated_weights.truncation.decode import decode
from truncated_weights.truncation.notation import Intervention
from truncated_weights.truncation.search.effects import mean_input
from truncated_weights.truncation.search.problem import Choice
from truncated_weights.truncation.search.scorer import Scorer

WRITERS = ("out_proj", "fc_out", "ov")
MOST = 8


def removed(
    scorer: Scorer, config: Config, choice: Choice, examples: np.ndarray, words: Tokenizer
) -> list[dict[str, Any]]:
    """Rows of truncation.decode for the largest removed components, tokens as text.

    Components point the way that the mean input of these examples pushes them. There is none
    where a norm after the sums (BERT) or a transformed head stands between them and the logits.
    """
    if config.residual == "post" or config.norm_place != "before" or config.masked:
        return []
    readout = surgery.readout(scorer.params, config)[:, : words.size]
    rows: list[dict[str, Any]] = []
    cuts = scorer.decompositions.resolve(choice.intervention or Intervention(()))
    for key, mask in choice.masks.items():
        gone = np.flatnonzero(mask == 0)[:MOST].tolist()
        if key[1] not in WRITERS or not gone:
            continue
        # No single input feeds a product over heads, so both its ends are told.
        product = scorer.network.matrices[key].parts
        pushed = None if product else mean_input(scorer, scorer.params, key, examples)
        decompositions = scorer.decompositions
        parts = decompositions.components(cuts[key]) if key in cuts else decompositions[key]
        found = decode(parts, readout, mean_input=pushed, components=gone)
        for row in found:
            row["tokens"] = [words.decode([token]) for token in row["tokens"]]
            rows.append({"layer": key[0], "matrix": key[1]} | row)
    return rows
