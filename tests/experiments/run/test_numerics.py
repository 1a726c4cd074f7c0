"""What numbers depend on beside settings: recorded, refused where it would mix, told otherwise."""

import json

import jax
import pytest

from tests.experiments.run.test_run_directory import begin
from truncated_weights.experiments.run.directory import numerics, require_same_stream
from truncated_weights.experiments.run.inputs import recall_setup
from truncated_weights.experiments.run.program import UserError
from truncated_weights.toy.settings import NoisyRecall


def recorded(path):
    return json.loads((path / "config.json").read_text())


OTHERS = {
    "jax_threefry_partitionable": (False, "JAX_THREEFRY_PARTITIONABLE=1"),
    "jax_default_prng_impl": ("rbg", "JAX_DEFAULT_PRNG_IMPL=threefry2x32"),
    "jax_enable_x64": (True, "JAX_ENABLE_X64=0"),
    "jax_default_matmul_precision": ("bfloat16", "JAX_DEFAULT_MATMUL_PRECISION="),
}


@pytest.mark.fault("A12")
@pytest.mark.parametrize("name", OTHERS)
def test_another_random_stream_or_precision_is_refused_by_name(tmp_path, name):
    other, hint = OTHERS[name]
    begin(tmp_path)
    before = recorded(tmp_path)
    was = getattr(jax.config, name)
    assert before["draws"][name] == was
    jax.config.update(name, other)
    try:
        with pytest.raises(UserError, match=rf"begun with {name}={was}, not {other}; set {hint}"):
            begin(tmp_path)
        assert recorded(tmp_path) == before
        begin(tmp_path, overwrite=True)
        assert recorded(tmp_path)["draws"][name] == other
    finally:
        jax.config.update(name, was)


@pytest.mark.fault("A12")
def test_other_cores_and_flags_are_told_and_recorded_and_it_goes_on(tmp_path, monkeypatch, capsys):
    begin(tmp_path)
    before = recorded(tmp_path)
    assert before["cores"] == numerics.cores()
    begin(tmp_path)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(numerics, "cores", lambda: 96)
    monkeypatch.setenv("XLA_FLAGS", "--b=2 --a=1")
    for _ in range(2):
        begin(tmp_path)
        said = capsys.readouterr().err
        assert f"note: cores {before['cores']} became 96, xla_flags " in said
        assert said.endswith("it goes on, but not to the bit as it would have\n")
        assert said.count("\n") == 1
    now = recorded(tmp_path)
    (continued,) = now.pop("continued")
    assert now == before
    assert (continued["cores"], continued["xla_flags"]) == (96, "--a=1 --b=2")


def test_a_run_that_recorded_nothing_of_it_is_continued(tmp_path):
    begin(tmp_path)
    old = {k: v for k, v in recorded(tmp_path).items() if k not in ("draws", "cores", "xla_flags")}
    (tmp_path / "config.json").write_text(json.dumps(old))
    begin(tmp_path)
    assert recorded(tmp_path) == old


@pytest.mark.fault("A12")
def test_a_run_is_not_read_under_another_stream(tmp_path):
    begin(tmp_path, NoisyRecall(), name="noisy_recall")
    was = jax.config.jax_threefry_partitionable
    jax.config.update("jax_threefry_partitionable", not was)
    try:
        with pytest.raises(UserError, match=f"begun with jax_threefry_partitionable={was}"):
            recall_setup.read_setup(tmp_path)
    finally:
        jax.config.update("jax_threefry_partitionable", was)
    # The weights are the same numbers, whatever the products with them are rounded to.
    with jax.default_matmul_precision("bfloat16"):
        require_same_stream(tmp_path)
