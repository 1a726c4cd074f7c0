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


def test_where_curves_part_and_how_well_the_rise_is_foretold():
    config = Linearised(widths=(16, 32), learning_rates=(0.1, 0.2), steps=5, num_seeds=2)
    steps = np.arange(6)
    rise = np.array([0.1, 0.2, 0.4, 0.6, 0.5, 0.5])
    arrays = {}
    for width in config.widths:
        for rate in config.learning_rates:
            name = f"d{width}/rate{rate:g}"
            full = np.stack([rise, rise], axis=1)
            # Seed 0 of the linear network goes its own way from step 3, seed 1 from step 4.
            linear = full + np.array([[0, 0], [0.01, 0.01], [0.02, 0.04], [0.2, 0.0],
                                      [0.3, 0.3], [0.3, 0.3]])  # fmt: skip
            for variant, values in (("full", full), ("linearised", linear)):
                arrays[f"{name}/{variant}/steps"] = steps
                arrays[f"{name}/{variant}/p_noise"] = values
                arrays[f"{name}/{variant}/p_correct"] = 0.1 * values
            arrays[f"{name}/predicted/p_noise"] = rise - 0.05 * (steps > 1)
            arrays[f"{name}/predicted/p_correct"] = rise
    summary = program.summarise(config, arrays)
    name = "d16/rate0.2"
    assert summary[f"{name}/linearised/p_noise/parted"] == 3.5
    assert summary[f"{name}/linearised/p_noise/parted/sem"] == pytest.approx(0.5)
    assert summary[f"{name}/linearised/p_correct/parted"] == -1
    assert summary[f"{name}/linearised/p_correct/parting"] == 0
    # The full curve passes alpha = 0.5 at step 3, which is part of the rise.
    assert summary[f"{name}/rise/step"] == 3
    assert summary[f"{name}/rise/linearised"] == pytest.approx(0.1)
    assert summary[f"{name}/rise/predicted"] == pytest.approx(0.05)
    drawn = dict(program.figures.draw(config, arrays))
    assert next(iter(drawn)) == "overview"
    assert len(drawn["overview"].axes) == 4


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
