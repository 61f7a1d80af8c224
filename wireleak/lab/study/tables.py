"""The tables of a study's TOML file, and the settings that each variant resolves to."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, WithJsonSchema, model_validator

from wireleak.common.config import PadConfig, Plugin, Strict
from wireleak.common.plan import Mode, Objective, PrivacyConfig, TrainingPlan
from wireleak.common.registry import unknown
from wireleak.common.threat import Knows, Vantage

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Role = Literal["clients", "evaluation", "attacker", "victims"]
VANTAGES, KNOWLEDGE = tuple(map(str, Vantage)), tuple(map(str, Knows))


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
    """New training examples in every round, as on a phone that keeps collecting them."""

    batch: PositiveInt = Field(default=32, description="examples that a client trains on in each round")
    property: str | None = Field(
        default=None, description="attribute whose value 1 occurs only in some rounds of client 1"
    )
    share: float = Field(default=1.0, gt=0, le=1, description="share of examples with value 1 in a round that has any")
    rate: float = Field(default=0.5, gt=0, lt=1, description="share of client 1's rounds that have such examples")


class Binary(Strict):
    """A private attribute of two values: 1 where another attribute has one of some classes, else 0."""

    attribute: str = Field(description='the other attribute, or a group, such as "subject"')
    classes: tuple[str, ...] = Field(
        min_length=1, description="names of its classes, or numbers of a group, that become 1"
    )


class Data(Strict):
    """The data set, and how many examples each party holds."""

    name: str = Field(description="the data set's name, as `wireleak data` lists it")
    options: dict[str, Any] = Field(default_factory=dict, description="the data set's own options")
    task: str | None = Field(default=None, description="attribute that becomes the task; the task becomes an attribute")
    binary: dict[Name, Binary] = Field(default={}, description="new private attributes of two values, by their names")
    clients: PositiveInt = Field(default=3, description="number of clients that train")
    train: PositiveInt = Field(description="number of training examples, all clients together")
    evaluation: PositiveInt = Field(description="number of examples on which the main task's accuracy is measured")
    attacker: PositiveInt = Field(description="number of the attacker's surrogate examples")
    victims: PositiveInt = Field(description="number of private inputs that the victim's device sends")
    nonmembers: PositiveInt | None = Field(
        default=None,
        description="number of victims' inputs among the records of attacks on membership, beside all members; by "
        "default as many of each",
    )
    membership: Literal["any", "client"] = Field(
        default="any",
        description="question of attacks on membership; any: did some client train on the record? client: did one "
        "given client? Of a non-member the client is random",
    )
    canaries: PositiveInt | None = Field(
        default=None,
        description="number of training examples that get a wrong label; a coin for each says whether it is trained "
        "on, and attacks on membership are asked about all of them",
    )
    partition: Literal["iid", "dirichlet", "by_attribute", "by_group"] = Field(
        default="iid", description="how training examples are split among the clients"
    )
    alpha: PositiveFloat = Field(
        default=0.5, description="concentration of the Dirichlet partition; lower is more uneven"
    )
    by: str | None = Field(default=None, description="attribute or group whose values decide the partition")
    disjoint_by: str | None = Field(
        default=None, description="group, such as a person; clients, attacker and victims share none of its values"
    )
    only: dict[Role, dict[str, list[str | int]]] = Field(
        default={}, description="role -> group -> values from which the role's examples are drawn"
    )
    stream: Stream | None = Field(default=None, description="new training examples in every round")
    overlap: tuple[Role, ...] = Field(
        default=(),
        description="roles that may share examples with others, to repeat a published flaw; the overlap is counted",
    )

    @model_validator(mode="after")
    def _few_canaries(self) -> Data:
        if self.canaries is not None and 2 * self.canaries > self.train:
            raise ValueError(
                f"canaries: {self.canaries} are more than half of train, {self.train}; the task could not be learnt"
            )
        if self.canaries is not None and self.stream is not None:
            raise ValueError("canaries: a stream trains on new examples in every round; remove data.stream or canaries")
        return self

    @model_validator(mode="after")
    def _enough_victims(self) -> Data:
        if self.nonmembers is not None and self.nonmembers > self.victims:
            raise ValueError(
                f"nonmembers: {self.nonmembers} are drawn from the victims, and these are {self.victims}; raise victims"
            )
        return self


class Model(Strict):
    """The network; each variant says where it is cut."""

    name: str = Field(description="the network's name, as `wireleak plugins` lists it")
    weights: str | None = Field(
        default=None,
        description="file of weights to begin with (safetensors or a torch state dict); {seed} stands for the seed",
    )
    trained: bool = Field(
        default=False, description="true: nobody trains, and the network is served with these weights as it is"
    )


class Participant(Plugin):
    """A malicious client: it runs its own code, but its Flower traffic looks unchanged."""

    secrets: PositiveInt = Field(
        default=4, description="number of its training inputs that it hides, if its strategy hides any"
    )


class Serve(Strict):
    """How devices ask for predictions after training."""

    devices: bool = Field(default=True, description="false: no device asks for predictions; only training is studied")
    victim_batch: PositiveInt = Field(default=1, description="number of inputs in one message of the victim's device")
    attacker_batch: PositiveInt = Field(
        default=32, description="number of inputs in one message of the attacker's device"
    )
    copies: int = Field(
        default=0,
        ge=0,
        description="number of augmented copies of each surrogate example that the attacker's device also sends",
    )
    in_process: bool = Field(
        default=True,
        description="also attack activations that never crossed a wire, as a baseline; at wide cuts they are large",
    )


class Device(Strict):
    """An emulated Raspberry Pi: it serves the victim's inputs too, over its own link, or it is a client that trains."""

    name: Name = Field(description="its name in files; results are under the variant's name, a hyphen and this name")
    kind: Literal["pi"] = Field(description="pi: a Raspberry Pi that qemu-system-aarch64 emulates whole")
    role: Literal["serve", "train"] = Field(
        default="serve",
        description="train: it is the last of the training clients, with torch; needs the board pi4 and 1,024 MiB",
    )
    board: Literal["pi3", "pi4"] = Field(
        default="pi3", description="the Raspberry Pi whose CPU is emulated: Cortex-A53 (pi3) or Cortex-A72 (pi4)"
    )
    memory: int = Field(default=512, ge=256, le=8192, description="its memory in MiB")
    link: Literal["ethernet", "wifi"] = Field(
        default="ethernet", description="wifi: the device delays packets by 20 ms, limits 20 Mbit/s, and loses 1 %"
    )
    variants: tuple[str, ...] | None = Field(
        default=None, description="names of the variants in which it serves; default all"
    )
    attacks: tuple[str, ...] | None = Field(
        default=None, description="names of the attacks that also read its capture; default all"
    )


class Tap(Strict):
    """Which captures stay in the run's folder after the attacks have ended."""

    keep: Literal["all", "serving"] = Field(
        default="all",
        description="all of them, or serving: without those of split training, which are large at wide cuts, and of "
        "the untrained encoder",
    )
    compress: bool = Field(default=False, description="compress those that stay (.pcap.gz), and the parties' data")

    @model_validator(mode="before")
    @classmethod
    def _of_earlier_versions(cls, content: Any) -> Any:
        """Translate the field `keep_training` of versions before 0.3."""
        if not isinstance(content, dict) or not isinstance(content.get("keep_training"), bool) or "keep" in content:
            return content
        kept = {key: value for key, value in content.items() if key != "keep_training"}
        return kept | {"keep": "all" if content["keep_training"] else "serving"}


class Threat(Strict):
    """The threat model; an attack that needs more is refused."""

    vantage: VantageName = Field(default="gateway", description="where the attacker sits")
    sees: tuple[str, ...] = Field(
        default=("activation", "sizes-and-times"), description="kinds of messages that the attacker may read"
    )
    knows: tuple[Knowledge, ...] = Field(default=("surrogate", "queries"), description="prior knowledge")


class Variant(Strict):
    """One setting that the study compares."""

    name: Name = Field(description="name of the variant in files and results")
    title: str = Field(default="", description="its heading in the report; by default its cut and link")
    defence: str = Field(
        default="",
        description='the defence whose strength it varies, in a comparison of defences; "none" for the baseline',
    )
    strength: float | None = Field(default=None, description="strength of that defence")
    against: str = Field(
        default="", description="the variant with which the report compares this one, paired by seed and victim"
    )
    cut: PositiveInt = Field(default=1, description="number of the block after which the device sends its activations")
    link: Literal["plaintext", "tls", "mtls"] = Field(
        default="plaintext", description="protection of the links; mtls: both sides show certificates"
    )
    pad: PadConfig = Field(
        default=None,
        description='bytes to which devices and the head pad their messages; "powers": to the next power of two',
    )
    mode: Mode | None = Field(default=None, description="system.mode, where it differs")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] | None = Field(
        default=None, description="the study's seeds, where they differ"
    )
    model: str | None = Field(default=None, description="model.name, where it differs")
    weights: str | None = Field(default=None, description="model.weights, where they differ")
    objective: Objective | None = Field(default=None, description="system.objective, where it differs")
    privacy: PrivacyConfig | None = Field(default=None, description="system.privacy, where it differs")
    clients: PositiveInt | None = Field(default=None, description="data.clients, where it differs")
    engine: Literal["processes", "simulation", "in-process"] = Field(
        default="processes",
        description="simulation: virtual clients on Flower's Simulation Engine, which only a server can watch; "
        "in-process: the same models as over the wire, trained in one process, for a server or a participant",
    )
    system: dict[str, Any] = Field(default_factory=dict, description="fields of [system] that differ in this variant")
    stream: dict[str, Any] = Field(
        default_factory=dict, description="fields of [data.stream] that differ in this variant"
    )
    participant: Participant | None = Field(default=None, description="client 0 is malicious and runs this strategy")
    initial: Plugin | None = Field(default=None, description="first model that a malicious server sends")
    transforms: tuple[Plugin, ...] = Field(
        default=(),
        description="transforms that a device applies to its inputs, or to its activations before it sends them, in "
        "this order",
    )
    queries: Literal["surrogate", "noise"] = Field(
        default="surrogate",
        description="inputs that the attacker's device sends: its surrogate data, or Gaussian noise like these",
    )
    server: Literal["honest", "hijack"] = Field(
        default="honest", description="hijack: the adversary's server sends gradients of its own choice"
    )
    server_options: dict[str, Any] = Field(default_factory=dict, description="options of a hijacking server")
    watch: bool = Field(default=False, description="clients check whether the gradients that they receive are honest")

    @property
    def linked(self) -> bool:
        """Whether its clients are processes with links to tap."""
        return self.engine == "processes"

    @property
    def encrypted(self) -> bool:
        """Whether its links use TLS."""
        return self.link != "plaintext"

    @property
    def seen_as(self) -> Literal["plaintext", "tls"]:
        """The link as the tap sees it: mutual TLS looks like TLS."""
        return "tls" if self.encrypted else "plaintext"


class AttackUse(Strict):
    """One attack, with its targets and options."""

    name: str = Field(description="the attack's name, as `wireleak plugins` lists it")
    label: Name | None = Field(
        default=None, description="its name in the results; needed where one attack is used twice"
    )
    vantage: VantageName | None = Field(default=None, description="where the attacker sits, if not at threat.vantage")
    targets: tuple[str, ...] = Field(
        description='targets that it guesses: "input", "label", "member", "secret", "canary", or a private attribute'
    )
    variants: tuple[str, ...] | None = Field(
        default=None, description="names of the variants on which it runs; default all"
    )
    rounds: tuple[PositiveInt, PositiveInt] | None = Field(
        default=None, description="first and last round whose updates it reads and is scored on; default all"
    )
    untrained: Literal["every seed", "first seed", "never"] = Field(
        default="every seed",
        description="for which seeds its baseline on an untrained encoder runs; each costs one more fit",
    )
    options: dict[str, Any] = Field(default_factory=dict, description="the attack's own options")

    @property
    def shown(self) -> str:
        """Its name in the results."""
        return self.label or self.name


class Published(Strict):
    """A published figure, printed next to ours; without an attack it is the main task's accuracy."""

    variant: str = Field(description="name of the study's variant that repeats it")
    attack: str = Field(default="", description="name of the study's attack; empty for the main task's accuracy")
    target: str = Field(default="input", description="target of the attack")
    measure: str = Field(description="the measure's name, as `wireleak plugins` lists it")
    value: float = Field(description="the published value")
    source: str = Field(description="where it was published")


class Tables(Strict):
    """All tables of a study, before the rules between them are checked."""

    name: Name = Field(description="name of the study; runs are named after it")
    description: str = Field(description="what the study asks, in a sentence or two")
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        default=(0,), description="every variant runs once with each seed"
    )
    data: Data = Field(description="the data set, and how many examples each party holds")
    model: Model = Field(description="the network that is trained")
    system: TrainingPlan = Field(default=TrainingPlan(), description="how the model is trained")
    serve: Serve = Field(default=Serve(), description="predictions that devices ask for after training")
    devices: tuple[Device, ...] = Field(
        default=(), description="emulated devices that serve the victim's inputs beside the host's own device"
    )
    tap: Tap = Field(default=Tap(), description="which captures are kept")
    threat: Threat = Field(default=Threat(), description="the attacker's threat model")
    variants: tuple[Variant, ...] = Field(min_length=1, description="the settings that are compared")
    attacks: tuple[AttackUse, ...] = Field(default=(), description="attacks that are run and scored")
    published: tuple[Published, ...] = Field(default=(), description="published figures, printed next to ours")

    def plan_of(self, variant: Variant) -> TrainingPlan:
        """Return how a variant is trained."""
        own = {name: getattr(variant, name) for name in ("mode", "objective", "privacy") if getattr(variant, name)}
        return TrainingPlan.model_validate(dict(self.system) | variant.system | own)

    def stream_of(self, variant: Variant) -> Stream | None:
        """Return how a variant's clients get new examples; None where they hold all from the start."""
        stream = self.data.stream
        return Stream.model_validate(stream.model_dump() | variant.stream) if stream and variant.stream else stream

    def clients_of(self, variant: Variant) -> int:
        """Return the number of clients that train in a variant."""
        return variant.clients or self.data.clients

    def weights_of(self, variant: Variant, seed: int) -> str | None:
        """Return the file of weights with which a variant begins; None where the seed draws them."""
        file = variant.weights or self.model.weights
        return None if file is None else file.replace("{seed}", str(seed))

    def seeds_of(self, variant: Variant) -> tuple[int, ...]:
        """Return the seeds that a variant runs with."""
        return self.seeds if variant.seeds is None else variant.seeds

    def runs_untrained(self, use: AttackUse, variant: Variant, seed: int) -> bool:
        """Return whether an attack's baseline on an untrained encoder runs with this seed."""
        first = seed == self.seeds_of(variant)[0]
        return use.untrained == "every seed" or (use.untrained == "first seed" and first)

    def attacks_on(self, variant: Variant) -> list[AttackUse]:
        """Return the attacks that run on a variant."""
        return [attack for attack in self.attacks if attack.variants is None or variant.name in attack.variants]

    def devices_on(self, variant: Variant) -> list[Device]:
        """Return the emulated devices that serve in a variant."""
        return [device for device in self._in(variant) if device.role == "serve"]

    def trainer_on(self, variant: Variant) -> Device | None:
        """Return the emulated device that is a training client of a variant, if there is one."""
        return next((device for device in self._in(variant) if device.role == "train"), None)

    def _in(self, variant: Variant) -> list[Device]:
        return [device for device in self.devices if device.variants is None or variant.name in device.variants]
