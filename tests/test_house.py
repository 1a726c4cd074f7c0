"""The plan of the house: who may import whom, no circles, no crowded folder.

The rules are data, so that a change of plan is a change of this table. They are checked on the
source text: nothing is imported, and an import inside a function counts like any other.
"""

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAY_IMPORT = {
    "theory": set(),
    "training": set(),
    "truncation": set(),
    "toy": {"training", "truncation"},
    "bridge": {"truncation"},
    "mini_pythia": {"bridge", "training", "truncation"},
    "experiments": {
        "theory", "training", "truncation", "toy", "bridge", "mini_pythia",
    },
}  # fmt: skip
# Folders of experiments/ that hold what several questions share, not a question.
SHARED = {"run"}
# A folder that a reader still takes in at a glance, __init__.py left aside.
CROWD = 16


def modules() -> dict[str, Path]:
    """Dotted name -> file, of every module of the house."""
    found = {}
    for package in MAY_IMPORT:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported(path: Path, *, top_level_only: bool = False) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything this file imports from the house.

    `from a import b` gives a.b where that is a module, else a.
    """
    known = set(MODULES)
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield node.lineno, inner if inner in known else node.module


MODULES = modules()


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_the_plan_allows(package):
    forbidden = set(MAY_IMPORT) - MAY_IMPORT[package] - {package}
    wrong = [
        f"{path.relative_to(ROOT)}:{line} imports {name}"
        for module, path in MODULES.items()
        if module.split(".")[0] == package
        for line, name in imported(path)
        if name.split(".")[0] in forbidden
    ]
    assert not wrong, "\n".join(wrong)


def test_no_question_imports_another():
    wrong = []
    for module, path in MODULES.items():
        parts = module.split(".")
        if parts[0] != "experiments" or len(parts) < 2:
            continue
        for line, name in imported(path):
            other = name.split(".")
            if other[0] != "experiments" or len(other) < 2 or other[1] in SHARED:
                continue
            # What is shared must not know any question: every arrow points towards run/.
            if other[1] != parts[1]:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_no_circle():
    """Depth-first search over the imports that run when a module is imported."""
    graph = {
        module: {name for _, name in imported(path, top_level_only=True) if name in MODULES}
        for module, path in MODULES.items()
    }
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module not in done:
            for name in sorted(graph[module] - {module}):
                visit(name, (*trail, module))
            done.add(module)

    for module in graph:
        visit(module, ())


def test_no_folder_is_a_crowd():
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\n")  # fmt: skip
    folders: dict[Path, int] = {}
    for name in listed:
        path = Path(name)
        if name and path.name != "__init__.py" and path.suffix == ".py" and (ROOT / path).exists():
            folders[path.parent] = folders.get(path.parent, 0) + 1
    crowds = {str(folder): count for folder, count in folders.items() if count > CROWD}
    assert not crowds, crowds


def test_the_rules_see_an_arrow_back(tmp_path):
    """The reader of imports itself: nested, aliased and plain imports are all found."""
    file = tmp_path / "wrong.py"
    file.write_text(
        "import toy.recall as r\nfrom bridge import tasks\n"
        "def f():\n    from experiments.run import program\n"
    )
    assert [name for _, name in imported(file)] == [
        "toy.recall", "bridge.tasks", "experiments.run.program",
    ]  # fmt: skip
    assert [name for _, name in imported(file, top_level_only=True)] == [
        "toy.recall", "bridge.tasks",
    ]  # fmt: skip
