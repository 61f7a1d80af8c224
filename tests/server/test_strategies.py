"""Strategies by name, and what is refused before anything starts."""

import subprocess
import sys
from typing import Any

import pytest
from flwr.serverapp.strategy import DifferentialPrivacyServerSideFixedClipping, FedAvg, FedMedian, FedTrimmedAvg, Krum

from server.strategies import strategy
from wireleak.common.config import ConfigError, Plugin


@pytest.mark.parametrize(
    ("name", "options", "kind"),
    [
        ("fedavg", {}, FedAvg),
        ("krum", {"malicious": 1}, Krum),
        ("median", {}, FedMedian),
        ("trimmed-mean", {"beta": 0.3}, FedTrimmedAvg),
        ("central-dp", {"noise_multiplier": 0.5}, DifferentialPrivacyServerSideFixedClipping),
        ("norm-clipping", {"clipping_norm": 2.0}, DifferentialPrivacyServerSideFixedClipping),
        ("secagg", {}, FedAvg),
    ],
)
def test_each_name_is_flowers_own(name: str, options: dict[str, Any], kind: Any) -> None:
    assert type(strategy(Plugin(name=name, options=options), 4)) is kind


@pytest.mark.parametrize(
    ("config", "said"),
    [
        (
            '{"name": "mean"}',
            "strategy.name: no strategy called 'mean'; did you mean 'median'? Choose one of ",
        ),
        (
            '{"name": "krum", "options": {"evil": 1}}',
            "strategy.options.evil: no key called 'evil'; choose one of malicious",
        ),
        ('{"name": "central-dp", "options": {"noise_multiplier": -1}}', "strategy.options.noise_multiplier: "),
        ('{"name": "central-dp"}', "strategy.options.noise_multiplier: is missing"),
        (
            '{"name": "norm-clipping", "options": {"clipping_norm": 0}}',
            "strategy.options.clipping_norm: ",
        ),
        ('{"name": "secagg"}', "strategy.name: secagg needs 3 clients or more to hide among"),
        ('{"name": "krum"}', "strategy.options.malicious: Krum needs 4 clients"),
    ],
)
def test_the_command_says_what_is_wrong_in_one_line(config: str, said: str) -> None:
    command = [sys.executable, "-m", "server", "strategy", config, "--clients", "2"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith(said) and done.stderr.count("\n") == 1, done.stderr


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match=r"strategy.options.beta"):
        strategy(Plugin(name="trimmed-mean", options={"beta": 0.5}), 4)
