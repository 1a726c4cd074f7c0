"""Against every intervention applied by itself and run from its tokens on."""

import jax
import numpy as np
import pytest

from truncated_weights.toy import language, network, recall, transformer
from truncated_weights.toy.probes import cuts as toy_cuts
from truncated_weights.toy.probes import outputs, truncated
from truncated_weights.toy.transformer import TransformerConfig
from truncated_weights.truncation import editing, notation

CONFIGS = {
    "published": {},
    "heads": {"num_heads": 2, "layer_norm": True, "learned_query": True},
    "parallel": {"parallel": True, "feed_forward": ("linear_mlp", "relu", "linear")},
}
OTHERS = [name for name in CONFIGS if name != "published"]
CUTS = (
    "1.mlp@0", "0.fc_in@0.5", "1.out_proj@0.5", "1.fc_in@0.5", "0.k_proj@0+1.v_proj@-0.5",
    "0.mlp@0.2", "1.fc_in@auto", "0.v_proj@0.3", "1.fc_in@magnitude:0.3",
    # More than are compiled one by one.
    "1.k_proj@0", "1.k_proj@0.2", "1.k_proj@0.4", "1.k_proj@0.6", "1.k_proj@-0.2", "1.k_proj@1",
)  # fmt: skip


@pytest.mark.parametrize(
    "name", ["published", *(pytest.param(name, marks=pytest.mark.thorough) for name in OTHERS)]
)
def test_shared_and_thin_is_the_same_as_one_at_a_time(name, monkeypatch):
    task = recall.make_task(language.zipf(5), alpha=0.5, length=12, num_noise=2)
    config = TransformerConfig(task.vocab_size, 12, d_model=8, **CONFIGS[name])
    weights = transformer.combine(*transformer.init(config, jax.random.key(0)))
    # Larger than at the start, so that attention and predictions differ from uniform.
    weights["layers"] = jax.tree.map(lambda w: 2 * w, weights["layers"])
    where = transformer.matrices(config)
    texts = [*CUTS, *(f"1.ov@{rho}" for rho in ("0.2", "-0.2") if (1, "ov") in where)]
    cuts = [notation.parse(text) for text in texts]
    key = jax.random.key(1)
    sets = {
        name: recall.sample(task, key, batch_size=12, alpha=alpha)
        for name, alpha in (("a", 0.0), ("b", 0.5))
    }

    names = [f"{i}.no_relu" for i, kind in enumerate(config.feed_forward) if kind == "mlp"]
    names += ["no_relu"] if names else []
    variants = [toy_cuts.variant(config, name) for name in names]

    if name == "heads":
        # What is kept of all 12 sequences is too much: three turns of four.
        monkeypatch.setattr(truncated, "KEPT_NUMBERS", 2**13)
        run = truncated._Run(
            task, config, weights, toy_cuts.groups(config, weights, cuts, variants)
        )
        assert run.turns(list(sets.values())) in (2, 3, 4, 6)

    @jax.jit
    def shared(weights):
        return truncated.measure(
            task, config, weights, sets, cuts, variants=variants, slice_size=4, row_slice=7
        )

    whole, cut, lost = shared(weights)
    assert not any(map(int, lost.values()))

    @jax.jit
    def alone(edited, batch):
        trace = network.run(config, edited, batch.tokens, batch.positions)
        full = outputs.full_model(task, config, weights, trace, batch)
        return full, outputs.means(task, trace.logits, batch)

    edited = [editing.apply(weights, chosen, where) for chosen in cuts]
    for name, batch in sets.items():
        expected, _ = alone(weights, batch)
        assert set(whole[name]) == set(expected)
        for metric, value in expected.items():
            np.testing.assert_allclose(whole[name][metric], value, atol=2e-5, err_msg=metric)
        seen = set()
        for index, chosen in enumerate(cuts):
            _, expected = alone(edited[index], batch)
            for metric, value in expected.items():
                # Losses reach ten nats here: float32 keeps seven digits of them, not of one.
                np.testing.assert_allclose(
                    cut[name][metric][index],
                    value,
                    rtol=1e-5,
                    atol=2e-5,
                    err_msg=f"{chosen} {metric}",
                )
            seen.add(round(float(expected["loss"]), 4))
        assert len(seen) >= len(cuts) - 3
        for index, other in enumerate(variants, len(cuts)):
            trace = network.run(other, weights, batch.tokens, batch.positions)
            expected = outputs.means(task, trace.logits, batch)["loss"]
            np.testing.assert_allclose(cut[name]["loss"][index], expected, atol=2e-5)


def test_slices_fit_the_cache():
    small = TransformerConfig(10, 256, d_model=256)
    assert truncated._slice_size(small) * 256 * 1024 == truncated.SLICE_NUMBERS
    assert truncated._row_slice(small) * 1024 == truncated.SLICE_NUMBERS


def test_no_interventions_leave_the_full_model_alone():
    task = recall.make_task(language.zipf(5), alpha=0.5, length=6)
    config = TransformerConfig(task.vocab_size, 6, d_model=4, feed_forward=("none",))
    weights = transformer.combine(*transformer.init(config, jax.random.key(0)))
    sets = {"one": recall.sample(task, jax.random.key(0), batch_size=2)}
    whole, cut, _ = truncated.measure(task, config, weights, sets, [])
    variables = {key.variable for key in whole["one"]}
    assert {"p_noise", "attention_correct", "confusion"} <= variables
    assert cut == {"one": {}}


def test_variants_are_named_or_refused():
    config = TransformerConfig(5, 6, d_model=4, feed_forward=("mlp", "none"))
    assert toy_cuts.variant(config, "0.no_relu").feed_forward == ("linear_mlp", "none")
    both = TransformerConfig(5, 6, d_model=4, feed_forward=("mlp", "mlp"))
    assert toy_cuts.variant(both, "no_relu").feed_forward == ("linear_mlp", "linear_mlp")
    assert toy_cuts.variant(both, "1.no_relu").feed_forward == ("mlp", "linear_mlp")
    other = toy_cuts.variant(config, "no_last_residual")
    assert not other.last_residual
    for name in ("1.no_relu", "2.no_relu", "x.no_relu", "relu"):
        with pytest.raises(ValueError, match="is none of no_relu, LAYER"):
            toy_cuts.variant(config, name)
    task = recall.make_task(language.zipf(4), alpha=0.5, length=6)
    weights = transformer.combine(*transformer.init(config, jax.random.key(0)))
    batch = recall.sample(task, jax.random.key(0), batch_size=4)
    _, found, _ = truncated.measure(task, config, weights, {"one": batch}, [], variants=[other])
    trace = network.run(other, weights, batch.tokens, batch.positions)
    expected = outputs.means(task, trace.logits, batch)["loss"]
    np.testing.assert_allclose(found["one"]["loss"][0], expected, rtol=1e-5)
