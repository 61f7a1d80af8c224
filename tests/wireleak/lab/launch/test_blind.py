"""An attack without the surrogate examples: what its process gets, and what the lab makes of a changed guess."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wireleak.common.files import write_arrays
from wireleak.lab.launch.blind import blind_config, check_own, own_folder, write_public
from wireleak.lab.launch.processes import LaunchError
from wireleak.lab.run.attack_folder import AttackFolder


def test_what_is_public_holds_no_example(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    x = draw.uniform(0.2, 0.7, (5, 1, 4, 4)).astype(np.float32)
    held: dict[str, Any] = {
        "x": x,
        "y": np.arange(5),
        "augmented": np.arange(5) > 3,
        "range": np.array([0, 1], np.float32),
    }
    held["attribute:slant"] = np.array([0, 2, 1, 0, 1])
    write_arrays(tmp_path / "surrogate.npz", held)
    with np.load(write_public(tmp_path / "surrogate.npz", tmp_path / "public.npz")) as public:
        assert set(public.files) == set(held)
        assert public["x"].shape == (1, 1, 4, 4) and public["x"].dtype == np.float32 and not public["x"].any()
        assert public["range"].tolist() == [0, 1] and public["attribute:slant"].tolist() == [2]
        assert not public["augmented"].any()


def test_the_first_process_gets_no_file_that_only_baselines_need() -> None:
    files = {"surrogate": "/s", "encoder": "/e", "untrained_encoder": "/u"}
    captures = {"victims": ["/v"], "device": ["/d"], "untrained_victims": ["/w"]}
    whole = {"granted": files, "captures": captures, "tensors": {"device": "/t"}}
    blind = blind_config(whole | {"own": "/o", "public": "/p", "out": "/a"})
    assert blind == {"granted": {"encoder": "/e", "public": "/p"}, "captures": {"victims": ["/v"]}, "out": "/o"}


@pytest.mark.parametrize("changed", [None, "guess", "report"])
def test_a_guess_that_changes_with_the_surrogate_examples_is_refused(tmp_path: Path, changed: str | None) -> None:
    first, last = AttackFolder(own_folder(tmp_path / "out")), AttackFolder(tmp_path / "out")
    guess = np.array([[1, 2], [np.nan, np.nan]], np.float32)
    for folder in (first, last):
        folder.path.mkdir()
        later = folder is last
        # The second row was not seen: the prior stands there in the end.
        shown = np.where(np.isnan(guess), 5, guess) + (later and changed == "guess") if later else guess
        np.savez(folder.guesses, rmle=shown)
        report = {"loss": float("nan"), "steps": 3 + (later and changed == "report")}
        folder.meta.write_text(json.dumps({"fit": report}))
    if changed is None:
        check_own(first, last, "rmle")
        return
    with pytest.raises(LaunchError, match="rmle: its guess changed once its process could read the surrogate"):
        check_own(first, last, "rmle")
