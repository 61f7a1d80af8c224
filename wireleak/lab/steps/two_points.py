"""Audit a cell's noise on the real wire: a device of the auditor sends two known activations many times.

The device skips its encoder and applies the cell's transforms, those of the input too: then the two are known inputs,
in the shape of an activation. Its link is tapped as all others are, but its capture
lies in the auditor's folder, so that no attack and no table of traffic reads it.
"""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path

import numpy as np

from wireleak.common.files import write_arrays
from wireleak.common.measures.bounds.randomised_response import Response
from wireleak.common.measures.bounds.two_points import Randomness, audit
from wireleak.lab.launch.processes import Launcher
from wireleak.lab.run import truth
from wireleak.lab.run.cell import Cell
from wireleak.lab.run.results import NoiseAudit
from wireleak.lab.steps.bounds import noise_of
from wireleak.lab.steps.wires import extract

LINK = "audit"
_MESSAGES = 4000
# At wide cuts fewer messages, so that a capture stays small.
_LEAST, _NUMBERS = 1000, 1 << 22
BATCH = 50


def promise_of(cell: Cell) -> Randomness | None:
    """Return the noise that an audit can test: clipped, or of words, on a plaintext link, and the only transform."""
    # Later transforms round or drop numbers, which only adds errors: such an audit has less power than it says.
    if len(cell.variant.transforms) != 1 or cell.variant.encrypted or not cell.study.serve.devices:
        return None
    (only,) = cell.variant.transforms
    if only.name == "word-response":
        return Response(float(only.options["epsilon"]), int(only.options["words"]))
    noise = noise_of(cell)
    return None if noise is None else noise.clipped


def capture_of(cell: Cell) -> Path:
    """Return the capture of the auditor's device."""
    return cell.device(LINK) / "link.pcap"


def write_pairs(cell: Cell, noise: Randomness, shape: tuple[int, ...]) -> None:
    """Write the activations that the auditor's device sends, and which of the two each message holds.

    The number in which they differ goes round all numbers of a message, so that noise missing on any of them is found.
    """
    numbers = math.prod(shape)
    count = max(_LEAST, min(_MESSAGES, _NUMBERS // numbers))
    random = np.random.default_rng(cell.seed_of("audit"))
    first = random.integers(0, 2, count).astype(bool)
    place = random.permutation(count) % numbers
    values = np.zeros((count, numbers), np.float32)
    values[np.arange(count), place] = np.where(first, *noise.pair())
    write_arrays(cell.inputs(LINK), {"x": values.reshape(count, *shape)})
    truth.write_audit(cell, first, place)


def read_pairs(cell: Cell, launcher: Launcher) -> None:
    """Write the activations that were seen on the wire, as the adversary decodes them."""
    name = "audit-extract"
    extract(launcher, name, "activation", capture_of(cell), truth.audited(cell), cell.log(name), 300)


def noise_audits(cells: list[Cell]) -> list[NoiseAudit]:
    """Return one audit for each variant, over the messages of all its seeds."""
    found: dict[str, tuple[Randomness, int, int]] = {}
    for cell in cells:
        noise, counted = promise_of(cell), truth.audit_errors(cell)
        if noise is not None and counted is not None:
            _, errors, messages = found.get(cell.variant.name, (noise, 0, 0))
            found[cell.variant.name] = noise, errors + counted[0], messages + counted[1]
    audits = {variant: audit(noise, errors, messages) for variant, (noise, errors, messages) in found.items()}
    return [NoiseAudit(variant=variant, holds=one.holds, **asdict(one)) for variant, one in audits.items()]
