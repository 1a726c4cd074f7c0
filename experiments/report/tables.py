"""Tables of the claims for README.md and docs/claims.md, between markers and never by hand.

    python -m experiments.report.tables report

copies what the report in that directory measured, and at which commit, to docs/claims.json, and
writes from it the tables between <!-- claims: ... --> and <!-- end of claims -->. A test says when
table and record, or record and claims, no longer agree.
"""

import datetime
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from truncated_weights.experiments.report.reading import Found
from truncated_weights.experiments.report.runs import RUNS
from truncated_weights.experiments.report.verdicts import FAILS, WORDS, Verdict
from truncated_weights.experiments.run import streams
from truncated_weights.experiments.run.claim import Claim
from truncated_weights.training import atomic
from truncated_weights.truncation.files import regular, strict

ROOT = Path(__file__).resolve().parents[2]
RECORD = ROOT / "docs" / "claims.json"
BEGIN, END = "<!-- claims: {kind} -->", "<!-- end of claims -->"
DIGEST = ("name", "title", "paper", "statement", "run", "checks")
FILES = {"README.md": "short", "docs/claims.md": "long"}


def records(judged: Sequence[Verdict], found: Mapping[str, Found]) -> list[dict[str, Any]]:
    """Every verdict as a flat dictionary of strict JSON, with the commit that measured it."""
    rows = []
    for one in judged:
        run = found.get(one.claim.run)
        rows.append(
            {
                **digest(one.claim),
                "where": one.claim.where,
                "program": getattr(RUNS.get(one.claim.run.partition("-")[0]), "program", ""),
                "subject": one.subject,
                "verdict": one.verdict,
                "reason": one.reason,
                "commit": run.config.get("git_commit", "unknown") if run else "",
                "date": date(run.path / "summary.json") if run else "",
                "measured": [
                    {
                        "what": check.what,
                        "value": check.measured,
                        "error": check.error,
                        "expected": check.expected,
                        "holds": check.holds,
                        "one_seed": check.one_seed,
                    }
                    for check in one.checks
                ],
            }
        )
    return rows


def digest(claim: Claim) -> dict[str, str]:
    """What of a claim makes a record of it stale when it changes."""
    return {key: repr(claim.checks) if key == "checks" else getattr(claim, key) for key in DIGEST}


def date(file: Path) -> str:
    """The day on which a file was written."""
    written = datetime.datetime.fromtimestamp(file.stat().st_mtime, datetime.UTC)
    return written.strftime("%Y-%m-%d")


def publish(source: Path, root: Path = ROOT) -> None:
    """Copy the record into docs/ and write the tables; ValueError, OSError where that cannot be."""
    rows = strict.read(source)
    texts = {name: filled(regular.text(root / name), kind, rows) for name, kind in FILES.items()}
    (root / "docs").mkdir(exist_ok=True)
    atomic.write_text(root / "docs" / RECORD.name, regular.text(source))
    for name, text in texts.items():
        atomic.write_text(root / name, text)


def filled(text: str, kind: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """The text with this table between its markers; ValueError where it has none."""
    begin = BEGIN.format(kind=kind)
    head, marker, rest = text.partition(begin)
    _, closed, tail = rest.partition(END)
    if not (marker and closed):
        raise ValueError(f"no {begin} and {END} to write between")
    table = short(rows) if kind == "short" else long(rows)
    return f"{head}{begin}\n{table}\n{END}{tail}"


def short(rows: Sequence[Mapping[str, Any]]) -> str:
    """What theory predicts, where, and whether it holds; of all claims how many, what fails."""
    lines = ["| module | predicts | program | verdict |", "|---|---|---|---|"]
    modules: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["where"][:7] == "theory/":
            module = row["where"].replace(";", ",").partition(",")[0]
            modules.setdefault(module, []).append(row)
    for module, own in modules.items():
        titles, programs, words = (
            "; ".join(dict.fromkeys(row[key] for row in own))
            for key in ("title", "program", "verdict")
        )
        lines.append(f"| `{module}` | {titles} | {programs} | {words} |")
    every = [row["verdict"] for row in rows]
    counts = ", ".join(f"{every.count(word)} {word}" for word in WORDS if word in every)
    lines += ["", f"Of all {len(rows)} claims: {counts}."]
    if failed := [row["title"] for row in rows if row["verdict"] == FAILS]:
        lines.append(f"Fails: {'; '.join(failed)}.")
    return "\n".join([*lines, "", measured_at(rows)])


def long(rows: Sequence[Mapping[str, Any]]) -> str:
    """Every check of every claim."""
    lines = [
        "| claim | source | measured | expected | verdict |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        measured = "; ".join(
            f"{_number(check['value'])}"
            + (f" ± {_number(check['error'])}" if check["error"] else "")
            for check in row["measured"]
        )
        expected = "; ".join(check["expected"] for check in row["measured"])
        cells = (row["title"], row["paper"], measured, expected, row["reason"] or row["verdict"])
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join([*lines, "", measured_at(rows)])


def measured_at(rows: Sequence[Mapping[str, Any]]) -> str:
    """Commits and days of the runs behind the rows."""
    commits = sorted({row["commit"][:10] + ("-dirty" * row["commit"].endswith("-dirty"))
                      for row in rows if row["commit"]})  # fmt: skip
    days = sorted({row["date"] for row in rows if row["date"]})
    return f"Measured at commit {', '.join(commits)} on {', '.join(days)}."


def _number(value: Any) -> str:
    if isinstance(value, str):
        return f"`{value}`"
    if value is None or not math.isfinite(value):
        return "not a number"
    return f"{value:.3g}"


def main() -> int:
    """The command line: a report's directory."""
    streams.speak_utf8()
    streams.settle()
    if len(sys.argv) != 2:
        print("usage: python -m experiments.report.tables REPORT_DIRECTORY", file=sys.stderr)
        return 2
    try:
        publish(Path(sys.argv[1]) / "claims.json")
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
