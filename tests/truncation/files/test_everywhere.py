"""No module reads a file on its own: all go through truncation/files."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PACKAGES = ("theory", "training", "truncation", "toy", "bridge", "mini_pythia", "experiments")
READS = {"read_text", "read_bytes", "loads"}
NAMES = READS | {"load", "loadtxt", "open", "ZipFile", "FlagValues"}
# What reads is in its own sources, or is what this process has just made.
OWN = {
    "experiments/report/page.py": "its templates",
    "experiments/report/tables.py": "the files of this project",
    "experiments/report/plan.py": "a round trip of its own settings",
    "experiments/run/program.py": "the sources of the programs",
    "experiments/run/directory/holding.py": "/proc",
    "truncation/files/room.py": "/sys",
    "truncation/files/arrays.py": "the one place",
}


def reads(source):
    """(line, call) of everything in a source that reads a file or parses one's text."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        if name not in NAMES:
            continue
        called = ast.unparse(node.func)
        if name in READS or called in ("json.load", "np.load", "numpy.load", "np.loadtxt"):
            yield node.lineno, called
        elif name == "open" and not called.startswith(("os.", "archive.", "self.", "here.")):
            mode = next(
                (a.value for a in node.args if isinstance(a, ast.Constant) and len(a.value) < 4),
                "r",
            )
            if not set(mode) & set("wax"):
                yield node.lineno, called
        elif called in ("zipfile.ZipFile", "absl_flags.FlagValues") and not (
            node.args and ast.unparse(node.args[0]) in ("opened", "file")
        ):
            yield node.lineno, called


@pytest.mark.fault("C1")
@pytest.mark.fault("C8")
def test_no_module_reads_a_file_on_its_own():
    wrong = [
        f"{path.relative_to(ROOT)}:{line} calls {call}"
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
        if str(path.relative_to(ROOT)) not in OWN
        for line, call in reads(path.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


def test_the_rule_sees_what_reads():
    source = (
        "path.read_text()\njson.loads(x)\npath.open('rb')\nopen(p)\nzipfile.ZipFile(path)\n"
        "np.load(f)\npath.open('w')\nopen(p, 'xb')\nregular.opened(p)\nzipfile.ZipFile(opened)\n"
    )
    assert [line for line, _ in reads(source)] == [1, 2, 3, 4, 5, 6]
