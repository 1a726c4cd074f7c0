"""Small checkpoints in every format, written by other means than the code under test."""

import functools
import io
import json
import pickle
import typing
import zipfile

import jax
import numpy as np

from truncated_weights import bridge
from truncated_weights.bridge import families, module, network

CONFIG = bridge.Config(
    vocab_size=19, num_layers=2, d_model=8, num_heads=2, d_ff=12, rotary_fraction=0.5
)


def random_params(config=CONFIG, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(
        lambda s: jax.numpy.asarray(rng.normal(size=s.shape), s.dtype), module.shapes(config)
    )


@functools.partial(jax.jit, static_argnames="config")
def matrix_inputs(layer_params, config, x, context):
    """{name: what that matrix of a layer reads} when the layer's input is x."""
    return {n: network.stop(layer_params, config, n, x, context)[0] for n in config.matrices}


def stored(params, config=CONFIG):
    """The tensors by stored name, built element by element as the format is described."""
    out = {"gpt_neox.embed_in.weight": np.asarray(params["embed_in"]["embedding"])}
    for i, layer in enumerate(params["layers"]):
        p = f"gpt_neox.layers.{i}."
        for ours, theirs in (
            ("attn_norm", "input_layernorm"),
            ("mlp_norm", "post_attention_layernorm"),
        ):
            out[f"{p}{theirs}.weight"] = np.asarray(layer[ours]["scale"])
            out[f"{p}{theirs}.bias"] = np.asarray(layer[ours]["bias"])
        weight, bias = [], []
        for head in range(config.num_heads):
            columns = slice(head * config.head_dim, (head + 1) * config.head_dim)
            for name in ("q_proj", "k_proj", "v_proj"):
                weight.append(np.asarray(layer[name]["kernel"])[:, columns].T)
                bias.append(np.asarray(layer[name]["bias"])[columns])
        out[f"{p}attention.query_key_value.weight"] = np.ascontiguousarray(np.concatenate(weight))
        out[f"{p}attention.query_key_value.bias"] = np.concatenate(bias)
        for ours, theirs in (
            ("out_proj", "attention.dense"),
            ("fc_in", "mlp.dense_h_to_4h"),
            ("fc_out", "mlp.dense_4h_to_h"),
        ):
            out[f"{p}{theirs}.weight"] = np.ascontiguousarray(np.asarray(layer[ours]["kernel"]).T)
            out[f"{p}{theirs}.bias"] = np.asarray(layer[ours]["bias"])
    out["gpt_neox.final_layer_norm.weight"] = np.asarray(params["final_norm"]["scale"])
    out["gpt_neox.final_layer_norm.bias"] = np.asarray(params["final_norm"]["bias"])
    if "embed_out" in params:
        out["embed_out.weight"] = np.ascontiguousarray(np.asarray(params["embed_out"]["kernel"]).T)
    return out


def write_config(directory, config=CONFIG, dtype="float32"):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "config.json").write_text(json.dumps(families.to_dict(config, dtype)))
    return directory


class _Named:
    """Something a real pickler writes as a global of any name."""


def _named(module_name, name):
    return type(name, (_Named,), {"__module__": module_name})


class _Pickler(pickle._Pickler):
    """The standard library's pickler, except that globals need not exist."""

    def save_global(self, obj, name=None):
        self.write(b"c" + f"{obj.__module__}\n{obj.__name__}\n".encode())
        self.memoize(obj)

    def persistent_id(self, obj):
        return obj.identifier if isinstance(obj, Storage) else None

    dispatch: typing.ClassVar = {**pickle._Pickler.dispatch, type: save_global}


class Storage:
    """What a torch storage is to a pickler: its persistent id."""

    def __init__(self, *identifier):
        self.identifier = identifier


class Call:
    """Pickled as a call of a global with arguments."""

    def __init__(self, module_name, name, *arguments):
        self.reduced = (_named(module_name, name), arguments)

    def __reduce__(self):
        return self.reduced


def dumps(value):
    stream = io.BytesIO()
    _Pickler(stream, protocol=2).dump(value)
    return stream.getvalue()


FLOAT_STORAGE = _named("torch", "FloatStorage")


def torch_tensor(key, array, /, *, legacy=False, **changes):
    """A float32 array as torch pickles a tensor; changes override offset, shape, strides..."""
    view = {
        "kind": FLOAT_STORAGE,
        "key": key,
        "count": array.size,
        "offset": 0,
        "shape": array.shape,
        "strides": tuple(s // 4 for s in array.strides),
    } | changes
    identifier = ("storage", view["kind"], view["key"], "cpu", view["count"])
    storage = Storage(*identifier, *((None,) if legacy else ()))
    arguments = (view["offset"], view["shape"], view["strides"], False)
    hooks = Call("collections", "OrderedDict")
    return Call("torch._utils", "_rebuild_tensor_v2", storage, *arguments, hooks)


def write_torch_zip(path, arrays, *, root="archive", pickled=None, extra=(), **changes):
    """A zip .bin; changes apply to the first tensor."""
    tensors = {
        name: torch_tensor(str(i), array, **(changes if i == 0 else {}))
        for i, (name, array) in enumerate(arrays.items())
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{root}/data.pkl", dumps(tensors) if pickled is None else pickled)
        for i, array in enumerate(arrays.values()):
            archive.writestr(f"{root}/data/{i}", array.tobytes())
        archive.writestr(f"{root}/version", "3\n")
        for name, content in extra:
            archive.writestr(name, content)


def write_torch_legacy(path, arrays, *, tail=b"", keys=None, **changes):
    tensors = {
        name: torch_tensor(str(i), array, legacy=True, **(changes if i == 0 else {}))
        for i, (name, array) in enumerate(arrays.items())
    }
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
    content = dumps(0x1950A86A20F9469CFC6C) + dumps(1001) + dumps(system) + dumps(tensors)
    content += dumps([str(i) for i in range(len(arrays))] if keys is None else keys)
    for array in arrays.values():
        content += array.size.to_bytes(8, "little") + array.tobytes()
    path.write_bytes(content + tail)
