import functools

import jax
import jax.numpy as jnp
import pytest

from truncated_weights.experiments.benchmark import measure as benchmark
from truncated_weights.experiments.benchmark import plain
from truncated_weights.experiments.benchmark.operation_count import (
    Count,
    count,
    matrix_product_operations,
)
from truncated_weights.experiments.benchmark.settings import Benchmark
from truncated_weights.experiments.run.program import UserError
from truncated_weights.toy.probes import records
from truncated_weights.training.records import name
from truncated_weights.truncation import notation


def test_operations_of_known_products():
    a, b = jnp.zeros((3, 5)), jnp.zeros((5, 7))
    assert matrix_product_operations(jnp.matmul, a, b) == 2 * 3 * 5 * 7
    # Forward once, backward twice: both factors' gradients are products of the same size.
    gradient = jax.grad(lambda a, b: jnp.sum((a @ b) ** 2), argnums=(0, 1))
    assert matrix_product_operations(gradient, a, b) == 3 * 2 * 3 * 5 * 7
    batched = jnp.zeros((4, 3, 5))
    assert matrix_product_operations(lambda x: jax.jit(jnp.matmul)(x, b), batched) == 8 * 3 * 5 * 7


def test_operations_inside_loops():
    a = jnp.zeros((6, 6))

    def scanned(a):
        return jax.lax.scan(lambda x, _: (x @ a, None), a, length=10)[0]

    assert matrix_product_operations(scanned, a) == 10 * 2 * 6**3
    with pytest.raises(ValueError, match="while loop"):
        matrix_product_operations(lambda n: jax.lax.fori_loop(0, n, lambda _, x: x @ a, a), 3)


@pytest.mark.fault("G2")
def test_bytes_branches_and_decompositions():
    a = jnp.zeros((6, 6))
    product = Count(2 * 6**3, 3 * 4 * 6**2)

    def counted(function, *arguments, **given):
        return count(jax.make_jaxpr(function)(*arguments).jaxpr, **given)

    assert counted(jnp.matmul, a, a) == product
    assert counted(lambda n: jax.lax.fori_loop(0, n, lambda _, x: x @ a, a), 3, turns=4) == (
        product.times(4)
    )
    # Of a branch the costlier side, wherever it is.
    for sides in ((lambda: a @ a @ a, lambda: a), (lambda: a, lambda: a @ a @ a)):
        assert counted(lambda x, s=sides: jax.lax.cond(x, *s), True) == product.times(2)
    batched = jnp.zeros((5, 6, 6))
    assert counted(jnp.linalg.svd, batched).decompositions == 5


def test_our_formulation_multiplies_less():
    config = Benchmark(length=64, d_model=32, batch_size=4, probe_batch=4, rounds=1)
    ours = benchmark.operations(benchmark.problem(benchmark.RecallProblem, config))
    plain = benchmark.operations(benchmark.problem(benchmark.PlainProblem, config))
    assert ours < 0.7 * plain


def test_the_plain_step_and_record_have_the_values_of_ours():
    config = Benchmark(length=16, d_model=8, batch_size=4, probe_batch=4, rounds=1)
    ours, theirs = (
        benchmark.problem(kind, config)
        for kind in (benchmark.RecallProblem, benchmark.PlainProblem)
    )
    params, frozen = ours.init(jax.random.key(0))
    key = jax.random.key(1)
    losses = [
        float(jax.jit(lambda w, f, p=p: p.loss(w, f, key, lambda batch: batch))(params, frozen))
        for p in (ours, theirs)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    cuts = [notation.parse(text) for text in ("1.fc_in@0.5", "1.ov@0", "0.fc_out@-0.2")]
    measures = [m.measure_models(cuts, batch_size=4) for m in (records, plain)]
    found = [jax.jit(functools.partial(m, ours))(params, frozen, key) for m in measures]
    assert len(found[1]) == 2 * 4 * 4
    for key, value in found[1].items():
        assert float(found[0][key]) == pytest.approx(float(value), abs=2e-5), key


def test_what_is_timed_runs():
    config = Benchmark(length=16, d_model=8, batch_size=4, probe_batch=4, rounds=1)
    advance, _ = benchmark.stepper(benchmark.problem(benchmark.RecallProblem, config))
    advance(3)
    seconds = benchmark.medians({"step": lambda: advance(1)}, 2)
    assert seconds["step"] > 0
    found = benchmark.record(records, config)()
    assert name("p_noise", set="clean", model="1.ov@0.1") in found


def test_the_published_truncations_are_fifteen():
    names = [str(cut) for cut in benchmark.published_truncations()]
    assert len(set(names)) == 15
    assert "1.ov@0.1" in names


def test_quick_and_a_shape_exclude_each_other():
    small = benchmark.resolved(Benchmark(quick=True, rounds=2))
    assert (small.length, small.d_model, small.rounds) == (64, 64, 2)
    with pytest.raises(UserError, match=r"--quick sets --probe_batch=32"):
        benchmark.resolved(Benchmark(quick=True, probe_batch=9))
