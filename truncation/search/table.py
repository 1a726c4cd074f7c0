"""Tables of flat rows: JSON lines, CSV, Markdown."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def _replace(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".part")
    scratch.write_text(text)
    scratch.replace(path)


def write_jsonl(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One flat JSON object per row, atomically."""
    _replace(Path(path), "".join(json.dumps(row) + "\n" for row in rows))


def read_jsonl(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; none where it does not exist, a broken last line dropped."""
    file, rows = Path(path), []
    for line in file.read_text().splitlines() if file.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


def write_csv(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """One line per row under the union of their keys in order of appearance, atomically."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_name(target.name + ".part")
    with scratch.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    scratch.replace(target)


def markdown(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """The rows as a Markdown table of these columns, floats with three decimals."""

    def cell(value: Any) -> str:
        return f"{value:.3f}" if isinstance(value, float) else str(value)

    lines = ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
    lines += ["| " + " | ".join(cell(row.get(c, "")) for c in columns) + " |" for row in rows]
    return "\n".join(lines) + "\n"
