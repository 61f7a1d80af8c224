"""A study: one TOML file that declares an experiment, checked whole before anything starts."""

from __future__ import annotations

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError, model_validator

from wireleak.config import Strict, first_mistake

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]*$")]


class StudyError(ValueError):
    """A study cannot run as declared: one line that names the field and the fix."""


class Data(Strict):
    """Which data set, and who holds how much of it."""

    name: str
    options: dict[str, Any] = Field(default_factory=dict)
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
    only: dict[Literal["clients", "evaluation", "attacker", "victims"], dict[str, list[str | int]]] = Field(
        default={}, description="role -> group -> the values it draws from"
    )


class Model(Strict):
    """Which network; each variant cuts it."""

    name: str


class System(Strict):
    """How the model is trained."""

    mode: Literal["split", "federated"] = "split"
    rounds: PositiveInt = 2
    epochs: PositiveInt = 2
    batch: PositiveInt = 32
    learning_rate: PositiveFloat = 2e-3
    timeout: PositiveFloat = 300.0


class Serve(Strict):
    """How devices stream for predictions after training."""

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
    cut: PositiveInt
    link: Literal["plaintext", "tls", "mtls"] = "plaintext"
    mode: Literal["split", "federated"] | None = None
    seeds: tuple[Annotated[int, Field(ge=0)], ...] | None = None

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
    targets: tuple[str, ...]
    variants: tuple[str, ...] | None = None
    untrained: Literal["every seed", "first seed", "never"] = Field(
        default="every seed", description="when the control on an untrained encoder runs; it costs a fit of its own"
    )
    options: dict[str, Any] = Field(default_factory=dict)


class Study(Strict):
    """A declared experiment."""

    name: Name
    description: str
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0,)
    data: Data
    model: Model
    system: System = System()
    serve: Serve = Serve()
    tap: Tap = Tap()
    threat: Threat = Threat()
    variants: tuple[Variant, ...] = Field(min_length=1)
    attacks: tuple[AttackUse, ...] = ()

    @model_validator(mode="after")
    def _names_agree(self) -> Study:
        names = [variant.name for variant in self.variants]
        if len(set(names)) != len(names):
            raise ValueError("variants: two have the same name; rename one")
        for attack in self.attacks:
            unknown = set(attack.variants or ()) - set(names)
            if unknown:
                raise ValueError(
                    f"attacks.{attack.name}.variants: no variant called {sorted(unknown)[0]!r}; "
                    f"choose from {', '.join(names)}"
                )
        if self.data.partition.startswith("by_") and self.data.by is None:
            raise ValueError(f'data.by: partition = "{self.data.partition}" needs a name to go by')
        return self

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


def study_files() -> dict[str, Path]:
    """Studies that come with wireleak, by name."""
    folder = Path(str(resources.files("wireleak") / "studies"))
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


def load_study(name: str) -> tuple[Study, Path]:
    """Read a study by name or by path.

    Parameters
    ----------
    name : str
        A name that `wireleak studies` lists, or the path of a TOML file.

    Returns
    -------
    study : Study
    path : Path

    Raises
    ------
    StudyError
        Unknown study, TOML that does not parse, or the first field that does not validate.
    """
    known = study_files()
    path = known.get(name, Path(name))
    if not path.is_file():
        raise StudyError(
            f"study: no study or file called {name!r}; choose from {', '.join(known)}, or give a .toml file"
        )
    try:
        return Study.model_validate(tomllib.loads(path.read_text())), path
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StudyError(f"study: {path} is not TOML: {error}") from error
    except ValidationError as error:
        raise StudyError(f"study: {path.name}: {first_mistake(error)}") from error
