"""Strategies of Flower by name: how the server joins updates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import numpy as np
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

from wireleak.common.config import ConfigError, NoOptions, Plugin, Strict, options_of
from wireleak.common.plan import SECURE
from wireleak.common.registry import Registry

# Every connected client takes part. `Rounds` waits for the first `clients`, and continues after a loss.
_PRESENT: dict[str, Any] = {"min_train_nodes": 1, "min_evaluate_nodes": 1, "min_available_nodes": 1}


class KrumOptions(Strict):
    """Settings of Krum: the single update closest to its neighbours becomes the model."""

    malicious: NonNegativeInt = Field(default=1, description="Number of malicious clients to tolerate.")


class TrimmedOptions(Strict):
    """Settings of the trimmed mean."""

    beta: float = Field(default=0.2, ge=0, lt=0.5, description="Share of values cut off at either end.")


class PrivateOptions(Strict):
    """Settings of client-level differential privacy: updates clipped, Gaussian noise on their mean."""

    noise_multiplier: PositiveFloat = Field(description="Standard deviation of the sum's noise, in clipping norms.")
    clipping_norm: PositiveFloat = Field(default=1.0, description="Longest update, over all layers.")


class ClippingOptions(Strict):
    """Settings of norm clipping: updates clipped, and no noise."""

    clipping_norm: PositiveFloat = Field(default=1.0, description="Longest update, over all layers.")


class SecureOptions(Strict):
    """Settings of secure aggregation, a protocol of its own: server/secure.py."""

    clipping_range: PositiveFloat = Field(default=8.0, description="Weights are clipped to this absolute value.")
    max_weight: PositiveInt = Field(default=1000, description="Largest number of examples that a client may report.")
    threshold: float = Field(default=0.7, gt=0, le=1, description="Share of neighbours that must answer to unmask.")


class StrategyEntry(NamedTuple):
    """A registered strategy.

    Parameters
    ----------
    options : type of Strict
        Its settings.
    make : callable
        (settings, clients in a round) -> a strategy of Flower's.
    """

    options: type[Strict]
    make: Callable[[Any, int], Strategy]


STRATEGIES: Registry[StrategyEntry] = Registry(
    "strategy", "wireleak.strategies", error=ConfigError, calls=("settings", "clients")
)
_Make = TypeVar("_Make", bound=Callable[[Any, int], Strategy])


def register(name: str, options: type[Strict] = NoOptions) -> Callable[[_Make], _Make]:
    """Register a function (settings, clients) -> Flower strategy under `name`."""

    def add(make: _Make) -> _Make:
        STRATEGIES.add(name, StrategyEntry(options, make), make)
        return make

    return add


@register("fedavg")
def fedavg(settings: NoOptions, clients: int) -> Strategy:
    """Average the updates, weighted by their clients' examples."""
    return FedAvg(**_PRESENT)


@register("krum", KrumOptions)
def krum(settings: KrumOptions, clients: int) -> Strategy:
    """Take the single update that is closest to its neighbours."""
    return Krum(num_malicious_nodes=settings.malicious, **_PRESENT)


@register("median")
def median(settings: NoOptions, clients: int) -> Strategy:
    """Take the median of each weight."""
    return FedMedian(**_PRESENT)


@register("trimmed-mean", TrimmedOptions)
def trimmed_mean(settings: TrimmedOptions, clients: int) -> Strategy:
    """Average each weight without its largest and smallest values."""
    return FedTrimmedAvg(beta=settings.beta, **_PRESENT)


@register("central-dp", PrivateOptions)
def central_dp(settings: PrivateOptions, clients: int) -> Strategy:
    """Clip the updates and add noise to their mean, both at the server."""
    return _clipped(settings.clipping_norm, clients, settings.noise_multiplier)


@register("norm-clipping", ClippingOptions)
def norm_clipping(settings: ClippingOptions, clients: int) -> Strategy:
    """Average updates that the server clips, without noise (Sun et al., "Can You Really Backdoor FL?", 2019)."""
    return _clipped(settings.clipping_norm, clients)


@register("client-clipping-dp", PrivateOptions)
def client_clipping_dp(settings: PrivateOptions, clients: int) -> Strategy:
    """Add noise to the mean of updates that the clients clip; clients need the mod "fixed-clipping"."""
    noise, norm = settings.noise_multiplier, settings.clipping_norm
    return DifferentialPrivacyClientSideFixedClipping(FedAvg(**_PRESENT), noise, norm, clients)


@register(SECURE, SecureOptions)
def secagg(settings: SecureOptions, clients: int) -> Strategy:
    """Sum masked updates, none of which the server sees (SecAgg+); the strategy is used only for evaluation."""
    return FedAvg(**_PRESENT)


def _clipped(norm: float, clients: int, noise_multiplier: float = 0.0) -> Strategy:
    # Flower divides the norm by the update's. A client that sends the model back as it came would end the run by a
    # division by zero: numpy's number gives infinity there, and the update stays as it is.
    return DifferentialPrivacyServerSideFixedClipping(FedAvg(**_PRESENT), noise_multiplier, np.float64(norm), clients)


def strategy(config: Plugin, clients: int) -> Strategy:
    """Make a strategy for this many clients a round; under secure aggregation, the one for evaluation.

    Raises
    ------
    ConfigError
        The name is unknown, or an option is wrong.
    """
    settings = check(config, clients)
    return STRATEGIES.get(config.name).make(settings, clients)


def check(config: Plugin, clients: int) -> Strict:
    """Return the strategy's settings; errors as for `strategy`."""
    entry = STRATEGIES.get(config.name, "strategy.name")
    settings = options_of(entry.options, config.options, "strategy.options")
    if isinstance(settings, SecureOptions) and clients < 3:
        raise ConfigError("strategy.name: secagg needs 3 clients or more to hide among")
    if isinstance(settings, KrumOptions) and clients < settings.malicious + 3:
        raise ConfigError(f"strategy.options.malicious: Krum needs {settings.malicious + 3} clients; take more or less")
    return settings
