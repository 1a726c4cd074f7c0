"""docs/families.md says what the recorded models say."""

import pytest

from tests.bridge.families import table


def test_every_recorded_model_has_its_line():
    lines = table.PAGE.read_text(encoding="utf-8").splitlines()
    for case in table.CASES:
        assert any(line.startswith(f"| {case} |") for line in lines), case


@pytest.mark.thorough
def test_the_page_is_that_of_the_records():
    stale = "docs/families.md is stale: python -m tests.bridge.families.table"
    assert table.PAGE.read_text(encoding="utf-8") == table.text(), stale
