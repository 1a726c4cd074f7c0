"""Do the tests notice when the code is wrong? Mutants of a package, and which tests kill them.

    python -m tests.mutation theory --sample=300
    python -m tests.mutation truncation/spectrum.py truncation/linear.py

Every mutant (see operators.py) of the files named is written over a scratch copy of the tree, one
at a time, and the tests are run on it: first the file of tests with the module's name, then those
of the package's folder that mention it, then the others there, until one fails. The score is the
share of mutants that some test noticed. A sample is drawn from each file in proportion to its
mutants. Survivors are listed at the end: each is either a missing test or a change that makes no
difference.

Each run of the tests is a fork of this process, in which JAX is imported but not yet started, so
that a mutant costs what its tests cost and no more. Files read elsewhere while this runs are the
scratch copy's, not the working tree's.
"""

import argparse
import importlib
import json
import math
import os
import random
import re
import shutil
import signal
import sys
import time
import traceback
from pathlib import Path

from tests.mutation.operators import Mutant, mutants

ROOT = Path(__file__).parents[2]
# Seconds that a mutant may take beyond three times what the tests took without one.
PATIENCE = 60.0
LIBRARIES = (
    *("beartype", "flax.nnx", "jax.numpy", "matplotlib.figure", "mpmath", "optax", "pytest"),
    *("scipy.integrate", "scipy.linalg", "scipy.optimize"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", help="packages or files, as theory or theory/checks.py")
    parser.add_argument("--sample", type=int, default=0, help="mutants in all; 0: every one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scratch", default="/tmp/truncated_weights_mutants")
    parser.add_argument("--out", default="", help="JSON lines, one per mutant")
    parser.add_argument("--only", default="", help="line numbers, comma separated")
    parser.add_argument("--again", default="", help="the survivors in this --out file, once more")
    parser.add_argument("--own", action="store_true", help="run each module's own test file only")
    options = parser.parse_args()
    scratch = copy_tree(Path(options.scratch))
    files = [f for name in options.names for f in sorted(_files(name))]
    chosen = sample({f: list(mutants((ROOT / f).read_text())) for f in files}, options)
    warm_up()
    os.chdir(scratch)
    lines = []
    # A test that fails without any change would seem to notice them all.
    batches = {file: tests_of(file)[: 1 if options.own else None] for file, _ in chosen}
    began = time.monotonic()
    everything = sorted({t for each in batches.values() for batch in each for t in batch})
    if run(everything, limit=math.inf) != "survived":
        sys.exit(f"error: on the code as it is: {Path('output').read_text()[-2000:]}")
    limit = PATIENCE + 3 * (time.monotonic() - began)
    survivors, counts = [], {}
    for number, (file, mutant) in enumerate(chosen):
        verdict, seconds = judge(scratch / file, mutant, batches[file], limit)
        counts.setdefault(str(file), []).append(verdict)
        if verdict == "survived":
            survivors.append((file, mutant))
        print(
            f"{number + 1}/{len(chosen)} {verdict:8s} {seconds:5.1f} s  {file}:{mutant}", flush=True
        )
        if options.out:
            row = {"file": str(file), "line": mutant.line, "kind": mutant.kind,
                   "before": mutant.before, "after": mutant.after, "verdict": verdict}  # fmt: skip
            lines.append(json.dumps(row) + "\n")
            Path(options.out).write_text("".join(lines))
    report(counts, survivors)


def report(counts: dict[str, list[str]], survivors: list[tuple[Path, Mutant]]) -> None:
    print("\n| file | mutants | noticed | score |\n|---|---|---|---|")
    everything = [v for verdicts in counts.values() for v in verdicts]
    for file, verdicts in [*counts.items(), ("all", everything)]:
        noticed = sum(v != "survived" for v in verdicts)
        print(f"| {file} | {len(verdicts)} | {noticed} | {noticed / max(1, len(verdicts)):.0%} |")
    for file, mutant in survivors:
        print(f"survived  {file}:{mutant}")


def copy_tree(scratch: Path) -> Path:
    """The packages and tests, without what git does not know."""
    shutil.rmtree(scratch, ignore_errors=True)
    kept = [p for p in ROOT.iterdir() if p.is_dir() and (p / "__init__.py").exists()]
    for folder in [*kept, ROOT / "tests"]:
        ignored = shutil.ignore_patterns("__pycache__")
        # Links stay links: the one name of a package must be the mutated copy.
        shutil.copytree(folder, scratch / folder.name, symlinks=True, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", scratch)
    return scratch


def _files(name: str) -> list[Path]:
    path = ROOT / name
    found = [path] if path.is_file() else path.rglob("*.py")
    return [f.relative_to(ROOT) for f in found if f.name != "__init__.py"]


def sample(
    found: dict[Path, list[Mutant]], options: argparse.Namespace
) -> list[tuple[Path, Mutant]]:
    """All, or as many of each file as its share of the sample."""
    if options.only:
        lines = set(map(int, options.only.split(",")))
        found = {f: [m for m in ms if m.line in lines] for f, ms in found.items()}
    if options.again:
        rows = map(json.loads, Path(options.again).read_text().splitlines())
        alive = [r for r in rows if r["verdict"] == "survived"]
        places = {(r["file"], r["line"], r["before"], r["after"]) for r in alive}
        found = {
            file: [m for m in ms if (str(file), m.line, m.before, m.after) in places]
            for file, ms in found.items()
        }
    total = sum(map(len, found.values()))
    chance = random.Random(options.seed)
    chosen = []
    for file, ms in found.items():
        count = len(ms) if not options.sample else -(-len(ms) * options.sample // total)
        picked = chance.sample(range(len(ms)), min(count, len(ms)))
        chosen += [(file, ms[i]) for i in sorted(picked)]
    return chosen


def tests_of(file: Path) -> list[list[str]]:
    """Batches of the package's test files: the module's own, those that name it, the others."""
    folder = Path("tests", file.parts[0])
    everything = sorted(folder.rglob("test_*.py"))
    own = [p for p in everything if p.name == f"test_{file.stem}.py"]
    named = re.compile(rf"\b{file.stem}\b")
    rest = [p for p in everything if p not in own]
    naming = [p for p in rest if named.search(p.read_text())]
    # What no test names is reached through the modules that use it.
    others = [p for p in rest if p not in naming]
    return [[str(p) for p in batch] for batch in (own, naming, others) if batch]


def warm_up() -> None:
    """Import what every fork needs; nothing of this project, which the mutants are part of."""
    sys.dont_write_bytecode = True
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT]
    for name in LIBRARIES:
        importlib.import_module(name)


def judge(
    target: Path, mutant: Mutant, batches: list[list[str]], limit: float
) -> tuple[str, float]:
    """Whether some test fails on the mutant; the original is put back."""
    original, began = target.read_text(), time.monotonic()
    target.write_text(mutant.source)
    verdict = "survived"
    try:
        for batch in batches:
            verdict = run(batch, limit=limit)
            if verdict != "survived":
                break
    finally:
        target.write_text(original)
    return verdict, time.monotonic() - began


def run(tests: list[str], *, limit: float) -> str:
    child = os.fork()
    if child == 0:
        os.setsid()
        with open("output", "w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        code = 70
        try:
            import pytest

            sys.path.insert(0, str(Path.cwd()))
            options = ["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-m", "not slow"]
            code = int(pytest.main([*options, *tests]))
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    deadline = time.monotonic() + limit
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            code = os.waitstatus_to_exitcode(status)
            # 5: nothing was collected; it would pass every mutant, so it is an error here.
            if code == 5:
                raise RuntimeError(f"no tests in {tests}")
            return "survived" if code == 0 else "killed"
        if time.monotonic() > deadline:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return "timeout"
        time.sleep(0.02)


if __name__ == "__main__":
    main()
