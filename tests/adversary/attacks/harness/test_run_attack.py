import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from adversary.attacks.activations.reconstruction.inversion import Inversion
from adversary.attacks.harness.activations import activations
from adversary.attacks.harness.run import attack

QUICK = {"epochs": 2}
SAYS_WHEN_IT_FITS = """
import pathlib, sys
from adversary.attacks.activations.reconstruction import inversion
from adversary.attacks.harness import run
fit = inversion.Inversion.fit
inversion.Inversion.fit = lambda self, known: print("fits", flush=True) or fit(self, known)
run.attack(pathlib.Path(sys.argv[1]))
"""


def run(config: Any, **changes: Any) -> Any:
    path, out = config(**changes)
    attack(path)
    with np.load(out / "guesses.npz") as file:
        return dict(file), json.loads((out / "meta.json").read_text())


def mse(guess: Any, truth: Any) -> float:
    return float(np.mean((guess - truth) ** 2))


def auc(guess: Any, truth: Any) -> Any:
    draws = guess if guess.ndim == 3 else guess[None]
    return np.mean([roc_auc_score(truth, one[:, 1]) for one in draws])


def test_captured_rows_are_what_was_sent_in_order(captures: Any, world: Any) -> None:
    for party, sent in (("device", world.own_seen), ("victims", world.private_seen)):
        seen = activations([captures["plaintext"][party]], len(sent))
        assert np.array_equal(seen.rows, sent) and not seen.notes
        assert seen.predictions is not None
        assert np.array_equal(seen.predictions.argmax(1), sent[:, -1] > 0)
        assert (seen.messages, seen.bytes) == (len(sent), sent.nbytes)


def test_inversion_of_a_linear_encoder(config: Any, world: Any) -> None:
    guesses, meta = run(config)
    assert set(guesses) == {
        "inversion",
        *(f"control:{c}" for c in ("mean", "background", "ridge", "nearest", "shuffled")),
    }
    assert {g.shape for g in guesses.values()} == {world.private.shape}
    assert {g.dtype for g in guesses.values()} == {np.dtype(np.float32)}
    score = {name: mse(guess, world.private) for name, guess in guesses.items()}
    own = world.own[:240]
    assert score["control:mean"] == pytest.approx(mse(own.mean(0), world.private), rel=1e-5)
    assert score["control:ridge"] < 1e-5
    assert score["inversion"] < 0.1 * score["control:mean"]
    assert score["inversion"] < 0.5 * score["control:nearest"]
    # What a wrong picture of the right distribution costs: at least the mean's error, twice at most.
    assert score["control:mean"] < score["control:shuffled"] < 2.5 * score["control:mean"]
    assert sorted(map(bytes, guesses["control:shuffled"])) == sorted(map(bytes, guesses["inversion"]))
    assert meta["prior"] is None and meta["fit"]["pairs"] == 360
    assert meta["observations"] == {"device": 360, "victims": 120}
    assert meta["bytes"]["victims"] == 120 * 64 * 4


def test_a_cut_capture_says_what_was_read_of_what_was_promised(config: Any, captures: Any, tmp_path: Path) -> None:
    cut = tmp_path / "cut.pcap"
    whole = captures["plaintext"]["victims"].read_bytes()
    cut.write_bytes(whole[: len(whole) // 2])
    paths = {"device": [str(captures["plaintext"]["device"])], "victims": [str(cut)]}
    _, meta = run(config, attack="linear", captures=paths)
    victims, device = meta["reads"][""]
    assert victims["kind"] == "activation" and victims["promised"] == 120
    assert 40 < victims["count"] == meta["observations"]["victims"] < 80
    assert device == {"kind": "activation", "count": 360, "promised": 360, "party": "device"}


def test_same_seed_same_guesses_another_seed_others(config: Any) -> None:
    first, _ = run(config, options=QUICK)
    again, _ = run(config, options=QUICK)
    other, _ = run(config, seed=1, options=QUICK)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["inversion"], other["inversion"])


def test_planted_attribute_is_found_and_permuted_labels_are_chance(config: Any, world: Any) -> None:
    guesses, meta = run(config, attack="attributes", target="left")
    assert auc(guesses["attributes"], world.private_left) > 0.97
    assert auc(guesses["control:majority"], world.private_left) == 0.5
    assert 0.3 < auc(guesses["control:permuted"], world.private_left) < 0.7
    shapes = {name: guess.shape for name, guess in guesses.items()}
    assert shapes.pop("control:permuted") in ((20, 120, 2), (5, 120, 2)) and set(shapes.values()) == {(120, 2)}
    assert all(np.allclose(guess.sum(-1), 1, atol=1e-5) for guess in guesses.values())
    assert meta["fit"]["pairs"] == 360 and meta["threat"]["sees"] == ["activation"]
    assert "control:conditional-majority" in guesses


def test_an_attribute_that_is_not_there_is_not_found(config: Any, world: Any) -> None:
    guesses, _ = run(config, attack="attributes", target="coin")
    assert 0.35 < auc(guesses["attributes"], np.random.default_rng(4).integers(0, 2, 120)) < 0.65


def test_tls_leaves_the_prior_and_says_why(config: Any, world: Any) -> None:
    guesses, meta = run(config, link="tls")
    assert set(guesses) == {"inversion", "control:mean", "control:background"}
    assert np.array_equal(guesses["inversion"], guesses["control:mean"])
    assert mse(guesses["inversion"], world.private) == pytest.approx(mse(world.own[:240].mean(0), world.private))
    assert "0 activations seen: the link is TLS" in meta["prior"] and "prior" in meta["prior"]
    assert meta["fit"] is None and meta["bytes"] == {"device": 0, "victims": 0}


def test_an_attack_that_does_not_fit_in_memory_leaves_the_prior_and_says_why(
    config: Any, world: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(Inversion, "memory", lambda self, sizes: 2**60)
    monkeypatch.setenv("WIRELEAK_MEMORY", "64G")
    guesses, meta = run(config, options=QUICK)
    assert np.array_equal(guesses["inversion"], guesses["control:mean"]) and meta["fit"] is None
    # The simple readers of the wire need less, so they still run.
    assert mse(guesses["control:ridge"], world.private) < 1e-5 and "control:nearest" in guesses
    assert "control:shuffled" not in guesses
    monkeypatch.setenv("WIRELEAK_MEMORY", "1M")
    guesses, meta = run(config, options=QUICK)
    assert "control:ridge" not in guesses
    assert meta["prior"].startswith("inversion needs ") and "WIRELEAK_MEMORY leaves 0 MiB" in meta["prior"]


def test_a_baseline_that_does_not_fit_in_memory_is_left_out_by_name(config: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr("wireleak.common.targets.reconstruction.ridge_memory", lambda *shapes: 2**60)
    guesses, meta = run(config, options=QUICK)
    assert "control:ridge" not in guesses and "control:nearest" in guesses and meta["prior"] is None
    assert any(
        note.startswith("ridge needs ") and note.endswith("baseline ridge is left out") for note in meta["notes"]
    )


def test_guesses_are_written_last_because_they_mark_the_end(config: Any, monkeypatch: Any) -> None:
    def killed(*given: Any) -> None:
        raise KeyboardInterrupt

    path, out = config(options=QUICK)
    monkeypatch.setattr("adversary.attacks.harness.run.write_arrays", killed)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        attack(path)
    assert (out / "meta.json").is_file() and not (out / "guesses.npz").exists()


def test_sizes_of_tls_are_chance_for_an_attribute(config: Any, world: Any) -> None:
    guesses, meta = run(config, link="tls", attack="sizes", target="left")
    assert set(guesses) == {"sizes", "control:majority", "control:permuted"}
    assert meta["prior"] is None and meta["fit"]["pairs"] == 360
    assert 0.3 < auc(guesses["sizes"], world.private_left) < 0.7


def test_in_process_tensors_that_equal_the_captured_ones_are_not_fitted_twice(
    config: Any, world: Any, tmp_path: Path
) -> None:
    np.save(tmp_path / "a.npy", world.own_seen)
    np.save(tmp_path / "b.npy", world.private_seen)
    tensors = {"device": str(tmp_path / "a.npy"), "victims": str(tmp_path / "b.npy")}
    guesses, meta = run(config, tensors=tensors, options=QUICK)
    assert np.array_equal(guesses["control:in-process"], guesses["inversion"])
    assert any("bit for bit" in note for note in meta["notes"])
    np.save(tmp_path / "a.npy", world.own_seen * 2)
    guesses, meta = run(config, tensors=tensors, options=QUICK)
    assert not np.array_equal(guesses["control:in-process"], guesses["inversion"])
    assert not any("bit for bit" in note for note in meta["notes"])


def test_in_process_works_beside_tls(config: Any, world: Any, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", world.own_seen)
    np.save(tmp_path / "b.npy", world.private_seen)
    tensors = {"device": str(tmp_path / "a.npy"), "victims": str(tmp_path / "b.npy")}
    guesses, _ = run(config, link="tls", tensors=tensors)
    assert mse(guesses["control:in-process"], world.private) < 0.2 * mse(guesses["inversion"], world.private)


def test_untrained_captures_feed_their_control(config: Any, captures: Any) -> None:
    paths = {party: [str(path)] for party, path in captures["plaintext"].items()}
    both = paths | {"untrained_device": paths["device"], "untrained_victims": paths["victims"]}
    guesses, _ = run(config, captures=both, options=QUICK)
    assert np.array_equal(guesses["control:untrained"], guesses["inversion"])


def test_fewer_activations_than_inputs(config: Any, captures: Any, world: Any) -> None:
    paths = {"device": [str(captures["plaintext"]["victims"])], "victims": [str(captures["plaintext"]["victims"])]}
    guesses, meta = run(config, captures=paths, victims=150, options=QUICK)
    assert meta["fit"]["pairs"] == 120
    assert "device: 120 activations seen of 360 inputs" in meta["notes"]
    # Rows beyond what was seen are the prior.
    assert np.array_equal(guesses["inversion"][120:], guesses["control:mean"][120:])
    assert not np.array_equal(guesses["inversion"][119], guesses["control:mean"][119])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"attack": "telepathy"}, ["attack", "telepathy", "inversion"]),
        ({"target": "left"}, ["target", "input"]),
        ({"attack": "attributes"}, ["target", "attribute"]),
        ({"attack": "attributes", "target": "right"}, ["target", "right", "coin, left"]),
        ({"options": {"epoch": 3}}, ["options.epoch", "epochs"]),
        ({"options": {"epochs": 0}}, ["options.epochs"]),
        ({"victims": 0}, ["victims"]),
        ({"colour": 1}, ["colour"]),
        ({"captures": {"device": ["/nowhere.pcap"], "victims": []}}, ["/nowhere.pcap"]),
        ({"granted": {"surrogate": "/nowhere.npz"}}, ["granted.surrogate", "/nowhere.npz"]),
        ({"tensors": {"device": "/nowhere.npy", "victims": "/nowhere.npy"}}, ["tensors.device"]),
    ],
)
def test_a_mistake_is_one_line_that_names_the_field(
    config: Any, capsys: pytest.CaptureFixture[str], changes: dict[str, Any], words: Any
) -> None:
    path, out = config(**changes)
    with pytest.raises(SystemExit) as end:
        attack(path)
    told = capsys.readouterr().err
    assert end.value.code == 2 and told.count("\n") == 1 and all(word in told for word in words)
    assert not out.exists()


def test_the_command_describes_and_attacks_without_a_terminal(config: Any) -> None:
    described = subprocess.run(
        [sys.executable, "-m", "adversary", "describe"], capture_output=True, text=True, timeout=60, check=True
    )
    listed = {one["name"]: one for one in json.loads(described.stdout)}
    assert set(listed) >= {"inversion", "attributes", "sizes"}
    assert listed["inversion"]["threat"] == {
        "vantage": ["link", "gateway", "server"],
        "sees": ["activation"],
        "knows": ["surrogate", "queries"],
    }
    assert listed["sizes"]["threat"]["sees"] == ["sizes-and-times"]
    assert listed["inversion"]["options"]["properties"]["epochs"]["description"]
    path, out = config(options={"epochs": 1})
    done = subprocess.run(
        [sys.executable, "-m", "adversary", "attack", "--config", str(path)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert (out / "guesses.npz").exists() and (out / "meta.json").exists()


def test_sigterm_ends_it_in_order_and_writes_nothing(config: Any) -> None:
    path, out = config(options={"epochs": 10_000})
    command = [sys.executable, "-c", SAYS_WHEN_IT_FITS, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None and running.stdout.readline() == "fits\n"
        running.send_signal(signal.SIGTERM)
        assert running.communicate(timeout=60) == ("", "") and running.returncode == 0
    assert not out.exists()
