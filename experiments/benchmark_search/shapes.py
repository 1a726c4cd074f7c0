"""Architectures by name: Pythia's sizes, and a small one of each other topology worth timing."""

from truncated_weights import bridge

LLAMA_70M = bridge.Config(
    family="llama",
    vocab_size=32000,
    num_layers=12,
    d_model=512,
    num_heads=8,
    num_groups=2,
    d_ff=1536,
    rotary_fraction=1.0,
    norm="rms",
    residual="pre",
    activation="silu",
    gated=True,
    biases=(),
)
# GPT-J's form and vocabulary at the width and depth of a 350m model.
GPTJ_350M = bridge.Config(
    family="gptj",
    vocab_size=50400,
    num_layers=20,
    d_model=1024,
    num_heads=16,
    d_ff=4096,
    rotary_fraction=0.25,
    shared_norm=True,
    activation="gelu_tanh",
    biases=("fc_in", "fc_out"),
    head_bias=True,
)
_OTHERS = {"llama-70m": LLAMA_70M, "gptj-350m": GPTJ_350M}


def named(name: str) -> bridge.Config:
    """The architecture; names are those of settings.SHAPES."""
    return _OTHERS.get(name) or bridge.config_for_size(name.removeprefix("pythia-"))
