"""Memory and operations of a preset, read from programs that are compiled and not run."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import pytest

from truncated_weights.experiments.benchmark import plan
from truncated_weights.experiments.benchmark.measure import STUDY
from truncated_weights.experiments.benchmark.operation_count import Count
from truncated_weights.experiments.benchmark.settings import Benchmark
from truncated_weights.experiments.run import study
from truncated_weights.experiments.run.program import Place, UserError
from truncated_weights.training.settings import rule

pytestmark = pytest.mark.fault("G2")

PRESETS = next(rule(f).choices for f in dataclasses.fields(Benchmark) if f.name == "plan_preset")


def test_what_is_told_of_one_product():
    a, b = jnp.zeros((64, 32)), jnp.zeros((32, 128))
    found = plan.compiled("product", 3, jax.jit(jnp.matmul).trace(a, b))
    sides, product = 4 * (64 * 32 + 32 * 128), 4 * 64 * 128
    assert found.products == Count(2 * 64 * 32 * 128, sides + product)
    assert (found.arguments, found.results, found.temporaries) == (sides, product, 0)
    assert found.xla_operations == pytest.approx(found.products.operations, rel=0.01)
    assert found.xla_moved == pytest.approx(found.products.moved, rel=0.01)
    # An H200 multiplies and adds 67e12 times in a second, and moves 4.8e12 bytes.
    by_operations, by_bandwidth = plan.bounds({"product": found}, "h200")["product"]
    assert by_operations == pytest.approx(2 * 64 * 32 * 128 / 67e12)
    assert by_bandwidth == pytest.approx((sides + product) / 4.8e12)


def test_what_takes_the_place_of_an_argument_is_no_further_memory():
    given = jnp.zeros((64, 64))
    added = jax.jit(lambda x: x + 1, donate_argnums=0).trace(given)
    assert plan.compiled("sum", 1, added).memory == 4 * 64**2


@pytest.mark.parametrize("preset", PRESETS)
def test_a_preset_is_read_from_its_flag_file(preset):
    config = plan.read(preset)
    assert (config.length, config.batch_size) == {
        "published": (256, 512), "published_small": (128, 64), "small": (128, 64), "demo": (64, 48),
    }[preset]  # fmt: skip
    setup = plan.recall_setup.build(config)
    assert setup.task.vocab_size == 65


def test_plan_and_quick_exclude_each_other(tmp_path):
    with pytest.raises(UserError, match=r"--quick measures and --plan runs nothing"):
        study.run(
            STUDY, Benchmark(quick=True, plan="h200"), Place("benchmark", str(tmp_path / "x"))
        )


@pytest.mark.thorough
def test_the_whole_table_of_a_small_preset(tmp_path, monkeypatch, capsys):
    small = {"d_model": 16, "length": 16, "steps": 20, "eval_every": 10, "rhos": ("0.5",)}
    whole, out = plan.read("demo"), str(tmp_path / "x")
    monkeypatch.setattr(plan, "read", lambda preset: dataclasses.replace(whole, **small))
    study.run(STUDY, Benchmark(plan="h200", plan_preset="demo"), Place("benchmark", out))
    said = capsys.readouterr().out
    assert "demo on one h200: at least" in said
    assert "nothing was run" in said
    summary = json.loads((tmp_path / "x" / "summary.json").read_text())
    programs = ("step", "record_of_models", "record_of_mechanisms", "record_of_spectra",
                "evaluation")  # fmt: skip
    for program in programs:
        for place in ("here", "h200"):
            assert summary[f"{place}/{program}/arguments"] > 4 * 2 * 16 * 65
            assert summary[f"{place}/{program}/temporaries"] > 0
        assert summary[f"h200/{program}/seconds_by_operations"] > 0
    assert summary["h200/step/times"] == 20
    # A loss and its gradient: three products for every one, and more of them than a record has.
    assert summary["h200/step/products_operations"] > 3 * 2 * 48 * 16 * 16 * 16
    # Each of the ten recorded spectra decomposes every matrix once.
    assert summary["h200/record_of_spectra/products_decompositions"] >= 10
    with pytest.raises(UserError, match="has nothing to draw"):
        study.redraw(STUDY, str(tmp_path / "x"))
