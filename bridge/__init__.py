"""The torch-free bridge to language models: load, compute, score, cut, export, generate."""

from truncated_weights.bridge import families
from truncated_weights.bridge.checkpoint import Checkpoint, load, logits
from truncated_weights.bridge.config import Config
from truncated_weights.bridge.errors import CheckpointError
from truncated_weights.bridge.families.gpt_neox import PYTHIA_SIZES as SIZES
from truncated_weights.bridge.families.gpt_neox import pythia as config_for_size
from truncated_weights.bridge.generate import generate
from truncated_weights.bridge.module import init_params
from truncated_weights.bridge.network import forward
from truncated_weights.bridge.searching import search
from truncated_weights.bridge.surgery import cut
from truncated_weights.truncation.finite import NotFiniteError

__all__ = [
    "SIZES",
    "Checkpoint",
    "CheckpointError",
    "Config",
    "NotFiniteError",
    "config_for_size",
    "cut",
    "families",
    "forward",
    "generate",
    "init_params",
    "load",
    "logits",
    "search",
]
