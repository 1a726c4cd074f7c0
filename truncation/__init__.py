"""Low-rank surgery on any matrix of any model.

truncation.cut(params, "0.fc_in@0.1", where)      new parameters, matrices cut
truncation.parse("1.mlp@0+0.ov@0.2")              the notation, read
truncation.moments(inputs)                        what a cut by data is measured with
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from truncated_weights.truncation.cutting import cut as cut
    from truncated_weights.truncation.metrics import moments as moments
    from truncated_weights.truncation.notation import parse as parse

__all__ = ["cut", "moments", "parse"]


def __getattr__(name: str) -> Any:
    # On first use, so that programs can read names and notation without waiting for JAX.
    if name == "cut":
        from truncated_weights.truncation.cutting import cut

        return cut
    if name == "moments":
        from truncated_weights.truncation.metrics import moments

        return moments
    if name == "parse":
        from truncated_weights.truncation.notation import parse

        return parse
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
