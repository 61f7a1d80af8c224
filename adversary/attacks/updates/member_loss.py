"""Member-loss: records with a small loss were trained on."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.registry import register
from adversary.attacks.harness.threat import Knows, ThreatModel
from adversary.attacks.harness.update_attack import ModelAttack
from adversary.attacks.updates.members import ANYWHERE, UNIT, Unit, last_models, records
from wireleak.common.targets.member import Member


class MemberLossOptions(BaseModel):
    """Settings of `MemberLoss`."""

    model_config = ConfigDict(extra="forbid")
    unit: Unit = Field("record", description=UNIT)


@register
class MemberLoss(ModelAttack):
    """Guess that a record is a member if the model's loss on it is small, because models memorise training data.

    The model is the last one seen: the asked client's last update, or else that with the lowest loss; the others' mean
    at a participant's vantage; or the released model. Hard members look like non-members and easy non-members like
    members. True positive rates at few false positives are therefore low; `member-shadow` calibrates for that.

    References
    ----------
    Yeom, Giacomelli, Fredrikson, Jha, "Privacy Risk in Machine Learning: Analyzing the Connection to Overfitting",
    CSF 2018; the threshold is theirs to choose, here all are scored.
    """

    name = "member-loss"
    threat = ThreatModel(
        vantage=ANYWHERE,
        sees=("global-model",),
        knows=(Knows.ARCHITECTURE,),
    )
    target = Member
    options = MemberLossOptions

    def fit(self, knowledge: Knowledge) -> None:
        """Note the models and the records; nothing is trained."""
        assert knowledge.training is not None
        self._blocks, self._models = knowledge.network().blocks, last_models(knowledge.training)
        self._records = records(knowledge, self.settings.unit)
        self.report["models"] = len(self._models)

    def guess(self, count: int) -> Array:
        """Return probabilities (count, 2) of the records."""
        return self._records.probabilities(self._records.confidence(self._blocks, self._models))
