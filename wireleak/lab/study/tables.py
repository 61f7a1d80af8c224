"""The tables of a study's TOML file, and the settings that each variant resolves to."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, WithJsonSchema

from wireleak.common.config import PadConfig, Plugin, Strict
from wireleak.common.plan import Mode, Objective, PrivacyConfig, TrainingPlan
from wireleak.common.registry import unknown
from wireleak.common.threat import Knows, Vantage

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Role = Literal["clients", "evaluation", "attacker", "victims"]
VANTAGES, KNOWLEDGE = tuple(str(one) for one in Vantage), tuple(str(one) for one in Knows)


def _vantage(name: str) -> str:
    if name not in VANTAGES:
        raise ValueError(unknown("vantage", name, VANTAGES))
    return name


def _knowledge(name: str) -> str:
    if name not in KNOWLEDGE:
        raise ValueError(unknown("knowledge", name, KNOWLEDGE))
    return name


VantageName = Annotated[str, AfterValidator(_vantage), WithJsonSchema({"type": "string", "enum": [*VANTAGES]})]
Knowledge = Annotated[str, AfterValidator(_knowledge), WithJsonSchema({"type": "string", "enum": [*KNOWLEDGE]})]


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

    name: str = Field(description="the data set's name, as `wireleak data` lists it")
    options: dict[str, Any] = Field(default_factory=dict, description="the data set's own options")
    task: str | None = Field(default=None, description="attribute that becomes the task; the task becomes an attribute")
    clients: PositiveInt = Field(default=3, description="how many clients train")
    train: PositiveInt = Field(description="training examples of all clients together")
    evaluation: PositiveInt = Field(description="examples for the main task's accuracy")
    attacker: PositiveInt = Field(description="the attacker's surrogate examples")
    victims: PositiveInt = Field(description="private inputs that the victim's device serves")
    partition: Literal["iid", "dirichlet", "by_attribute", "by_group"] = Field(
        default="iid", description="how training examples are split among the clients"
    )
    alpha: PositiveFloat = Field(
        default=0.5, description="concentration of the Dirichlet partition; lower is more uneven"
    )
    by: str | None = Field(default=None, description="attribute or group that the partition goes by")
    disjoint_by: str | None = Field(
        default=None, description="group of which clients, attacker and victims share no value"
    )
    only: dict[Role, dict[str, list[str | int]]] = Field(
        default={}, description="role -> group -> the values it draws from"
    )
    stream: Stream | None = Field(default=None, description="new examples in every round, in federated mode")
    overlap: tuple[Role, ...] = Field(
        default=(),
        description="roles drawn whatever the others hold, to repeat a published flaw; the overlap is counted",
    )


class Model(Strict):
    """Which network; each variant cuts it."""

    name: str = Field(description="the network's name, as `wireleak plugins` lists it")


class Participant(Plugin):
    """A client that runs code of its own behind unchanged Flower traffic."""

    secrets: PositiveInt = Field(default=4, description="how many of its training inputs it hides, if it hides any")


class Serve(Strict):
    """How devices stream for predictions after training."""

    devices: bool = Field(default=True, description="false: nobody asks for predictions, the study is of training")
    victim_batch: PositiveInt = Field(default=1, description="inputs in one message of the victim's device")
    attacker_batch: PositiveInt = Field(default=32, description="inputs in one message of the attacker's device")
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

    vantage: VantageName = Field(default="gateway", description="where the attacker sits")
    sees: tuple[str, ...] = Field(
        default=("activation", "sizes-and-times"), description="kinds of messages that the attacker may read"
    )
    knows: tuple[Knowledge, ...] = Field(default=("surrogate", "queries"), description="prior knowledge")


class Variant(Strict):
    """One arm of the study."""

    name: Name = Field(description="name of the variant in files and results")
    title: str = Field(default="", description="its heading in the report; by default its cut and link")
    defence: str = Field(
        default="",
        description='the defence whose strength it varies, in a comparison of defences; "none" for the baseline',
    )
    strength: float | None = Field(default=None, description="strength of that defence")
    cut: PositiveInt = Field(default=1, description="after which block the device sends its activations")
    link: Literal["plaintext", "tls", "mtls"] = Field(
        default="plaintext", description="how links are protected; mtls: both sides show certificates"
    )
    pad: PadConfig = Field(
        default=None,
        description='to how many bytes devices and the head pad what they send; "powers": to the next power of two',
    )
    mode: Mode | None = Field(default=None, description="system.mode, where it differs")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None, description="the study's seeds, where they differ"
    )
    model: str | None = Field(default=None, description="model.name, where it differs")
    objective: Objective | None = Field(default=None, description="system.objective, where it differs")
    privacy: PrivacyConfig | None = Field(default=None, description="system.privacy, where it differs")
    clients: PositiveInt | None = Field(default=None, description="data.clients, where it differs")
    engine: Literal["processes", "simulation"] = Field(
        default="processes",
        description="simulation: virtual clients on Flower's Simulation Engine, which only a server can watch",
    )
    system: dict[str, Any] = Field(default_factory=dict, description="fields of [system] that differ here")
    stream: dict[str, Any] = Field(default_factory=dict, description="fields of [data.stream] that differ here")
    participant: Participant | None = Field(default=None, description="client 0 is malicious and runs this strategy")
    initial: Plugin | None = Field(default=None, description="first model that a malicious server sends")
    transforms: tuple[Plugin, ...] = Field(
        default=(), description="what a device does to its activations before it sends them, in this order"
    )
    queries: Literal["surrogate", "noise"] = Field(
        default="surrogate", description="what the attacker's own device sends: its data, or Gaussian noise like them"
    )
    server: Literal["honest", "hijack"] = Field(
        default="honest", description="hijack: the adversary's server answers with gradients of its own"
    )
    server_options: dict[str, Any] = Field(default_factory=dict, description="options of a hijacking server")
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

    name: str = Field(description="the attack's name, as `wireleak plugins` lists it")
    label: Name | None = Field(default=None, description="its name in the results, where one attack is used twice")
    vantage: VantageName | None = Field(default=None, description="where it sits, if not at threat.vantage")
    targets: tuple[str, ...] = Field(
        description='what it guesses: "input", "label", "member", "secret", "canary", or a private attribute'
    )
    variants: tuple[str, ...] | None = Field(default=None, description="names of the variants it runs on; default all")
    untrained: Literal["every seed", "first seed", "never"] = Field(
        default="every seed", description="when the baseline on an untrained encoder runs; it costs a fit of its own"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="the attack's own options")

    @property
    def shown(self) -> str:
        """Its name in the results."""
        return self.label or self.name


class Published(Strict):
    """A published figure to print beside ours; without an attack it is the main task's."""

    variant: str = Field(description="name of our variant that repeats it")
    attack: str = Field(default="", description="name of our attack; empty for the main task's accuracy")
    target: str = Field(default="input", description="target of the attack")
    measure: str = Field(description="the measure's name, as `wireleak plugins` lists it")
    value: float = Field(description="the published value")
    source: str = Field(description="where it was published")


class Tables(Strict):
    """All tables of a study; whether they fit one another is not checked yet."""

    name: Name = Field(description="name of the study; runs are named after it")
    description: str = Field(description="what the study asks, in a sentence or two")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0,), description="every variant runs once with each seed"
    )
    data: Data = Field(description="data set, and how many examples each party holds")
    model: Model = Field(description="network that is trained")
    system: TrainingPlan = Field(default=TrainingPlan(), description="how the model is trained")
    serve: Serve = Field(default=Serve(), description="collaborative inference after training")
    tap: Tap = Field(default=Tap(), description="which captures are kept")
    threat: Threat = Field(default=Threat(), description="the attacker's threat model")
    variants: tuple[Variant, ...] = Field(min_length=1, description="the settings that are compared")
    attacks: tuple[AttackUse, ...] = Field(default=(), description="attacks that are run and scored")
    published: tuple[Published, ...] = Field(default=(), description="published figures to print beside ours")

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
