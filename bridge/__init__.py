"""The torch-free bridge to GPT-NeoX checkpoints, Pythia first among them."""

from bridge.checkpoint import Checkpoint, load, logits
from bridge.config import Config
from bridge.errors import CheckpointError
from bridge.module import init_params
from bridge.network import forward
from bridge.sizes import SIZES, config_for_size

__all__ = [
    "SIZES",
    "Checkpoint",
    "CheckpointError",
    "Config",
    "config_for_size",
    "forward",
    "init_params",
    "load",
    "logits",
]
