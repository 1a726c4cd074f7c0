"""The ten Pythia sizes (Biderman et al., arXiv 2304.01373, table 1, and the 14m and 31m)."""

from bridge.config import Config

# layers, d_model, heads, rows of the embedding (the 50,277 tokens padded for the hardware)
_TABLE = {
    "14m": (6, 128, 4, 50304),
    "31m": (6, 256, 8, 50304),
    "70m": (6, 512, 8, 50304),
    "160m": (12, 768, 12, 50304),
    "410m": (24, 1024, 16, 50304),
    "1b": (16, 2048, 8, 50304),
    "1.4b": (24, 2048, 16, 50304),
    "2.8b": (32, 2560, 32, 50304),
    "6.9b": (32, 4096, 32, 50432),
    "12b": (36, 5120, 40, 50688),
}
SIZES = tuple(_TABLE)


def config_for_size(size: str) -> Config:
    """The architecture of Pythia `size`, as in "70m"; ValueError for a size not in SIZES."""
    if size not in _TABLE:
        raise ValueError(f"size {size!r} is not a Pythia; known are {', '.join(SIZES)}")
    layers, d_model, heads, vocab = _TABLE[size]
    return Config(
        vocab_size=vocab, num_layers=layers, d_model=d_model, num_heads=heads, d_ff=4 * d_model
    )
