"""The main job on a small study: real processes, real sockets, real Flower, real captures."""

import csv
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from wireleak.common.models import load_arrays
from wireleak.lab.launch.jail import Jail, gap
from wireleak.lab.report.page import render


def scores(run: Any, **wanted: Any) -> Any:
    with (run / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [float(row["value"]) for row in rows if all(row[key] == value for key, value in wanted.items())]


def leftovers(folder: Any) -> Any:
    """Processes that still have anything to do with a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(folder) in " ".join(process.cmdline()) or str(process.cwd()).startswith(str(folder)):
                found.append(process)
        except psutil.Error:
            continue
    return [process for process in found if process.pid != os.getpid()]


def test_the_run_leaves_results_report_and_no_process(tiny_run: Any) -> None:
    folder, run, printed = tiny_run
    assert {"study.toml", "plan.json", "results.json", "results.csv", "pictures.npz", "report.html"} <= {
        path.name for path in run.iterdir()
    }
    assert "leakage on the wire" in printed and str(run / "report.html") in printed
    header = (run / "results.csv").read_text().splitlines()[0]
    assert header == "study,variant,seed,link,vantage,attack,target,measure,value,low,high,n,role,name,incomplete"
    assert leftovers(folder) == []


def test_a_page_needs_only_results_pictures_and_plan(tiny_run: Any, tmp_path: Path) -> None:
    _, run, _ = tiny_run
    for name in ("results.json", "pictures.npz", "plan.json"):
        shutil.copy(run / name, tmp_path)
    assert render(tmp_path).read_bytes() == (run / "report.html").read_bytes()


def test_the_eavesdropper_rebuilds_plaintext_and_nothing_under_tls(tiny_run: Any) -> None:
    _, run, _ = tiny_run
    own = {"target": "input", "attack": "inversion", "measure": "mse"}
    (wide,), (mean,) = (
        scores(run, variant="wide", name="", **own),
        scores(run, variant="wide", name="mean", **own),
    )
    (sealed,), (prior,) = (scores(run, variant="sealed", name=name, **own) for name in ("", "mean"))
    assert wide < mean / 3
    assert sealed == prior


def test_what_was_captured_equals_what_the_parties_held_bit_for_bit(tiny_run: Any) -> None:
    """The attack on the captured tensors scores to the last digit as on tensors handed over in process."""
    _, run, _ = tiny_run
    meta = json.loads((run / "wide-seed0/adversary/inversion-input/meta.json").read_text())
    assert any("equal the captured ones bit for bit" in note for note in meta["notes"])
    own, handed = (scores(run, variant="wide", target="input", measure="mse", name=name) for name in ("", "in-process"))
    assert own == handed


def test_flowers_updates_read_off_the_wire_average_to_the_checkpoint(tiny_run: Any) -> None:
    """Decoded updates, weighted by examples, are the model that the server saved."""
    _, run, _ = tiny_run
    code = (
        "import sys, pickle; from adversary.tap.decode.read import observations; "
        "pickle.dump([(o.kind.value, o.name, o.sender, o.round, o.tensor) for o in observations(sys.argv[1:])],"
        " sys.stdout.buffer)"
    )
    for cell, weights in (("wide-seed0", ["encoder"]), ("whole-seed0", ["encoder", "head"])):
        captures = sorted((run / cell / "tap").glob("fleet-*.pcap"))
        out = subprocess.run([sys.executable, "-c", code, *captures], capture_output=True, check=True).stdout
        seen = pickle.loads(out)
        saved: dict[str, np.ndarray] = {}
        for part in weights:
            saved |= load_arrays(run / cell / "server/checkpoints" / f"{part}-2.safetensors")
        updates = [one for one in seen if one[0] == "model-update" and one[3] == 2]
        assert {one[1] for one in updates} == set(saved)
        shares = [len(np.load(run / cell / f"client-{k}/train.npz")["y"]) for k in range(2)]
        for name, value in saved.items():
            tensors = [one[4] for one in updates if one[1] == name]
            assert len(tensors) == 2 and len({one[2] for one in updates if one[1] == name}) == 2
            mean = [np.average(tensors, axis=0, weights=order) for order in (shares, shares[::-1])]
            assert any(np.allclose(one, value, atol=1e-6) for one in mean), name


def test_predictions_on_the_wire_are_those_the_device_got(tiny_run: Any) -> None:
    _, run, _ = tiny_run
    cell = run / "wide-seed0"
    report = json.loads((run / "results.json").read_text())
    links = {wire["link_name"]: wire for wire in report["wires"] if wire["variant"] == "wide"}
    victims = len(np.load(cell / "device-victim/predictions.npz")["prediction"])
    kinds = {kind["kind"]: kind["count"] for kind in links["serve-victim"]["kinds"]}
    assert kinds == {"activation": victims, "prediction": victims}
    train = {kind["kind"] for kind in links["train-client-0"]["kinds"]}
    assert train == {"activation", "activation-gradient", "label", "prediction"}
    assert {kind["kind"] for kind in links["fleet-client-0"]["kinds"]} == {"model-update", "global-model"}
    assert [
        wire for wire in report["wires"] if wire["variant"] == "sealed" and (not wire["tls"] or wire["kinds"])
    ] == []


@pytest.mark.parametrize("cell", ["wide-seed0", "sealed-seed0", "whole-seed0"])
def test_each_app_may_open_its_own_folder_and_no_other_party_s(tiny_run: Any, cell: str) -> None:
    """What Flower's runner enforces, in split mode, under TLS and in federated mode."""
    folder = tiny_run[1] / cell
    apps = json.loads((folder / "flower" / "runner.json").read_text())["apps"]
    reach = {}
    for app in apps:
        jail = Jail.from_json(app["jail"])
        own = folder / (app["name"].removesuffix("-app").replace("serverapp", "server"))
        homes = (own, folder / "flower", folder / "certificates", folder / "adversary" / "initial")
        assert not [path for path in (*jail.read, *jail.write) if not any(map(path.is_relative_to, homes))], jail
        # Only the pipes that wake others, besides its own home.
        strange = [path for path in jail.write if path.is_dir() and path.name not in (own.name, app["name"])]
        assert not strange, jail
        reach[app["name"]] = len(jail.connect)
    split = cell != "whole-seed0"
    assert reach == {"serverapp": 2, "client-0-app": 1 + split, "client-1-app": 1 + split}
    assert json.loads((folder / "captured.json").read_text())["not_enforced"] == [line for line in [gap()] if line]


def test_a_finished_run_resumes_without_doing_anything_again(tiny_run: Any, wireleak: Any) -> None:
    folder, run, _ = tiny_run
    before = {path: path.stat().st_mtime_ns for path in run.glob("*/tap/*.pcap")}
    done = wireleak("run", "tiny.toml", "--resume", run, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in run.glob("*/tap/*.pcap")} == before


@pytest.mark.study
def test_resuming_gives_a_finished_run_more_seeds(tiny_study: Path, wireleak: Any) -> None:
    folder = tiny_study.parent
    brief = tiny_study.read_text().replace("seeds = [0]", "seeds = [0, 1]")
    brief, _, attacks = brief.partition('[[variants]]\nname = "sealed"')
    probe = attacks[attacks.index('[[attacks]]\nname = "attributes"') : attacks.index('[[attacks]]\nname = "sizes"')]
    tiny_study.write_text(brief + probe)
    done = wireleak("run", "tiny.toml", "--seeds", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    run = (folder / "runs" / "tiny-latest").resolve()
    first = {path: path.stat().st_mtime_ns for path in run.glob("*/tap/*.pcap")}
    done = wireleak("run", "tiny.toml", "--resume", run, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert {row["seed"] for row in json.loads((run / "results.json").read_text())["rows"]} == {0, 1}
    assert json.loads((run / "plan.json").read_text())["study"]["seeds"] == [0, 1]
    report = (run / "results.json").read_bytes()
    done = wireleak("run", "tiny.toml", "--resume", run, "--seeds", "1", cwd=folder)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert re.search(r"--seeds: .* already contains wide-seed1, .*; raise --seeds", done.stderr)
    assert (run / "results.json").read_bytes() == report


@pytest.mark.study
def test_every_help_shows_an_example_that_runs(tiny_run: Any, wireleak: Any) -> None:
    """The examples of --help, with the small run in the place of the digits run."""
    folder, _, _ = tiny_run
    commands = re.findall(r"│ (\w+)\s{2,}", wireleak("--help", cwd=folder, env=os.environ | {"COLUMNS": "200"}).stdout)
    assert set(commands) == {
        *("run", "studies", "tap", "sniff", "inspect", "attack", "report", "data", "audit", "defend", "layers"),
        *("figures", "schema", "plugins", "runs", "export", "certificates", "pi", "serve", "android", "power"),
    }
    for command in commands:
        shown = wireleak(command, "--help", cwd=folder, env=os.environ | {"COLUMNS": "200"}).stdout
        example = re.search(r"Example: wireleak (.+)", shown)
        assert example, command
        if command in ("run", "audit", "defend", "layers", "tap", "sniff", "pi", "serve", "android", "power"):
            # run: this fixture; tap and sniff: tests below, with Ctrl-C; the others: tests of their own
            continue
        line = example[1].partition(" > ")[0].strip().replace("digits-latest", "tiny-latest")
        done = wireleak(*line.split(), cwd=folder)
        assert done.returncode == 0, (line, done.stderr)
        assert done.stdout.strip()


def test_an_exported_encoder_gets_the_predictions_that_the_run_s_device_got(
    tiny_run: Any, wireleak: Any, tmp_path: Path
) -> None:
    """Through `wireleak-device` and the run's head, each a process of its own."""
    _, run, _ = tiny_run
    cell = run / "wide-seed0"
    assert wireleak("export", run, "--variant", "wide", "--out", tmp_path / "encoder", cwd=tmp_path).returncode == 0
    ready = tmp_path / "ready.json"
    config = json.loads((cell / "server/config.json").read_text()) | {"ready": str(ready), "address": "127.0.0.1:0"}
    (tmp_path / "head.json").write_text(json.dumps(config))
    head = subprocess.Popen([sys.executable, "-m", "server", "head", "--config", str(tmp_path / "head.json")])
    try:
        deadline = time.monotonic() + 60
        while not ready.exists():
            assert head.poll() is None and time.monotonic() < deadline
            time.sleep(0.1)
        address = json.loads(ready.read_text())["address"]
        argv = [tmp_path / "encoder", "--head", address, "--input", cell / "device-victim/inputs.npz", "--json"]
        command = [sys.executable, "-m", "client.device", *map(str, argv)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    finally:
        head.terminate()
        head.wait(10)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()[:-1]]
    predictions = np.load(cell / "device-victim/predictions.npz")["prediction"]
    np.testing.assert_allclose([row["prediction"] for row in rows], predictions, atol=1e-5)


@pytest.mark.study
@pytest.mark.timeout(900)
def test_the_example_of_layers(tiny_run: Any, wireleak: Any) -> None:
    folder, run, _ = tiny_run
    shown = wireleak("layers", "--help", cwd=folder, env=os.environ | {"COLUMNS": "200"}).stdout
    example = re.search(r"Example: wireleak (.+)", shown)
    assert example is not None
    line = example[1].strip().replace("digits-latest", "tiny-latest")
    done = wireleak(*line.split(), "--permutations", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert list(run.glob("*/layers.html"))


def test_the_documented_way_to_read_a_capture_from_python(tiny_run: Any) -> None:
    folder, _, _ = tiny_run
    page = Path(__file__).resolve().parents[4] / "docs" / "how-to" / "captures.md"
    code = next(
        block for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL) if "observations(" in block
    )
    done = subprocess.run(
        [sys.executable, "-c", code.replace("digits-latest", "tiny-latest")], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "(1, 16, 14, 14) float32" in done.stdout


def test_tap_records_a_link_by_hand(tmp_path: Path, wireleak: Any) -> None:
    example = wireleak("tap", "--help", cwd=tmp_path, env=os.environ | {"COLUMNS": "200"}).stdout
    assert "--listen 127.0.0.1:9000 --upstream 127.0.0.1:9092 --output link.pcap" in example
    command = [sys.executable, "-m", "wireleak", "tap", "--listen", "127.0.0.1:0"]
    command += ["--upstream", "127.0.0.1:9", "--output", "link.pcap"]
    tap = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert tap.stdout is not None and "recorded in" in tap.stdout.readline()
    tap.send_signal(signal.SIGINT)
    assert tap.wait(10) == 0
    assert (tmp_path / "link.pcap").stat().st_size == 24


@pytest.mark.skipif(shutil.which("tcpdump") is None or os.geteuid() != 0, reason="needs tcpdump, and root to capture")
def test_sniff_records_an_interface_by_hand(tmp_path: Path, wireleak: Any) -> None:
    example = wireleak("sniff", "--help", cwd=tmp_path, env=os.environ | {"COLUMNS": "200"}).stdout
    assert "--interface lo --output lo.pcap --filter 'tcp port 9092'" in example
    command = [sys.executable, "-m", "wireleak", "sniff", "--interface", "lo", "--output", "lo.pcap"]
    command += ["--filter", "tcp port 9092"]
    sniffer = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    assert sniffer.stdout is not None and "sniffing lo" in sniffer.stdout.readline()
    sniffer.send_signal(signal.SIGINT)
    assert sniffer.wait(10) == 0
    assert (tmp_path / "lo.pcap").stat().st_size == 24


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["run", "nope"], "study: no study or file called 'nope'"),
        (["run", "tiny.toml", "--resume", "."], "--resume: . is not a run's folder"),
        (["report", "."], "results.json: cannot be read"),
        (["data", "letters"], "no data set called 'letters'"),
        (["attack", "missing.pcap", "--surrogate", "x", "--device", "y"], "CAPTURE: no file missing.pcap"),
        (["inspect", "missing.pcap"], "missing.pcap"),
        (["inspect", "tiny.toml"], "tiny.toml"),
    ],
)
def test_a_users_mistake_is_one_line_and_no_traceback(tiny_study: Path, wireleak: Any, argv: Any, message: str) -> None:
    done = wireleak(*argv, cwd=tiny_study.parent)
    assert done.returncode != 0
    assert message in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert [path.name for path in tiny_study.parent.iterdir()] == ["tiny.toml"]


@pytest.fixture
def running(tiny_study: Path) -> Iterator[Any]:
    """A run under way, and a way to wait for something in its folder."""
    tiny_study.write_text(tiny_study.read_text().replace("epochs = 1\n", "epochs = 40\n"))
    process = subprocess.Popen(
        [sys.executable, "-m", "wireleak", "run", "tiny.toml", "--jobs", "1"],
        cwd=tiny_study.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )

    def wait_for(pattern: Any, size: Any = 0) -> Any:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline:
            found = [path for path in tiny_study.parent.glob(pattern) if path.stat().st_size > size]
            if found:
                return found[0]
            assert process.stderr is not None
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.05)
        raise AssertionError(f"{pattern} did not appear")

    yield process, wait_for, tiny_study.parent
    process.kill()
    process.wait()


def listener(address: Any) -> psutil.Process:
    """The process that listens on "host:port"."""
    port = int(address.rpartition(":")[2])
    for one in psutil.net_connections("tcp"):
        if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port:
            return psutil.Process(one.pid)
    raise AssertionError(f"nobody listens on {address}")


def test_the_tap_killed_stops_the_run_and_keeps_what_was_captured(running: Any, wireleak: Any) -> None:
    process, wait_for, folder = running
    capture = wait_for("runs/*/wide-seed0/tap/train-client-0.pcap", size=3_000_000)
    ready = json.loads((capture.parent / "ready.json").read_text())
    listener(ready["links"]["train-client-0"]).kill()
    _, error = process.communicate(timeout=60)
    assert process.returncode not in (0, None)
    assert "tap" in error and "SIGKILL" in error and str(capture.parents[2]) in error
    assert len(error.strip().splitlines()) == 1
    assert leftovers(folder) == []
    listed = json.loads(wireleak("inspect", capture, "--json", cwd=folder).stdout)
    assert any(row["kind"] == "activation" and row["count"] > 1 for row in listed["tensors"])


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
@pytest.mark.skipif("COVERAGE_RUN" in os.environ, reason="measuring coverage changes what fails first on a full disk")
def test_a_full_disk_stops_the_run_and_keeps_what_was_captured(tiny_study: Path, wireleak: Any) -> None:
    tiny_study.write_text(tiny_study.read_text().replace("epochs = 1\n", "epochs = 40\n"))
    folder = tiny_study.parent
    runs = folder / "runs"
    runs.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", runs], capture_output=True).returncode:
        pytest.skip("this sandbox cannot mount a tmpfs")
    try:
        done = wireleak("run", "tiny.toml", "--jobs", "1", cwd=folder)
        assert done.returncode not in (0, None)
        assert "No space left on device" in done.stderr and "Traceback" not in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert leftovers(folder) == []
        capture = next(runs.glob("*/wide-seed0/tap/train-client-0.pcap"))
        listed = json.loads(wireleak("inspect", capture, "--json", cwd=folder).stdout)
        assert any(row["kind"] == "activation" for row in listed["tensors"])
    finally:
        subprocess.run(["umount", runs], check=True)


def test_ctrl_c_stops_every_process_and_says_where_the_captures_are(running: Any) -> None:
    process, wait_for, folder = running
    wait_for("runs/*/wide-seed0/tap/train-client-0.pcap", size=3_000_000)
    process.send_signal(signal.SIGINT)
    printed, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in printed + error and "Traceback" not in error
    assert leftovers(folder) == []


@pytest.mark.study
def test_a_client_killed_in_a_round_does_not_stop_the_others(running: Any) -> None:
    process, wait_for, _ = running
    capture = wait_for("runs/*/wide-seed0/tap/train-client-0.pcap", size=3_000_000)
    # The ClientApp is the process that talks to the head through the tap.
    ready = json.loads((capture.parent / "ready.json").read_text())
    port = int(ready["links"]["train-client-0"].rpartition(":")[2])
    victims = {one.pid for one in psutil.net_connections("tcp") if one.raddr and one.raddr.port == port and one.pid}
    assert victims
    for pid in victims:
        psutil.Process(pid).kill()
    history = wait_for("runs/*/wide-seed0/server/history.json")
    deadline = time.monotonic() + 150
    while len(rounds := json.loads(history.read_text())["rounds"]) < 1 and time.monotonic() < deadline:
        time.sleep(0.2)
    first = rounds[0]
    assert len(first["trained"]) == 1, first
    assert process.poll() is None
    assert wait_for("runs/*/wide-seed0/server/checkpoints/encoder-1.safetensors")
