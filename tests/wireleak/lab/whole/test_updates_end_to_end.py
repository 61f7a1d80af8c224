"""Federated training attacked from three vantage points: real Flower, real captures, TLS, masks, a broken client."""

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wireleak.common.models.networks import build
from wireleak.common.models.training import Training, train_whole
from wireleak.common.plan import ClientPlan

# Five federations and what attackers make of them: a minute and a half.
pytestmark = pytest.mark.study

STUDY = """
name = "updates"
description = "three vantage points on federated training"
[data]
name = "digits"
clients = 3
train = 600
evaluation = 60
attacker = 300
victims = 60
[data.stream]
batch = 16
property = "slant"
[model]
name = "strided28"
[system]
mode = "federated"
rounds = 3
epochs = 2
batch = 8
learning_rate = 0.05
optimiser = "sgd"
evaluate_every = 2
[serve]
devices = false
[threat]
vantage = "link"
sees = ["model-update", "global-model"]
knows = ["surrogate", "architecture"]
[[variants]]
name = "plain"
[[variants]]
name = "tls"
link = "tls"
[[variants]]
name = "masked"
system = { strategy = { name = "secagg" } }
[[variants]]
name = "packed"
system = { pack = true }
[[variants]]
name = "broken"
participant = { name = "broken" }
[[variants]]
name = "steered"
participant = { name = "multi-task", options = { attribute = "slant" } }
[[variants]]
name = "quick"
engine = "in-process"
participant = { name = "multi-task", options = { attribute = "slant" } }
[[attacks]]
name = "property"
targets = ["slant"]
variants = ["plain", "packed", "broken"]
[[attacks]]
name = "property"
label = "in-window"
targets = ["slant"]
variants = ["plain"]
rounds = [2, 3]
[[attacks]]
name = "property"
label = "at-the-server"
targets = ["slant"]
vantage = "server"
variants = ["plain", "tls"]
[[attacks]]
name = "property"
label = "as-participant"
targets = ["slant"]
vantage = "participant"
variants = ["plain", "tls", "masked"]
[[attacks]]
name = "property"
label = "as-malicious"
targets = ["slant"]
vantage = "malicious-participant"
variants = ["steered", "quick"]
"""
READ = """
import json, pickle, sys
from pathlib import Path
from adversary.attacks.harness.training import Recipe, training
from wireleak.common.plan import ClientPlan
config = json.loads(Path(sys.argv[1]).read_text())
told = config["training"]
recipe = Recipe(ClientPlan(**told["plan"]), told["participants"], told["examples"], told["own"])
seen = training([Path(one) for one in config["captures"]["victims"]], recipe, rounds=told["rounds"])
pickle.dump((dict(seen.models), [(u.sender, u.round, dict(u.start), dict(u.end)) for u in (*seen.updates, *seen.own)]),
            sys.stdout.buffer)
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("updates")
    (folder / "updates.toml").write_text(STUDY)
    command = [sys.executable, "-m", "wireleak", "run", "updates.toml", "--out", "runs"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout
    return folder / "runs" / "updates-latest", " ".join(done.stdout.split())


def seen(run: Any, cell: Any, attack: Any) -> Any:
    """What an attacker's process reads of a training, by the code that the attack itself uses."""
    import pickle

    config = run / cell / "adversary" / f"{attack}-slant" / "config.json"
    done = subprocess.run([sys.executable, "-c", READ, str(config)], capture_output=True, check=True)
    return pickle.loads(done.stdout)


def trained_again(run: Any, cell: Any, client: Any, number: Any, start: Any) -> Any:
    """What an honest client makes of a global model, computed here from its own files."""
    with np.load(run / cell / client / "train.npz") as held:
        now = held["round"] == number
        inputs, labels = held["x"][now], held["y"][now]
    seed = json.loads((run / cell / client / "config.json").read_text())["seed"]
    network = build("strided28", (1, 28, 28), 2, 0)
    network.blocks.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in start.items()})
    train_whole(
        network.blocks,
        inputs,
        labels,
        Training(ClientPlan(epochs=2, batch=8, learning_rate=0.05, optimiser="sgd"), (seed, number)),
    )
    return {name: value.numpy() for name, value in network.blocks.state_dict().items()}


@pytest.mark.parametrize(
    ("cell", "attack"),
    [("plain-seed0", "property"), ("packed-seed0", "property"), ("tls-seed0", "at-the-server")],
)
def test_updates_are_what_the_clients_computed_bit_for_bit(run: Any, cell: str, attack: str) -> None:
    models, updates = seen(run[0], cell, attack)
    assert sorted(models) == [1, 2, 3, 4] and len(updates) == 9
    torch.set_num_threads(1)
    for sender, number, start, end in updates:
        again = trained_again(run[0], cell, f"client-{sender}", number, start)
        for name, value in end.items():
            np.testing.assert_array_equal(value, again[name])


def test_a_window_of_rounds_holds_the_same_updates_and_no_others(run: Any) -> None:
    models, updates = seen(run[0], "plain-seed0", "in-window")
    whole, every = seen(run[0], "plain-seed0", "property")
    assert sorted(models) == [2, 3, 4]
    wanted = [one for one in every if one[1] in (2, 3)]
    assert [one[:2] for one in updates] == [one[:2] for one in wanted] and len(updates) == 6
    for one, other in zip(updates, wanted, strict=True):
        for name, value in one[3].items():
            np.testing.assert_array_equal(value, other[3][name])
    for number, state in models.items():
        assert all(np.array_equal(value, whole[number][name]) for name, value in state.items())
    guessed = np.load(run[0] / "plain-seed0" / "adversary" / "in-window-slant" / "guesses.npz")["property"]
    assert len(guessed) == 6
    with (run[0] / "results.csv").open() as file:
        scored = {row["attack"]: row["n"] for row in csv.DictReader(file) if row["variant"] == "plain"}
    assert int(scored["in-window"]) == 6 and int(scored["property"]) == 9


def test_packed_messages_give_attackers_the_same_and_the_results_say_that_they_were(run: Any) -> None:
    plain, packed = (seen(run[0], cell, "property") for cell in ("plain-seed0", "packed-seed0"))
    assert sorted(packed[0]) == sorted(plain[0]) and len(packed[1]) == len(plain[1])
    # Later rounds differ in the last bit: the order in which the server adds up the clients is random.
    updates = {sender: end for sender, number, _, end in packed[1] if number == 1}
    for sender, end in [(sender, end) for sender, number, _, end in plain[1] if number == 1]:
        assert list(updates[sender]) == list(end)
        for name, value in end.items():
            np.testing.assert_array_equal(updates[sender][name], value)
    variants = json.loads((run[0] / "results.json").read_text())["variants"]
    assert [variant["name"] for variant in variants if variant["packed"]] == ["packed"]


def test_training_in_one_process_equals_training_over_the_wire_bit_for_bit(run: Any) -> None:
    wire, quick = (run[0] / cell for cell in ("steered-seed0", "quick-seed0"))
    for stage in ("encoder", "head"):
        name = f"server/checkpoints/{stage}-3.safetensors"
        assert (wire / name).read_bytes() == (quick / name).read_bytes()
    assert not list((quick / "tap").glob("*.pcap")) and list((wire / "tap").glob("*.pcap"))
    # The participant guesses the same from its own records as from its link.
    guesses = [np.load(cell / "adversary" / "as-malicious-slant" / "guesses.npz") for cell in (wire, quick)]
    assert set(guesses[0]) == set(guesses[1])
    for name in guesses[0]:
        np.testing.assert_array_equal(guesses[0][name], guesses[1][name])


def test_the_server_can_look_for_a_malicious_participant_and_for_no_honest_one(run: Any) -> None:
    tasks = [one for one in json.loads((run[0] / "results.json").read_text())["tasks"] if "detected" in one["measure"]]
    names = {f"participant-detected-{by}" for by in ("norm", "cosine", "spectral")}
    for variant in ("steered", "quick"):
        mine = [one for one in tasks if one["variant"] == variant]
        # Three participants in three rounds.
        assert {one["measure"] for one in mine} == names and {one["n"] for one in mine} == {9}
        assert all(0 <= one["value"] <= 1 for one in mine)
    assert {one["variant"] for one in tasks} <= {"steered", "quick", "broken"}


def test_the_features_are_measured_where_a_participant_names_an_attribute_and_nowhere_else(run: Any) -> None:
    results = json.loads((run[0] / "results.json").read_text())
    found = {
        variant: {one["measure"]: one["value"] for one in results["tasks"] if one["variant"] == variant}
        for variant in ("plain", "broken", "steered", "quick")
    }
    features = {
        variant: {measure: value for measure, value in held.items() if measure.startswith("feature-")}
        for variant, held in found.items()
    }
    # Both trainings end in the same weights.
    assert len(features["steered"]) == 3 and features["steered"] == features["quick"]
    assert not features["plain"] and not features["broken"]
    maps = {one["variant"]: one for one in results["features"]}
    assert set(maps) == {"steered", "quick"} and maps["steered"]["x"] == maps["quick"]["x"]
    assert len(maps["quick"]["x"]) == 60 + 60 and maps["quick"]["property_classes"] == ["left", "right"]
    assert "by slant and by parity" in (run[0] / "report.html").read_text()


def test_link_and_server_see_the_same(run: Any) -> None:
    guesses = [
        np.load(run[0] / "plain-seed0" / "adversary" / f"{attack}-slant" / "guesses.npz")["property"]
        for attack in ("property", "at-the-server")
    ]
    np.testing.assert_array_equal(*guesses)


@pytest.mark.parametrize("cell", ["plain-seed0", "tls-seed0"])
def test_a_participant_finds_the_mean_of_the_others(run: Any, cell: str) -> None:
    _, all_of_them = seen(run[0], cell, {"plain-seed0": "property", "tls-seed0": "at-the-server"}[cell])
    models, updates = seen(run[0], cell, "as-participant")
    assert {(sender, number) for sender, number, *_ in updates} == {
        *((-1, number) for number in (1, 2, 3)),
        *((0, number) for number in (1, 2, 3)),
    }
    ends = {(sender, number): end for sender, number, _, end in all_of_them}
    for sender, number, _, end in updates:
        if sender == 0:
            continue
        for name, value in end.items():
            mean = (ends[1, number][name].astype(np.float64) + ends[2, number][name]) / 2
            np.testing.assert_allclose(value, mean, atol=2e-6)
    assert len(models) == 4


def test_masked_updates_average_to_the_model_and_show_nothing_by_themselves(run: Any) -> None:
    models, updates = seen(run[0], "masked-seed0", "as-participant")
    ends = [trained_again(run[0], "masked-seed0", f"client-{client}", 1, models[1]) for client in range(3)]
    for name, value in models[2].items():
        # The protocol quantises weights times examples: 16 of at most 1000 leave steps of 1.2e-4.
        np.testing.assert_allclose(value, np.mean([end[name] for end in ends], axis=0), atol=4e-4)
    assert max(np.abs(ends[0][name] - models[2][name]).max() for name in ends[0]) > 4e-3
    assert {number for sender, number, *_ in updates if sender == -1} == {1, 2, 3}
    # On the link there is no update to be read: the masked one is no array of Flower's.
    listed = json.loads((run[0] / "masked-seed0" / "adversary" / "inspect.json").read_text())["captures"]
    assert not [tensor for one in listed for tensor in one["tensors"] if tensor["kind"] == "model-update"]


def test_a_participant_that_sends_nan_is_named_and_stops_nothing(run: Any) -> None:
    folder, printed = run
    said = "broken-seed0: the update of client-0 was not used (train, round 1, 2, 3): layer"
    assert said in printed and "NaN" in printed
    results = json.loads((folder / "results.json").read_text())
    notes = [note for note in results["notes"] if note.startswith("broken-seed0")]
    assert notes and all(note.startswith(said) for note in notes)
    assert sorted(path.name for path in (folder / "broken-seed0/server/checkpoints").iterdir())[-1].endswith(
        "-3.safetensors"
    )
    with (folder / "results.csv").open() as file:
        variants = {row["variant"] for row in csv.DictReader(file)}
    assert variants == {"plain", "tls", "masked", "packed", "broken", "steered", "quick"}


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('variants = ["plain", "tls"]', 'variants = ["masked"]', "secure aggregation in variants.masked"),
        ('variants = ["plain", "packed", "broken"]', 'variants = ["tls"]', "tls encrypts its links"),
        (
            'strategy = { name = "secagg" }',
            'strategy = { name = "secag" }',
            "variants.masked.system.strategy: strategy",
        ),
        (
            "pack = true",
            'pack = true, strategy = { name = "secagg" }',
            "variants.packed.system.pack: secure",
        ),
        ('participant = { name = "broken" }', 'participant = { name = "brokn" }', "variants.broken.participant: strat"),
        (
            'engine = "in-process"\nparticipant = { name = "multi-task", options = { attribute = "slant" } }',
            'engine = "in-process"\nlink = "tls"',
            '"in-process" has no links',
        ),
        ('engine = "in-process"', 'engine = "simulation"', "a simulation has no malicious participant"),
        (
            'vantage = "malicious-participant"\nvariants = ["steered", "quick"]',
            'vantage = "link"\nvariants = ["quick"]',
            "quick trains in one process and has no links",
        ),
        ("epochs = 2", 'epochs = 2\nmods = [{ name = "local" }]', "system.mods: mods: no mod called 'local'"),
        (
            'name = "tls"\n',
            'name = "tls"\nclients = 1\n',
            "a participant attacks other clients, but variants.tls has only one",
        ),
        ('property = "slant"', 'property = "slope"', "slope"),
        ("rounds = [2, 3]", "rounds = [2, 4]", "rounds: 2 to 4 are no rounds of a training of 3"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(tmp_path: Path, old: str, new: str, said: str) -> None:
    assert old in STUDY
    (tmp_path / "updates.toml").write_text(STUDY.replace(old, new))
    command = [sys.executable, "-m", "wireleak", "run", "updates.toml", "--out", "runs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode != 0 and said in done.stderr and done.stderr.count("\n") == 1, done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_recorded_training_can_be_attacked_again(run: Any, tmp_path: Path) -> None:
    capture = run[0] / "plain-seed0" / "tap" / "fleet-client-1.pcap"

    def again(*options: Any) -> subprocess.CompletedProcess[str]:
        command = [
            sys.executable,
            "-m",
            "wireleak",
            "attack",
            str(capture),
            "--attack",
            "property",
            "--target",
            "slant",
        ]
        return subprocess.run([*command, "--out", str(tmp_path), *options], capture_output=True, text=True)

    done = again("--vantage", "link")
    assert done.returncode == 0 and "AUC" in done.stdout, done.stderr
    first = np.load(run[0] / "plain-seed0" / "adversary" / "property-slant" / "guesses.npz")["property"]
    np.testing.assert_array_equal(np.load(tmp_path / "guesses.npz")["property"], first)
    refused = again("--vantage", "moon")
    assert refused.returncode != 0 and "--vantage: property works from" in refused.stderr
