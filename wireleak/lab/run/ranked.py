"""Records of rankings and maps: ROC curves, the worst-protected examples, and maps of updates and features."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Curve(BaseModel):
    """The ROC curve of one attack with one seed.

    `tpr` is what a threshold attains: the largest true-positive rate with at most the false-positive rate in `fpr`.
    `mean_tpr` names examples that tie in random order, so the area under it is the AUC. Older results have none.
    `least` is the smallest false-positive rate that the negatives can show: one over the number of independent ones.
    """

    model_config = ConfigDict(extra="forbid")
    variant: str
    attack: str
    target: str
    seed: int
    fpr: list[float]
    tpr: list[float]
    mean_tpr: list[float] = Field(default_factory=list)
    least: float


class Exposed(BaseModel):
    """The examples or persons whose true value an attack named with most confidence, over all seeds, most first.

    `names` says which they are, `confidence` is the probability that the attack gave to the true value, and `typical`
    is the median over `of` examples or persons. `pictured` says whether the run's pictures hold them.
    """

    model_config = ConfigDict(extra="forbid")
    variant: str
    attack: str
    target: str
    names: list[str]
    confidence: list[float]
    typical: float
    of: int
    unit: str = "example"
    pictured: bool = Field(default=False)


class UpdateMap(BaseModel):
    """Positions by t-SNE of the updates that an attack saw, and the ground truth of each."""

    model_config = ConfigDict(extra="forbid")
    x: list[float]
    y: list[float]
    label: list[int]


class FeatureMap(BaseModel):
    """Positions by t-SNE of examples in the shared model's features, with each one's property and task label.

    `x` and `y` are empty where no map could be made. `values` of the property and task `labels` are places in
    `property_classes` and `task_classes`. `honest` says whether the malicious participant only observed (alpha 0).
    """

    model_config = ConfigDict(extra="forbid")
    variant: str
    seed: int
    attribute: str
    task: str
    honest: bool = False
    property_classes: list[str]
    task_classes: list[str]
    x: list[float] = Field(default_factory=list)
    y: list[float] = Field(default_factory=list)
    values: list[int] = Field(default_factory=list)
    labels: list[int] = Field(default_factory=list)


class Rankings(BaseModel):
    """All rankings of a run."""

    model_config = ConfigDict(extra="forbid")
    curves: list[Curve] = Field(default_factory=list)
    exposed: list[Exposed] = Field(default_factory=list)
