import itertools
import json

import numpy as np
import pytest
import xarray as xr

from tests.experiments.drawn import TRAP, require_drawn
from truncated_weights.experiments.linearised import measure as program
from truncated_weights.experiments.linearised.settings import PARTS, Linearised
from truncated_weights.experiments.run import study
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.parts import on_grid
from truncated_weights.experiments.run.program import Place, RunFailedError, UserError
from truncated_weights.toy import linearised, transformer
from truncated_weights.training.records import Records

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
    study.run(program.STUDY, CONFIG, Place("linearised", str(out)))
    return RunDirectory(out), json.loads((out / "summary.json").read_text())


def test_both_start_alike_and_part_later(finished):
    directory, summary = finished
    records = directory.read_records()
    here = records.models.p_noise.sel(width=16, rate=0.03, seed=0)
    np.testing.assert_array_equal(here.step, np.arange(10))
    full, linear = (here.sel(variant=v).values for v in CONFIG.variants)
    assert full[0] == pytest.approx(linear[0], rel=1e-5)
    # One step moves the logits by its first order and little more.
    assert abs(full[1] - linear[1]) < 0.1 * abs(full[1] - full[0]) + 1e-3
    assert summary["d16/rate0.03/full/p_noise"] == pytest.approx(full[-1])
    assert records.predicted.p_correct.sel(width=16, rate=0.03).sizes == {"step": 10}
    assert (directory.path / "figures" / "d16_rate0.03.png").stat().st_size > 10_000
    lines = (directory.path / "metrics.jsonl").read_text().splitlines()
    assert json.loads(lines[1])["d16/rate0.03/linearised/p_noise"] == pytest.approx(linear[-1])


def test_an_interrupted_run_trains_only_what_is_missing(finished, monkeypatch):
    directory, summary = finished
    monkeypatch.setattr(program, "train", pytest.fail)
    plan = program.prepare(CONFIG)
    records = program.measure(plan, RunDirectory(directory.path, owned=["checkpoints/"]))
    assert program.summarise(plan, records) == summary


def made(config, full, linear):
    """Records in which every width and rate has these p_noise [step, seed], and p_correct 0.1 it.

    NaN is what a lost seed has.
    """
    axes = {"step": np.arange(len(full)), "seed": np.arange(full.shape[1])}
    runs = [
        xr.Dataset(
            {
                "p_noise": (tuple(axes), values),
                "p_correct": (tuple(axes), 0.1 * values),
                "first_bad": ("seed", np.where(np.isnan(values[-1]), 3, -1)),
            },
            axes,
        )
        for values in (full, linear)
    ]
    curve = ("step", full[:, 0] - 0.05 * (axes["step"] > 1))
    predicted = xr.Dataset({"p_noise": curve, "p_correct": curve}, {"step": axes["step"]})
    points = {"width": config.widths, "rate": config.learning_rates}
    count = len(config.widths) * len(config.learning_rates)
    models = on_grid(runs * count, {**points, "variant": config.variants})
    return Records({"models": models, "predicted": on_grid([predicted] * count, points)})


def test_where_curves_part_and_how_well_the_rise_is_foretold():
    config = Linearised(widths=(16, 32), learning_rates=(0.1, 0.2), steps=5, num_seeds=2)
    rise = np.array([0.1, 0.2, 0.4, 0.6, 0.5, 0.5])
    full = np.stack([rise, rise], axis=1)
    # Seed 0 of the linear network goes its own way from step 3, seed 1 from step 4.
    linear = full + np.array([[0, 0], [0.01, 0.01], [0.02, 0.04], [0.2, 0.0],
                              [0.3, 0.3], [0.3, 0.3]])  # fmt: skip
    records = made(config, full, linear)
    summary = program.summarise(program.prepare(config), records)
    name = "d16/rate0.2"
    assert summary[f"{name}/linearised/p_noise/parted"] == 3.5
    assert summary[f"{name}/linearised/p_noise/parted/sem"] == pytest.approx(0.5)
    assert summary[f"{name}/linearised/p_correct/parted"] == -1
    assert summary[f"{name}/linearised/p_correct/parting"] == 0
    # The full curve passes alpha = 0.5 at step 3, which is part of the rise.
    assert summary[f"{name}/rise/step"] == 3
    assert summary[f"{name}/rise/linearised"] == pytest.approx(0.1)
    assert summary[f"{name}/rise/predicted"] == pytest.approx(0.05)
    assert (summary["seeds"], summary["seeds_lost"]) == (16, 0)
    overview, *single = program.figures.figures(config, records)
    assert overview.name == "overview"
    assert [panel.name for panel in overview.panels] == [
        f"overview-d{width}-rate{rate}"
        for rate, width in itertools.product(config.learning_rates, config.widths)
    ]
    shown = [panel for figure in single for panel in figure.panels]
    assert [panel.name for panel in shown[:2]] == ["noise-d16-rate0.1", "recall-d16-rate0.1"]
    assert "full 0.50, linearised 0.80" in shown[0].caption


@pytest.mark.fault("B3")
@pytest.mark.parametrize("gone", [(0, 2), (0, 1, 3), (0, 1, 2, 3)], ids=["2", "3", "all of one"])
def test_a_seed_lost_in_one_variant_is_no_seed_of_its_comparison(gone):
    config = Linearised(widths=(16,), learning_rates=(0.2,), num_seeds=4, steps=5)
    whole = np.random.default_rng(0).uniform(0.1, 0.9, (6, 4))
    linear = whole.copy()
    linear[:3, list(gone)], linear[3:, list(gone)] = TRAP, np.nan
    records = made(config, whole, linear)
    require_drawn(program.figures.figures(config, records))
    summary = program.summarise(program.prepare(config), records)
    name = "d16/rate0.2"
    assert summary[f"{name}/full/seeds"] == 4
    assert summary[f"{name}/linearised/seeds"] == 4 - len(gone)
    assert (summary["seeds"], summary["seeds_lost"]) == (8 - len(gone), len(gone))
    parted = summary[f"{name}/linearised/p_noise/parted"]
    if left := [seed for seed in range(4) if seed not in gone]:
        expected = whole[-1, left].mean()
        assert summary[f"{name}/linearised/p_noise"] == pytest.approx(expected, rel=1e-6)
        # Both curves are the same: what the lost ones recorded would part at once.
        assert parted == -1
    else:
        assert np.isnan(summary[f"{name}/linearised/p_noise"])
        assert np.isnan(parted)
        with pytest.raises(RunFailedError, match="all seeds of all 2 runs"):
            program.summarise(program.prepare(config), made(config, linear, linear))


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
    assert program.prepare(config).task.outputs.size == 2
    with pytest.raises(ValueError, match="variants"):
        Linearised(variants=("half",))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError):
        study.run(program.STUDY, config, Place("linearised", str(tmp_path / "file")))


@pytest.mark.fault("B3")
@pytest.mark.thorough
def test_runs_where_some_or_all_is_lost(drive, tmp_path):
    small = ["--num_tokens=5", "--length=8", "--num_seeds=2", "--widths=4", "--steps=12",
             "--batch_size=4", "--eval_batch=8"]  # fmt: skip
    some, every = (f"--out={tmp_path / word}" for word in ("some", "all"))
    (ended,) = drive("linearised", [*small, "--learning_rates=0.02,100", some])
    assert ended["code"] == 0, ended["err"]
    assert "0 of 2" in ended["out"]
    (ended,) = drive("linearised", [*small, "--variants=full", "--learning_rates=100", every])
    assert ended["code"] == 1
    assert "left the finite numbers; lower --learning_rates" in ended["err"].splitlines()[-1]
    assert (tmp_path / "all" / "records.nc").exists()
    assert not (tmp_path / "all" / "summary.json").exists()
