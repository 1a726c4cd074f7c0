import json

import numpy as np
import pytest

from truncated_weights.experiments.associative_memory import measure as program
from truncated_weights.experiments.associative_memory.settings import Memory
from truncated_weights.experiments.run import study
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.experiments.run.program import Place
from truncated_weights.truncation import notation


def run(path, config):
    assert study.run(program.STUDY, config, Place("associative_memory", str(path))) == 0
    return json.loads((path / "summary.json").read_text()), RunDirectory(path)


def test_two_inputs_end_at_the_published_figures(tmp_path):
    # N = 2, alpha = 0.3, t = 1,000: singular values 6.258 and 2.633, full p(noise) 0.2993,
    # rank one p(noise) 0.042 and p(correct) 0.956; an error of order step_size remains.
    summary, directory = run(tmp_path / "run", Memory())
    assert summary["full/p_noise"] == pytest.approx(0.2993, abs=2e-4)
    assert summary["0.fc_in@0.5/p_noise"] == pytest.approx(0.042, abs=1e-3)
    assert summary["0.fc_in@0.5/p_correct"] == pytest.approx(0.956, abs=1e-3)
    assert summary["largest_logit_error"] < 0.01
    values = directory.read_records().logits.singular_values.isel(step=-1, seed=0)
    np.testing.assert_allclose(values, [6.258, 2.633], atol=2e-3)
    assert (directory.path / "figures" / "memory.png").stat().st_size > 10_000


def test_truncation_changes_ends_at_the_crossing(tmp_path):
    # N = 4, alpha = 0.3 crosses at t = 233: before it the small end holds the noise.
    config = Memory(num_inputs=4, time=600.0, step_size=0.1)
    _, directory = run(tmp_path / "run", config)
    noise = directory.read_records().memory.p_noise.sel(seed=0)
    times = noise.step.values * config.step_size
    kept, dropped = (noise.sel(model=cut).values for cut in program.default_interventions(4))
    early, late = (times > 20) & (times < 200), times > 260
    assert np.all(kept[early] < dropped[early])
    assert np.all(kept[late] > dropped[late])


@pytest.mark.parametrize("num_inputs", [2, 3, 4, 7, 64])
def test_default_cuts_count_ranks_exactly(num_inputs):
    keep, drop = (notation.parse(t) for t in program.default_interventions(num_inputs))
    assert notation.kept_band(keep.cuts[0], num_inputs) == (0, num_inputs - 1)
    assert notation.kept_band(drop.cuts[0], num_inputs) == (1, num_inputs)


def test_facts_by_frequency_follow_their_prediction(tmp_path):
    config = Memory(num_inputs=16, frequencies="zipf", shared=0.5, time=60.0, step_size=0.5)
    # One row more than facts: the shared feature's.
    assert notation.kept_band(program.prepare(config).cuts[1].cuts[0], 17) == (1, 17)
    summary, directory = run(tmp_path / "run", config)
    assert summary["largest_margin_error/full"] < 0.02
    assert summary["largest_margin_error/cut"] < 0.02
    assert summary["accuracy/full"] < summary["accuracy/cut"]
    margin = directory.read_records().facts.margin.sel(model="full").isel(step=-1, seed=0)
    assert np.mean(margin > 0) == summary["accuracy/full"]
    assert np.all(np.diff(margin.frequency) < 0)
    assert (directory.path / "figures" / "by_frequency.png").stat().st_size > 10_000
    assert not (directory.path / "figures" / "memory.png").exists()


def test_frequencies_of_a_text_need_one():
    with pytest.raises(ValueError, match="together"):
        program.build(Memory(frequencies="text"))
    with pytest.raises(ValueError, match="together"):
        program.build(Memory(text="book.txt"))
