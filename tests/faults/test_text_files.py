"""Text is UTF-8 wherever it is read and written, whatever the locale and the editor."""

import ast
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from tests.bridge.families.test_goldens import ROOT as FAMILIES
from tests.experiments.model_checkpoint import write_tokenizer
from tests.test_house import MODULES, ROOT
from truncated_weights.bridge import tokenizer
from truncated_weights.bridge.families import read as read_config
from truncated_weights.bridge.formats import strict_json
from truncated_weights.bridge.tasks.files import rows
from truncated_weights.experiments.run.directory import RunDirectory
from truncated_weights.toy import language
from truncated_weights.training import atomic
from truncated_weights.truncation.files import regular

BOM = b"\xef\xbb\xbf"
# What opens a file, and which of its positional arguments is the mode and which the encoding.
OPENERS = {"read_text": (None, 0), "write_text": (None, 1), "open": (0, 2), "fdopen": (1, 3)}


def nameless(source: str) -> list[int]:
    """Lines that open a text without saying in which encoding: the locale would choose one."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        method = isinstance(node.func, ast.Attribute)
        name = node.func.attr if method else getattr(node.func, "id", "")
        if name == "run" and any(k.arg in ("text", "universal_newlines") for k in node.keywords):
            found.append(node.lineno)
        owner = node.func.value.id if method and isinstance(node.func.value, ast.Name) else ""
        # Writers of ours, a descriptor's open, and members of a zip archive, which are bytes.
        ours = owner in ("atomic", "directory", "self", "regular", "os", "here", "archive")
        if name not in OPENERS or (ours and name != "fdopen"):
            continue
        mode_at, encoding_at = OPENERS[name]
        if name == "open" and not method:
            mode_at, encoding_at = 1, 3
        words = {keyword.arg: keyword.value for keyword in node.keywords}
        mode = words.get("mode")
        if mode is None and mode_at is not None and len(node.args) > mode_at:
            mode = node.args[mode_at]
        binary = isinstance(mode, ast.Constant) and "b" in str(mode.value)
        if not (binary or "encoding" in words or len(node.args) > encoding_at):
            found.append(node.lineno)
    return found


@pytest.mark.fault("A11")
def test_the_reader_of_calls_sees_them():
    source = (
        "open(p)\nopen(p, 'rb')\np.open('a')\np.read_text()\np.write_text(t)\n"
        "open(p, 'w', -1, 'utf-8')\np.read_text('utf-8')\np.write_text(t, encoding='utf-8')\n"
        "os.fdopen(d)\np.open('wb')\n"
        "subprocess.run(c, text=True)\natomic.write_text(p, t)"
    )
    assert nameless(source) == [1, 3, 4, 5, 9, 11]


@pytest.mark.fault("A11")
def test_no_text_is_opened_in_the_encoding_of_the_locale():
    files = [*MODULES.values(), *(ROOT / "examples").glob("*.py")]
    wrong = [
        f"{path.relative_to(ROOT)}:{line}"
        for path in files
        for line in nameless(path.read_text("utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.fault("A11")
def test_a_mark_and_other_ends_of_lines_are_no_letters(tmp_path):
    plain, marked = tmp_path / "plain.txt", tmp_path / "marked.txt"
    text = "ein Bär\nund noch eine Zeile\n"
    plain.write_bytes(text.encode())
    marked.write_bytes(BOM + text.replace("\n", "\r\n").encode())
    assert regular.text(plain) == regular.text(marked) == text
    first, second = map(language.read, (plain, marked))
    assert first.symbols == second.symbols
    np.testing.assert_array_equal(first.bigram, second.bigram)
    marked.write_bytes(text.encode("latin-1"))
    for read in (regular.text, language.read):
        with pytest.raises(ValueError, match="not UTF-8 text"):
            read(marked)


@pytest.mark.fault("A11")
def test_every_reader_of_text_drops_the_mark(tmp_path):
    row = {"prompt": "The café is", "answer": " red"}
    for name in ("lines.jsonl", "array.json"):
        body = json.dumps([row] if name.startswith("array") else row, ensure_ascii=False)
        (tmp_path / name).write_bytes(BOM + body.encode() + b"\r\n")
        assert [found.value for found in rows.read(tmp_path / name)] == [row]
    config = (FAMILIES / "gpt2" / "config.json").read_bytes()
    (tmp_path / "config.json").write_bytes(BOM + config)
    assert read_config(tmp_path / "config.json") == read_config(FAMILIES / "gpt2" / "config.json")
    assert strict_json.read(tmp_path / "config.json") == json.loads(config)
    write_tokenizer(tmp_path / "tokenizer.json", ["The café is red"] * 9)
    ids = tokenizer.read(tmp_path)("The café")
    (tmp_path / "tokenizer.json").write_bytes(BOM + (tmp_path / "tokenizer.json").read_bytes())
    assert tokenizer.read(tmp_path)("The café") == ids


@pytest.mark.fault("A11")
def test_every_text_can_be_written(tmp_path):
    # What a command line in an ASCII locale gives for its bytes, and half of a surrogate pair.
    for text, content in (
        ("é", b"\xc3\xa9"),
        (b"\xc3\xa9".decode("ascii", "surrogateescape"), b"\xc3\xa9"),
        ("\ud83d", rb"\ud83d"),
    ):
        atomic.write_text(tmp_path / "text", text)
        assert (tmp_path / "text").read_bytes() == content


ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.thorough
@pytest.mark.fault("A11")
def test_a_program_of_an_ascii_locale_reads_and_writes_all_letters(tmp_path):
    """The whole program, its file and its flag file named in other letters too."""
    folder = tmp_path / "çà et là"
    folder.mkdir()
    write_tokenizer(folder / "tokenizer.json", ["The café is red"] * 9)
    body = "".join(
        json.dumps({"prompt": f"The café {n} is", "answer": " röd"}, ensure_ascii=False) + "\n"
        for n in range(10)
    )
    (folder / "é.jsonl").write_text(body, encoding="utf-8")
    flags = f"--tokenizer={folder}/tokenizer.json\r\n--out={folder}/run\r\n"
    (folder / "é.flags").write_bytes(BOM + flags.encode())
    done = subprocess.run(
        [sys.executable, "-m", "experiments.tasks", f"--tasks=jsonl:{folder}/é.jsonl",
         "--shown=1", f"--flagfile={folder}/é.flags"],
        env=os.environ | ASCII | {"PYTHONPATH": str(ROOT)}, cwd=tmp_path, capture_output=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    # The terminal's locale has no such letters; the files have them all.
    assert b"is[ r?d]" in done.stdout
    config = json.loads((folder / "run" / "config.json").read_text("utf-8"))
    assert config["flags"]["tasks"] == [f"jsonl:{folder}/é.jsonl"]
    assert RunDirectory(folder / "run").read_records().lengths.task.values.tolist() == ["é"]
