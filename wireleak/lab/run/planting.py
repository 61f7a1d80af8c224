"""The numbers that the lab plants in one client's text, as an auditor would."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from wireleak.common.config import options_of
from wireleak.common.files import write_arrays
from wireleak.common.measures.statistics.secret_sharer import Planting, draw_canaries
from wireleak.common.targets.canary import Canary
from wireleak.lab.run.cell import Cell
from wireleak.lab.study.schema import StudyError
from wireleak.lab.study.tables import Variant


def plants(variant: Variant) -> bool:
    """Return whether a client of this variant has planted numbers in its text."""
    return variant.participant is not None and variant.participant.name == Canary.participant


def planting(cell: Cell) -> Planting:
    """Return how often each number of a cell is planted, and how many digits it has.

    Raises
    ------
    StudyError
        No numbers are planted in the cell.
    """
    if cell.variant.participant is None or not plants(cell.variant):
        raise StudyError(
            f'target: no client plants numbers in {cell.name}; set participant = {{ name = "{Canary.participant}" }}'
        )
    return options_of(Planting, cell.variant.participant.options, f"variants.{cell.variant.name}.participant.options")


def planted(cell: Cell) -> dict[str, int]:
    """Draw the cell's numbers by their seed; return how often each is planted, by its digits."""
    settings = planting(cell)
    return draw_canaries(settings.times, settings.digits, np.random.default_rng(cell.seed_of("canaries")))


def write(cell: Cell, path: Path) -> None:
    """Write the cell's numbers for the client that plants them: `number`, int64 (k,)."""
    write_arrays(path, {"number": np.array([int(digits) for digits in planted(cell)], np.int64)})
