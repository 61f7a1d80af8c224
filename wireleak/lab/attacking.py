"""Start the adversary on a cell's captures, with the files that its threat model grants."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from wireleak.files import write_json
from wireleak.lab.cell import UNTRAINED, Cell
from wireleak.lab.processes import Launcher, LaunchError
from wireleak.lab.study import AttackUse

ATTACK_SECONDS = 3600.0


@dataclass(frozen=True)
class AttackJob:
    """One attack on one target in one cell."""

    cell: Cell
    use: AttackUse
    target: str

    @property
    def name(self) -> str:
        """How messages and results name it, e.g. "wide-seed0-inversion-input"."""
        return f"{self.cell.name}-{self.use.name}-{self.target}"

    @property
    def out(self) -> Path:
        """Folder of its guesses."""
        return self.cell.attack(self.use.name, self.target)

    @property
    def guesses(self) -> Path:
        """Its guesses; there once it has finished."""
        return self.out / "guesses.npz"


def attack_jobs(cell: Cell) -> list[AttackJob]:
    """What a cell's study declares for it."""
    return [AttackJob(cell, use, target) for use in cell.study.attacks_on(cell.variant) for target in use.targets]


def describe_attacks(launcher: Launcher) -> dict[str, dict[str, Any]]:
    """Ask the adversary for its attacks: threat model, targets and options, by name."""
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "describe.log"
        launcher.finish(launcher.start("describe", ["-m", "adversary", "describe"], log, essential=False), 120)
        described: list[dict[str, Any]] = json.loads(log.read_text())
    return {attack["name"]: attack for attack in described}


def run_attack(job: AttackJob, launcher: Launcher) -> None:
    """Run one attack to its end.

    Raises
    ------
    LaunchError
        It failed.
    """
    cell = job.cell
    captures = {
        "device": [str(cell.capture("serve-attacker"))],
        "victims": [str(cell.capture("serve-victim"))],
    }
    if cell.study.runs_untrained(job.use, cell.variant, cell.seed):
        captures["untrained_device"] = [str(cell.capture(f"{UNTRAINED}serve-attacker"))]
        captures["untrained_victims"] = [str(cell.capture(f"{UNTRAINED}serve-victim"))]
    in_process = job.target == "input" and not cell.variant.encrypted
    config = {
        "attack": job.use.name,
        "target": job.target,
        "seed": cell.seed,
        "options": job.use.options,
        "captures": captures,
        "tensors": _tensors_in_process(cell) if in_process else None,
        "granted": {"surrogate": str(cell.surrogate)},
        "victims": cell.study.data.victims,
        "out": str(job.out),
    }
    fit_and_guess(launcher, job.name, config, cell.log(f"attack-{job.use.name}-{job.target}"))


def fit_and_guess(launcher: Launcher, name: str, config: dict[str, Any], log: Path) -> Path:
    """Run the adversary with an attack config (docs/architecture.md) and return the path of its guesses.

    Raises
    ------
    LaunchError
        It failed.
    """
    out = Path(config["out"])
    argv = ["-m", "adversary", "attack", "--config", str(write_json(out / "config.json", config))]
    launcher.finish(launcher.start(name, argv, log, essential=False), ATTACK_SECONDS)
    guesses = out / "guesses.npz"
    if not guesses.is_file():
        raise LaunchError(f"{name}: ended without guesses; see {log}")
    return guesses


def _tensors_in_process(cell: Cell) -> dict[str, str]:
    """What a tool without a wire would hand its attacker: the same inputs' activations, computed here.

    It feeds the control "in-process": what the wire cost the attacker.
    """
    import torch

    from wireleak.models import build, load_weights

    model = cell.model()
    network = build(model["name"], cell.input_shape, cell.classes, cell.seed)
    encoder, _ = network.split(cell.variant.cut)
    load_weights(encoder, cell.checkpoints / f"encoder-{cell.study.system.rounds}.safetensors")
    encoder.eval()
    paths = {}
    serve = cell.study.serve
    for role, device, batch in (
        ("device", "attacker", serve.attacker_batch),
        ("victims", "victim", serve.victim_batch),
    ):
        path = cell.folder / "sealed" / f"tensors-{device}.npy"
        if not path.exists():
            # In the devices' own batches, so that equal tensors are equal to the last bit.
            with np.load(cell.device(device) / "inputs.npz") as inputs, torch.inference_mode():
                batches = torch.split(torch.from_numpy(inputs["x"]), batch)
                np.save(path, torch.cat([encoder(one) for one in batches]).numpy())
        paths[role] = str(path)
    return paths
