import math
from pathlib import Path

import numpy as np

from wireleak.lab.run import scored
from wireleak.lab.run.results import Row

ROW = Row(
    study="s", variant="v", seed=0, link="plaintext", vantage="link", attack="a", target="input", measure="mse",
    value=0.1, low=0.05, n=3,
)  # fmt: skip


def test_rows_are_computed_once_for_the_same_files_and_come_back_as_they_were(tmp_path: Path) -> None:
    guesses, kept = tmp_path / "guesses.npz", tmp_path / "scores" / "a-input.npz"
    guesses.write_bytes(b"first")
    draws, calls = np.linspace(0, 1, 7) / 3, []

    def compute() -> list[Row]:
        calls.append(1)
        return [ROW.model_copy().drawn(draws), ROW.model_copy(update={"value": math.nan})]

    for _ in range(3):
        rows = scored._kept(kept, scored.key_of([guesses], "a-input"), compute)
        assert rows[0].model_dump_json() == ROW.model_dump_json() and math.isnan(rows[1].value)
        assert rows[0].draws is not None and np.array_equal(rows[0].draws, draws) and rows[1].draws is None
    assert len(calls) == 1
    guesses.write_bytes(b"other")
    scored._kept(kept, scored.key_of([guesses], "a-input"), compute)
    kept.write_bytes(b"broken")
    scored._kept(kept, scored.key_of([guesses], "a-input"), compute)
    assert len(calls) == 3


def test_a_key_depends_on_contents_words_and_their_places(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"a")
    second.write_bytes(b"b")
    keys = {
        scored.key_of([first, second]),
        scored.key_of([second, first]),
        scored.key_of([first]),
        scored.key_of([first, tmp_path / "missing"]),
        scored.key_of([first], "word"),
    }
    assert len(keys) == 5 and scored.key_of([first]) in keys
