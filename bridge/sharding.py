"""A model larger than one device: where each parameter's parts lie over a mesh.

One axis of the mesh, `model`, splits every layer so that only two sums per layer cross
devices: query, key and value by heads (columns), fc_in and fc_gate by columns, out_proj and
fc_out by rows, the two embeddings by vocabulary; the rest is small and everywhere. Another
axis, `data`, if there is one, splits the batch. jax.jit inserts the communication; the
functions of bridge.network are unchanged.

    mesh = sharding.make_mesh(model=8)
    checkpoint = bridge.load(path, shardings=sharding.param_shardings(config, mesh))
"""

from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from truncated_weights.bridge import module
from truncated_weights.bridge.config import Config

_COLUMNS = ("q_proj", "k_proj", "v_proj", "fc_in", "fc_gate")
_ROWS = ("out_proj", "fc_out")


def make_mesh(*, model: int, data: int = 1) -> Mesh:
    """A (data, model) mesh over the first data * model devices.

    Raises ValueError if there are fewer devices.
    """
    if model < 1 or data < 1:
        raise ValueError(f"model {model} and data {data} must be at least 1")
    devices = jax.devices()
    if model * data > len(devices):
        raise ValueError(f"model {model} x data {data} devices asked for, {len(devices)} there")
    kinds = (jax.sharding.AxisType.Auto,) * 2
    return jax.make_mesh(
        (data, model), ("data", "model"), axis_types=kinds, devices=devices[: model * data]
    )


def check(config: Config, mesh: Mesh) -> None:
    """Raise one ValueError naming every size that the mesh's model axis does not divide."""
    if "model" not in mesh.shape:
        raise ValueError(f"mesh has the axes {mesh.axis_names}, none of them 'model'")
    parts = mesh.shape["model"]
    uneven = [f"{name} {size}" for name, size in _split(config).items() if size % parts]
    if uneven:
        sizes = _split(config).values()
        fits = [n for n in range(1, parts) if not any(size % n for size in sizes)]
        raise ValueError(
            f"{', '.join(uneven)} cannot be split evenly over {parts} devices; "
            f"use {' or '.join(map(str, fits))}"
        )


def _split(config: Config) -> dict[str, int]:
    """The sizes that the model axis splits; key and value heads only where they are fewer."""
    groups = {"num_groups": config.groups} if config.groups != config.num_heads else {}
    rest = {"d_ff": config.d_ff, "vocab_size": config.vocab_size}
    return {"num_heads": config.num_heads, **groups, **rest}


def _spec(path: tuple[Any, ...]) -> P:
    names = [getattr(step, "key", None) for step in path]
    leaf = names[-1]
    if "embed_in" in names:
        return P("model", None)
    if "embed_out" in names and leaf == "bias":
        return P("model")
    if "embed_out" in names or (leaf == "kernel" and names[-2] in _COLUMNS):
        return P(None, "model")
    if leaf == "kernel" and names[-2] in _ROWS:
        return P("model", None)
    if leaf == "bias" and names[-2] in _COLUMNS:
        return P("model")
    return P()


def param_shardings(config: Config, mesh: Mesh) -> dict[str, Any]:
    """A tree like params with the NamedSharding of each parameter.

    Raises ValueError if heads, feed-forward or vocabulary do not divide over the mesh
    (12 heads over 8 devices, for one).
    """
    check(config, mesh)
    return jax.tree_util.tree_map_with_path(
        lambda path, _: NamedSharding(mesh, _spec(path)), module.shapes(config)
    )


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Of tokens and masks [batch, length]: the batch over the data axis, if there is one."""
    return NamedSharding(mesh, P("data" if "data" in mesh.shape else None, None))
