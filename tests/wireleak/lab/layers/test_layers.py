"""`wireleak layers` on a network whose layers are known: block 1 passes everything on, block 2 the task alone."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from torch import nn
from typer.testing import CliRunner

from wireleak.cli import app
from wireleak.common.measures.readers import readers
from wireleak.common.models import build, save_arrays
from wireleak.common.models.networks import register
from wireleak.lab.layers.page import Profile, page, percent, sentence, write
from wireleak.lab.layers.profile import profile_layers
from wireleak.lab.report.charts.points import palette
from wireleak.lab.report.charts.style import round_axis
from wireleak.lab.run.opening import open_run

NETWORK = "planted-of-a-test"
STUDY = """
name = "planted"
description = "a network with known layers"
seeds = [0, 1]
[data]
name = "digits"
train = 10
evaluation = 10
attacker = 10
victims = 120
[model]
name = "planted-of-a-test"
[[variants]]
name = "early"
cut = 1
[[variants]]
name = "late"
cut = 2
"""
N, WIDTH = 120, 6
TASK, SECRET = 0, 1  # the input's values that hold the task label and the private attribute


@register(NETWORK)
def _planted(input_shape: Any, classes: Any) -> nn.Sequential:
    return nn.Sequential(nn.Sequential(nn.Flatten(), nn.Linear(WIDTH, WIDTH)), nn.Linear(WIDTH, 1), nn.Linear(1, 2))


def planted_weights(block_2: Any) -> Any:
    """Arrays of the whole network: block 1 is the identity, block 2 keeps one value."""
    zeros = np.zeros
    return {
        "0.1.weight": np.eye(WIDTH, dtype=np.float32),
        "0.1.bias": zeros(WIDTH, np.float32),
        "1.weight": np.eye(WIDTH, dtype=np.float32)[block_2][None],
        "1.bias": zeros(1, np.float32),
        "2.weight": np.array([[-1], [1]], np.float32),
        "2.bias": zeros(2, np.float32),
    }


def write_run(folder: Any, cells: Any = (("early", 0, 1),), drop: Any = (), network: str = NETWORK) -> Any:
    """A finished run's folder as `wireleak run` leaves it, without running anything."""
    folder.mkdir(exist_ok=True)
    (folder / "study.toml").write_text(STUDY.replace(NETWORK, network))
    classes = {"shape": ["round", "square"], "secret": ["no", "yes"], "same": ["all"]}
    (folder / "plan.json").write_text(json.dumps({"task": "shape", "classes": classes}))
    rng = np.random.default_rng(0)
    y, secret = rng.integers(0, 2, N), rng.integers(0, 2, N)
    x = rng.normal(size=(N, 1, 1, WIDTH)).astype(np.float32)
    x[:, 0, 0, TASK] += 6 * y
    x[:, 0, 0, SECRET] += 6 * secret
    arrays: dict[str, np.ndarray] = {
        "x": x,
        "y": y,
        "attribute:secret": secret,
        "attribute:same": np.zeros(N, np.int64),
    }
    arrays["group:owner"] = np.arange(N) // 5
    for variant, seed, cut in cells:
        cell = folder / f"{variant}-seed{seed}"
        model = {"name": network, "input_shape": [1, 1, WIDTH], "classes": 2, "cut": cut, "seed": seed}
        (cell / "device-victim").mkdir(parents=True)
        (cell / "device-victim" / "config.json").write_text(json.dumps({"model": model}))
        (cell / "sealed").mkdir()
        kept_arrays = {name: array for name, array in arrays.items() if name not in drop}
        np.savez(cell / "sealed" / "ledger.npz", allow_pickle=False, **kept_arrays)
        (cell / "captured.json").write_text("{}")
        # Round 10 is the last, though "9" sorts behind "10"; round 9 lets the secret through instead of the task.
        for number, kept in ((9, SECRET), (10, TASK)):
            weights = planted_weights(kept)
            half: dict[bool, dict[str, np.ndarray]] = {True: {}, False: {}}
            for name, value in weights.items():
                half[int(name[0]) < cut][name] = value
            save_arrays(half[True], cell / "server" / "checkpoints" / f"encoder-{number}.safetensors")
            save_arrays(half[False], cell / "server" / "checkpoints" / f"head-{number}.safetensors")
    return folder


def measure(run: Any, **options: Any) -> Path:
    options = {"examples": 1000, "permutations": 1, "group": None, "jobs": 1} | options
    return profile_layers(run, None, None, **options, console=Console(quiet=True))


@pytest.fixture(scope="module")
def profiled(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The cell's folder, measured once; with smaller readers, for time's sake."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "TREES", 20)
        patch.setattr(readers, "STEPS", 100)
        return measure(write_run(tmp_path_factory.mktemp("layers") / "run")).parent


@pytest.fixture(scope="module")
def profile(profiled: Any) -> Profile:
    return Profile(json.loads((profiled / "layers.json").read_text()))


def test_every_layer_is_there_and_the_wire_is_marked(profile: Profile) -> None:
    assert [layer["name"] for layer in profile.layers] == ["input", "block-1", "block-2", "block-3", "softmax"]
    assert [layer["side"] for layer in profile.layers] == ["input", "wire", "server", "server", "server"]
    assert [layer["floats"] for layer in profile.layers] == [WIDTH, WIDTH, 1, 2, 2]
    assert profile.document["round"] == 10
    assert "analyst" in profile.document["view"]


def test_the_task_is_everywhere_and_the_secret_ends_where_it_was_planted(profile: Profile) -> None:
    assert min(profile.over_layers("shape", "auc")) > 0.97
    kept, lost = profile.over_layers("secret", "auc")[:2], profile.over_layers("secret", "auc")[2:]
    assert min(kept) > 0.97
    assert all(0.3 < value < 0.7 for value in lost)
    bits = profile.over_layers("secret", "bits")
    assert min(bits[:2]) > 0.8
    assert max(bits[2:]) < 0.1
    corrected = profile.over_layers("secret", "dcor2-corrected")
    assert min(corrected[:2]) > 0.1
    assert max(map(abs, corrected[2:])) < 0.05


def test_controls_stand_beside_every_figure(profile: Profile) -> None:
    # The task's label says nothing of the secret; the null says nothing either.
    assert 0.3 < profile.number("task label alone", "secret", "auc") < 0.7
    assert max(profile.over_layers("secret", "bits", what="null_high")) < 0.1
    assert profile.number("block-1", "secret", "bits", what="p") == 0.5  # 1 of 1 + 1 draw
    assert profile.number("block-1", "secret", "bits", what="share") > 0.8
    # Fresh weights pass the secret through block 1 (any full map does), and block 2 mixes it with the rest.
    assert profile.number("block-1", "secret", "auc", "untrained") > 0.9
    assert profile.number("block-2", "secret", "auc", "untrained") != profile.number("block-2", "secret", "auc")
    assert profile.number("block-1", "input", "dcor") == pytest.approx(1, abs=1e-6)
    assert profile.number("block-2", "input", "dcor") < 0.95


def test_an_attribute_that_never_varies_is_left_out_and_said(profile: Profile) -> None:
    assert [target["name"] for target in profile.targets] == ["shape", "secret"]
    assert profile.targets[1]["classes"] == ["no", "yes"]
    assert profile.document["notes"] == ["The attribute same is all in all 120 inputs, so it cannot be probed"]


def test_sentences_tell_what_the_wire_adds(profile: Profile) -> None:
    said = sentence(profile, profile.targets[1])
    assert said.outcome == "leak"
    assert "block 1, 6 floats" in said.text
    assert "the architecture lets it through" in said.text  # the untrained block 1 passes as much


class _Shape(HTMLParser):
    """What a page holds and asks for."""

    def __init__(self, html: Any) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, Any]]] = []
        self.wanted: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: Any, attributes: Any) -> None:
        self.tags.append((tag, dict(attributes)))
        self.wanted += [value for name, value in attributes if name in ("src", "href") and not value.startswith("#")]
        if tag not in ("meta", "br", "circle", "rect", "line", "path", "polyline", "polygon", "link", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: Any) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()


def test_the_page_is_whole_and_needs_nothing_else(profiled: Any, profile: Profile) -> None:
    html = (profiled / "layers.html").read_text()
    shape = _Shape(html)
    assert shape.open == []
    assert shape.wanted == []
    labels = [attributes["aria-label"] for tag, attributes in shape.tags if tag == "svg"]
    assert sum(label.startswith("t-SNE of ") for label in labels) == 5 * 2
    assert "t-SNE of block 1, coloured by secret" in labels
    assert sum(" over the layers: " in label for label in labels) == 3 * 2 + 1
    # Every input is one point of every map.
    first = re.search(r'<svg [^>]*aria-label="t-SNE.*?</svg>', html, re.S)
    assert first is not None
    points = "".join(re.findall(r'd="([^"]+)" clip-path[^>]+stroke-opacity: 0.8', first.group()))
    assert points.count("M") == points.count("L") == N
    assert "nan" not in html.lower().replace("nano", "")


def test_names_from_data_cannot_break_the_page(profile: Profile) -> None:
    document = json.loads(json.dumps(profile.document).replace('"yes"', '"<script>alert(1)</script>"'))
    html = page(document)
    assert "<script>" not in html
    assert "&lt;script&gt;" in html


def test_groups_are_kept_apart_on_request(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    specimen = open_run(run, None, None, 1000, "owner")
    assert specimen.group == "owner"
    assert specimen.groups is not None and len(np.unique(specimen.groups)) == N // 5


def test_a_study_with_too_few_groups_is_measured_without_and_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (run / "study.toml").write_text(STUDY.replace("victims = 120", 'victims = 120\ndisjoint_by = "owner"'))
    assert open_run(run, None, None, 1000, None).group == "owner"
    few = open_run(run, None, None, 60, None)  # the first 60 inputs, of 12 owners
    assert few.groups is not None and len(np.unique(few.groups)) == 12
    ledger = run / "early-seed0" / "sealed" / "ledger.npz"
    held = dict(np.load(ledger))
    np.savez(ledger, **held | {"group:owner": np.arange(N) % 5})
    few = open_run(run, None, None, 1000, None)
    assert few.groups is None
    assert "5 values of owner are too few" in few.notes[-1]


def test_weights_before_training_are_those_of_the_seed(tmp_path: Path) -> None:
    specimen = open_run(write_run(tmp_path / "run"), None, None, 1000, None)
    fresh = build("planted-of-a-test", (1, 1, WIDTH), 2, 0).blocks.state_dict()
    for name, value in specimen.network(trained=False).blocks.state_dict().items():
        assert (value == fresh[name]).all()
    assert specimen.network(trained=True).blocks.state_dict()["1.weight"].tolist() == [[1, 0, 0, 0, 0, 0]]


def test_words_are_counted_not_averaged(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    ledger = run / "early-seed0" / "sealed" / "ledger.npz"
    words = np.zeros((N, WIDTH), np.float32)
    words[:, :3] = np.random.default_rng(0).integers(1, 5, (N, 3))
    np.savez(ledger, x=words, y=np.arange(N) % 2)
    specimen = open_run(run, None, None, 1000, None)
    assert specimen.input_title == "input (bag of words)"
    assert specimen.inputs().shape == (N, 4)
    assert (specimen.inputs().sum(axis=1) == 3).all()
    assert specimen.inputs()[0, int(words[0, 0]) - 1] >= 1


def test_it_takes_the_cell_that_is_asked_for(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", (("early", 0, 1), ("early", 1, 1), ("late", 1, 2)))
    assert open_run(run, None, None, 99, None).cell.folder.name == "early-seed0"
    assert open_run(run, "early", 1, 99, None).cell.folder.name == "early-seed1"
    late = open_run(run, "late", None, 99, None)
    assert late.cell.folder.name == "late-seed1"
    assert len(late.x) == 99
    assert [layer.side for layer in late.layers(trained=True)] == ["input", "device", "wire", "server", "server"]


def _broken(tmp_path: Path, name: Any) -> Any:
    run = write_run(tmp_path / "run")
    cell = run / "early-seed0"
    if name == "no checkpoint":
        for path in (cell / "server" / "checkpoints").glob("head-*"):
            path.unlink()
    elif name == "other network":
        save_arrays({"0.1.weight": np.eye(3, dtype=np.float32)}, cell / "server/checkpoints/encoder-10.safetensors")
    elif name == "not finished":
        (cell / "captured.json").unlink()
    return run


@pytest.mark.usefixtures("no_progress")
@pytest.mark.parametrize(
    ("broken", "arguments", "said"),
    [
        ("", ("--variant", "wide"), "--variant: no variant called 'wide'; choose one of early, late"),
        ("", ("--seed", "7"), "no finished cell for --variant any, --seed 7; choose one of early-seed0"),
        ("", ("--examples", "20"), "20 inputs are too few"),
        ("", ("--group", "city"), "no group called 'city'; choose one of owner"),
        ("no checkpoint", (), "no checkpoint of encoder and head"),
        ("other network", (), "does not fit planted-of-a-test"),
        ("not finished", (), "choose one of none"),
    ],
)
def test_mistakes_are_one_line(tmp_path: Path, broken: str, arguments: Any, said: str) -> None:
    done = CliRunner().invoke(app, ["layers", str(_broken(tmp_path, broken)), *arguments])
    assert done.exit_code == 2, done.output
    assert said in done.output
    assert done.output.count("\n") == 1


def test_a_folder_that_is_no_run_is_said(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["layers", str(tmp_path)])
    assert done.exit_code == 2
    assert "holds no study.toml; name a run's folder" in done.output


def test_axes_hold_their_values_between_round_ends() -> None:
    low, high, _ = round_axis([0.52, 0.97, float("nan")], low=0.5, high=1.0)
    assert (low, high) == (0.4, 1.0) or (low, high) == (0.5, 1.0)
    low, high, ticks = round_axis([-0.31, 2.4], low=0.0)
    assert low <= -0.31
    assert high >= 2.4
    assert 0.0 in ticks
    assert round_axis([])[2]


def test_spans_of_numbers_go_from_dark_to_light() -> None:
    ages = palette(["0-2", "3-9", "10-19", "more than 70"])
    brightness = [sum(int(colour[at : at + 2], 16) for at in (1, 3, 5)) for colour in ages]
    assert brightness == sorted(brightness)
    assert len(set(palette([str(digit) for digit in range(10)]))) == 10


@pytest.mark.parametrize(("value", "shown"), [(0.1234, "0.123"), (-0.0001, "0.000"), (-0.5, "−0.500"), (None, "–")])
def test_numbers_are_written_as_people_read_them(value: float | None, shown: str) -> None:
    assert write(value) == shown


def test_shares_are_written_without_a_sign_at_zero() -> None:
    assert percent(-0.001) == "0\u00a0%"
    assert percent(None) == "–"
