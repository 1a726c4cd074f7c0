"""The torch-free bridge to language models: load, compute, score, cut, export, generate."""

from bridge import families
from bridge.checkpoint import Checkpoint, load, logits
from bridge.config import Config
from bridge.errors import CheckpointError
from bridge.families.gpt_neox import PYTHIA_SIZES as SIZES
from bridge.families.gpt_neox import pythia as config_for_size
from bridge.generate import generate
from bridge.module import init_params
from bridge.network import forward
from bridge.searching import search
from bridge.surgery import cut
from truncation.finite import NotFiniteError

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
