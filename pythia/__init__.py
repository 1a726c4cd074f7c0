"""The torch-free bridge to GPT-NeoX checkpoints, Pythia first among them."""

from pythia.checkpoint import Checkpoint, load, logits
from pythia.config import Config
from pythia.errors import CheckpointError
from pythia.model import forward
from pythia.module import init_params
from pythia.sizes import SIZES, config_for_size

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
