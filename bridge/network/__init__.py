"""Every family's forward, once, as pure functions of a parameter tree and a Config.

    params = {"embed_in": {"embedding" [vocab, d]},
              "positions": {"embedding"}, "token_types", "embed_norm"     where there are any
              "layers": [{"attn_norm", "mlp_norm": {"scale" [d], "bias"},
                          "q_proj" [d, He], "k_proj", "v_proj" [d, Ge], "out_proj" [He, d],
                          "fc_in", "fc_gate" [d, d_ff], "fc_out" [d_ff, d]}, ...],
              "final_norm": {"scale", "bias"}, "transform", "transform_norm"
              "embed_out": {"kernel" [d, vocab], "bias"}}     no kernel when embeddings are tied

for H heads and G key and value heads of e dimensions. A matrix is {"kernel", "bias"}, or has
"kernel_in" and "kernel_out" for its kernel; biases are there where the family has them. The
columns of q_proj, k_proj and v_proj are ordered [head, dimension].

    bounds      which ids and lengths a model can be asked
    diagnosis   where a model leaves the finite numbers
    one_layer   what a layer is made of, and a layer
    stops       a layer stopped in front of any matrix and resumed behind it
    whole       embedding, layers, logits

Activations have the dtype of x: kernels are cast to it, norms, softmax and logits are
float32. float32 products use the highest precision unless jax_default_matmul_precision is
set. Source: the papers named in bridge/families, and transformers for what they leave open.
"""

from truncated_weights.bridge.network.bounds import check_ids, check_tokens
from truncated_weights.bridge.network.diagnosis import not_finite
from truncated_weights.bridge.network.one_layer import (
    ACTIVATIONS,
    Activations,
    Context,
    Heads,
    Params,
    PrefixTree,
    RowBlock,
    add_bias,
    after_attention,
    apply_linear,
    attend,
    attention,
    attention_inputs,
    context_of,
    gather,
    keys_and_values,
    layer,
    mixed_values,
    mlp_hidden,
    mlp_inputs,
    normalise,
    queries,
)
from truncated_weights.bridge.network.stops import READ_EVERYWHERE, resume, stop
from truncated_weights.bridge.network.whole import (
    embed,
    final_logits,
    final_norm,
    forward,
    outer_params,
    residual_streams,
    run_layers,
    run_layers_fused,
)

__all__ = [
    "ACTIVATIONS",
    "READ_EVERYWHERE",
    "Activations",
    "Context",
    "Heads",
    "Params",
    "PrefixTree",
    "RowBlock",
    "add_bias",
    "after_attention",
    "apply_linear",
    "attend",
    "attention",
    "attention_inputs",
    "check_ids",
    "check_tokens",
    "context_of",
    "embed",
    "final_logits",
    "final_norm",
    "forward",
    "gather",
    "keys_and_values",
    "layer",
    "mixed_values",
    "mlp_hidden",
    "mlp_inputs",
    "normalise",
    "not_finite",
    "outer_params",
    "queries",
    "residual_streams",
    "resume",
    "run_layers",
    "run_layers_fused",
    "stop",
]
