"""A run directory in other readers' hands: every finite number arrives, at its step."""

import csv
import json
import random
import re
import struct
import sys
import types

import pytest

from truncated_weights.experiments.export_metrics import measure, tags
from truncated_weights.experiments.export_metrics.settings import TARGETS, ExportMetrics
from truncated_weights.experiments.run import study
from truncated_weights.experiments.run.program import Place, UserError

LINES = [{"step": 0, "clean/full/p_noise": 0.25, "loss": 1.5},
         {"step": 4, "clean/full/p_noise": None, "loss": 1.25}]  # fmt: skip


@pytest.fixture
def run(tmp_path):
    path = tmp_path / "recall"
    path.mkdir()
    config = {"program": "noisy_recall", "flags": {"alpha": 0.5, "rhos": ["0", "1"]}}
    (path / "config.json").write_text(json.dumps(config))
    (path / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in LINES))
    return path


def export(run, tmp_path, to):
    out = tmp_path / "out"
    study.run(measure.STUDY, ExportMetrics(run=str(run), to=to), Place("export_metrics", str(out)))
    summary = json.loads((out / "summary.json").read_text())
    assert summary == {"lines": 2, "scalars": 3, "last/loss": 1.25}
    return out


def test_every_target_has_a_writer():
    assert set(measure.WRITERS) == set(measure.NEEDS) == set(TARGETS)


def test_csv(run, tmp_path):
    out = export(run, tmp_path, "csv")
    with (out / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert rows == [{"step": "0", "clean/full/p_noise": "0.25", "loss": "1.5"},
                    {"step": "4", "clean/full/p_noise": "", "loss": "1.25"}]  # fmt: skip
    assert 'rhos,"0,1"' in (out / "settings.csv").read_text()


def records(file):
    """The payloads of an event file: length, its checksum, payload, its checksum."""
    content = file.read_bytes()
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        yield content[12 : 12 + length]
        content = content[16 + length :]


def test_tensorboard(run, tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    out = export(run, tmp_path, "tensorboard")
    (file,) = (out / "recall").glob("events.*")
    found = set()
    for record in records(file):
        event = Event.FromString(record)
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.add((event.step, value.tag, value.simple_value))
    assert found == {(0, "clean/full/p_noise", 0.25), (0, "loss", 1.5), (4, "loss", 1.25)}


def test_wandb_is_asked_for_an_offline_run(run, tmp_path, monkeypatch):
    """A stand-in for the package, which is large: what it is told is what is tested."""
    told = []
    session = types.SimpleNamespace(
        log=lambda values, step: told.append((step, values)), finish=lambda: told.append("end")
    )
    module = types.ModuleType("wandb")
    module.init = lambda **asked: told.append(asked) or session
    module.__spec__ = types.SimpleNamespace(name="wandb")
    monkeypatch.setitem(sys.modules, "wandb", module)
    export(run, tmp_path, "wandb")
    assert told[0]["mode"] == "offline"
    assert told[0]["config"]["alpha"] == 0.5
    assert told[1:] == [(0, {"clean/full/p_noise": 0.25, "loss": 1.5}), (4, {"loss": 1.25}), "end"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("metrics.jsonl", "", "no lines"),
        ("metrics.jsonl", "{", "damaged"),
        ("metrics.jsonl", '{"loss": 1}\n', "line 1: no step"),
        ("metrics.jsonl", "3\n", "line 1: no step"),
        ("config.json", "{", "damaged"),
    ],
)
def test_what_is_no_run_is_refused_before_anything_is_written(run, tmp_path, name, text, says):
    (run / name).write_text(text)
    with pytest.raises(UserError, match=says):
        export(run, tmp_path, "csv")
    assert not (tmp_path / "out").exists()


def test_a_missing_package_is_named(run, tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"truncated-weights\[tensorboard\]"):
        export(run, tmp_path, "tensorboard")


# They differ in signs alone, or in what those signs are spelled as.
ALIKE = [
    "clean/1.mlp@0/loss", "clean/1.mlp+0/loss", "clean/1.mlp>0/loss", "clean/1.mlp:0/loss",
    "clean/1.mlp_0/loss", "clean/1.mlp__0/loss", "clean/1.mlp 0/loss", "clean/1.mlp__at__0/loss",
    "clean/1.mlp__u40__0/loss", "/clean/1.mlp@0/loss", "_@_", "__at__", "@", "_", "__", "é", "1_@",
]  # fmt: skip


@pytest.mark.fault("A8")
def test_no_two_names_are_one_tag():
    found = [tags.spelled(name) for name in ALIKE]
    assert len(set(found)) == len(ALIKE)
    # What TensorBoard does to a tag leaves these alone.
    assert [re.sub(r"[^-/\w.]", "_", tag, flags=re.ASCII).lstrip("/") for tag in found] == found
    assert [tags.read(tag) for tag in found] == ALIKE
    assert tags.spelled("clean/1.fc_in@-0.1/p_correct") == "clean/1.fc_in__at__-0.1/p_correct"
    assert tags.spelled("noisy/full/margin/attention_0") == "noisy/full/margin/attention_0"


@pytest.mark.fault("A8")
def test_any_name_can_be_read_back():
    rng = random.Random(0)
    for _ in range(2000):
        name = "".join(rng.choice("a_@u4/0+") for _ in range(rng.randrange(1, 9)))
        tag = tags.spelled(name)
        assert tags.read(tag) == name
        assert re.fullmatch(r"[-\w.][-/\w.]*", tag, flags=re.ASCII)


@pytest.mark.fault("A8")
@pytest.mark.parametrize("to", TARGETS)
def test_names_that_differ_in_signs_arrive_apart(run, tmp_path, to, monkeypatch):
    values = {name: float(place) for place, name in enumerate(ALIKE)}
    (run / "metrics.jsonl").write_text(json.dumps({"step": 1} | values) + "\n")
    told = {}
    if to == "wandb":
        module = types.ModuleType("wandb")
        session = types.SimpleNamespace(log=lambda v, step: told.update(v), finish=lambda: None)
        module.init = lambda **asked: session
        module.__spec__ = types.SimpleNamespace(name="wandb")
        monkeypatch.setitem(sys.modules, "wandb", module)
    elif to == "tensorboard":
        pytest.importorskip("tensorboardX")
    out = tmp_path / "out"
    study.run(measure.STUDY, ExportMetrics(run=str(run), to=to), Place("export_metrics", str(out)))
    if to == "csv":
        with (out / "metrics.csv").open() as file:
            header, row = csv.reader(file)
        assert len(set(header)) == len(header) == len(ALIKE) + 1
        assert sorted(map(float, row[1:])) == sorted(values.values())
    elif to == "wandb":
        assert told == values
    else:
        from tensorboardX.proto.event_pb2 import Event

        (file,) = (out / "recall").glob("events.*")
        for record in records(file):
            for value in Event.FromString(record).summary.value:
                if value.HasField("simple_value"):
                    told[tags.read(value.tag)] = value.simple_value
        assert told == values
