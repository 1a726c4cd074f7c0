"""Rows of the table from curves and spectra whose answer is known."""

import dataclasses

import numpy as np
import pytest

from tests.experiments.drawn import TRAP, require_drawn
from truncated_weights.experiments.sweep import measure, plan, rows
from truncated_weights.experiments.sweep.settings import SETTINGS
from truncated_weights.training.records import FIRST_BAD, Records, labelled, name

STEPS = np.array([0, 1, 3, 7, 15])


def measured(runs, *, rank, first_bad):
    """Records of a group whose curves are straight in log2(1 + step) = 0, 1, 2, 3, 4."""
    rising = np.linspace(0, 0.4, STEPS.size)[:, None] * np.ones(len(runs))
    # What a lost run recorded before is a trap that no mean may step into.
    gone = np.array(first_bad) >= 0
    rising[:3, gone], rising[3:, gone] = TRAP, np.nan
    models = {name("p_correct", set="clean", model="full"): rising,
              name("p_noise", set="clean", model="full"): rising / 2}  # fmt: skip
    for metric, curve in (("p_noise", rising), ("attention_correct", 2 * rising)):
        models[name(metric, set="noisy", model="full")] = curve
    for block, slope in (("feed_forward_0", 1.0), ("feed_forward_1", 2.0), ("attention_0", 0.5)):
        models[name("margin", set="noisy", model="full", block=block)] = slope * rising
    values = np.tile(np.array([4.0, 3.0, 1.0, 0.5])[:rank], (2, len(runs), 1))
    share = np.tile(np.array([0.1, 0.7, 0.2, 0.0])[:rank], (2, len(runs), 1))
    spectra = {
        name("singular_values", "rank", matrix="1.fc_in"): values,
        name("noise_share", "rank", matrix="1.fc_in"): share,
        name("singular_values", "rank", matrix="1.q_proj"): values[..., :2],
    }
    lost = {name(FIRST_BAD): np.array([first_bad]), name("loss"): np.zeros((1, len(runs)))}
    seeds = [run.seed for run in runs]
    return Records(
        {
            "models": labelled(models, {"step": STEPS, "seed": seeds}),
            "spectra": labelled(spectra, {"step": [0, 15], "seed": seeds}),
            "train": labelled(lost, {"step": [15], "seed": seeds}),
        }
    )


@dataclasses.dataclass
class Group:
    runs: tuple


def test_groups_of_several_shapes_are_one_table():
    config = SETTINGS(alpha=(0.3, 0.5), d_model=(4, 8), num_seeds=2)
    runs = plan.expand(config)
    narrow, wide = (tuple(r for r in runs if r.config.d_model == width) for width in (4, 8))
    found = [
        rows.of_group(Group(narrow), measured(narrow, rank=3, first_bad=[-1, -1, -1, 7])),
        rows.of_group(Group(wide), measured(wide, rank=4, first_bad=[-1] * 4)),
    ]
    records = rows.joined(config, found)
    assert records["spectra"].sizes["rank"] == 4
    assert np.isnan(records["spectra"].singular_values.sel(matrix="1.fc_in", run=narrow[0].index,
                                                           step=15)[-1])  # fmt: skip
    assert records["models"].run.values.tolist() == list(range(8))
    here = records["models"].run
    assert here.seed.values.tolist() == [run.seed for run in runs]
    assert here.d_model.values.tolist() == [run.config.d_model for run in runs]
    assert here.lost_at.values.tolist() == [7 if run is narrow[3] else -1 for run in runs]
    half = {alpha: 2 ** (alpha / 2 / 0.1) - 1 for alpha in (0.3, 0.5)}
    lines = list(rows.table(config, records).lines())
    assert len({tuple(line) for line in lines}) == 1
    for line, run in zip(lines, runs, strict=True):
        numbers = {k: v for k, v in line.items() if k not in ("run", "alpha", "d_model", "seed")}
        if run is narrow[3]:
            assert numbers.pop("lost_at") == 7
            assert set(numbers.values()) == {None}
            continue
        assert numbers["lost_at"] is None
        assert numbers["clean/full/p_correct"] == pytest.approx(0.4)
        assert numbers["half_step/noise"] == pytest.approx(half[run.config.alpha])
        assert numbers["half_step/recall"] == pytest.approx(3)
        assert numbers["half_step/attention"] == pytest.approx(2**2.5 - 1)
        ratio = (2**2.5 - 1) / half[run.config.alpha]
        assert numbers["half_step/ratio"] == pytest.approx(ratio)
        assert numbers["margin/feed_forward"] == pytest.approx(0.3)
        assert numbers["margin/attention"] == pytest.approx(0.05)
        assert numbers["1.fc_in/noise_place"] == 2
        assert numbers["1.fc_in/noise_over_rest"] == pytest.approx(0.75)
        assert "1.q_proj/noise_place" not in numbers


@pytest.mark.fault("B3", "A14")
@pytest.mark.parametrize("gone", [(0, 2), (0, 1, 3)], ids=["some", "all but one"])
def test_lost_runs_count_nowhere(gone, capsys):
    """One point loses seeds, another all of them: the table and every figure are of the rest."""
    config = SETTINGS(alpha=(0.1, 0.3, 0.5), num_tokens=(16, 32), num_seeds=4)
    runs, found = plan.expand(config), []
    for tokens in config.num_tokens:
        here = tuple(run for run in runs if run.config.num_tokens == tokens)
        lost = [tokens == 32 and (run.config.alpha == 0.5
                or (run.config.alpha == 0.3 and run.seed in gone)) for run in here]  # fmt: skip
        bad = [3 if lost_here else -1 for lost_here in lost]
        found.append(rows.of_group(Group(here), measured(here, rank=3, first_bad=bad)))
    records = rows.joined(config, found)
    # Never reached in one of the runs that went well.
    records.half_steps.attention[0] = np.nan
    names = require_drawn(measure.figures.figures(config, records))
    assert names == [
        "learning",
        "along_num_tokens",
        "along_alpha",
        "map_num_tokens_alpha",
        "points",
    ]
    whole = plan.Plan(config, ())
    summary = measure.summarise(whole, records)
    point, dead = "num_tokens=32,alpha=0.3", "num_tokens=32,alpha=0.5"
    assert summary[f"{point}/clean/full/p_correct"] == pytest.approx(0.4)
    assert summary[f"{point}/clean/full/p_correct/seeds"] == 4 - len(gone)
    assert (summary[f"{point}/seeds"], summary[f"{point}/seeds_lost"]) == (4 - len(gone), len(gone))
    assert np.isnan(summary[f"{dead}/clean/full/p_correct"])
    assert summary[f"{dead}/seeds"] == 0
    assert summary["seeds_lost"] == 4 + len(gone)
    measure.tell(whole, records, summary)
    told = capsys.readouterr().out
    assert f"{4 - len(gone)} of 4" in told
    assert "4.657 ± 0 (3)" in told


def test_the_end_that_holds_the_noise():
    values = np.array([4.0, 3.0, 1.0, np.nan])
    found = rows.noise_end(values, np.array([0.1, 0.7, 0.2, np.nan]))
    assert found == {"noise_place": 2, "noise_share": 0.7, "noise_over_rest": 0.75}
    found = rows.noise_end(values, np.array([0.8, 0.1, 0.1, np.nan]))
    assert (found["noise_place"], found["noise_over_rest"]) == (1, pytest.approx(4 / 3))
    assert np.isnan(list(rows.noise_end(values, np.full(4, np.nan)).values())).all()
