"""The low bits of honest networks raise no alarm; what code wrote into them does, and what is missed is said."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from adversary.tap.inspect.lowbits import MISSES, THOROUGH, LowBits
from client.transforms.registry import make
from wireleak.common.config import Plugin
from wireleak.common.models import build
from wireleak.common.wire import encode_tensor
from wireleak.common.wire import split_head_pb2 as pb

torch.set_num_threads(1)


def pictures(count: Any = 300) -> torch.Tensor:
    """Strokes on an exactly black background, 8 bits a pixel."""
    rng = np.random.default_rng(0)
    x = np.zeros((count, 1, 28, 28), np.float32)
    for picture in x:
        for _ in range(3):
            row, column = rng.integers(4, 20, 2)
            picture[0, row : row + 5, column : column + 3] = rng.integers(64, 256) / 255
    return torch.from_numpy(x)


def dense(*last: Any) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 64), nn.ReLU(), nn.Linear(64, 32), *last)


class Times(nn.Module):
    def __init__(self, factor: Any) -> None:
        super().__init__()
        self.factor = factor

    def forward(self, z: Any) -> Any:
        return z * self.factor


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(28, 32, batch_first=True)

    def forward(self, x: Any) -> Any:
        return self.lstm(x[:, 0])[0][:, -1]


HONEST: dict[str, Callable[[], nn.Module]] = {
    "groupnorm-wide": lambda: build("strided28", (1, 28, 28), 2, 0).split(1)[0],
    "groupnorm-narrow": lambda: build("strided28", (1, 28, 28), 2, 0).split(4)[0],
    "dense-relu": lambda: dense(nn.ReLU()),
    "dense": dense,
    "gelu": lambda: dense(Times(50), nn.GELU()),
    "tanh-saturated": lambda: dense(Times(300), nn.Tanh()),
    "elu-saturated": lambda: dense(Times(300), nn.ELU()),
    "sigmoid": lambda: dense(Times(30), nn.Sigmoid()),
    "softmax-with-tails": lambda: dense(Times(900), nn.Softmax(1)),
    "layernorm": lambda: dense(nn.LayerNorm(32)),
    "lstm": Lstm,
    "conv-relu": lambda: nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU()),
    "mean-pixels": lambda: nn.AvgPool2d(4),
    "pixels": nn.Identity,
}


def run(network: Any, *transforms: Any, batch: Any = 1, count: Any = 300) -> dict[str, Any]:
    network.eval()
    steps = [make(Plugin(name=name, options=options), 0) for name, options in transforms]
    low, x = LowBits("link"), pictures(count)
    with torch.no_grad():
        for part in torch.split(x, batch):
            z = network(part)
            for step in steps:
                z = step(z, part)
            low.add(z.numpy())
    return low.finding()


@pytest.mark.parametrize("name", HONEST)
def test_honest_networks_raise_no_alarm(name: Any) -> None:
    torch.manual_seed(0)
    found = run(HONEST[name](), batch=7)
    assert not found["suspicious"], found["reasons"]
    assert found["significant_bits"] == 23 and found["values"] > 1000


@pytest.mark.parametrize("name", ["groupnorm-wide", "groupnorm-narrow", "dense-relu", "gelu", "lstm", "conv-relu"])
def test_pictures_in_low_bits_are_found(name: str) -> None:
    found = run(HONEST[name](), ("covert", {}))
    assert found["suspicious"] and any("agree in" in reason for reason in found["reasons"]), found


@pytest.mark.parametrize("name", ["groupnorm-wide", "groupnorm-narrow", "dense-relu", "conv-relu"])
def test_an_encrypted_payload_smears_what_should_repeat(name: str) -> None:
    torch.manual_seed(0)  # some other weights leave too few pairs in a stretch for a rate
    found = run(HONEST[name](), ("covert", {"key": "k"}))
    assert found["suspicious"] and found["smeared"] > 100
    assert all(abs(rate - 0.5) < 0.05 for rate in found["agreement"].values())


def test_a_background_is_smeared_even_where_zeros_are_spared() -> None:
    """Without normalisation a convolution gives the same number wherever the picture is black."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 5), nn.ReLU())
    found = run(network, ("covert", {"key": "k", "skip_zeros": True, "depth": 8}))
    assert found["suspicious"] and found["smeared"] > 100


def test_what_it_misses_is_said_and_shows_beside_a_clean_device_alone() -> None:
    found = run(HONEST["dense-relu"](), ("covert", {"key": "k", "skip_zeros": True}), count=900)
    clean = run(HONEST["dense-relu"](), count=900)
    assert not found["suspicious"] and found["misses"] == MISSES and "spares zeros" in MISSES
    assert clean["grid"] > 3 > 1.5 > found["grid"]


@pytest.mark.parametrize(("options", "bits"), [({"bits": 7}, 7), ({"dtype": "float16"}, 10), ({"bits": 0}, 0)])
def test_after_requantisation_nothing_is_left(options: dict[str, Any], bits: int) -> None:
    found = run(HONEST["groupnorm-narrow"](), ("covert", {"key": "k"}), ("requantise", options))
    assert not found["suspicious"] and found["significant_bits"] == bits and found["zeros"] > 0.2


def test_the_same_inputs_again_prove_nothing() -> None:
    low, z = LowBits("link"), dense(nn.ReLU())(pictures(20)).detach().numpy()
    for _ in range(400):
        low.add(z)
    assert not low.finding()["suspicious"]


def test_false_alarms_stay_under_what_is_stated() -> None:
    """Fair coins: 300 links of pure noise, at a stated rate of one in a million each."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        low = LowBits("link")
        low.add(rng.standard_normal((40, 64), np.float32))
        assert not low.finding()["suspicious"]


def test_a_payload_that_starts_late_in_a_long_capture_is_found() -> None:
    """Only some messages are examined by then."""
    rng = np.random.default_rng(0)
    late, low = LowBits("late"), LowBits("never")
    for number in range(400):
        z = rng.standard_normal((4, 4096), np.float32)
        low.add(z)
        if number >= 200:
            words = z.view(np.uint32)
            words &= np.uint32(0xFFFF0000)
            words |= sum(
                rng.integers(0, 2, words.shape, np.uint32) * np.uint32(3 << place) for place in range(0, 16, 2)
            )
        late.add(z)
    assert late.finding()["suspicious"] and not low.finding()["suspicious"]
    assert THOROUGH < low.finding()["values"] < 2 * THOROUGH and low.finding()["messages"] == 400


def test_memory_does_not_grow_and_other_types_are_left_out() -> None:
    low = LowBits("link")
    low.add(np.zeros((4, 4), np.float16))
    low.add(np.array(3, np.float32))
    assert low.finding() | {"link": ""} == LowBits("").finding()
    rng = np.random.default_rng(0)
    sizes = set()
    for _ in range(6):
        low.add(rng.standard_normal((3, 100_000), np.float32))
        sizes.add(sum(value.nbytes for value in vars(low).values() if isinstance(value, np.ndarray)))
    assert max(sizes) < 8 << 20 and low.values <= 6 << 14


def test_inspect_flags_the_link_and_not_its_neighbour(tmp_path: Path, wire: Any) -> None:
    network, x = HONEST["groupnorm-narrow"](), pictures(250)
    covert = make(Plugin(name="covert", options={}), 0)
    for name, transform in (("honest", lambda z, _: z), ("covert", covert)):
        http2 = wire.Http2()
        pieces = [*http2.opening(), http2.request(1, "/wireleak.v1.SplitHead/Predict"), http2.response(1)]
        with torch.no_grad():
            for k, part in enumerate(torch.split(x, 1)):
                message = pb.PredictRequest(
                    sequence=k, activation=encode_tensor(transform(network(part), part).numpy())
                )
                pieces.append((0, wire.data_frames(1, wire.grpc_message(message.SerializeToString()))))
        (tmp_path / f"{name}.pcap").write_bytes(wire.pcap(wire.conversation([*pieces, http2.trailers(1)])))
    captures = [str(tmp_path / f"{name}.pcap") for name in ("honest", "covert")]
    told = json.loads(_inspect(*captures, "--json"))
    assert [(one["link"], one["suspicious"]) for one in told["low_bits"]] == [
        ("honest 32×1×1", False),
        ("covert 32×1×1", True),
    ]
    assert [len(part["low_bits"]) for part in told["captures"]] == [1, 1]
    lines = [line for line in _inspect(*captures).splitlines() if line.startswith("low bits: ")]
    assert "nothing found in 8000 values" in lines[0] and "SOMETHING MAY BE HIDDEN" in lines[1]


def _inspect(*arguments: Any) -> str:
    command = [sys.executable, "-m", "adversary", "inspect", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
