import numpy as np
import pytest
import xarray as xr

from truncated_weights.training import records
from truncated_weights.training.records import (
    DamagedRecordsError,
    Record,
    Recorder,
    Records,
    labelled,
    name,
)

P = name("p", set="clean", model="1.mlp@0")
S = name("s", "rank", matrix="0.fc_in")


def record(step, **measured):
    loss = np.array([step / 2, step / 2 + 1], np.float32)
    return Record(
        step, loss if step else np.full(2, np.nan, np.float32), measured, np.array([-1, -1])
    )


LAST = record(6, models={P: np.array([0.2, np.inf])}, spectra={S: np.zeros((2, 3))})


@pytest.fixture
def grown():
    recorder = Recorder((7, 8))
    recorder.add(record(0, models={P: np.array([0.0, 1.0])}, spectra={S: np.ones((2, 3))}))
    recorder.add(record(3, models={P: np.array([0.5, 1.0])}))
    recorder.add(record(4))
    recorder.add(LAST)
    return recorder


def assert_same(got, expected):
    assert list(got) == list(expected)
    for block in expected:
        xr.testing.assert_identical(got[block], expected[block])


def test_each_block_has_its_own_steps_and_named_axes(grown):
    found = grown.records()
    assert found.models.step.values.tolist() == [0, 3, 6]
    assert found.models.p.dims == ("step", "seed", "set", "model")
    here = found.models.p.sel(set="clean", model="1.mlp@0")
    np.testing.assert_array_equal(here.sel(seed=7), [0, 0.5, 0.2])
    assert found["spectra"].s.dims == ("step", "seed", "matrix", "rank")
    assert found.train.loss.sel(step=4, seed=8) == 3
    assert repr(found).splitlines()[0] == "models (step 3, seed 2, set 1, model 1): p"


def test_what_was_not_measured_is_nan_and_is_no_cell():
    values = {
        name("p", set="a", model="x"): np.array([1.0, 2.0]),
        name("p", set="b", model="y"): np.array([3.0, 4.0]),
        name("count", set="a"): np.array([5, 6]),
        name("s", "rank", set="a"): np.ones((2, 3)),
        name("s", "rank", set="b"): np.zeros((2, 2)),
    }
    block = labelled(values, {"seed": [0, 1]})
    assert np.isnan(block.p.sel(set="a", model="y")).all()
    assert block["count"].isnull().sum() == 2
    assert np.isnan(block.s.sel(set="b").isel(rank=2)).all()
    found = {key: value.values for key, value in records.cells(block, "seed")}
    assert set(found) == set(values)
    np.testing.assert_array_equal(found[name("p", set="b", model="y")], [3, 4])
    whole = labelled({name("n"): np.array([1, 2])}, {"seed": [0, 1]})
    assert whole.n.dtype == int


def test_texts_that_are_missing_are_no_texts():
    given = {
        name("chosen", task="a", way="x"): "1.mlp@0",
        name("chosen", task="b", way="y"): "full",
    }
    kept = records.decoded(records.encoded(Records({"outcome": labelled(given, {})})))
    assert kept.outcome.chosen.sel(task="a", way="y").item() == ""
    assert {key: value.item() for key, value in records.cells(kept.outcome)} == given


def test_names_are_spelled_once():
    assert records.spelled(name("p_noise").within(set="clean", model="full")) == (
        "clean/full/p_noise"
    )
    margin = name("margin", block="attention_0").within(set="clean", model="full")
    assert records.spelled(margin, "models") == "clean/full/margin/attention_0"
    assert records.spelled(name("norm", matrix="1.ov"), "spectra") == "spectrum/1.ov/norm"
    assert records.spelled(name("loss"), "train") == "train/loss"


def test_lines_are_flat_means_over_seeds_of_what_is_finite(grown):
    assert list(grown.lines()) == [
        {"step": 0, "clean/1.mlp@0/p": 0.5},
        {"step": 3, "clean/1.mlp@0/p": 0.75, "train/loss": 2.0},
        {"step": 4, "train/loss": 2.5},
        # The second run's p is infinite there.
        {"step": 6, "clean/1.mlp@0/p": 0.2, "train/loss": 3.5},
    ]


def test_cut_forgets_what_came_after_in_every_block(grown):
    grown.cut(4)
    found = grown.records()
    assert found.train.step.values.tolist() == [0, 3, 4]
    assert found.models.step.values.tolist() == [0, 3]
    assert found.spectra.s.sizes["step"] == 1
    grown.cut(-1)
    assert dict(grown.records()) == {}


def test_records_read_back_and_continued_are_those_never_stopped(grown):
    expected = grown.records()
    begun = Recorder((7, 8), records.decoded(records.encoded(expected)))
    begun.cut(3)
    again = Recorder((7, 8), begun.records())
    again.add(record(4))
    again.add(LAST)
    assert_same(again.records(), expected)
    assert list(again.lines()) == list(grown.lines())


def test_the_file_is_read_by_others_and_every_bit_of_it_is_watched(grown, tmp_path):
    content = records.encoded(grown.records())
    assert content == records.encoded(grown.records())
    (tmp_path / "records.nc").write_bytes(content)
    with xr.open_datatree(tmp_path / "records.nc") as tree:
        assert tree["models/p"].sel(seed=7, step=3).item() == 0.5
    for place in np.linspace(0, len(content) - 65, 40).astype(int):
        damaged = bytearray(content)
        damaged[place] ^= 4
        with pytest.raises(DamagedRecordsError):
            records.decoded(bytes(damaged))
    for wrong in (b"", b"junk", content[: len(content) // 2]):
        with pytest.raises(DamagedRecordsError):
            records.decoded(wrong)


def test_a_small_file_that_unpacks_to_a_large_one_is_refused_before_it_is_read():
    block = xr.Dataset({"p": (("seed", "x"), np.zeros((1, 1_000_000)))}, {"seed": [0]})
    packed = {"/b": {"p": {"zlib": True, "complevel": 9}}}
    buffer = bytes(xr.DataTree.from_dict({"b": block}).to_netcdf(encoding=packed))
    assert len(buffer) < 50_000
    with pytest.raises(DamagedRecordsError, match=r"unpacks to 0\.00745 GB"):
        records.decoded(buffer, most=2**20)


def test_a_deferred_block_is_made_once_and_when_it_is_read():
    made = []

    def make():
        made.append(1)
        return labelled({name("p"): np.ones(2)}, {"seed": [0, 1]})

    found = Records({}).with_block("final", make)
    assert list(found) == ["final"]
    assert not made
    assert found.final.p.sizes == {"seed": 2}
    assert found["final"] is found.final
    assert len(made) == 1
    with pytest.raises(AttributeError, match="no block 'models'; there are final"):
        found.models  # noqa: B018


def test_a_summary_says_of_how_many_seeds_each_mean_is():
    values = {name("p", set="clean"): np.array([1.0, 3.0, np.nan]), S: np.ones((3, 2))}
    assert records.summary(labelled(values, {"seed": [0, 1, 2]})) == {
        "clean/p": 2.0, "clean/p/sem": 1.0, "clean/p/seeds": 2,
    }  # fmt: skip


def test_lost_seeds_count_nowhere(grown):
    assert not grown.records().lost.size
    assert grown.records().surviving() == grown.records()
    bad = record(7, models={P: np.array([0.5, np.nan])})._replace(first_bad=np.array([-1, 7]))
    grown.add(bad)
    found = grown.records()
    assert found.lost.tolist() == [8]
    assert found.surviving().models.seed.values.tolist() == [7]
    assert found.surviving().spectra.s.sizes["seed"] == 1
    assert records.counted(found) == {"seeds": 1, "seeds_lost": 1}
    grown.add(bad._replace(step=8, first_bad=np.array([8, 7])))
    with pytest.raises(ValueError, match="all 2 seeds left the finite numbers"):
        grown.records().surviving().models  # noqa: B018


def test_a_summary_of_one_seed_has_no_error():
    assert records.summary(labelled({name("p"): np.array([1.0])}, {"seed": [0]})) == {"p": 1.0}


def test_tables_are_blocks_and_come_back():
    rows = [
        {"rule": "grid", "p": 0.5, "n": 3, "best": True, "test/loss": 2.0},
        {"rule": None, "p": None, "n": 4, "best": False, "test/loss": None, "late": 1},
    ]
    block = records.decoded(records.encoded(Records({"t": records.of_rows(rows)})))["t"]
    assert block.p.dims == ("row",)
    assert records.rows_of(block) == [rows[0] | {"late": None}, rows[1]]
    assert records.rows_of(records.of_rows([])) == []


def test_lists_in_a_table_are_arrays_of_their_own():
    rows = [
        {"tokens": ["a", "b", "c"], "logits": [1.0, None, 2.0], "ends": [0.0, 3.0]},
        {"tokens": [], "logits": [4.0], "ends": [1.0, 2.0]},
    ]
    block = records.decoded(records.encoded(Records({"t": records.of_rows(rows)})))["t"]
    assert block.logits.dims == ("row", "place")
    assert block.ends.sizes == {"row": 2, "place": 3}
    assert records.rows_of(block) == rows


def test_a_seed_is_lost_also_where_there_is_one_record():
    train = labelled({name("first_bad"): np.array([[3, -1]])}, {"step": [8], "seed": [5, 6]})
    assert Records({"train": train}).lost.tolist() == [5]


def test_trajectories_of_version_0_1_open():
    arrays = {
        "models/steps": np.array([0, 5]),
        "models/clean/full/p_noise": np.array([[0.1, 0.2], [0.3, 0.4]]),
        "models/clean/full/margin/attention_0": np.ones((2, 2)),
        "models/clean/full/confusion": np.ones((2, 2, 2, 2)),
        "models/clean/dropped": np.zeros((2, 2), int),
        "mechanisms/steps": np.array([0]),
        "mechanisms/recall/copy": np.ones((1, 2)),
        "mechanisms/bigram_kl/0/even": np.ones((1, 2)),
        "spectra/steps": np.array([0]),
        "spectra/spectrum/1.fc_in/singular_values": np.ones((1, 2, 3)),
        "spectra/spectrum/1.fc_in/norm": np.ones((1, 2)),
        "bigrams/steps": np.array([0]),
        "bigrams/bigram/loss": np.ones((1, 2)),
        "train/steps": np.array([0]),
        "train/loss": np.ones((1, 2)),
        "final/clean/1.fc_in@0.1/p_correct": np.ones(2),
    }
    found = records.of_arrays(arrays, (3, 4))
    full = found.models.sel(set="clean", model="full")
    np.testing.assert_array_equal(full.p_noise.sel(seed=4), [0.2, 0.4])
    assert full.margin.sel(block="attention_0", step=5, seed=3) == 1
    assert full.confusion.dims == ("step", "seed", "predicted", "label")
    assert found.mechanisms.bigram_kl_even.sel(feed_forward="0").sizes == {"step": 1, "seed": 2}
    assert found.spectra.singular_values.sel(matrix="1.fc_in").sizes["rank"] == 3
    assert found.final.p_correct.sel(set="clean", model="1.fc_in@0.1").dims == ("seed",)
    assert found.bigrams.loss.sizes == found.train.loss.sizes
