"""Run the tests of every kind of fault and write docs/faults.md.

    python -m tests.faults.table            # run them (minutes), write the table
    python -m tests.faults.table --slow     # every program in the fault matrix too (an hour)

A row names a kind (kinds.toml), what was seen, what happens now, and its tests: of how many cases
each, and how many passed. Cases of `make slow` that were not run are told as such.
"""

import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
KINDS = Path(__file__).with_name("kinds.toml")
TABLE = ROOT / "docs" / "faults.md"


def kinds() -> dict[str, dict[str, str]]:
    """Kind -> what was seen and what happens now, in the order of kinds.toml."""
    return tomllib.loads(KINDS.read_text())


class Results:
    """Collects, of every marked test, the file and function, and whether all its cases passed."""

    def __init__(self, *, slow: bool) -> None:
        self._slow = slow
        self.of: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self._kinds: dict[str, list[str]] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            found = [kind for mark in item.iter_markers("fault") for kind in mark.args]
            self._kinds[item.nodeid] = found
            if item.get_closest_marker("slow") and not self._slow:
                for kind in found:
                    self.of[kind][item.nodeid.split("[")[0]].append("not run")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "call" or not report.passed:
            for kind in self._kinds[report.nodeid]:
                self.of[kind][report.nodeid.split("[")[0]].append(report.outcome)


def rendered(results: Results) -> str:
    """The table as Markdown."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    lines = [
        "# Faults: seen, mended, tested",
        "",
        f"Written by `python -m tests.faults.table` at commit {commit}.",
        "",
        "| kind | seen | now | tests |",
        "|---|---|---|---|",
    ]
    for kind, told in kinds().items():
        tests = []
        for name, outcomes in results.of[kind].items():
            path, function = name.split("::", 1)
            ran = [outcome for outcome in outcomes if outcome != "not run"]
            left = len(outcomes) - len(ran)
            counts = f"{ran.count('passed')}/{len(ran)}" if ran else ""
            counts += f"{', ' * bool(ran)}{left} in `make slow`" if left else ""
            tests.append(f"`{path.removeprefix('tests/')}` {function}: {counts}")
        cells = (kind, told["seen"], told["now"], "<br>".join(tests))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> int:
    slow = "--slow" in sys.argv[1:]
    results = Results(slow=slow)
    chosen = "fault" if slow else "fault and not slow"
    arguments = ["-q", "-m", chosen, "-p", "no:cacheprovider", str(ROOT / "tests")]
    code = pytest.main(arguments, [results])
    TABLE.write_text(rendered(results), encoding="utf-8")
    return code


if __name__ == "__main__":
    sys.exit(main())
