"""Matrices of a model that is not ours: leaves of any pytree, named by path.

    where = {"fc_in": "params/layers_{layer}/mlp/wi/kernel"}          one leaf per layer, [in, out]
    where = {"fc_in": ("decoder/mlp/wi/kernel", "layer in out")}      scanned: layers stacked
    where = {"q_proj": ("blocks/{layer}/query/kernel", "in out out")}    [d, heads, head_dim]

A path is that of jax.tree_util with "/" between its steps; a "value" at its end (Flax variables
and boxes) may be left out, and {layer} stands for the layer's number. The second text names the
leaf's axes in order: `in` and `out` for what the matrix reads and writes (several of a kind are
flattened together), `layer` for an axis of layers; it is "in out" where it is not given.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from truncated_weights.truncation.address import Address, Matrices, Params
from truncated_weights.truncation.notation import GROUPS, MATRICES

Where = Mapping[str, str | tuple[str, str]]

_AXES = ("in", "out", "layer")
_BOX = re.compile(r"/(raw_)?value$")


def matrices(params: Params, where: Where) -> Matrices:
    """The addresses of the leaves that `where` names, from the bottom layer up.

    Matrix names are those of the notation (q_proj ... fc_out). Raises ValueError for another
    name, a path that no leaf has, and axes that do not fit the leaf.
    """
    found: dict[tuple[int, str], Address] = {}
    leaves = _leaves(params)
    for name, place in where.items():
        if name not in MATRICES or name in GROUPS:
            raise ValueError(f"where {name!r}: matrices are called {' '.join(MATRICES)}")
        pattern, text = (place, "in out") if isinstance(place, str) else place
        axes = tuple(text.split())
        if set(axes) - set(_AXES) or not {"in", "out"} <= set(axes) or axes.count("layer") > 1:
            raise ValueError(f"where {name!r}: axes {text!r} are not made of {' '.join(_AXES)}")
        matched = _matched(pattern, leaves)
        if not matched:
            some = ", ".join(list(leaves)[:8])
            raise ValueError(f"where {name!r}: no leaf at {pattern}; there are {some} ...")
        for layer, path in matched:
            leaf = leaves[path]
            if leaf.ndim != len(axes):
                raise ValueError(f"where {name!r}: {path} is {leaf.shape}, its axes {text!r}")
            if "layer" in axes:
                for index in range(leaf.shape[axes.index("layer")]):
                    found[index, name] = _address(path, axes, index)
            else:
                found[layer, name] = _address(path, axes, None)
    order = {name: place for place, name in enumerate(MATRICES)}
    return dict(sorted(found.items(), key=lambda item: (item[0][0], order[item[0][1]])))


def _path(steps: Any) -> str:
    return _BOX.sub("", jax.tree_util.keystr(steps, simple=True, separator="/"))


def _leaves(params: Params) -> dict[str, Any]:
    return {_path(steps): leaf for steps, leaf in jax.tree_util.tree_leaves_with_path(params)}


def _matched(pattern: str, leaves: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Layer and path of every leaf that fits; layer 0 where the pattern names none."""
    pattern = _BOX.sub("", pattern)
    if "{layer}" not in pattern:
        return [(0, pattern)] if pattern in leaves else []
    parts = map(re.escape, pattern.split("{layer}"))
    # The same number wherever it stands.
    first, *rest = parts
    text = first + r"(\d+)" + r"\1".join(rest)
    fits = [(re.fullmatch(text, path), path) for path in leaves]
    return sorted((int(match[1]), path) for match, path in fits if match)


def _address(path: str, axes: tuple[str, ...], index: int | None) -> Address:
    """One matrix of a leaf: moved to [in ..., out ...], flattened, and back."""
    own = [axis for axis in axes if axis != "layer"]
    order = [i for kind in ("in", "out") for i, axis in enumerate(own) if axis == kind]
    back = [order.index(i) for i in range(len(order))]
    # A whole leaf, or one place on its axis of layers.
    place = (...,) if index is None else (slice(None),) * axes.index("layer") + (index,)

    def read(params: Params) -> Array:
        leaf = jnp.asarray(_leaves(params)[path])[place].transpose(order)
        inputs = axes.count("in")
        rows = 1
        for size in leaf.shape[:inputs]:
            rows *= size
        return leaf.reshape(rows, -1)

    def write(params: Params, matrix: Array) -> Params:
        def change(steps: Any, leaf: Any) -> Any:
            if _path(steps) != path:
                return leaf
            whole = jnp.asarray(leaf)
            shape = whole[place].transpose(order).shape
            return whole.at[place].set(matrix.reshape(shape).transpose(back).astype(leaf.dtype))

        return jax.tree_util.tree_map_with_path(change, params)

    return Address(read, write, path=path)
