"""Member-loss: records with a small loss were trained on."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from adversary.attacks.harness.update_attack import ModelAttack
from adversary.attacks.updates.members import confidence, last_models, probabilities, records
from wireleak.common.targets.member import Member


class MemberLossOptions(BaseModel):
    """Settings of `MemberLoss`."""

    model_config = ConfigDict(extra="forbid")
    unit: Literal["record", "group"] = Field(
        "record", description="group: score people by the mean over their records; the records must name people."
    )


@register
class MemberLoss(ModelAttack):
    """Guess that a record is a member if the model's loss on it is small, because models memorise training data.

    The model is the last one seen: the client's last update with the lowest loss, the others' mean at a participant's
    vantage, or the released model. Hard members look like non-members and easy non-members like members. True positive
    rates at few false positives are therefore low; `member-shadow` calibrates for that.

    References
    ----------
    Yeom, Giacomelli, Fredrikson, Jha, "Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting",
    CSF 2018; the threshold is theirs to choose, here all are scored.
    """

    name = "member-loss"
    threat = ThreatModel(
        vantage=(
            Vantage.LINK,
            Vantage.SERVER,
            Vantage.PARTICIPANT,
            Vantage.MALICIOUS_PARTICIPANT,
            Vantage.RELEASE,
        ),
        sees=("global-model",),
        knows=(Knows.ARCHITECTURE,),
    )
    target = Member
    options = MemberLossOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Note the models and the records; nothing is trained."""
        assert knowledge.training is not None
        self._blocks, self._states = knowledge.network().blocks, last_models(knowledge.training)
        self._x, self._y, people = records(knowledge)
        if self.settings.unit == "group" and people is None:
            raise ValueError("options.unit: the records name no people; set data.disjoint_by, or set unit = record")
        self._people = people if self.settings.unit == "group" else None
        self.report["models"] = len(self._states)

    def guess(self, count: int) -> Array:
        """Return probabilities (count, 2) of the records."""
        odds = confidence(self._blocks, self._states, self._x, self._y)
        return probabilities(odds.max(0), self._people)
