"""The tables of a study's TOML file, and the settings that each variant resolves to."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt

from wireleak.common.config import PadConfig, Plugin, Strict
from wireleak.common.plan import Mode, Objective, PrivacyConfig, TrainingPlan

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]


Role = Literal["clients", "evaluation", "attacker", "victims"]


class Stream(Strict):
    """Clients train on new examples in every round, as a phone does that collects them."""

    batch: PositiveInt = Field(default=32, description="examples that a client has in a round")
    property: str | None = Field(
        default=None, description="attribute whose value 1 is held by some rounds of client 1's alone"
    )
    share: float = Field(default=1.0, gt=0, le=1, description="share of such examples in a round that has any")
    rate: float = Field(default=0.5, gt=0, lt=1, description="share of client 1's rounds that have any")


class Data(Strict):
    """Which data set, and who holds how much of it."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
    task: str | None = Field(default=None, description="attribute that becomes the task; the task becomes an attribute")
    clients: PositiveInt = 3
    train: PositiveInt = Field(description="training examples of all clients together")
    evaluation: PositiveInt = Field(description="examples for the main task's accuracy")
    attacker: PositiveInt = Field(description="the attacker's surrogate examples")
    victims: PositiveInt = Field(description="private inputs that the victim's device serves")
    partition: Literal["iid", "dirichlet", "by_attribute", "by_group"] = "iid"
    alpha: PositiveFloat = 0.5
    by: str | None = Field(default=None, description="attribute or group that the partition goes by")
    disjoint_by: str | None = Field(
        default=None, description="group of which clients, attacker and victims share no value"
    )
    only: dict[Role, dict[str, list[str | int]]] = Field(
        default={}, description="role -> group -> the values it draws from"
    )
    stream: Stream | None = None
    overlap: tuple[Role, ...] = Field(
        default=(),
        description="roles drawn whatever the others hold, to repeat a published flaw; the overlap is counted",
    )


class Model(Strict):
    """Which network; each variant cuts it."""

    name: str


class Participant(Plugin):
    """A client that runs code of its own behind unchanged Flower traffic."""

    secrets: PositiveInt = Field(default=4, description="how many of its training inputs it hides, if it hides any")


class Serve(Strict):
    """How devices stream for predictions after training."""

    devices: bool = Field(default=True, description="false: nobody asks for predictions, the study is of training")
    victim_batch: PositiveInt = 1
    attacker_batch: PositiveInt = 32
    copies: int = Field(
        default=0, ge=0, description="augmented copies of each surrogate example that the attacker's device also sends"
    )


class Tap(Strict):
    """What is kept of the captures."""

    keep_training: bool = Field(
        default=True,
        description="keep the captures of split training once they are listed; at wide cuts they are large",
    )


class Threat(Strict):
    """What the attacker is granted; an attack that needs more is refused."""

    vantage: str = "gateway"
    sees: tuple[str, ...] = ("activation", "sizes-and-times")
    knows: tuple[str, ...] = ("surrogate", "queries")


class Variant(Strict):
    """One arm of the study."""

    name: Name
    title: str = Field(default="", description="how the report calls it; by default its cut and link")
    defence: str = Field(default="", description='whose sweep it belongs to in a comparison of defences, or "none"')
    strength: float | None = Field(default=None, description="its place in that sweep")
    cut: PositiveInt = 1
    link: Literal["plaintext", "tls", "mtls"] = "plaintext"
    pad: PadConfig = Field(
        default=None,
        description='to how many bytes devices and the head pad what they send; "powers": to the next power of two',
    )
    mode: Mode | None = None
    seeds: tuple[Annotated[int, Field(ge=0)], ...] | None = None
    model: str | None = None
    objective: Objective | None = None
    privacy: PrivacyConfig | None = None
    clients: PositiveInt | None = None
    engine: Literal["processes", "simulation"] = Field(
        default="processes",
        description="simulation: virtual clients on Flower's Simulation Engine, which only a server can watch",
    )
    system: dict[str, Any] = Field(default_factory=dict, description="fields of [system] that differ here")
    stream: dict[str, Any] = Field(default_factory=dict, description="fields of [data.stream] that differ here")
    participant: Participant | None = Field(
        default=None, description="client 0 is malicious; see adversary/participant"
    )
    initial: Plugin | None = Field(default=None, description="a malicious server's first model; see adversary/initial")
    transforms: tuple[Plugin, ...] = Field(
        default=(), description="what a device does to its activations before it sends them; see client/transforms"
    )
    queries: Literal["surrogate", "noise"] = Field(
        default="surrogate", description="what the attacker's own device sends: its data, or Gaussian noise like them"
    )
    server: Literal["honest", "hijack"] = Field(
        default="honest", description="hijack: the adversary's server answers with gradients of its own"
    )
    server_options: dict[str, Any] = Field(default_factory=dict)
    watch: bool = Field(default=False, description="clients check whether the gradients that they get are honest")

    @property
    def encrypted(self) -> bool:
        """Whether its links are TLS."""
        return self.link != "plaintext"

    @property
    def seen_as(self) -> Literal["plaintext", "tls"]:
        """What the tap can tell of its links: mutual TLS looks like TLS."""
        return "tls" if self.encrypted else "plaintext"


class AttackUse(Strict):
    """One attack, on which targets, with which options."""

    name: str
    label: Name | None = Field(default=None, description="its name in the results, where one attack is used twice")
    vantage: str | None = Field(default=None, description="where it sits, if not at threat.vantage")
    targets: tuple[str, ...]
    variants: tuple[str, ...] | None = None
    untrained: Literal["every seed", "first seed", "never"] = Field(
        default="every seed", description="when the control on an untrained encoder runs; it costs a fit of its own"
    )
    options: dict[str, Any] = Field(default_factory=dict)

    @property
    def shown(self) -> str:
        """Its name in the results."""
        return self.label or self.name


class Published(Strict):
    """A published figure to print beside ours; without an attack it is the main task's."""

    variant: str
    attack: str = ""
    target: str = "input"
    measure: str
    value: float
    source: str


class Tables(Strict):
    """All tables of a study; whether they fit one another is not checked yet."""

    name: Name
    description: str
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    data: Data
    model: Model
    system: TrainingPlan = TrainingPlan()
    serve: Serve = Serve()
    tap: Tap = Tap()
    threat: Threat = Threat()
    variants: tuple[Variant, ...] = Field(min_length=1)
    attacks: tuple[AttackUse, ...] = ()
    published: tuple[Published, ...] = ()

    def plan_of(self, variant: Variant) -> TrainingPlan:
        """How a variant is trained."""
        own = {name: getattr(variant, name) for name in ("mode", "objective", "privacy") if getattr(variant, name)}
        return TrainingPlan.model_validate(dict(self.system) | variant.system | own)

    def stream_of(self, variant: Variant) -> Stream | None:
        """How a variant's clients come by new examples; None where they hold all from the start."""
        stream = self.data.stream
        return Stream.model_validate(stream.model_dump() | variant.stream) if stream and variant.stream else stream

    def clients_of(self, variant: Variant) -> int:
        """How many clients train in a variant."""
        return variant.clients or self.data.clients

    def seeds_of(self, variant: Variant) -> tuple[int, ...]:
        """Seeds that a variant runs with."""
        return self.seeds if variant.seeds is None else variant.seeds

    def runs_untrained(self, use: AttackUse, variant: Variant, seed: int) -> bool:
        """Whether an attack's control on an untrained encoder runs with this seed."""
        first = seed == self.seeds_of(variant)[0]
        return use.untrained == "every seed" or (use.untrained == "first seed" and first)

    def attacks_on(self, variant: Variant) -> list[AttackUse]:
        """Attacks that apply to a variant."""
        return [attack for attack in self.attacks if attack.variants is None or variant.name in attack.variants]
