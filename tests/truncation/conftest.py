"""A small network whose noise is planted: what to cut is known exactly."""

import contextlib
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from truncated_weights.truncation import linear
from truncated_weights.truncation.address import at_path, product
from truncated_weights.truncation.search.examples import Examples
from truncated_weights.truncation.search.network import BlackBox, Stopped
from truncated_weights.truncation.search.scorer import Scorer

D, HIDDEN, CLASSES, NOISE = 16, 24, 6, 5
SHAPES = {
    (0, "fc_in"): (D, HIDDEN),
    (0, "fc_out"): (HIDDEN, D),
    (1, "v_proj"): (D, D),
    (1, "out_proj"): (D, D),
    (1, "fc_in"): (D, D),
}


class Planted:
    """Two layers of the network `forward` describes; counts what runs."""

    can_stop, last, description = True, 1, "planted"

    def __init__(self):
        self.calls = {}
        self.matrices = {(layer, name): at_path("layers", layer, name) for layer, name in SHAPES}
        self.matrices[1, "ov"] = product(
            self.matrices[1, "v_proj"], self.matrices[1, "out_proj"], ("v_proj", "out_proj")
        )

    def count(self, name):
        self.calls[name] = self.calls.get(name, 0) + 1

    def below(self, params, layer):
        return params["layers"][:layer]

    def arrange(self, data, size):
        # Another order than the given one, which nobody must see.
        return np.arange(len(data["x"]))[::-1]

    def pack(self, batches):
        return list(batches)

    def embed(self, params, batch):
        self.count("embed")
        return jnp.asarray(batch["x"])

    def layers(self, params, start, end, x, batch):
        for index in range(start, end):
            self.count(("layer", index))
            x = _layer(params["layers"], x)
        return x

    def finish(self, params, h, batch):
        self.count("finish")
        return _finish(params, h, batch)

    def stop(self, params, key, stream, batch):
        self.count(("stop", key))
        x = batch["x"]
        inputs, rest = _stop(params, key, x)
        return Stopped(inputs, jnp.asarray(batch["valid"]), rest)

    def resume(self, params, key, outputs, rest, batch):
        self.count(("resume", key))
        return resume(params, key, outputs, rest, batch)

    def resume_each(self, params, key, outputs, rest, batch):
        return [self.resume(params, key, one, rest, batch) for one in outputs]

    def probabilities(self, params, h, batch):
        return jax.nn.softmax(_logits(params, h))


@jax.jit
def _layer(layers, x):
    return x + linear.apply(layers[0]["fc_out"], jnp.tanh(linear.apply(layers[0]["fc_in"], x)))


@jax.jit
def _logits(params, h):
    layers = params["layers"]
    h1 = h + linear.apply(layers[1]["out_proj"], linear.apply(layers[1]["v_proj"], h))
    return (h1 + linear.apply(layers[1]["fc_in"], h1)) @ params["unembed"]


@jax.jit
def _finish(params, h, batch):
    return score(_logits(params, h), batch)


@functools.partial(jax.jit, static_argnames="key")
def _stop(params, key, x):
    inputs, h, h1, _ = forward(params, x)
    return inputs[key], (x, h, h1)


class World:
    """The planted network, its parameters and its examples."""

    def __init__(self, params, examples):
        self.network, self.params, self.examples = Planted(), params, examples
        self.keys = tuple(SHAPES)
        self.matrices = self.network.matrices

    def scorer(self, *, batch_size=None, can_stop=True, params=None, examples=None, **keywords):
        examples = examples or self.examples
        examples = Examples(examples.data, examples.weights, batch_size)
        return Scorer(
            self.network if can_stop else self.black_box(),
            self.params if params is None else params,
            examples,
            **keywords,
        )

    def black_box(self):
        """The same model, but it cannot stop in front of a matrix."""
        return BlackBox(self.matrices, self.scores)

    def scores(self, params, batch):
        """Scores by the plain forward pass."""
        return score(forward(params, batch["x"])[3], batch)

    def select(self, indices):
        return self.examples.select(indices)


def forward(params, x):
    """Inputs of every matrix, and logits [examples, positions, classes]."""
    layers, inputs = params["layers"], {}
    inputs[0, "fc_in"] = x
    inputs[0, "fc_out"] = jnp.tanh(linear.apply(layers[0]["fc_in"], x))
    h = x + linear.apply(layers[0]["fc_out"], inputs[0, "fc_out"])
    inputs[1, "v_proj"] = inputs[1, "ov"] = h
    inputs[1, "out_proj"] = linear.apply(layers[1]["v_proj"], h)
    h1 = h + linear.apply(layers[1]["out_proj"], inputs[1, "out_proj"])
    inputs[1, "fc_in"] = h1
    return inputs, h, h1, (h1 + linear.apply(layers[1]["fc_in"], h1)) @ params["unembed"]


def score(logits, batch):
    log_p = jax.nn.log_softmax(logits)
    chosen = jnp.take_along_axis(log_p, batch["labels"][..., None], axis=-1)[..., 0]
    return {
        "loss": -chosen,
        "accuracy": (jnp.argmax(logits, -1) == batch["labels"]).astype(jnp.float32),
        "p_correct": jnp.exp(chosen),
        "p_noise": jnp.exp(log_p[..., NOISE]),
    }


@functools.partial(jax.jit, static_argnames="key")
def resume(params, key, outputs, rest, batch):
    layers, (x, h, h1) = params["layers"], rest
    if key == (0, "fc_in"):
        outputs, key = linear.apply(layers[0]["fc_out"], jnp.tanh(outputs)), (0, "fc_out")
    if key == (0, "fc_out"):
        h = x + outputs
        outputs, key = linear.apply(layers[1]["v_proj"], h), (1, "v_proj")
    if key == (1, "v_proj"):
        outputs, key = linear.apply(layers[1]["out_proj"], outputs), (1, "out_proj")
    if key in ((1, "out_proj"), (1, "ov")):
        h1 = h + outputs
        outputs = linear.apply(layers[1]["fc_in"], h1)
    return score((h1 + outputs) @ params["unembed"], batch)


def make_world(seed=0, *, noise=3.0, num_examples=60, positions=3):
    """Labels are decided by the input; the top component of 1.fc_in writes the noise class."""
    keys = iter(jax.random.split(jax.random.key(seed), 20))
    unembed = jnp.linalg.qr(jax.random.normal(next(keys), (D, D)))[0][:, :CLASSES]
    labels = jax.random.randint(next(keys), (num_examples, positions), 0, CLASSES - 1)
    x = 1.5 * unembed.T[labels] + 0.5 * jax.random.normal(next(keys), (num_examples, positions, D))
    constant = jnp.linalg.qr(
        jnp.concatenate([unembed, jax.random.normal(next(keys), (D, 1))], axis=1)
    )[0][:, CLASSES]
    x = x + constant[None, None]
    params = {"layers": [{}, {}], "unembed": unembed}
    for (layer, name), shape in SHAPES.items():
        params["layers"][layer][name] = 0.06 * jax.random.normal(next(keys), shape)
    signal = unembed[:, :NOISE] @ unembed[:, :NOISE].T
    params["layers"][1]["fc_in"] += signal + noise * jnp.outer(constant, unembed[:, NOISE])
    valid = np.ones((num_examples, positions), bool)
    valid[::4, -1] = False

    data = {"x": x, "labels": labels, "valid": jnp.asarray(valid)}
    return World(params, Examples(data, valid.astype(np.float32)))


@pytest.fixture(scope="session")
def planted():
    return make_world()


@pytest.fixture(scope="session")
def harmless():
    """The same without any planted noise: nothing to gain."""
    return make_world(noise=0.0)


_compiled: list[str] = []
jax.monitoring.register_event_duration_secs_listener(
    lambda name, seconds, **_: name.endswith("backend_compile_duration") and _compiled.append(name)
)


@pytest.fixture
def compilations():
    """A context whose list grows with every program that is compiled, or read back, inside."""

    @contextlib.contextmanager
    def watch():
        _compiled.clear()
        yield _compiled

    return watch
