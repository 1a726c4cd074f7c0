"""The matrix names of LASER (Sharma et al., arXiv 2312.13558) as a dialect of ours.

    5.laser:fc_up@0.1  ->  5.fc_in@0.1        in a Llama
    5.laser:fc_in@0.1  ->  5.fc_gate@0.1      because LASER's fc_in is the Llama gate
    5.laser:fc_in@0.1  ->  5.fc_in@0.1        in a model without a gate

Both vocabularies have an fc_in, with different meanings, so one intervention speaks one of
them. LASER's layer -1 and its `mlp`, `attn` and `all` are the same as ours.
"""

import re

from truncated_weights.bridge.config import Config

PREFIX = "laser:"
_SAME = ("q_proj", "k_proj", "v_proj", "out_proj", "fc_out", "attn", "mlp", "all")


def _name(theirs: str, config: Config) -> str:
    gated = {"fc_in": "fc_gate", "fc_up": "fc_in"} if config.gated else {"fc_in": "fc_in"}
    table = {name: name for name in _SAME} | gated
    if config.family == "phi":
        # In LASER's Phi-1.5 each of the three names the fused Wqkv, which we cut in parts.
        for fused in ("q_proj", "k_proj", "v_proj", "attn", "all"):
            del table[fused]
    if theirs not in table:
        known = " ".join(table)
        raise ValueError(f"laser:{theirs} is no matrix of a {config.family}; known are {known}")
    return table[theirs]


def name(text: str, config: Config) -> str:
    """Our name of one matrix, from laser:NAME or already ours; ValueError for an unknown one."""
    return _name(text.removeprefix(PREFIX), config) if text.startswith(PREFIX) else text


def translate(text: str, config: Config) -> str:
    """An intervention in our names, from one in LASER's or already in ours.

    Raises ValueError for an unknown name and where the two vocabularies are mixed.
    """
    parts = [part.strip() for part in text.split("+")]
    theirs = [PREFIX in part for part in parts]
    if not any(theirs):
        return text
    if not all(theirs):
        raise ValueError(f"intervention {text!r} mixes {PREFIX} names with ours")
    return "+".join(
        re.sub(rf"{PREFIX}([a-z_]+)", lambda match: _name(match[1], config), part) for part in parts
    )
