"""What there is to know of a model family: one Family, made in one file of this folder.

To add a family: write bridge/families/NAME.py with a FAMILY, in the image of its nearest
relative; add it to the list in __init__.py; record a small random model of it in
tests/bridge/families/record.py. bridge.network need not change unless the family has a part
that no other has.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

from truncated_weights.bridge.config import Config
from truncated_weights.bridge.families.keys import Keys

# Sizes as most config.json name them.
SIZES = {
    "vocab_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "d_model": "hidden_size",
    "num_heads": "num_attention_heads",
    "d_ff": "intermediate_size",
    "max_positions": "max_position_embeddings",
}


@dataclasses.dataclass(frozen=True)
class Family:
    """The spellings of a family's config.json and the names of its tensors, as data.

    read gives the fields of Config from the keys of a config.json; write gives the keys
    back, those that all families share left out. architecture is the class that
    transformers reads an export with. outer, norms and matrices map our modules to stored
    names, the latter two within `layer`, a format with the layer's number; matrices that
    share a stored name are one fused tensor, laid out as `fused` says. columns and pairs:
    see bridge.families.layout. prefix may be missing in files (a bare base model), buffers
    (per layer) and skipped are computed here and never read, aliases are older names, and
    copies may be stored but must equal the tensor named.
    """

    model_type: str
    architecture: str
    read: Callable[[Keys], dict[str, Any]]
    write: Callable[[Config], dict[str, Any]]
    outer: Mapping[str, str]
    layer: str
    norms: Mapping[str, str]
    matrices: Mapping[str, str]
    prefix: str
    fused: Literal["heads", "rows"] = "rows"
    columns: bool = False
    pairs: bool = False
    buffers: tuple[str, ...] = ()
    skipped: tuple[str, ...] = ()
    aliases: Mapping[str, str] = dataclasses.field(default_factory=dict)
    copies: Mapping[str, str] = dataclasses.field(default_factory=dict)
    ignored: frozenset[str] = frozenset()
