"""Results of a run, as files: `results.json` (all results) and `results.csv` (the scores)."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from wireleak.common.files import write_atomically
from wireleak.common.references import Role
from wireleak.lab.data.dependence import Dependence
from wireleak.lab.run.layout import RunFolder
from wireleak.lab.run.ranked import FeatureMap, Rankings, UpdateMap
from wireleak.lab.run.replicates import Resampled, read_draws, write_draws
from wireleak.lab.run.versions import of_version
from wireleak.lab.study.tables import Published

SCHEMA_VERSION = 2
COLUMNS = (
    *("study", "variant", "seed", "link", "vantage", "attack", "target"),
    *("measure", "value", "low", "high", "n", "role", "name", "incomplete"),
)
Link = Literal["plaintext", "tls"]


class ResultsError(ValueError):
    """A run's files cannot be read; the message is one line."""


class Record(BaseModel):
    """Base of all records in `results.json`: unknown keys are refused; NaN and infinity survive JSON."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="strings")


class Row(Record, Resampled):
    """One score of one seed.

    `role` says whose score it is: the attack's, a baseline's (which ignores the victim's traffic), a reader's (which
    reads it but is not the attack), a bound, a quantile over victims, or the attack's in a window of rounds; `name`
    names it. `low` and `high` are the 95 % interval of `value`, NaN where there is none. `n` counts the scored guesses.
    Only the JSON holds `chance`, the score of guessing, and `permutations` of which `value` is the mean; only
    `replicates.npz` the resampled values `draws`.
    `incomplete` says what the guess rests on where less was read than the study promised, else it is empty.
    """

    study: str
    variant: str
    seed: int
    link: Link
    vantage: str
    attack: str
    target: str
    measure: str
    value: float
    low: float = math.nan
    high: float = math.nan
    n: int
    role: Role = "attack"
    name: str = ""
    chance: float = math.nan
    permutations: int = 0
    incomplete: str = ""


class Call(Record):
    """Calls of one RPC method on a link; `bytes` are message bytes both ways."""

    method: str
    count: int
    bytes: int


class TensorCount(Record):
    """Tensors of one kind on a link (activation, label, ...); `shapes` are the distinct ones, `bytes` the payload."""

    kind: str
    count: int
    shapes: list[list[int]] = Field(default_factory=list)
    bytes: int


class Burst(Record):
    """One TLS record, or one run of records, as the tap saw it; `time` is in seconds since the capture's first byte."""

    time: float
    bytes: int
    up: bool


class Wire(Record):
    """Summary of one capture.

    `endpoints` are "client → server", one per connection; `first` and `last` are Unix seconds; `bytes_up` counts bytes
    from client to server.
    """

    variant: str
    seed: int
    link_name: str
    link: Link
    endpoints: list[str] = Field(default_factory=list)
    calls: list[Call] = Field(default_factory=list)
    kinds: list[TensorCount] = Field(default_factory=list)
    bytes_up: int = 0
    bytes_down: int = 0
    first: float = math.nan
    last: float = math.nan
    tls: bool = False
    bursts: list[Burst] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)


class Grant(Record):
    """Data and knowledge that one attacker was granted, and its observations; `incomplete` is that of its `Row`."""

    variant: str
    attack: str
    target: str
    vantage: str
    link: Link = "plaintext"
    seed: int = 0
    sees: list[str] = Field(default_factory=list)
    knows: list[str] = Field(default_factory=list)
    files: list[str] = Field(default_factory=list)
    observations: int = 0
    incomplete: str = ""
    note: str = ""


class Task(Record, Resampled):
    """Score of the main task on evaluation data, or of served predictions where transforms act only on a device.

    `majority` is the score of always guessing the largest class. The resampled values of an accuracy stand in
    `replicates.npz`, if it is known which examples were named.
    """

    variant: str
    seed: int
    link: Link = "plaintext"
    measure: str = "accuracy"
    value: float
    n: int
    rounds: int
    majority: float = math.nan


class Private(Record):
    """Settings of DP-SGD; `examples` counts those of the smallest client, `batch` is a step's expected sample."""

    noise_multiplier: float
    max_grad_norm: float
    delta: float
    optimiser: str
    batch: int
    examples: int

    @property
    def steps_an_epoch(self) -> int:
        """Steps per epoch: one over the probability that an example is in a step."""
        return math.ceil(self.examples / self.batch)


class Step(Record):
    """A device's transform as it describes itself: its changes, and its guarantee or why there is none.

    `at_inference` is false where it only trains the encoder, so that a device that serves has nothing to apply.
    """

    name: str
    guarantee: str | None = None
    refusal: str | None = None
    private: tuple[str, ...] = ()
    at_inference: bool = True
    device: str = ""
    wire: str = ""
    server: str = ""

    @property
    def changes(self) -> str:
        """Its changes and their places, as one line."""
        changes = {"on the device": self.device, "on the wire": self.wire, "at the server": self.server}
        return "; ".join(f"{place}: {change}" for place, change in changes.items() if change not in ("", "nothing"))


class VariantSummary(Record):
    """One variant of a study; `floats_on_wire` and `bytes_per_inference` are of one example's activation.

    `packed` says whether Flower's messages carried their arrays as one block of bytes. `guarantees` lists each
    transform's guarantee or why there is none; `proved` lists only guarantees.
    `against` names the variant with which this one is compared.
    """

    name: str
    title: str = ""
    cut: int
    link: Link
    mode: Literal["split", "federated"] = "split"
    floats_on_wire: int = 0
    bytes_per_inference: int = 0
    seeds: list[int] = Field(default_factory=list)
    transforms: list[str] = Field(default_factory=list)
    changes: list[str] = Field(default_factory=list)
    guarantees: list[str] = Field(default_factory=list)
    proved: list[str] = Field(default_factory=list)
    privacy: Private | None = None
    pad: int | Literal["powers"] | None = None
    packed: bool = False
    defence: str = ""
    strength: float = math.nan
    against: str = ""


class NoiseAudit(Record):
    """Audit of a variant's noise by messages of two known activations; see `TwoPointAudit` for the figures."""

    variant: str
    errors: int
    messages: int
    allowed: float
    lower: float
    promised: float
    smallest_fault: float
    holds: bool


class Fit(Record):
    """One attack's report of its own fit.

    `held_out_loss` is its loss on its own held-out examples, `ridge_loss` the linear decoder's on the same; NaN where
    there is none. `profile` has one entry per layer of `network`. `incomplete` is that of the attack's `Row`.
    """

    variant: str
    seed: int
    attack: str
    target: str
    held_out_loss: float = math.nan
    ridge_loss: float = math.nan
    updates: UpdateMap | None = None
    network: str = ""
    incomplete: str = ""
    profile: list[dict[str, Any]] = Field(default_factory=list)


class DeviceUse(Record):
    """An emulated device that served the victim's inputs, and how it compares with the host's own device.

    `variant` is the device's name in the rows. `memory` is in MiB, `wire` says what its link does to packets ("" for
    nothing). `boot` and `serve` are seconds of the emulated clock, `seconds` is the host's time from power-on to
    power-off. `resident` and `emulator` are the largest memory in bytes, of the device's process in the emulated
    system, and of the emulator on the host. The two differences are the largest absolute ones between what this device
    and the host's own received (probabilities) and sent (activations). `decoded_equal` says whether the activations in
    its capture are bit for bit those that it computed; None under TLS.
    """

    variant: str
    seed: int
    name: str
    title: str
    cpu: str
    cores: int
    memory: int
    link: str
    wire: str = ""
    inputs: int
    batch: int
    boot: float
    serve: float
    seconds: float
    batch_ms: float = math.nan
    resident: int
    emulator: int
    prediction_difference: float
    activation_difference: float
    decoded_equal: bool | None


class Disjoint(Record):
    """Whether a check found that the parties share no example; `parts` counts each party's examples.

    `overlaps` counts shared examples where the study asked for them, to repeat a published flaw. `seeds_share` is the
    share of one seed's examples, victims or persons that another seed has too.
    """

    checked: bool = False
    by: str = "sha-256"
    parts: dict[str, int] = Field(default_factory=dict)
    duplicates_dropped: int = 0
    overlaps: dict[str, int] = Field(default_factory=dict)
    seeds_share: dict[str, float] = Field(default_factory=dict)


class Machine(Record):
    """The machine that ran the study; `memory` is in bytes."""

    platform: str = ""
    cpus: int = 0
    memory: int = 0


class Results(Record):
    """All results of a run; `created` is ISO 8601, `seconds` is the wall-clock time of the run.

    `not_enforced` is what processes of the run could do although their party may not, or None.
    """

    schema_version: int = SCHEMA_VERSION
    study: str
    description: str = ""
    dataset: str = ""
    created: str
    command: str
    commit: str = ""
    versions: dict[str, str] = Field(default_factory=dict)
    machine: Machine = Field(default_factory=Machine)
    seconds: float = 0.0
    not_enforced: str | None = None
    variants: list[VariantSummary] = Field(default_factory=list)
    rows: list[Row] = Field(default_factory=list)
    wires: list[Wire] = Field(default_factory=list)
    grants: list[Grant] = Field(default_factory=list)
    tasks: list[Task] = Field(default_factory=list)
    published: list[Published] = Field(default_factory=list)
    dependence: list[Dependence] = Field(default_factory=list)
    disjoint: Disjoint = Field(default_factory=Disjoint)
    fits: list[Fit] = Field(default_factory=list)
    devices: list[DeviceUse] = Field(default_factory=list)
    rankings: Rankings = Field(default_factory=Rankings)
    audits: list[NoiseAudit] = Field(default_factory=list)
    features: list[FeatureMap] = Field(default_factory=list)
    notes: list[str] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _of_this_version(cls, content: Any) -> Any:
        """Translate version 1, whose rows had one column `control` for role and name; refuse a later version."""
        return of_version(content, SCHEMA_VERSION)

    def frame(self) -> Any:
        """Return the rows as a pandas table with one column per field.

        Raises
        ------
        ResultsError
            pandas is not installed.
        """
        try:
            import pandas as pd
        except ModuleNotFoundError:
            raise ResultsError("pandas: is not installed; run pip install pandas, or use .rows") from None
        return pd.DataFrame([row.model_dump() for row in self.rows], columns=list(Row.model_fields))


def write_results(results: Results, folder: Path) -> Path:
    """Write `results.json` and `results.csv` into `folder`, each atomically; return the path of the JSON."""
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([getattr(row, column) for column in COLUMNS] for row in results.rows)
    write_atomically(RunFolder(folder).table, table.getvalue().encode())
    write_draws([*results.rows, *results.tasks], folder)
    path = RunFolder(folder).results
    write_atomically(path, results.model_dump_json(indent=1).encode())
    return path


def read_results(folder: Path) -> Results:
    """Read a run's `results.json`.

    Raises
    ------
    ResultsError
        It is missing, or this version cannot read it; the message is one line.
    """
    path = RunFolder(folder).results
    try:
        text = path.read_text()
    except OSError as error:
        raise ResultsError(f"{path}: cannot be read ({error.strerror}); name a run's folder") from None
    try:
        results = Results.model_validate_json(text)
        # Runs of older versions hold none of tasks; one of the two lists is as long as the stored one.
        read_draws(results.rows, folder)
        read_draws([*results.rows, *results.tasks], folder)
        return results
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "file"
        raise ResultsError(f"{path}: {field}: {first['msg']}") from None
