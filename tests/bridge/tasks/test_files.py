"""Forms of files: arrays, lines, Parquet, names on the hub; and names of several files."""

import json
import os
import re
import types

import pytest

from truncated_weights.bridge.tasks import TaskError, load
from truncated_weights.bridge.tasks.files import hub_rows, rows
from truncated_weights.bridge.tasks.laser import fever

CLAIMS = [{"claim": "Cats purr.", "label": "SUPPORTS"}, {"claim": "Cats bark.", "label": "REFUTES"}]


def parquet(path, values):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    parquet.write_table(pyarrow.Table.from_pylist(values), path)
    return path


def test_an_array_lines_and_parquet_hold_the_same_rows(write, tmp_path):
    array = write(" \n" + json.dumps(CLAIMS, indent=1), "a.json")
    lines = write("\n".join(map(json.dumps, CLAIMS)), "b.json")
    columns = parquet(tmp_path / "c.parquet", CLAIMS)
    found = [[row.value for row in rows.read(path)] for path in (array, lines, columns)]
    assert found == [CLAIMS] * 3
    assert [row.line for row in rows.read(array)] == [3, 7]


def test_faults_in_parquet_are_told_with_their_row(write, tmp_path, encode):
    path = parquet(tmp_path / "a.parquet", [*CLAIMS, {"claim": None, "label": "SUPPORTS"}])
    with pytest.raises(TaskError, match=re.escape(f"{path}, row 3: 'claim' is null")):
        fever.read([path], encode)
    whole = parquet(tmp_path / "b.parquet", CLAIMS).read_bytes()
    for end in (0, 3, len(whole) // 2, len(whole) - 1):
        broken = write(whole[:end], "broken.parquet")
        with pytest.raises(TaskError, match=re.escape(f"{broken}: not a Parquet file")):
            rows.read(broken)
    empty = parquet(tmp_path / "c.parquet", CLAIMS[:0])
    with pytest.raises(TaskError, match="no examples in it"):
        rows.read(empty)
    with pytest.raises(TaskError, match="no such file"):
        rows.read(tmp_path / "nowhere.parquet")


@pytest.mark.fault("C2")
def test_parquet_is_sized_before_it_is_unpacked(tmp_path, monkeypatch):
    """A text that many rows share is stored once; what it says of itself tells nothing of them."""
    pyarrow = pytest.importorskip("pyarrow")
    pytest.importorskip("pyarrow.parquet")
    shared = pyarrow.array(["x" * 2**20]).dictionary_encode().take(pyarrow.array([0] * 5000))
    path = tmp_path / "a.parquet"
    table = pyarrow.table({"claim": shared})
    pyarrow.parquet.write_table(table, path, store_schema=False)
    assert path.stat().st_size < 10**6
    with pytest.raises(TaskError, match=r"its 5,000 rows would take 4\.\d GB, and 256\.0 MB"):
        rows.read(path)
    nulls = pyarrow.table({"claim": pyarrow.nulls(10**7, pyarrow.int32())})
    pyarrow.parquet.write_table(nulls, path)
    with pytest.raises(TaskError, match=r"its 10,000,000 rows would take 953\.\d MB"):
        rows.read(path)


@pytest.mark.fault("C1")
@pytest.mark.parametrize("name", ["a.jsonl", "a.parquet"])
def test_a_pipe_holds_no_rows(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(TaskError, match=f"{name}: not a regular file"):
        rows.read(tmp_path / name)


@pytest.mark.fault("C8")
def test_numbers_beyond_all_measure(write):
    for number in ("9" * 400, "1e999", "1" + "0" * 90):
        path = write(
            f'{{"prompt": "a", "answer": "b", "count": {number}, "label": {number}}}', "a.jsonl"
        )
        with pytest.raises(TaskError, match=r"a\.jsonl, line 1: "):
            rows.read(path)[0].integer("label")
        with pytest.raises(TaskError, match=r"a\.jsonl, line 1: "):
            rows.read(path)[0].integers("label")


def test_several_files_in_order_and_a_name_with_a_plus(write, encode):
    first, second = (write(json.dumps([row]), f"{i}.json") for i, row in enumerate(CLAIMS))
    answers = [e.answer for e in load(f"fever:{second}+{first}", encode).examples]
    assert answers == [" false", " true"]
    plus = write(json.dumps(CLAIMS), "dev+test.json")
    assert len(load(f"fever:{plus}", encode).examples) == 2


def test_a_task_of_a_paper_needs_its_file(encode):
    with pytest.raises(TaskError, match="expected fever:FILE; it reads paper_dev and"):
        load("fever", encode)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """huggingface_hub without a network: one data set, or an error to raise."""
    pytest.importorskip("huggingface_hub")
    import huggingface_hub

    state = types.SimpleNamespace(error=None, asked=[])

    def snapshot_download(repo, *, repo_type, revision, allow_patterns):
        state.asked.append((repo, repo_type, revision, allow_patterns))
        if state.error is not None:
            raise state.error
        return str(tmp_path / "hub")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    return state


def test_a_split_of_the_hub(hub, tmp_path, encode):
    folder = tmp_path / "hub" / "main" / "test"
    folder.mkdir(parents=True)
    for number, row in enumerate(CLAIMS):
        parquet(folder / f"{number:04}.parquet", [row])
    task = load("fever:hub:somebody/fever/main/test", encode)
    assert [e.answer for e in task.examples] == [" true", " false"]
    assert hub.asked == [
        ("somebody/fever", "dataset", "refs/convert/parquet", ["main/test/*.parquet"])
    ]
    with pytest.raises(TaskError, match="the hub's copy has no 'train' of a configuration 'main'"):
        load("fever:hub:somebody/fever/main/train", encode)


def test_faults_of_the_hub_are_one_line(hub):
    import huggingface_hub

    hub.error = huggingface_hub.errors.LocalEntryNotFoundError("offline\nand more")
    with pytest.raises(TaskError, match="cannot be reached and the files are not in the cache"):
        hub_rows.fetch("hub:somebody/fever/main/test")
    hub.error = ConnectionError("no route")
    with pytest.raises(TaskError, match=r"cannot be reached \(ConnectionError\)"):
        hub_rows.fetch("hub:somebody/fever/main/test")
    for text in ("hub:somebody/fever", "hub:a//b/c", "hub:a/b/c/d/e"):
        with pytest.raises(TaskError, match="expected hub:OWNER/NAME/CONFIG/SPLIT"):
            hub_rows.fetch(text)
