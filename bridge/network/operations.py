"""Floating-point operations of a forward, counted from a Config: what a search will cost.

A product of [n, a] with [a, b] counts 2 n a b. Norms, activations, softmax and rotations are left
out: below one in a hundred for any published width.
"""

from truncated_weights.bridge.config import Config

_ATTENTION = ("q_proj", "k_proj", "v_proj", "out_proj")


def matrix(config: Config, name: str) -> int:
    """One token through one matrix."""
    d_in, d_out = config.matrix_shape(name)
    return 2 * d_in * d_out


def layer(config: Config, tokens: int, num_queries: int | None = None) -> int:
    """A layer on a sequence of `tokens`, its output wanted at `num_queries` of them (default: all).

    Keys and values are computed everywhere, and every query scores every key, as
    bridge/network/one_layer.py does it, hidden ones included.
    """
    num_queries = tokens if num_queries is None else num_queries
    everywhere = matrix(config, "k_proj") + matrix(config, "v_proj")
    here = sum(matrix(config, name) for name in config.matrices) - everywhere
    attending = 4 * config.num_heads * config.head_dim * tokens
    return tokens * everywhere + num_queries * (here + attending)


def head(config: Config, tokens: int) -> int:
    """The unembedding of so many tokens, and the layer of its own in front of it if masked."""
    transform = 2 * config.d_model**2 if config.masked else 0
    return tokens * (transform + 2 * config.d_model * config.vocab_size)


def forward(config: Config, tokens: int, num_queries: int | None = None) -> int:
    """A sequence through all layers, logits wanted at `num_queries` tokens (default: all)."""
    num_queries = tokens if num_queries is None else num_queries
    below = (config.num_layers - 1) * layer(config, tokens)
    return below + layer(config, tokens, num_queries) + head(config, num_queries)


def candidate(config: Config, key: tuple[int, str], tokens: int, num_queries: int) -> int:
    """From a matrix on to the scores at `num_queries` tokens: what one more cut of it costs.

    The stream below is kept and what feeds the matrix is shared by all its cuts. A cut of the
    feed-forward keeps attention's output too; a cut in attention runs its layer again.
    """
    index, name = key
    last = config.num_layers - 1
    here = num_queries if index == last else tokens
    if name in _ATTENTION or name == "ov":
        rest = layer(config, tokens, here)
    else:
        # The cut product itself, and fc_out where it is not the one that is cut.
        rest = here * sum(matrix(config, part) for part in {name, "fc_out"})
    above = max(last - index - 1, 0) * layer(config, tokens)
    above += layer(config, tokens, num_queries) if index < last else 0
    return rest + above + head(config, num_queries)


def decomposition(config: Config, name: str) -> int:
    """A thin singular value decomposition with both sides, 6 m n^2 + 20 n^3 for m >= n.

    Golub and Van Loan, Matrix Computations, 4th edition, figure 8.6.1.
    """
    n, m = sorted(config.matrix_shape(name))
    return 6 * m * n**2 + 20 * n**3
