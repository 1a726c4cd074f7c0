"""The kernel of the two-layer Transformer at its start, and the noise it learns with it.

Four things are simulated: feed-forwards without attention, wide and on streams of given overlap,
where the closed form is exact in the limit; descent of a linear model; what attention brings to
two triggers; and the Transformer itself, one group of matrices stepped at a time. Embeddings and
the columns of W_U have the norms that they have on average, which leaves every limit as it is and
takes most of the noise of sampling away.
"""

import functools
import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array, Float

from truncated_weights.experiments.verify_theory.effort import Effort, Outcome, at
from truncated_weights.experiments.verify_theory.families import early, sampling
from truncated_weights.experiments.verify_theory.families.early import LENGTH, WIDTH
from truncated_weights.experiments.verify_theory.table import Row, mean_and_error, worst
from truncated_weights.theory import lazy, recall_chain
from truncated_weights.toy import language, linearised, network, recall, transformer
from truncated_weights.toy.layer import take
from truncated_weights.training import records
from truncated_weights.training.records import Name, Records

FAMILY = "lazy"
# The noise over the first steps of training.
TOKENS, ALPHA, STEPS = 32, 0.5, 4
# Feed-forwards without attention: width, hidden width, classes; pairs of streams by overlap.
WIDE, HIDDEN, CLASSES, WIDE_DRAWS = 128, 512, 8, 256
# What two triggers attend to evenly, without scores: streams of so many tokens.
ATTENDED, LAYER_DRAWS = 8, 256
# Frequencies of tokens whose scores are drawn.
LAW = (0.5, 0.3, 0.15, 0.05)
PAIRS = {2: (0, 0), 1: (0, 1), 0: (0, 2)}
COSINES = (-0.5, 0.0, 0.5, 0.9)
# Attention, one group of matrices at a time.
PATH_ALPHA, PATH_BATCH = 0.3, 96
PATHS = {
    "0.v_proj, 0.out_proj -> 0": (("0.v_proj", "0.out_proj"), 0),
    "1.v_proj, 1.out_proj -> 1": (("1.v_proj", "1.out_proj"), 1),
    "0.fc_in, 0.fc_out -> 1": (("0.fc_in", "0.fc_out"), 1),
    "0.v_proj, 0.out_proj -> 1": (("0.v_proj", "0.out_proj"), 1),
}
FED = ("0.fc_in", "0.fc_out", "1.fc_in", "1.fc_out")
LEARNING_RATE, MOMENTUM = 0.03, 0.9


def simulate(effort: Effort, seed: int) -> Records:
    """Kernels, overlaps, first steps and curves."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(2, effort.label_draws))
    other = np.array([c * z[0] + math.sqrt(1 - c * c) * z[1] for c in COSINES])
    arcs = np.stack([2 * (z[0] > 0) * (other > 0), 2 * np.maximum(z[0], 0) * np.maximum(other, 0)])
    error = arcs.std(axis=2) / math.sqrt(effort.label_draws)
    arc = (("of", "order", "cosine"), np.stack([arcs.mean(axis=2), error]))
    of = ["mean", "error"]
    agreement = ("of", _agreements(rng, effort.label_draws))
    layers = {
        records.name("kernel", "draw", path=path): value
        for path, value in _layer_kernels(seed).items()
    }
    wide = _wide_kernels(seed)
    total = sum(wide[matrix][:, 0, 1].mean() for matrix in FED)
    kernels = {
        records.name("kernel", "draw", "stream", "other", matrix=matrix): value
        for matrix, value in wide.items()
    }
    descended = (("set", "step"), _descended(total))
    linear, paths = _linear_descent(rng), {}
    for size in effort.path_sizes:
        task = _path_task(size)
        keys = [jax.random.key(seed + 1000 + k) for k in range(effort.lazy_seeds)]
        measure = _path_measure(task)
        found = [jax.device_get(measure(key)) for key in keys]
        for key in found[0]:
            at_size = key.within(size=size)._replace(dims=("network",))
            paths[at_size] = np.array([f[key] for f in found], np.float64)
    task = recall.make_task(language.zipf(TOKENS), alpha=ALPHA, length=LENGTH)
    seeds = tuple(range(seed, seed + effort.lazy_seeds // 2))
    # Both, so that where they agree says that the noise is learned lazily.
    curves = {
        records.name("p_noise", "step", "network", model=model): early.trained(
            task, seeds, STEPS, linear=linearly
        )
        for model, linearly in (("full", False), ("linearised", True))
    }
    return Records(
        {
            "lazy_arc": xr.Dataset({"kappa": arc}, {"of": of, "cosine": list(COSINES)}),
            "lazy_agreement": xr.Dataset({"agreement": agreement}, {"of": of}),
            "lazy_layers": records.labelled(layers, {}),
            "lazy_wide": records.labelled(kernels, {}),
            "lazy_wide_curves": xr.Dataset({"p": descended}, {"set": ["correct", "noise"]}),
            "lazy_linear": linear,
            "lazy_paths": records.labelled(paths, {}),
            "lazy_curves": records.labelled(curves, {}),
        }
    )


def judge(effort: Effort, found: Records) -> Outcome:
    """Rows of the family."""
    linear = found.lazy_linear
    rows = [
        worst(FAMILY, f"kappa_{order}", f"cosines {COSINES}",
              np.array([lazy.arc_cosine(c)[order] for c in COSINES]),
              *found.lazy_arc.kappa.values[:, order])
        for order in (0, 1)
    ]  # fmt: skip
    rows += _wide_rows(found) + _layer_rows(found)
    rows.append(
        worst(FAMILY, "heavy ball in function space", "linear model, 30 steps",
              lazy.descend(linear.kernel.values, linear.target.values,
                           linear.logit.values[0], learning_rate=0.1, momentum=0.8,
                           steps=linear.sizes["step"] - 1),
              linear.logit.values, tolerance=1e-9)
    )  # fmt: skip
    for size in effort.path_sizes:
        rows += _path_rows(size, effort.lazy_seeds, found)
    return Outcome(rows + _curve_rows(effort.lazy_seeds // 2, found))


def _wide_kernels(seed: int) -> dict[str, np.ndarray]:
    """Kernel [draws, 3, 3] of each matrix between three streams, one draw per random network.

    Streams are token plus position, all orthogonal and of squared norm d: two share their token.
    """

    def logit(params: Mapping[str, Array], x: Array, column: Array) -> Array:
        h = x + jax.nn.relu(x @ params["0.fc_in"]) @ params["0.fc_out"]
        h = h + jax.nn.relu(h @ params["1.fc_in"]) @ params["1.fc_out"]
        return h @ column

    def one(key: Array) -> dict[str, Array]:
        keys = jax.random.split(key, 6)
        shapes = ((WIDE, HIDDEN), (HIDDEN, WIDE)) * 2
        params = {
            name: jax.random.uniform(k, shape, minval=-1, maxval=1) / math.sqrt(shape[0])
            for name, k, shape in zip(FED, keys, shapes, strict=False)
        }
        # Random orthogonal directions, three positions and two tokens.
        turn = jnp.linalg.qr(jax.random.normal(keys[4], (WIDE, 5)))[0].T * math.sqrt(WIDE)
        streams = jnp.stack([turn[3] + turn[0], turn[3] + turn[1], turn[4] + turn[2]])
        column = jax.random.normal(keys[5], (WIDE,))
        column = column / jnp.linalg.norm(column) / math.sqrt(3)
        rows = jax.vmap(jax.grad(logit), in_axes=(None, 0, None))(params, streams, column)
        flat = {name: x.reshape(3, -1) for name, x in rows.items()}
        return {name: jnp.matmul(x, x.T, precision="highest") for name, x in flat.items()}

    keys = jax.random.split(jax.random.key(seed), WIDE_DRAWS)
    found = jax.jit(lambda keys: jax.lax.map(one, keys))(keys)
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


def _wide_rows(found: Records) -> list[Row]:
    rows = []
    setting = f"no attention, d={WIDE}, H={HIDDEN}, {WIDE_DRAWS} networks"
    for overlap, (i, j) in PAIRS.items():
        kernels = {m: at(found.lazy_wide, matrix=m).kernel.values[:, i, j] for m in FED}
        predicted = lazy.part_kernels(WIDE, HIDDEN, float(overlap))
        for name, values in kernels.items():
            mean, error = mean_and_error(values)
            rows.append(
                Row(FAMILY, f"kernel of {name}, overlap {overlap}", setting, predicted[name],
                    float(mean), error=float(error), tolerance=0.015 * float(mean),
                    note="next order 1/d")
            )  # fmt: skip
        if overlap:
            mean, error = mean_and_error(np.sum(list(kernels.values()), axis=0))
            rows.append(
                Row(FAMILY, f"kernel of two triggers, overlap {overlap}", setting,
                    lazy.trigger_kernel(WIDE, HIDDEN, same=overlap == 2), float(mean),
                    error=float(error), tolerance=0.015 * float(mean), note="next order 1/d")
            )  # fmt: skip
    curves = lazy.trigger_curves(
        width=WIDE, hidden=HIDDEN, num_outputs=TOKENS - 1, num_classes=TOKENS + 1, alpha=ALPHA,
        learning_rate=LEARNING_RATE, momentum=MOMENTUM, steps=STEPS,
    )  # fmt: skip
    for name, curve, measured in zip(
        ("correct", "noise"), curves, found.lazy_wide_curves.p.values, strict=True
    ):
        rows.append(
            worst(FAMILY, f"p({name}) of descent with the measured kernel",
                  f"{setting}, {STEPS} steps", curve, measured, tolerance=0.02,
                  note="what 2 % of the kernel do")
        )  # fmt: skip
    return rows


def _layer_kernels(seed: int) -> dict[str, np.ndarray]:
    """Kernel [draws] of two triggers along each path of attention, in layers without scores.

    Each trigger attends evenly to ATTENDED streams, of the same tokens at other positions, all
    orthogonal: the overlap of what is attended to is 1 / ATTENDED, and the streams of a trigger's
    own positions are attended to by nobody.
    """
    values = ("0.v_proj", "0.out_proj", "1.v_proj", "1.out_proj")
    shapes = dict.fromkeys(values, (WIDE, WIDE)) | {
        "0.fc_in": (WIDE, HIDDEN), "0.fc_out": (HIDDEN, WIDE),
    }  # fmt: skip

    def parts(params: Mapping[str, Array], streams: Array, column: Array) -> Array:
        """Logit that attention of layers 0 and 1 writes, [2]."""
        first = jnp.mean(streams, axis=0) @ params["0.v_proj"] @ params["0.out_proj"]
        h = streams + first[None]  # every position attends to all
        h = h + jax.nn.relu(h @ params["0.fc_in"]) @ params["0.fc_out"]
        second = jnp.mean(h, axis=0) @ params["1.v_proj"] @ params["1.out_proj"]
        return jnp.stack([first @ column, second @ column])

    def one(key: Array) -> dict[str, Array]:
        *keys, turned, last = jax.random.split(key, len(shapes) + 2)
        params = {
            name: jax.random.uniform(k, shape, minval=-1, maxval=1) / math.sqrt(shape[0])
            for k, (name, shape) in zip(keys, shapes.items(), strict=True)
        }
        turn = jnp.linalg.qr(jax.random.normal(turned, (WIDE, 3 * ATTENDED)))[0].T
        tokens, *places = jnp.split(turn * math.sqrt(WIDE), 3)
        column = jax.random.normal(last, (WIDE,))
        column = column / jnp.linalg.norm(column) / math.sqrt(3)
        here, there = (jax.jacrev(parts)(params, tokens + place, column) for place in places)
        products = {
            g: jax.vmap(functools.partial(jnp.vdot, precision="highest"))(here[g], there[g])
            for g in shapes
        }
        return {
            name: jnp.sum(jnp.stack([products[g][layer] for g in groups]))
            for name, (groups, layer) in PATHS.items()
        }  # fmt: skip

    keys = jax.random.split(jax.random.key(seed + 7), LAYER_DRAWS)
    found = jax.jit(lambda keys: jax.lax.map(one, keys))(keys)
    return {name: np.asarray(value, np.float64) for name, value in found.items()}


def _agreements(rng: np.random.Generator, draws: int) -> Float[np.ndarray, "2"]:
    """Mean and error of sum_v pi_v pi'_v, pi softmaxes of correlated scores beside log LAW."""
    law = np.array(LAW)
    common = math.sqrt(1 / 3) * rng.normal(size=(draws, law.size))
    weights = [
        law * np.exp(common + math.sqrt(1 / 3) * rng.normal(size=common.shape)) for _ in range(2)
    ]
    one, other = (w / w.sum(axis=1, keepdims=True) for w in weights)
    return np.stack(mean_and_error(np.sum(one * other, axis=1)))


def _layer_rows(found: Records) -> list[Row]:
    mean, error = found.lazy_agreement.agreement.values
    many = 10**5
    rows = [
        Row(FAMILY, "agreement of softmaxes over drawn scores", f"frequencies {LAW}",
            lazy.softmax_overlap([list(LAW)], many, 10**9), float(mean), error=float(error),
            tolerance=1e-3, note="quadrature; positions many, width infinite"),
    ]  # fmt: skip
    for name, predicted in lazy.attention_paths(WIDE, HIDDEN, 1 / ATTENDED).items():
        mean, error = mean_and_error(at(found.lazy_layers, path=name).kernel.values)
        rows.append(
            Row(FAMILY, f"kernel of attention along {name}",
                f"no scores, d={WIDE}, H={HIDDEN}, {LAYER_DRAWS} networks", predicted,
                float(mean), error=float(error), tolerance=0.03 * float(mean),
                note="next order 1/d")
        )  # fmt: skip
    return rows


def _descended(kernel: float) -> Float[np.ndarray, "curves steps"]:
    """p(correct), p(noise) of a linear model of one input of this squared norm, by autodiff."""
    with jax.enable_x64(True):
        target = jnp.full(TOKENS + 1, (1 - ALPHA) / (TOKENS - 1)).at[-1].set(ALPHA)
        target = target.at[TOKENS - 1].set(0.0)
        feature = math.sqrt(kernel)

        def loss(w: Array) -> Array:
            return -target @ jax.nn.log_softmax(feature * w)

        w, velocity, path = jnp.zeros(TOKENS + 1), jnp.zeros(TOKENS + 1), []
        step = jax.jit(jax.grad(loss))
        for _ in range(STEPS + 1):
            path.append(np.asarray(jax.nn.softmax(feature * w)))
            velocity = MOMENTUM * velocity - step(w)
            w = w + LEARNING_RATE * velocity
    p = np.array(path)
    return np.stack([p[:, : TOKENS - 1].mean(axis=1), p[:, -1]])


def _linear_descent(rng: np.random.Generator) -> xr.Dataset:
    """Heavy ball on the weights of a linear model of six examples."""
    features, start = rng.normal(size=(6, 4)), rng.normal(size=(4, 3))
    targets = rng.dirichlet(np.ones(3), size=6)
    with jax.enable_x64(True):
        gradient = jax.jit(
            jax.grad(lambda w: -jnp.sum(targets * jax.nn.log_softmax(features @ w, axis=1)) / 6)
        )
        w, velocity, path = jnp.asarray(start), jnp.zeros((4, 3)), []
        for _ in range(31):
            path.append(features @ np.asarray(w))
            velocity = 0.8 * velocity - gradient(w)
            w = w + 0.1 * velocity
    return xr.Dataset(
        {
            "kernel": (("example", "other"), features @ features.T),
            "target": (("example", "class"), targets),
            "logit": (("step", "example", "class"), np.array(path)),
        }
    )


def _path_task(size: int) -> recall.Task:
    return recall.make_task(language.zipf(size), alpha=PATH_ALPHA, length=LENGTH)


def _path_measure(task: recall.Task):  # type: ignore[no-untyped-def]
    """What one network attends to at triggers, and the noise logit each path writes in one step."""
    config, noise = early.model(task), int(task.noise[0])

    def attended(weights: transformer.Weights, batch: recall.Batch) -> list[Array]:
        """Mean over triggers of what attention brings: uniform, of layer 0 and of layer 1."""
        entering = network.embed(config, weights, batch.tokens)
        stages = network.suffix_and_stages(config, weights, entering, 0, batch.positions)[1]
        count = jnp.arange(1, LENGTH + 1)[None, :, None]
        uniform = take(jnp.cumsum(entering, axis=1) / count, batch.positions)
        brought = (uniform, take(stages[0].gathered, batch.positions), stages[1].gathered)
        return [jnp.einsum("bsd,bs->d", x, batch.weights) / jnp.sum(batch.weights) for x in brought]

    @functools.partial(jax.jit, compiler_options=sampling.BRIEFLY)
    def one(key: Array) -> dict[Name, Array]:
        start, *data = jax.random.split(key, 3)
        params, frozen = transformer.init(config, start)
        frozen = dict(frozen)
        for name, size, axis in (
            ("embed", WIDTH, 1), ("position", WIDTH, 1), ("unembed", 1 / 3, 0),
        ):  # fmt: skip
            norm = jnp.linalg.norm(frozen[name], axis=axis, keepdims=True)
            frozen[name] = frozen[name] * math.sqrt(size) / norm
        batch, test = (recall.sample(task, k, batch_size=PATH_BATCH) for k in data)

        def loss(params: transformer.Weights) -> Array:
            logits = linearised.scored_logits(config, params, frozen, batch)
            log_p = jax.nn.log_softmax(logits, axis=-1)
            labels = batch.labels[:, :, None]
            return -recall.mean(jnp.take_along_axis(log_p, labels, axis=-1)[:, :, 0], batch)

        def written(params: transformer.Weights) -> Array:
            """Noise logit that attention of layers 0 and 1 writes at triggers."""
            weights = transformer.combine(params, frozen)
            found = network.run(config, weights, test.tokens, test.positions).contributions
            column = weights["unembed"][:, noise]
            return jnp.stack([recall.mean(found[i] @ column, test) for i in (1, 3)])

        gradient = jax.grad(loss)(params)

        def along(groups: tuple[str, ...]) -> Array:
            def chosen(path: tuple, x: Array) -> Array:
                return -x if linearised.matrix_name(path) in groups else jnp.zeros_like(x)

            direction = jax.tree_util.tree_map_with_path(chosen, gradient)
            return jax.jvp(written, (params,), (direction,))[1]

        by_group = {groups: along(groups) for groups in {g for g, _ in PATHS.values()}}
        result = {
            records.name("noise_logit", path=path): by_group[groups][layer]
            for path, (groups, layer) in PATHS.items()
        }
        weights = transformer.combine(params, frozen)
        for scores, a, b in zip(
            ("uniform", "softmax", "above"), attended(weights, batch), attended(weights, test),
            strict=True,
        ):  # fmt: skip
            result[records.name("overlap", scores=scores)] = a @ b / WIDTH
        return result

    return one


def _path_rows(size: int, seeds: int, found: Records) -> list[Row]:
    """What two triggers attend to, and the noise logit that each path writes."""
    task, law = _path_task(size), language.zipf(size)
    chain = recall_chain.chain(
        law.unigram, law.bigram, trigger=int(task.triggers[0]), alpha=PATH_ALPHA, length=LENGTH
    )
    frequencies = recall_chain.means(chain).attended[:, : size + 1]
    uniform = lazy.attended_overlap(frequencies, LENGTH)
    softmax = lazy.softmax_overlap(frequencies, LENGTH, WIDTH)
    paths = lazy.attention_paths(WIDTH, 4 * WIDTH, softmax)
    residual = PATH_ALPHA - 1 / task.vocab_size
    setting = f"Zipf N={size}, d={WIDTH}, T={LENGTH}, {seeds} networks"
    expected = {"uniform": uniform, "softmax": softmax} | {
        name: residual * value for name, value in paths.items()
    }
    rows, here = [], at(found.lazy_paths, size=size)
    for name, predicted in expected.items():
        path = name in paths
        samples = here.noise_logit.sel(path=name) if path else here.overlap.sel(scores=name)
        mean, error = mean_and_error(samples.values)
        rows.append(
            Row(FAMILY,
                f"noise logit per step, {name}" if path else f"overlap attended to, {name}",
                setting, predicted, float(mean), error=float(error),
                tolerance=(0.15 if path else 0.07) * float(mean), samples=seeds,
                note="next order 1/d" if path else "prefixes end in a trigger")
        )  # fmt: skip
    return rows


def _curve_rows(seeds: int, found: Records) -> list[Row]:
    """p(noise) of the Transformer over its first steps."""
    task = recall.make_task(language.zipf(TOKENS), alpha=ALPHA, length=LENGTH)
    curves = early.foretold(task, ALPHA, STEPS)
    full, linear = found.lazy_curves.p_noise.sel(model=["full", "linearised"]).values
    setting = f"N={TOKENS}, alpha={ALPHA}, d={WIDTH}, T={LENGTH}, {seeds} seeds"
    rows = []
    for step in range(1, STEPS + 1):
        mean, error = mean_and_error(full[step])
        _, paired = mean_and_error(full[step] - linear[step])
        rows += [
            Row(FAMILY, f"p(noise), step {step}, by no network", setting,
                float(curves.noise[step]), float(mean), error=float(error), tolerance=0.05,
                samples=seeds, note="attention neglected, d finite"),
            Row(FAMILY, f"p(noise), step {step}, by the linearised network", setting,
                float(linear[step].mean()), float(mean), error=float(paired), tolerance=0.02,
                samples=seeds, simulated=True, note="the same seeds"),
        ]  # fmt: skip
    return rows
