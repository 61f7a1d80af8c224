"""Song, Ristenpart, Shmatikov (CCS 2017): their four encodings, and the effect of each strategy on real training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from adversary.participant import payloads, queries
from adversary.participant.config import ParticipantConfig
from adversary.participant.registry import make
from adversary.participant.strategies.song_correlated import pearson
from adversary.participant.strategies.song_sign import penalty
from wireleak.common.config import ConfigError
from wireleak.common.models import ModelConfig, networks
from wireleak.common.models.training import Training, train_whole
from wireleak.common.plan import ClientPlan

SHAPE = (1, 6, 6)


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """A perceptron with some 5,000 weights, registered for these tests alone."""
    networks.names()  # registers ours, which must not be lost with the copy
    monkeypatch.setattr(networks.NETWORKS, "_plugins", dict(networks.NETWORKS._plugins))

    @networks.register("tiny-mlp")
    def mlp(input_shape: Any, classes: Any) -> nn.Sequential:
        return nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(36, 100), nn.ReLU()), nn.Linear(100, classes))


def pictures(n: Any, seed: Any = 0) -> Any:
    return np.random.default_rng(seed).random((n, *SHAPE)).astype(np.float32)


def shard() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    x = pictures(120, 3)
    return x, (x[:, 0, 0, 0] > 0.5).astype(np.int64)


def strategy(tmp_path: Path, name: Any, secret: Any, classes: Any = 2, **options: Any) -> Any:
    np.savez(tmp_path / "secret.npz", x=secret)
    model = ModelConfig(name="tiny-mlp", input_shape=SHAPE, classes=classes, cut=1)
    config = ParticipantConfig.model_validate(
        {
            "model": model.model_dump(),
            "train": tmp_path / "train.npz",
            "evaluation": tmp_path / "evaluation.npz",
            "plan": {"mode": "federated", "epochs": 2, "batch": 20, "learning_rate": 0.005},
            "strategy": {"name": name, "options": options},
            "secret": tmp_path / "secret.npz",
            "out": tmp_path,
        }
    )
    return make(config), model.network()


def trained(tmp_path: Path, name: Any, secret: Any, epochs: Any = 2, classes: Any = 2, **options: Any) -> Any:
    """State after one round, and the loss reported."""
    one, network = strategy(tmp_path, name, secret, classes, **options)
    loss = one.train(network, *shard(), Training(ClientPlan(epochs=epochs, batch=20, learning_rate=0.005), (0, 1)))
    return {key: value.numpy() for key, value in network.blocks.state_dict().items()}, loss


def honest(epochs: Any = 2) -> Any:
    network = ModelConfig(name="tiny-mlp", input_shape=SHAPE, classes=2, cut=1).network()
    loss = train_whole(
        network.blocks, *shard(), Training(ClientPlan(epochs=epochs, batch=20, learning_rate=0.005), (0, 1))
    )
    return {key: value.numpy() for key, value in network.blocks.state_dict().items()}, loss


# ---------------------------------------------------------------- low bits


@settings(max_examples=30, deadline=None)
@given(bits=st.integers(1, 23), skip=st.integers(0, 22), seed=st.integers(0, 999), compress=st.booleans())
def test_low_bits_come_back_and_nothing_else_changes(bits: Any, skip: Any, seed: Any, compress: Any) -> None:
    if bits + skip > 23:
        with pytest.raises(ValueError, match="more than the 23 bits"):
            payloads.LowBitsLayout(bits=bits, skip=skip)
        return
    layout = payloads.LowBitsLayout(bits=bits, skip=skip, compress=compress)
    values = np.random.default_rng(seed).normal(size=2000).astype(np.float32)
    pixels = payloads.to_bytes(pictures(2, seed))
    secret = payloads.payload(pixels, compress)
    if len(secret) > 2000 * bits:
        return
    hidden = payloads.write_low_bits(values, secret, layout)
    found = payloads.unpack(payloads.read_low_bits(hidden, layout), pixels.shape, compress)
    assert found is not None and (found == pixels).all()
    # b + skip low bits of a 23-bit mantissa; numpy's own frexp says where the mantissa begins.
    ulp = np.exp2(np.frexp(values)[1].astype(float) - 24)
    assert (np.abs(hidden.astype(float) - values) < ulp * 2 ** (bits + skip)).all()
    assert np.array_equal(np.signbit(hidden), np.signbit(values))
    used = -(-len(secret) // bits)
    assert np.array_equal(hidden[used:], values[used:])


def test_sixteen_bits_change_parameters_by_two_to_the_minus_seven_and_leave_the_task(tmp_path: Path) -> None:
    state, loss = trained(tmp_path, "song-low-bits", pictures(40), compress=False)
    plain, plain_loss = honest()
    assert loss == plain_loss
    for name, value in plain.items():
        assert (np.abs(state[name] - value) <= 2**-7 * np.abs(value)).all()
    assert any(not np.array_equal(state[name], plain[name]) for name in plain)
    network = ModelConfig(name="tiny-mlp", input_shape=SHAPE, classes=2, cut=1).network().blocks
    answers = []
    for one in (state, plain):
        network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in one.items()})
        answers.append(network(torch.from_numpy(shard()[0])).argmax(1))
    assert (answers[0] == answers[1]).float().mean() > 0.99


def test_thirteen_skipped_bits_outlive_float16() -> None:
    values = np.random.default_rng(0).normal(size=3000).astype(np.float32)
    pixels = payloads.to_bytes(pictures(2))
    for skip, survives in ((0, False), (13, True)):
        layout = payloads.LowBitsLayout(bits=3, skip=skip)
        hidden = payloads.write_low_bits(values, payloads.payload(pixels, True), layout)
        crossed = hidden.astype(np.float16).astype(np.float32)
        found = payloads.unpack(payloads.read_low_bits(crossed, layout), pixels.shape, True)
        # Numbers below float16's normal range lose more than 13 bits; of these there are few, and one is enough.
        normal = (np.abs(hidden) > 2**-14).all()
        assert (found is not None and (found == pixels).all()) == (survives and normal)
        assert normal or survives is False or found is None


def test_one_wrong_bit_spoils_what_is_compressed_and_only_itself_where_it_is_not() -> None:
    pixels = payloads.to_bytes(pictures(2))
    packed, plain = payloads.payload(pixels, True).copy(), payloads.payload(pixels, False).copy()
    packed[200] ^= 1
    plain[203] ^= 1
    assert payloads.unpack(packed, pixels.shape, True) is None
    found = payloads.unpack(plain, pixels.shape, False)
    assert found is not None and (found != pixels).sum() == 1
    assert payloads.unpack(np.zeros(4, np.uint8), pixels.shape, True) is None


# ---------------------------------------------------------------- signs


def test_signs_decode_exactly_where_the_penalty_is_zero() -> None:
    pixels = payloads.to_bytes(pictures(3))
    bits = payloads.signs(pixels, 2000)
    weights = np.abs(np.random.default_rng(1).normal(size=2000)).astype(np.float32) * bits
    assert penalty(torch.from_numpy(weights), torch.from_numpy(bits)) == 0
    assert (payloads.read_signs(weights, pixels.shape) == pixels).all()
    flipped = weights.copy()
    flipped[5] *= -100
    assert penalty(torch.from_numpy(flipped), torch.from_numpy(bits)) == pytest.approx(abs(flipped[5]) / 2000, rel=1e-5)
    assert (payloads.read_signs(flipped, pixels.shape) != pixels).sum() == 1


def test_the_penalty_turns_signs_and_the_task_is_learnt_still(tmp_path: Path) -> None:
    secret = pictures(5)
    state, loss = trained(tmp_path, "song-sign", secret, epochs=20, strength=50.0)
    values = payloads.flat(state, payloads.carriers(state, matrices=True))
    pixels = payloads.to_bytes(secret)
    right = np.unpackbits(payloads.read_signs(values, pixels.shape)) == np.unpackbits(pixels)
    assert right.mean() > 0.97
    assert loss < 0.69 < trained(tmp_path, "song-sign", secret, epochs=1, strength=50.0)[1] + 0.1
    untouched, _ = honest(epochs=20)
    before = payloads.read_signs(payloads.flat(untouched, payloads.carriers(untouched, matrices=True)), pixels.shape)
    assert (np.unpackbits(before) == np.unpackbits(pixels)).mean() < 0.6


def test_without_strength_it_is_honest_training(tmp_path: Path) -> None:
    for name in ("song-sign", "song-correlated"):
        state, loss = trained(tmp_path, name, pictures(1), strength=0.0)
        plain, plain_loss = honest()
        assert loss == pytest.approx(plain_loss)
        assert all(np.allclose(state[key], plain[key], atol=1e-6) for key in plain)


# ---------------------------------------------------------------- correlated values


@pytest.mark.parametrize("slope", [0.02, -3.0])
def test_correlated_values_decode_up_to_scale_and_sign(slope: float) -> None:
    pixels = payloads.to_bytes(pictures(3))
    values = slope * payloads.levels(pixels, 500) + 7
    found, inverted = payloads.read_levels(values.astype(np.float32), pixels.shape)
    assert inverted == (slope < 0)
    assert np.allclose(found, pixels / 255, atol=1e-4)
    found, inverted = payloads.read_levels(values.astype(np.float32), pixels.shape, extremes=True)
    assert inverted == (slope < 0)
    assert np.allclose(found, (pixels - pixels.min()) / np.ptp(pixels), atol=1e-4)


def test_pearson_is_numpys() -> None:
    one, other = np.random.default_rng(0).normal(size=(2, 50)).astype(np.float32)
    mine = pearson(torch.from_numpy(one), torch.from_numpy(other))
    assert mine == pytest.approx(np.corrcoef(one, other)[0, 1], abs=1e-6)


def test_the_correlation_is_learnt(tmp_path: Path) -> None:
    secret = pictures(10)
    state, _ = trained(tmp_path, "song-correlated", secret, epochs=15, strength=1.0)
    values = payloads.flat(state, payloads.carriers(state, matrices=True))
    found, _ = payloads.read_levels(values, secret.shape)
    assert np.corrcoef(found.ravel(), secret.ravel())[0, 1] > 0.9


# ---------------------------------------------------------------- capacity abuse


def test_synthetic_inputs_are_the_authors() -> None:
    """Two pixels of picture j = 4 for inputs of three channels: channel 1, value 2, then 1 or 2."""
    made = queries.inputs(5, 2, (3, 2, 2), 10)
    assert made.shape == (5 * 2 * 2, 3, 2, 2)
    first = made.reshape(5, 2, 2, 3, 4)[4]
    wanted = np.zeros((2, 2, 3, 4))
    wanted[0, 0, 1], wanted[0, 1, 1] = [2, 1, 0, 0], [2, 2, 0, 0]
    wanted[1, 0, 1], wanted[1, 1, 1] = [0, 2, 1, 0], [0, 2, 2, 0]
    assert np.array_equal(first, wanted)


def test_all_synthetic_inputs_differ() -> None:
    made = queries.inputs(4, 36, SHAPE, 10)
    assert len(np.unique(made.reshape(len(made), -1), axis=0)) == 4 * 36 * 2


def test_labels_of_ten_classes_add_up_to_four_bits() -> None:
    pixels = np.array([[[[0, 15, 16, 255, 200, 130]]]], np.uint8)
    labels = queries.labels(pixels, 10)
    assert labels.tolist() == [0, 0, 0, 0, 0, 1, 7, 8, 6, 6, 4, 4]
    assert queries.read_labels(labels, pixels.shape, 10).ravel().tolist() == [0, 0, 16, 240, 192, 128]


@pytest.mark.parametrize(("classes", "each"), [(2, 4), (4, 2), (8, 2), (9, 2), (10, 2), (16, 2)])
def test_labels_carry_four_bits_of_each_pixel_whatever_the_classes(classes: int, each: int) -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16)
    labels = queries.labels(pixels, classes)
    assert len(labels) == 256 * each and labels.max() < classes
    assert (queries.read_labels(labels, pixels.shape, classes) == pixels // 16 * 16).all()


def test_reducing_is_torchs_adaptive_mean_and_enlarging_undoes_it_for_flat_pictures() -> None:
    secret = np.random.default_rng(0).random((3, 1, 6, 12)).astype(np.float32)
    small = queries.reduce(secret, 4)
    assert small.shape == (3, 1, 2, 4)
    assert np.allclose(small, torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(secret), (2, 4)), atol=1e-6)
    flat = np.full((2, 1, 6, 12), 0.25, np.float32)
    assert np.allclose(queries.enlarge(queries.reduce(flat, 5), (3, 6, 12)), 0.25)
    assert np.allclose(queries.enlarge(queries.reduce(secret, None), (1, 6, 12)), secret, atol=1e-6)


def test_the_model_learns_the_labels(tmp_path: Path) -> None:
    secret = pictures(1)
    state, loss = trained(tmp_path, "song-capacity", secret, epochs=25, classes=10, passes=3)
    network = ModelConfig(name="tiny-mlp", input_shape=SHAPE, classes=10, cut=1).network().blocks
    network.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in state.items()})
    asked = queries.inputs(1, 36, SHAPE, 10)
    told = queries.labels(payloads.to_bytes(secret), 10)
    assert (network(torch.from_numpy(asked)).argmax(1).numpy() == told).mean() > 0.9
    # Of the task alone: ten labels are shared with it.
    assert loss < 1


# ---------------------------------------------------------------- mistakes


@pytest.mark.parametrize("name", ["song-low-bits", "song-sign", "song-correlated"])
def test_a_secret_that_does_not_fit_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"do not fit into .*hide fewer pictures$"):
        trained(tmp_path, name, pictures(2500), **({"bits": 1} if name == "song-low-bits" else {}))


def test_what_is_no_picture_or_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="secret: only pictures with values from 0 to 1"):
        trained(tmp_path, "song-sign", 3 * pictures(1))
    one, network = strategy(tmp_path, "song-sign", pictures(1))
    (tmp_path / "secret.npz").unlink()
    with pytest.raises(ConfigError, match="secret: cannot read"):
        one.train(network, *shard(), Training(ClientPlan(epochs=1, batch=20, learning_rate=0.01), (0, 1)))
    with pytest.raises(ConfigError, match=r"strategy\.options"):
        strategy(tmp_path, "song-low-bits", pictures(1), bits=20, skip=13)
