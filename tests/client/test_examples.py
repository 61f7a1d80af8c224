"""The files that a client reads at each message: its config, and the examples it trains on."""

import os
from pathlib import Path

import numpy as np
import pytest

from client.examples import read_examples
from wireleak.common.config import ConfigError, config_of_node
from wireleak.common.models import ModelConfig

MODEL = ModelConfig(name="strided28", input_shape=(1, 28, 28), classes=2, cut=4)


def test_clients_that_share_a_process_read_their_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f"client-{index}.npz" for index in range(5)]
    for index, path in enumerate(paths):
        np.savez(path, x=np.full((4, 1, 28, 28), index, np.float32), y=np.zeros(4, np.int64), round=np.arange(4))
    opened = []
    load = np.load
    monkeypatch.setattr(np, "load", lambda path: opened.append(path) or load(path))  # type: ignore[func-returns-value]
    for server_round in range(4):
        for index, path in enumerate(paths):
            inputs, labels = read_examples(path, MODEL, "train", server_round)
            assert inputs.shape == (1, 1, 28, 28) and (inputs == index).all() and len(labels) == 1
    assert opened == paths


def test_a_node_reads_its_config_again_only_if_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(ConfigError, match=rf"cannot read {path}"):
        config_of_node({"config": str(path)}, ModelConfig)
    with pytest.raises(ConfigError, match="start the node with"):
        config_of_node({}, ModelConfig)
    path.write_text(MODEL.model_dump_json())
    assert config_of_node({"config": str(path)}, ModelConfig) is config_of_node({"config": str(path)}, ModelConfig)
    path.write_text(MODEL.model_copy(update={"cut": 2}).model_dump_json())
    os.utime(path, (1, 1))
    assert config_of_node({"config": str(path)}, ModelConfig).cut == 2
