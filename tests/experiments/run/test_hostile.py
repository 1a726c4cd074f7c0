"""What strangers put into files, flags and names: one line, and nothing that acts."""

import csv
import dataclasses
import io
import json
import os
import struct
import sys
import zipfile

import numpy as np
import pytest
from absl import flags as absl_flags

from truncated_weights.experiments.report.reading import Found
from truncated_weights.experiments.run import flags, program, progress, streams, table
from truncated_weights.experiments.run.directory import (
    RunDirectory,
    read_config,
    settings_of,
    spreadsheet,
)
from truncated_weights.experiments.run.drawing import style
from truncated_weights.experiments.run.program import UserError
from truncated_weights.training.checkpoint import CheckpointError, Store
from truncated_weights.training.settings import Settings, setting
from truncated_weights.truncation.files import regular

HUGE = "9" * 400
DEEP = "[" * 2000 + "]" * 2000


@dataclasses.dataclass(frozen=True)
class Example(Settings):
    share: float = setting(0.5, "A share.")
    count: int = setting(1, "A count.")
    counts: tuple[int, ...] = setting((1,), "Counts.")
    name: str = setting("", "A name.")


def parse(*arguments):
    values = flags.Values()
    flags.define(Example, values)
    values(["program", *arguments])
    return flags.read(Example, values)


def refused(call, complaint, kinds=(UserError, ValueError, OSError, absl_flags.Error)):
    with pytest.raises(kinds, match=complaint) as caught:
        call()
    told = program.one_line(caught.value)
    assert told.isprintable()
    assert len(told) <= 2000


# Flags and settings.


@pytest.mark.fault("C8")
@pytest.mark.parametrize("name", ["share", "count", "counts"])
def test_numbers_of_hundreds_of_digits(name):
    refused(lambda: parse(f"--{name}={HUGE}"), "it must be finite")
    refused(lambda: parse(f"--{name}={'9' * 5000}"), "it must be finite|is not a whole number")
    value = (int(HUGE),) if name == "counts" else int(HUGE)
    refused(lambda: Example(**{name: value}), "it must be finite")


@pytest.mark.fault("C8")
@pytest.mark.parametrize(
    ("text", "told"), [("a\0b", "holds a NUL"), ("a\udcffb", "not UTF-8 text")]
)
def test_names_that_no_file_can_have(text, told):
    refused(lambda: Example(name=text), told)
    refused(lambda: parse(f"--name={text}"), told)


@pytest.mark.fault("C1")
@pytest.mark.fault("C8")
def test_flag_files(tmp_path):
    def write(name, *lines):
        (tmp_path / name).write_bytes("\n".join(lines).encode())
        return f"--flagfile={tmp_path / name}"

    inner = write("inner", "\ufeff# a comment", "", "  --count=3", "// another")
    outer = write("outer", "--share=0.25", inner, "--name=é")
    assert parse(outer, "--counts=5") == Example(0.25, 3, (5,), "é")
    assert parse("--flagfile", str(tmp_path / "inner"), "--count=4").count == 4
    os.mkfifo(tmp_path / "pipe")
    refused(lambda: parse(f"--flagfile={tmp_path}/pipe"), "not a regular file")
    refused(lambda: parse("--flagfile=/dev/zero"), "not a regular file")
    refused(lambda: parse("--flagfile="), "names no file")
    circle = f"--flagfile={tmp_path}/circle"
    refused(lambda: parse(write("circle", "--count=2", circle)), "names itself")
    empty = write("empty", "# nothing")
    refused(lambda: parse(write("many", *[empty] * 200)), "more than 100 files")
    (tmp_path / "bytes").write_bytes(b"--name=\xff")
    refused(lambda: parse(f"--flagfile={tmp_path}/bytes"), "bytes, line 1: not UTF-8")
    refused(lambda: parse(write("nul", "--name=a\0b")), "holds a NUL")
    os.truncate(tmp_path / "bytes", 2**30)
    refused(lambda: parse(f"--flagfile={tmp_path}/bytes"), r"1\.0 GB are more than the 1\.0 MB")


# Run directories.


def config_of(folder, flags=None, **rest):
    folder.mkdir(exist_ok=True)
    text = json.dumps({"program": "example", "flags": flags or {"count": 1}, **rest})
    (folder / "config.json").write_text(text)
    return folder


@pytest.mark.fault("C8")
@pytest.mark.parametrize(
    "content",
    [
        DEEP, f'{{"a": {DEEP}}}', HUGE, f'{{"program": "example", "flags": {{"count": {HUGE}}}}}',
        '{"program": "example", "flags": {"count": 1e999}}', '{"flags": 1, "flags": 2}', '"flags"',
        "3", "[]", "", "\0", '{"program": "example", "flags": {"name": "a\\u0000b"}}',
        '{"program": "example", "flags": {"name": "\\ud800"}}',
        '{"program": "example", "flags": {"counts": [[1]]}}',
        '{"program": "example", "flags": {"count": {}}}',
        '{"program": "example", "flags": {"count": 1}, "inputs": []}',
    ],
)  # fmt: skip
def test_settings_that_cannot_be_read(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    refused(lambda: settings_of(tmp_path, "example", Example), ".")


@pytest.mark.fault("C1")
@pytest.mark.parametrize("name", ["config.json", "summary.json", "table.json"])
def test_a_pipe_in_a_finished_run(tmp_path, name):
    config_of(tmp_path)
    (tmp_path / "summary.json").write_text("{}")
    (tmp_path / name).unlink(missing_ok=True)
    os.mkfifo(tmp_path / name)
    refused(lambda: Found(tmp_path).rows("table.json"), "not a regular file", UserError)
    if name == "config.json":
        refused(lambda: read_config(tmp_path), "not a run directory", UserError)


@pytest.mark.fault("C1")
def test_a_pipe_among_the_files_of_a_run(tmp_path):
    run = RunDirectory(tmp_path)
    for name in ("trajectory.npz", "rows.jsonl"):
        os.mkfifo(tmp_path / name)
    refused(run.read_arrays, "damaged", UserError)
    refused(lambda: run.read_rows("rows.jsonl"), "not a regular file", UserError)


@pytest.mark.fault("C1")
def test_a_pipe_in_a_checkpoint(tmp_path):
    store = Store(tmp_path)
    state = {"weights": np.zeros(3, np.float32)}
    store.save(1, state)
    store.wait()
    assert store.restore(state) is not None
    os.mkfifo(tmp_path / "1" / "state_of_nobody")
    with pytest.raises(CheckpointError, match="'state_of_nobody' is not a regular file"):
        store.restore(state)


@pytest.mark.fault("C8")
@pytest.mark.parametrize("line", [DEEP, HUGE, '{"a": 1e999}', '{"a": NaN}', "\xff"])
def test_rows_that_are_no_rows(tmp_path, line):
    (tmp_path / "rows.jsonl").write_bytes(b'{"a": 1}\n\n' + line.encode("latin-1"))
    refused(lambda: RunDirectory(tmp_path).read_rows("rows.jsonl"), "rows.jsonl is", UserError)


@pytest.mark.fault("C2")
def test_a_trajectory_is_sized_before_it_is_unpacked(tmp_path):
    run, path = RunDirectory(tmp_path), tmp_path / "trajectory.npz"
    arrays = {"clean/steps": np.arange(3), "clean/text": np.array("é"), "empty": np.zeros((0, 2))}
    np.savez_compressed(path, **arrays)
    found = run.read_arrays()
    assert found.keys() == arrays.keys()
    assert all(np.array_equal(found[name], value) for name, value in arrays.items())
    # Both headers of the archive claim four gigabytes.
    content = bytearray(path.read_bytes())
    claim, central = struct.pack("<I", 2**32 - 2), content.index(b"PK\x01\x02")
    content[central + 24 : central + 28] = claim
    path.write_bytes(content)
    refused(run.read_arrays, r"trajectory\.npz: unpacking it would take 4\.0 GB", UserError)
    # A header of an array that claims more than the entry holds.
    stream = io.BytesIO()
    np.save(stream, np.zeros(3))
    hostile = stream.getvalue().replace(b"(3,), }" + b" " * 11, b"(999999999999,), }")
    assert hostile != stream.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", hostile)
    refused(run.read_arrays, "trajectory.npz is damaged", UserError)


# What is printed and written of names.


@pytest.mark.fault("C5")
def test_nothing_that_a_terminal_obeys_is_printed(capsys, monkeypatch):
    name = "\x1b]0;title\x07\x1b[2J\u202efdp\r\nerror: forged"
    shown = table.text([{"name": name, name: 1.5}])
    assert len(shown.splitlines()) == 2
    assert r"\x1b]0;title\x07" in shown
    program.note(name)
    progress.say(name)
    assert program.guarded(lambda: (_ for _ in ()).throw(UserError(name))) == 2
    told = shown + table.markdown([{"a": name}], ["a"]) + capsys.readouterr().err
    assert all(letter.isprintable() or letter == "\n" for letter in told)
    assert not any(line.startswith("error: forged") for line in told.splitlines())
    below = io.BytesIO()
    stream = streams.Shown(below, encoding="utf-8", errors="replace")
    monkeypatch.setattr(sys, "stdout", stream)
    print(f"{name}\tend", "\x9b")
    print("\r 50%", end="", file=streams.raw(stream))
    stream.flush()
    printed = below.getvalue().decode()
    assert printed == r"\x1b]0;title\x07\x1b[2J\u202efdp\r" + "\nerror: forged\tend \\x9b\n\r 50%"


@pytest.mark.fault("C5")
def test_a_spreadsheet_obeys_no_cell():
    formulas = [
        "=1+1",
        "+1+1",
        "-1+1",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "\n=1",
        "\uff1d1",
        "-1.fc_in@0.5",
    ]
    numbers = ["-1", "+1.5", "-1e-5", "-inf", "+.5"]
    plain = ["a=1", "", "+", "-", "2-1", "a\nb", "1.fc_in@0.5"]
    rows = [{"=name": text} for text in (*formulas, *numbers, *plain)]
    rows += [{"=name": -1.5}, {"other": None, "=name": True}, {"=name": "\x1b[2J"}]
    found = list(csv.DictReader(io.StringIO(spreadsheet.text(rows))))
    cells = [row["'=name"] for row in found]
    assert all(cell.startswith("'") for cell in cells[: len(formulas)])
    assert cells[8] == "'-1.fc_in@0.5"
    assert cells[len(formulas) : len(formulas) + len(numbers)] == numbers
    assert cells[len(formulas) + len(numbers) :] == [*plain, "-1.5", "True", r"\x1b[2J"]
    assert found[0]["other"] == found[-2]["other"] == ""


@pytest.mark.fault("C5")
def test_names_in_figures_are_no_formulas(tmp_path):
    name = r"$\frac$ of \$ and $x^"
    canvas, ((axes, other),) = style.figure(1, 2)
    style.panel(axes, "a", name)
    axes.plot([0, 1], label=name)
    axes.set_xticks([0, 1], [name, "plain"])
    axes.set_ylabel(r"$\rho$")
    axes.legend()
    other.set_xscale("log")
    other.set_title(name)
    assert RunDirectory(config_of(tmp_path)).save_figure(canvas, "names").exists()
    assert axes.yaxis.label.get_parse_math()
    assert not other.title.get_parse_math()


def test_what_is_read_whole_says_where_it_failed(tmp_path):
    assert program.guarded(lambda: regular.content("/dev/zero")) == 2
