"""Does the table of verify_theory notice when the theory is wrong? Mutants of theory/.

    python -m tests.mutation.table --sample=300
    python -m tests.mutation.table theory/lazy.py theory/plateau.py

Every family is simulated once (`--quick`, two minutes; kept in --records for the next time). No
simulation asks the theory for anything, so that a mutant costs only the predictions: its source is
run in place of the module's, in a fork of this process, and the rows are judged again.

A mutant is noticed where a row fails, where there is another row or one less, or no table at all.
It is missed where no row fails although a printed prediction has moved by more than the row
resolves, its tolerance and one standard error; faint where predictions have moved by less. The
share of the noticed among noticed and missed is what the table is good for. Where no prediction of
a row has moved (unseen) the mutant is left to the tests (`python -m tests.mutation`). Missed and
faint ones are listed.
"""

import argparse
import ast
import importlib
import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

import numpy as np

from tests.mutation import __main__ as by_tests
from tests.mutation import formulas
from tests.mutation.operators import Mutant, mutants
from truncated_weights.experiments.verify_theory import table
from truncated_weights.experiments.verify_theory.effort import QUICK
from truncated_weights.experiments.verify_theory.measure import FAMILIES
from truncated_weights.experiments.verify_theory.table import Row
from truncated_weights.training import records
from truncated_weights.training.records import Records

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0
# What is never asked by the table: refusals, and the figures' own functions.
LEFT_OUT = ("theory/checks.py",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=["theory"])
    parser.add_argument("--sample", type=int, default=0, help="mutants in all; 0: every one")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--records", default="/tmp/truncated_weights_verified.nc")
    parser.add_argument("--only", default="", help="line numbers, comma separated")
    parser.add_argument("--formulas", action="store_true", help="those of formulas.py instead")
    parser.add_argument("--tests", action="store_true", help="ask the module's tests, no table")
    parser.set_defaults(again="", own=True)
    options = parser.parse_args()
    files = [f for name in options.names for f in sorted(by_tests._files(name))]
    files = [f for f in files if str(f) not in LEFT_OUT]
    if options.formulas:
        chosen = formulas.wrong()
    else:
        ready = {f: list(mutants((ROOT / f).read_text())) for f in files}
        chosen = by_tests.sample(ready, options)
    if options.tests:
        ask_tests(chosen)
        return
    measured = simulated(Path(options.records))
    right = {name: family.judge(QUICK, measured).rows for name, family in FAMILIES.items()}
    if table.failures([row for rows in right.values() for row in rows]):
        sys.exit("error: rows fail on the code as it is")
    counts, survivors = {}, []
    for number, (file, mutant) in enumerate(chosen):
        asked = [name for name in FAMILIES if file in reached(FAMILIES[name].judge.__module__)]
        verdict = judge(dotted(file), mutant.source, asked, measured, right)
        counts.setdefault(str(file), []).append(verdict)
        if verdict in ("missed", "faint"):
            survivors.append((verdict, file, mutant))
        print(f"{number + 1}/{len(chosen)} {verdict:9s} {file}:{mutant}", flush=True)
    report(counts, survivors)


def ask_tests(chosen: list[tuple[Path, Mutant]]) -> None:
    """Whether the module's own tests notice, in a scratch copy of the tree."""
    scratch = by_tests.copy_tree(Path("/tmp/truncated_weights_formulas"))
    by_tests.warm_up()
    os.chdir(scratch)
    own = sorted({t for file, _ in chosen for t in by_tests.tests_of(file)[0]})
    if by_tests.run(own, limit=600.0) != "survived":
        sys.exit("error: tests fail on the code as it is")
    for file, mutant in chosen:
        verdict, _ = by_tests.judge(scratch / file, mutant, by_tests.tests_of(file)[:1], 120.0)
        print(f"{verdict:8s} {file}:{mutant}", flush=True)


def report(counts: dict[str, list[str]], survivors: list) -> None:
    """share: noticed among noticed and missed."""
    kinds = ("noticed", "missed", "faint", "unseen")
    print(f"\n| file | mutants | {' | '.join(kinds)} | share |\n|" + "---|" * 7)
    everything = [v for verdicts in counts.values() for v in verdicts]
    for file, verdicts in [*counts.items(), ("all", everything)]:
        numbers = [verdicts.count(kind) for kind in kinds]
        share = f"{numbers[0] / max(1, numbers[0] + numbers[1]):.0%}"
        print(f"| {file} | {len(verdicts)} | {' | '.join(map(str, numbers))} | {share} |")
    for verdict, file, mutant in survivors:
        print(f"{verdict}  {file}:{mutant}")


def simulated(path: Path) -> Records:
    """What all families measure, from the file where there is one."""
    if not path.exists():
        found = [family.simulate(QUICK, 0) for family in FAMILIES.values()]
        blocks = {block: data for each in found for block, data in each.items()}
        path.write_bytes(records.encoded(Records(blocks)))
    return records.decoded(path.read_bytes())


def dotted(file: Path) -> str:
    """The name under which the families import a file."""
    return ".".join(("truncated_weights", *file.with_suffix("").parts))


def reached(module: str, seen: frozenset[Path] = frozenset()) -> frozenset[Path]:
    """Files of theory/ that a module imports, directly or through others of them."""
    path = Path(*module.split(".")).with_suffix(".py")
    names = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            module = node.module.removeprefix("truncated_weights.")
            names |= {f"{module}.{alias.name}" for alias in node.names} | {module}
    # A family's own helpers ask the theory too.
    inside = ("theory.", "experiments.verify_theory.families.")
    for name in sorted(names):
        file = Path(*name.split(".")).with_suffix(".py")
        if name.startswith(inside) and (ROOT / file).is_file() and file not in seen:
            seen = reached(name, seen | {file})
    return seen


def judge(
    name: str,
    source: str,
    asked: list[str],
    measured: Records,
    right: dict[str, list[Row]],
) -> str:
    """The verdict, from a fork in which the module is the mutant."""
    child = os.fork()
    if child == 0:
        code = 0
        try:
            with open(os.devnull, "w") as nothing:
                os.dup2(nothing.fileno(), 2)
            np.seterr(all="ignore")
            replace(importlib.import_module(name), source)
            rows = dict(right)
            for family in asked:
                rows[family] = FAMILIES[family].judge(QUICK, measured).rows
            code = compare(right, rows)
        except BaseException:
            code = 0  # no table at all
        finally:
            os._exit(code)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return ("noticed", "missed", "faint", "unseen")[os.waitstatus_to_exitcode(status)]
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "noticed"


def replace(module: ModuleType, source: str) -> None:
    """Run the mutant's source over the module; classes that others hold stay theirs."""
    kept = {k: v for k, v in vars(module).items() if isinstance(v, type)}
    exec(compile(source, module.__file__ or "mutant", "exec"), module.__dict__)
    vars(module).update(kept)


def compare(right: dict[str, list[Row]], found: dict[str, list[Row]]) -> int:
    """Place of the verdict among noticed, missed, faint, unseen."""
    before = [row for rows in right.values() for row in rows]
    after = [row for rows in found.values() for row in rows]
    names = [[(r.family, r.name, r.setting) for r in rows] for rows in (before, after)]
    if names[0] != names[1] or table.failures(after):
        return 0
    # Of the worst of many entries another one may be shown: what is seen is how far it is off.
    moved = [
        abs(abs(b.difference) - abs(a.difference))
        if b.note.startswith("worst")
        else abs(b.predicted - a.predicted)
        for b, a in zip(before, after, strict=True)
    ]
    resolved = [row.tolerance + (row.error or 0.0) for row in before]
    if any(m > r + 1e-12 for m, r in zip(moved, resolved, strict=True)):
        return 1
    return 2 if any(m > 1e-9 * abs(b.predicted) for m, b in zip(moved, before, strict=True)) else 3


if __name__ == "__main__":
    main()
