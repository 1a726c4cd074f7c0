import numpy as np
import pytest

from experiments.linearised import experiment as program
from experiments.linearised.settings import PARTS, Linearised
from experiments.run.directory import open_run
from experiments.run.program import Place, UserError
from toy import linearised, transformer

CONFIG = Linearised(
    variants=("full", "linearised"),
    widths=(16,),
    learning_rates=(0.03,),
    num_tokens=6,
    length=12,
    steps=9,
    batch_size=8,
    eval_batch=16,
    num_seeds=1,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("linearised") / "run"
    directory = open_run(Place("linearised", str(out)), CONFIG)
    return directory, program.run(CONFIG, program.build_task(CONFIG), directory)


def test_both_start_alike_and_part_later(finished):
    directory, summary = finished
    arrays = directory.read_arrays()
    full, linear = (arrays[f"d16/rate0.03/{v}/p_noise"][:, 0] for v in CONFIG.variants)
    np.testing.assert_array_equal(arrays["d16/rate0.03/full/steps"], np.arange(10))
    assert full[0] == pytest.approx(linear[0], rel=1e-5)
    # One step moves the logits by its first order and little more.
    assert abs(full[1] - linear[1]) < 0.1 * abs(full[1] - full[0]) + 1e-3
    assert summary["d16/rate0.03/full/p_noise"] == pytest.approx(full[-1])
    assert (directory.path / "figures" / "d16_rate0.03.png").stat().st_size > 10_000


def test_an_interrupted_run_trains_only_what_is_missing(finished, monkeypatch):
    directory, summary = finished
    (directory.path / "summary.json").unlink()
    monkeypatch.setattr(program, "train", None)
    again = program.run(CONFIG, program.build_task(CONFIG), directory)
    assert again == summary


def test_what_each_variant_makes_linear():
    model = transformer.TransformerConfig(8, 12, d_model=4)
    known = set(linearised.matrices(model))
    assert tuple(linearised.PARTS) == PARTS
    assert program.linear_matrices(model, "full") == ()
    assert set(program.linear_matrices(model, "linearised")) == known
    for part in linearised.PARTS:
        inside = set(program.linear_matrices(model, f"linear:{part}"))
        outside = set(program.linear_matrices(model, f"free:{part}"))
        assert inside
        assert inside | outside == known
        assert not inside & outside


def test_impossible_task_is_one_line(tmp_path):
    config = Linearised(num_tokens=3, length=4)
    assert program.build_task(config).outputs.size == 2
    with pytest.raises(ValueError, match="variants"):
        Linearised(variants=("half",))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        program.main(config, Place("linearised", str(tmp_path / "file")))
