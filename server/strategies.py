"""How the server joins updates: Flower's own strategies, by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flwr.serverapp.strategy import (
    DifferentialPrivacyClientSideFixedClipping,
    DifferentialPrivacyServerSideFixedClipping,
    FedAvg,
    FedMedian,
    FedTrimmedAvg,
    Krum,
)
from flwr.serverapp.strategy.strategy import Strategy
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt

from wireleak.common.config import ConfigError, Plugin, Strict, options_of

# Who is there takes part: the rounds themselves wait for the first `clients`, and go on after a loss.
_PRESENT: dict[str, Any] = {"min_train_nodes": 1, "min_evaluate_nodes": 1, "min_available_nodes": 1}


class NoOptions(Strict):
    """Of a strategy without settings."""


class KrumOptions(Strict):
    """Settings of Krum: the single update closest to its neighbours becomes the model."""

    malicious: NonNegativeInt = Field(default=1, description="Malicious clients that are reckoned with.")


class TrimmedOptions(Strict):
    """Settings of the trimmed mean."""

    beta: float = Field(default=0.2, ge=0, lt=0.5, description="Share of values cut off at either end.")


class PrivateOptions(Strict):
    """Settings of client-level differential privacy: updates clipped, Gaussian noise on their mean."""

    noise_multiplier: PositiveFloat = Field(description="Standard deviation of the sum's noise, in clipping norms.")
    clipping_norm: PositiveFloat = Field(default=1.0, description="Longest update, over all layers.")


def _private(kind: Callable[..., Strategy]) -> Callable[[Any, int], Strategy]:
    def make(settings: PrivateOptions, clients: int) -> Strategy:
        return kind(FedAvg(**_PRESENT), settings.noise_multiplier, settings.clipping_norm, clients)

    return make


# Secure aggregation, which is a protocol of its own: server/secure.py.
SECURE = "secagg"


class SecureOptions(Strict):
    """Settings of secure aggregation."""

    clipping_range: PositiveFloat = Field(default=8.0, description="Weights beyond it are clipped.")
    max_weight: PositiveInt = Field(default=1000, description="Most examples that a client may count.")
    threshold: float = Field(default=0.7, gt=0, le=1, description="Share of neighbours that must answer to unmask.")


_STRATEGIES: dict[str, tuple[type[Strict], Callable[[Any, int], Strategy]]] = {
    "fedavg": (NoOptions, lambda settings, clients: FedAvg(**_PRESENT)),
    "krum": (KrumOptions, lambda settings, clients: Krum(num_malicious_nodes=settings.malicious, **_PRESENT)),
    "median": (NoOptions, lambda settings, clients: FedMedian(**_PRESENT)),
    "trimmed-mean": (TrimmedOptions, lambda settings, clients: FedTrimmedAvg(beta=settings.beta, **_PRESENT)),
    "central-dp": (PrivateOptions, _private(DifferentialPrivacyServerSideFixedClipping)),
    # The server tells clients how to clip, and adds the noise; clients need the mod "fixed-clipping".
    "client-clipping-dp": (PrivateOptions, _private(DifferentialPrivacyClientSideFixedClipping)),
}


def strategy(config: Plugin, clients: int) -> Strategy:
    """Make a strategy for this many clients in a round; under secure aggregation, the one that is left to evaluate.

    Raises
    ------
    ConfigError
        There is none of that name, or not with such options.
    """
    settings = check(config, clients)
    return _STRATEGIES["fedavg" if config.name == SECURE else config.name][1](settings, clients)


def check(config: Plugin, clients: int) -> Strict:
    """The strategy's settings; errors as for `strategy`."""
    kinds: dict[str, type[Strict]] = {name: kind for name, (kind, _) in _STRATEGIES.items()} | {SECURE: SecureOptions}
    if config.name not in kinds:
        raise ConfigError(f"strategy.name: no strategy called {config.name!r}; choose one of {', '.join(kinds)}")
    settings = options_of(kinds[config.name], config.options, "strategy.options")
    if isinstance(settings, SecureOptions) and clients < 3:
        raise ConfigError("strategy.name: secagg needs 3 clients or more to hide among")
    if isinstance(settings, KrumOptions) and clients < settings.malicious + 3:
        raise ConfigError(f"strategy.options.malicious: Krum needs {settings.malicious + 3} clients; take more or less")
    return settings
