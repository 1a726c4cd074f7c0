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
# The one name that all packages are imported by.
NAME = "truncated_weights"
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
# Names of programs that are another question with other settings: nothing but a __main__.py.
ALIASES = {"experiments.train_word_problems.__main__": "train_mini_pythia"}
# What tells of all questions, and so may import them: their claims and their programs.
TELLS = {"report"}
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
    prefix = f"{NAME}."
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else list(ast.walk(tree))
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.removeprefix(prefix)) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}".removeprefix(prefix)
                yield node.lineno, inner if inner in known else node.module.removeprefix(prefix)


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


def test_everything_is_imported_by_the_one_name():
    """A user's own toy.py or training.py beside a script must not be what our code finds."""
    wrong = []
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            wrong += [
                f"{path.relative_to(ROOT)}:{node.lineno} imports {name}"
                for name in names
                if name.split(".")[0] in MAY_IMPORT
            ]
    assert not wrong, "\n".join(wrong)
    assert {link.name for link in (ROOT / NAME).iterdir() if link.is_symlink()} == set(MAY_IMPORT)
    assert all((ROOT / NAME / name).resolve() == ROOT / name for name in MAY_IMPORT)


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
            known = (parts[1], ALIASES.get(module))
            if other[1] not in known and parts[1] not in TELLS:
                wrong.append(f"{path.relative_to(ROOT)}:{line} imports {name}")
    assert not wrong, "\n".join(wrong)


def test_no_program_is_imported_by_a_name_that_is_put_together():
    """Such an import would pass by the rules above unseen; only a command line may choose."""
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for module, path in MODULES.items()
        if module.startswith("experiments.")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func).endswith(("import_module", "__import__"))
        and not all(isinstance(argument, ast.Constant) for argument in node.args)
        and str(path.relative_to(ROOT)) not in {"experiments/run/program.py"}
    ]
    assert not wrong, "\n".join(wrong)


TAKING_APART = {"split", "rsplit", "partition", "rpartition"}
ASKING = {"startswith", "endswith", "removeprefix", "removesuffix"}
# What `summarise` made may be read by its flat keys; those of records have axes.
FLAT = {"summary", "found"}
# Where a slash is no part of a record's name: places of files, names of repositories, columns of
# the tables that truncation/ gives.
PLACES = {
    "experiments/run/directory/files.py",
    "experiments/run/directory/links.py",
    "experiments/run/drawing/heatmaps.py",
    "experiments/fetch_model/measure.py",
}
# Where names are spelled, and where they still are; a program that still has experiment.py is not
# a study yet and waits too.
SPELLING = {"training/records.py"}


def spellings(text: str) -> Iterator[tuple[int, str]]:
    """(line, source) of everything that takes a record's name apart, or finds a record by one."""

    def slashed(node: ast.AST) -> bool:
        parts = node.values if isinstance(node, ast.JoinedStr) else [node]
        return any(isinstance(part, ast.Constant) and "/" in str(part.value) for part in parts)

    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
            first, method = node.args[0], node.func.attr
            by_slash = isinstance(first, ast.Constant) and first.value == "/"
            apart = method in TAKING_APART and by_slash
            if apart or (method in ASKING and slashed(first)):
                yield node.lineno, ast.unparse(node)
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load):
            base = node.value
            flat = isinstance(base, ast.Name) and base.id in FLAT
            if slashed(node.slice) and not flat:
                yield node.lineno, ast.unparse(node)


def of_records() -> Iterator[tuple[str, Path]]:
    """Files that deal with records and have no business to spell a name."""
    for module, path in MODULES.items():
        package, *rest = module.split(".")
        name = str(path.relative_to(ROOT))
        folder = ROOT / package / rest[0] if rest else path.parent
        waits = (folder / "experiment.py").exists() and folder.name not in TELLS
        dealing = package in ("toy", "training", "mini_pythia", "experiments")
        if dealing and not waits and name not in PLACES | SPELLING:
            yield name, path


def test_only_one_file_spells_the_names_of_records():
    """Everything else has axes; nothing splits a name, and nothing is found by a joined one."""
    wrong = [
        f"{name}:{line} {source}"
        for name, path in of_records()
        for line, source in spellings(path.read_text())
    ]
    assert not wrong, "\n".join(wrong)


def test_what_takes_a_name_apart_is_seen():
    seen = [
        'key.split("/")[0]', 'key.rpartition("/")', 'key.startswith("final/")',
        'key.endswith(f"{model}/p_noise")', 'arrays["models/steps"]',
        'run.arrays[f"final/{model}/p_noise"]',
    ]  # fmt: skip
    unseen = [
        'summary["learning/noise_half_step"]', 'arrays["steps"]', 'text.split(",")',
        'summary[f"{model}/p_noise"] = 1.0', 'key.startswith("final")',
    ]  # fmt: skip
    assert all(list(spellings(line)) for line in seen)
    assert not any(list(spellings(line)) for line in unseen)


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
        f"import {NAME}.toy.recall as r\nfrom {NAME}.bridge import tasks\n"
        f"def f():\n    from {NAME} import toy\n    from {NAME}.experiments.run import program\n"
    )
    assert [name for _, name in imported(file)] == [
        "toy.recall", "bridge.tasks", "toy", "experiments.run.program",
    ]  # fmt: skip
    assert [name for _, name in imported(file, top_level_only=True)] == [
        "toy.recall", "bridge.tasks",
    ]  # fmt: skip
