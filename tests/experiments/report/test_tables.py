"""README.md and docs/claims.md hold the tables of docs/claims.json, and it today's claims."""

import json
from pathlib import Path

import pytest

from truncated_weights.experiments.report import tables
from truncated_weights.experiments.report.subjects import SUBJECTS

ROOT = Path(__file__).parents[3]
ROWS = [
    {"title": "A | b", "where": "theory/lazy, twice", "program": "sweep",
     "subject": "memory", "paper": "p", "verdict": "fails", "reason": "",
     "commit": "0123456789abcdef-dirty", "date": "2026-11-21",
     "measured": [{"what": "x", "value": 0.25, "error": 0.01, "expected": "at most 0.2"},
                  {"what": "y", "value": "1.mlp@0", "error": 0.0, "expected": "0.mlp@0"}]},
    {"title": "C", "where": "", "program": "sweep", "subject": "memory", "paper": "p",
      "verdict": "not run", "reason": "not run: no",
     "commit": "", "date": "", "measured": []},
]  # fmt: skip


@pytest.fixture
def recorded():
    return json.loads(tables.RECORD.read_text())


@pytest.mark.parametrize(("name", "kind"), tables.FILES.items())
def test_the_tables_are_those_of_the_record(recorded, name, kind):
    text = (ROOT / name).read_text()
    assert tables.filled(text, kind, recorded) == text, (
        f"the table of {name} is stale: python -m experiments.report.tables REPORT_DIRECTORY"
    )


def test_the_record_is_of_the_claims_as_they_are(recorded):
    """A claim that was added, taken away or changed since makes the record stale."""
    now = [tables.digest(claim) for subject in SUBJECTS.values() for claim in subject.claims]
    then = [{key: row[key] for key in tables.DIGEST} for row in recorded]
    assert then == now, "docs/claims.json is stale: run the report, then experiments.report.tables"


def test_long_and_short():
    long = tables.long(ROWS)
    assert r"| A \| b | p | 0.25 ± 0.01; `1.mlp@0` | at most 0.2; 0.mlp@0 | fails |" in long
    assert "| C | p |  |  | not run: no |" in long
    assert long.endswith("Measured at commit 0123456789-dirty on 2026-11-21.")
    assert "| `theory/lazy` | A | b | sweep | fails |" in tables.short(ROWS)
    assert "Of all 2 claims: 1 fails, 1 not run." in tables.short(ROWS)
    assert "Fails: A | b." in tables.short(ROWS)


def test_only_what_stands_between_the_markers_changes(tmp_path):
    (tmp_path / "docs").mkdir()
    for name, kind in tables.FILES.items():
        begin = tables.BEGIN.format(kind=kind)
        (tmp_path / name).write_text(f"before\n{begin}\nstale words\n{tables.END}\nafter\n")
    source = tmp_path / "claims.json"
    source.write_text(json.dumps(ROWS))
    tables.publish(source, tmp_path)
    tables.publish(source, tmp_path)
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("before\n<!-- claims: short -->\n| module |")
    assert text.endswith("<!-- end of claims -->\nafter\n")
    assert "stale words" not in text
    (tmp_path / "README.md").write_text("no markers")
    with pytest.raises(ValueError, match="between"):
        tables.publish(source, tmp_path)
