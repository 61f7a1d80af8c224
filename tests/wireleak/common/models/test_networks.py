from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wireleak.common.models import build, load_weights, names, save_weights
from wireleak.common.models.config import ModelConfig

SHAPES = {
    "char-lstm": (16,),
    "strided28": (1, 28, 28),
    "strided32": (3, 32, 32),
    "conv1d": (6, 128),
    "dlg-lenet": (1, 28, 28),
    "dlg-lenet-relu": (3, 32, 32),
    "imprint28": (1, 28, 28),
    "imprint28-512": (1, 28, 28),
    "latents": (1, 28, 28),
    "latents-2": (1, 28, 28),
    "latents-8": (1, 28, 28),
    "latents-32": (1, 28, 28),
    "lenet": (1, 28, 28),
    "localise-lenet": (1, 28, 28),
    "mo-alexnet": (1, 32, 32),
    "mo-fcnet": (1, 28, 28),
    "lstm": (32,),
    "deep-averaging": (32,),
    "post105": (1, 105, 105),
    "post105-gn": (1, 105, 105),
    "tiny-transformer": (32,),
}


def test_strided28_sends_the_anchors_floats() -> None:
    network = build("strided28", (1, 28, 28), 2, seed=0)
    assert [int(np.prod(network.activation_shape(cut))) for cut in network.cuts] == [3136, 1568, 512, 32]


def test_every_network_of_ours_is_tried_here() -> None:
    # Tests elsewhere register networks of their own, in this very process.
    assert {name for name in names() if not name.endswith("-of-a-test")} == set(SHAPES)


@pytest.mark.parametrize("name", SHAPES)
def test_encoder_and_head_compose_to_the_network_at_every_cut(name: Any) -> None:
    network = build(name, SHAPES[name], 5, seed=3)
    x = torch.rand(4, *SHAPES[name])
    for cut in network.cuts:
        encoder, head = network.split(cut)
        network.blocks.eval()
        assert torch.equal(head(encoder(x)), network.blocks(x))
        assert tuple(encoder(x).shape[1:]) == network.activation_shape(cut)
        assert [*encoder.state_dict(), *head.state_dict()] == [*network.blocks.state_dict()]


# The published network has BatchNorm, which is why private training refuses it.
@pytest.mark.parametrize("name", [name for name in SHAPES if name != "post105"])
def test_one_example_never_changes_anothers_activation(name: Any) -> None:
    encoder, _ = build(name, SHAPES[name], 5, seed=3).split(2)
    x = torch.rand(4, *SHAPES[name])
    torch.testing.assert_close(encoder(x)[:1], encoder(x[:1]))


def test_the_seed_fixes_the_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(5)
    before = torch.get_rng_state()
    a, b, c = (build("strided28", (1, 28, 28), 2, seed=seed).blocks.state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert not torch.equal(a["0.0.weight"], c["0.0.weight"])


def test_weights_survive_the_disk(tmp_path: Path) -> None:
    one, two = (build("strided28", (1, 28, 28), 2, seed=seed).blocks for seed in (1, 2))
    save_weights(one, tmp_path / "w.safetensors")
    load_weights(two, tmp_path / "w.safetensors")
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: build("nope", (1, 28, 28), 2, 0), "no network called 'nope'; choose one of char-lstm"),
        (lambda: build("strided28", (3, 32, 32), 2, 0), r"takes inputs of \(1, 28, 28\)"),
        (lambda: build("strided28", (1, 28, 28), 2, 0).split(5), "no cut 5; choose 1 to 4"),
    ],
)
def test_mistakes_are_named(call: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()


def test_networks_built_in_threads_at_once_have_the_weights_of_their_own_seeds() -> None:
    def weights(seed: int) -> bytes:
        state = build("strided28", (1, 28, 28), 2, seed).blocks.state_dict()
        return b"".join(value.numpy().tobytes() for value in state.values())

    wanted = [weights(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(weights, list(range(8)) * 10)) == wanted * 10


def test_a_network_from_a_file_crosses_a_wire_without_its_folder(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "from torch import nn\ndef make():\n    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))\n"
    )
    own = ModelConfig(name=f"{tmp_path}/own.py:make", input_shape=(4,), classes=2, cut=1)
    assert own.public_name == "own.py:make"
    assert ModelConfig(name="strided28", input_shape=(1, 28, 28), classes=2, cut=1).public_name == "strided28"
