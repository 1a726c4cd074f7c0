"""A small network whose noise is planted: what to cut is known exactly."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from truncation import intervention as iv
from truncation import linear
from truncation.search.model import Entry, Model

D, HIDDEN, CLASSES, NOISE = 16, 24, 6, 5
SHAPES = {
    (0, "fc_in"): (D, HIDDEN),
    (0, "fc_out"): (HIDDEN, D),
    (1, "v_proj"): (D, D),
    (1, "out_proj"): (D, D),
    (1, "fc_in"): (D, D),
}


@dataclasses.dataclass(frozen=True)
class World:
    model: Model
    params: dict
    keys: tuple = tuple(SHAPES)

    def without_stops(self):
        """The same model, but it cannot stop in front of a matrix."""
        return dataclasses.replace(self.model, enter=None, leave=None)

    def in_batches(self, size):
        return dataclasses.replace(self.model, batch_size=size)


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

    matrices = {(layer, name): iv.at_path("layers", layer, name) for layer, name in SHAPES}
    matrices[1, "ov"] = iv.product(
        matrices[1, "v_proj"], matrices[1, "out_proj"], ("v_proj", "out_proj")
    )

    def enter(params, key, batch):
        inputs, h, h1, _ = forward(params, batch["x"])
        return Entry(inputs[key], batch["valid"], (batch["x"], h, h1))

    model = Model(
        matrices=matrices,
        examples={"x": x, "labels": labels, "valid": jnp.asarray(valid)},
        weights=valid.astype(np.float32),
        scores=lambda params, batch: score(forward(params, batch["x"])[3], batch),
        enter=enter,
        leave=resume,
        probabilities=lambda params, batch: jax.nn.softmax(forward(params, batch["x"])[3]),
    )
    return World(model, params)


@pytest.fixture(scope="session")
def planted():
    return make_world()


@pytest.fixture(scope="session")
def harmless():
    """The same without any planted noise: nothing to gain."""
    return make_world(noise=0.0)
