"""One cell of a study: a variant with one seed."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wireleak.common.plan import TrainingPlan
from wireleak.common.threat import PARTICIPANTS
from wireleak.lab.run.layout import CellPaths, cell_name
from wireleak.lab.run.seeds import Seeds
from wireleak.lab.study.schema import Study
from wireleak.lab.study.tables import Device, Variant

DEVICES = ("attacker", "victim")
# The same inputs are also served by an untrained encoder, before training: a baseline for every attack.
UNTRAINED = "untrained-"


@dataclass(frozen=True)
class Cell(CellPaths):
    """A variant with one seed.

    Parameters
    ----------
    study : Study
    variant : Variant
    seed : int
    run : Path
        The run's folder.
    input_shape : tuple of int
        Shape of one example.
    classes : int
        Number of classes of the main task.
    seeds : Seeds
        The run's secret, from which the seeds of its parties derive.
    """

    study: Study
    variant: Variant
    seed: int
    run: Path
    input_shape: tuple[int, ...]
    classes: int
    seeds: Seeds = field(compare=False)

    @property
    def name(self) -> str:
        """The folder's name, e.g. "wide-seed0"."""
        return cell_name(self.variant.name, self.seed)

    @property
    def folder(self) -> Path:
        """The cell's folder."""
        return self.run / self.name

    @property
    def lost(self) -> list[str]:
        """How each client ended that died or failed while it trained; captures without it are not the study's."""
        return list(json.loads(self.done.read_text()).get("lost", [])) if self.done.exists() else []

    @property
    def captured(self) -> bool:
        """Whether its captures are complete; if not, `--resume` captures it again."""
        return self.done.exists() and not self.lost

    @property
    def mode(self) -> str:
        """The mode of training: "split" or "federated"."""
        return self.plan.mode

    @property
    def serves_untrained(self) -> bool:
        """Whether any attack needs the same inputs served by an untrained encoder, for its baseline."""
        return self.study.serve.devices and any(
            self.study.runs_untrained(use, self.variant, self.seed) for use in self.study.attacks_on(self.variant)
        )

    @property
    def clients(self) -> list[str]:
        """Names of the training clients; their folders have the same names."""
        return [f"client-{index}" for index in range(self.study.clients_of(self.variant))]

    @property
    def devices(self) -> list[Device]:
        """Emulated devices that serve the victim's inputs too."""
        return self.study.devices_on(self.variant)

    @property
    def trainer(self) -> Device | None:
        """The emulated device that is the last of the training clients."""
        return self.study.trainer_on(self.variant)

    @property
    def plan(self) -> TrainingPlan:
        """The plan of its training."""
        return self.study.plan_of(self.variant)

    @property
    def vantages(self) -> set[str]:
        """The vantages of its attackers."""
        return {use.vantage or self.study.threat.vantage for use in self.study.attacks_on(self.variant)}

    @property
    def server_records(self) -> bool:
        """Whether the server records all it exchanges with each client, for attacks from its vantage."""
        return self.mode == "federated" and "server" in self.vantages

    @property
    def participant_records(self) -> bool:
        """Whether client 0 records all it exchanges with the server: it attacks, and no link shows this."""
        hidden = self.variant.encrypted or self.plan.secure or not self.variant.linked
        return self.mode == "federated" and hidden and bool(self.vantages & set(PARTICIPANTS))

    def seed_of(self, *names: str | int, bits: int = 63) -> int:
        """Return the seed of one of its parties or draws; variants with one seed share it, so they can be compared."""
        return self.seeds.seed(self.seed, *names, bits=bits)

    @property
    def protects(self) -> bool:
        """Whether a party adds noise or another change that protects."""
        return self.plan.noised or bool(self.variant.transforms)

    def noise_seed(self, party: str) -> int | None:
        """Return the seed of a party's draws; None lets it draw from the system, where it adds noise that protects."""
        return None if self.protects and not self.seeds.repeated else self.seed_of(party)

    @property
    def trains(self) -> bool:
        """Whether clients train; otherwise the network is served with its weights as it is."""
        return not self.study.model.trained

    @property
    def initial_weights(self) -> str | None:
        """File of the weights with which the network begins; None where the seed draws them."""
        return self.study.weights_of(self.variant, self.seed)

    def model(self) -> dict[str, Any]:
        """The part "model" of the configs of honest parties, with the initial weights or the seed that draws them."""
        weights, seed = self.initial_weights, self.seed_of("initial weights")
        return self.architecture() | {"seed": seed} | ({} if weights is None else {"weights": weights})

    def architecture(self) -> dict[str, Any]:
        """The part "model" of an attacker's config, which says nothing of the weights."""
        return {
            "name": self.variant.model or self.study.model.name,
            "input_shape": list(self.input_shape),
            "classes": self.classes,
            "cut": self.variant.cut,
        }
