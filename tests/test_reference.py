"""The generated reference: as fresh as the code, and each key has a meaning."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted((ROOT / "docs" / "reference").glob("*.md"))


def test_the_pages_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, "docs/make_reference.py", "--check"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_each_row_says_what_it_means(page: Any) -> None:
    assert [line for line in page.read_text().splitlines() if re.search(r"\|\s*\|$", line)] == []
    assert "<class" not in page.read_text()
