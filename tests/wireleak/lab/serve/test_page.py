"""The page in Chromium that emulates a phone: it draws, sends, and shows what the eavesdropper rebuilt."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Route, sync_playwright

from adversary.tap.decode.observation import Kind
from adversary.tap.decode.read import observations
from wireleak.lab.serve.session import PAGES

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--use-fake-device-for-media-stream")
PHONE = {"device_scale_factor": 2, "is_mobile": True, "has_touch": True}
UPRIGHT, SIDEWAYS, LAPTOP = ({"width": w, "height": h} for w, h in ((390, 844), (844, 390), (1200, 1010)))
# A three, as points of the drawing area.
THREE = ((0.33, 0.3), (0.42, 0.2), (0.58, 0.2), (0.66, 0.3), (0.48, 0.5), (0.68, 0.67), (0.58, 0.82), (0.32, 0.74))
Floats = npt.NDArray[np.float32]

pytestmark = [
    pytest.mark.study,
    pytest.mark.timeout(900),
    pytest.mark.skipif(CHROMIUM is None, reason="needs chromium"),
    pytest.mark.skipif(not (PAGES / "index.html").is_file(), reason="needs the built page: make web"),
]


@dataclass
class Served:
    """A running session."""

    port: int
    folder: Path
    process: subprocess.Popen[str]

    @property
    def page(self) -> str:
        return f"http://localhost:{self.port}/"

    @property
    def capture(self) -> Path:
        return self.folder / "wide" / "tap" / "web.pcap"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    out = tmp_path_factory.mktemp("web")
    port = _free_pair()
    # All addresses, so that the page can also be opened as another host's.
    command = [sys.executable, "-m", "wireleak", "serve", "--web", "--host", "0.0.0.0", "--port", str(port)]
    process = subprocess.Popen(
        [*command, "--out", str(out)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ
    )
    assert process.stdout is not None
    said = ""
    for line in process.stdout:
        said += line
        if line.startswith("Ctrl-C"):
            break
    folders = sorted(out.glob("serve-*"))
    assert folders and f"page: http://localhost:{port}" in said, said
    yield Served(port, folders[0], process)
    if process.poll() is None:
        process.kill()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as made:
        browser = made.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, f"--host-resolver-rules={_mapped()}"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, served: Served) -> Iterator[Callable[..., Page]]:
    """Open the page, and fail if it asks another host for anything or writes an error to the console."""
    contexts: list[BrowserContext] = []
    troubles: list[str] = []

    def begin(size: dict[str, int] = UPRIGHT, scheme: str = "light", host: str = "localhost", **more: Any) -> Page:
        kind: dict[str, Any] = {} if size is LAPTOP else PHONE
        context = browser.new_context(viewport=size, color_scheme=scheme, **kind, **more)  # type: ignore[arg-type]
        contexts.append(context)
        page = context.new_page()
        page.on("console", lambda said: troubles.append(said.text) if said.type == "error" else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda asked: other(asked.url, host))
        page.goto(f"http://{host}:{served.port}/")
        page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
        return page

    def other(url: str, host: str) -> None:
        known = tuple(f"http://{host}:{served.port + more}/" for more in range(4))
        if not url.startswith((*known, "data:", "blob:")):
            troubles.append(f"asked {url}")

    yield begin
    for context in contexts:
        context.close()
    assert not troubles


def until(page: Page, condition: str, seconds: float = 60) -> Any:
    """Wait for a condition; Playwright's own way needs eval, which the page's policy forbids."""
    deadline = time.monotonic() + seconds
    while not (found := page.evaluate(condition)):
        assert time.monotonic() < deadline, f"{condition}: {page.inner_text('#notice')}"
        time.sleep(0.05)
    return found


def draw(page: Page) -> None:
    until(page, "document.getElementById('eaves-state').textContent.startsWith('Listening')")
    box = page.locator("#pad").bounding_box()
    assert box is not None
    places = [(box["x"] + box["width"] * x, box["y"] + box["height"] * y) for x, y in THREE]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=4)
    page.mouse.up()
    settled(page)


def settled(page: Page) -> None:
    """Wait until the last message was answered and rebuilt."""
    until(page, "Boolean(globalThis.wireleak?.rebuilt && wireleak.probabilities)")
    while True:
        before = page.evaluate("wireleak.checksum")
        time.sleep(0.6)
        if page.evaluate("wireleak.checksum") == before:
            until(page, "Boolean(wireleak.rebuilt && wireleak.probabilities)")
            return


def answered_late(route: Route) -> None:
    answer = route.fetch()
    time.sleep(1)
    route.fulfill(response=answer)


def numbers(page: Page, name: str) -> Floats:
    return np.array(page.evaluate(f"Array.from({name})"), np.float32)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [UPRIGHT, SIDEWAYS, LAPTOP], ids=["upright", "sideways", "laptop"])
def test_a_drawing_is_sent_answered_and_rebuilt(
    open_page: Callable[..., Page], size: dict[str, int], scheme: str, tmp_path: Path
) -> None:
    page = open_page(size, scheme)
    draw(page)
    errors = page.evaluate("wireleak.errors")
    assert errors["rebuilt"] < errors["mean"] / 5
    assert page.inner_text("#error-number") == f"{errors['rebuilt']:.4f}"
    assert page.inner_text("#prediction") in ("even", "odd")
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    # Both pictures and their captions are in the first view, and each is a square.
    for name in ("#pad", ".frame"):
        box = page.locator(name).bounding_box()
        assert box is not None and box["y"] + box["height"] < size["height"]
        assert math.isclose(box["width"], box["height"], abs_tol=1) and box["width"] > 120
    folder = Path(os.environ.get("WIRELEAK_PHOTOGRAPHS", tmp_path))
    picture = page.screenshot(path=folder / f"page-{size['width']}-{scheme}.png")
    background = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert background == ("rgb(246, 244, 239)" if scheme == "light" else "rgb(13, 16, 21)") and len(picture) > 20_000


def test_the_capture_holds_the_pages_bits_and_the_encoder_is_onnxruntimes(
    open_page: Callable[..., Page], served: Served
) -> None:
    import onnxruntime

    page = open_page()
    draw(page)
    time.sleep(0.5)  # the tap writes within 20 ms
    activation, probabilities = numbers(page, "wireleak.activation.data"), numbers(page, "wireleak.probabilities")
    seen = list(observations([served.capture]))
    sent = [one.tensor for one in seen if one.kind is Kind.ACTIVATION]
    answers = [one.tensor for one in seen if one.kind is Kind.PREDICTION]
    assert sent[-1].tobytes() == activation.tobytes() and answers[-1].tobytes() == probabilities.tobytes()
    encoder = served.folder / "wide" / "encoder"
    shape = json.loads((encoder / "manifest.json").read_text())["input"]["shape"]
    session = onnxruntime.InferenceSession(encoder / "encoder.onnx", providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"input": numbers(page, "wireleak.input").reshape(1, *shape)})
    assert np.abs(expected.ravel() - activation).max() < 1e-5
    assert page.inner_text("#bytes") == f"{page.evaluate('wireleak.bytes'):,} bytes"


def test_the_keyboard_alone_is_enough_and_a_sentence_says_what_happened(open_page: Callable[..., Page]) -> None:
    page = open_page()
    # The eavesdropper may be faster than the service's answer; the sentence must still tell of both.
    page.route("**/Predict", answered_late)
    until(page, "document.getElementById('eaves-state').textContent.startsWith('Listening')")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    while page.evaluate("document.activeElement.id") != "pad":
        page.keyboard.press("Tab")
    page.keyboard.press("7")
    settled(page)
    said = until(page, "document.getElementById('announce').textContent.includes('mean') && announce.textContent")
    # The head's own answer: clients reach it in any order while it trains, so a drawn 7 is not always odd to it.
    answer = page.inner_text("#prediction")
    assert answer in ("even", "odd")
    assert said.startswith(f"The service answers {answer}, ")
    assert "%. The eavesdropper rebuilt your picture with error 0.0" in said
    page.keyboard.press("Delete")
    for key in ("Space", "ArrowDown", "ArrowDown", "ArrowDown", "Enter"):
        page.keyboard.press(key)
    settled(page)
    drawn = numbers(page, "wireleak.input").reshape(28, 28)
    assert drawn[:, 20:].max() == 0 and drawn[14:18, 13:15].min() > 0.7
    names = page.evaluate(
        """() => [...document.querySelectorAll('button, [role=meter], canvas')]
            .filter((one) => one.checkVisibility()).map((one) => one.ariaLabel || one.textContent.trim())"""
    )
    assert all(names) and len(names) > 8


def test_another_cut_opens_with_the_same_drawing_and_gives_less_away(open_page: Callable[..., Page]) -> None:
    page = open_page(LAPTOP)
    draw(page)
    wide, drawn = page.evaluate("wireleak.errors.rebuilt"), numbers(page, "wireleak.input")
    assert page.inner_text(".cuts [aria-current]") == "block 1 3,136 numbers"
    page.click(".cuts a:not([aria-current])")
    page.wait_for_selector("html[data-ready=yes]", timeout=60_000)
    settled(page)
    assert page.inner_text(".cuts [aria-current]") == "block 4 32 numbers"
    assert np.abs(numbers(page, "wireleak.input") - drawn).mean() < 0.05
    assert wide * 3 < page.evaluate("wireleak.errors.rebuilt") < page.evaluate("wireleak.errors.mean")
    assert page.inner_text("#numbers") == "32 numbers" and not page.evaluate("location.hash")


def test_a_file_is_taken_as_ink_on_paper(open_page: Callable[..., Page], tmp_path: Path) -> None:
    from PIL import Image, ImageDraw

    paper = Image.new("RGB", (300, 400), "white")
    ImageDraw.Draw(paper).line([(110, 120), (190, 120), (140, 290)], fill="black", width=26)
    paper.save(tmp_path / "seven.png")
    (tmp_path / "notes.txt").write_text("no picture")
    page = open_page()
    until(page, "document.getElementById('eaves-state').textContent.startsWith('Listening')")
    page.check("[value=file]", force=True)
    page.set_input_files("#file", tmp_path / "seven.png")
    settled(page)
    assert page.is_checked("#invert")
    taken = numbers(page, "wireleak.input").reshape(28, 28)
    assert taken[0].max() == 0 and taken.max() == 1
    assert page.evaluate("wireleak.errors.rebuilt") < page.evaluate("wireleak.errors.mean") / 5
    page.set_input_files("#file", tmp_path / "notes.txt")
    line = until(page, "document.getElementById('notice').textContent")
    assert line == "notes.txt is no picture that this browser can read. Choose a PNG, JPEG or WebP."


def test_the_camera_sends_frames_and_a_refusal_is_one_line(open_page: Callable[..., Page]) -> None:
    page = open_page(permissions=["camera"])
    until(page, "document.getElementById('eaves-state').textContent.startsWith('Listening')")
    page.check("[value=camera]", force=True)
    until(page, "Boolean(globalThis.wireleak?.rebuilt)")
    page.click("#capture")
    assert page.inner_text("#capture") == "Go on"
    refused = open_page()
    refused.check("[value=camera]", force=True)
    line = until(refused, "document.getElementById('notice').textContent")
    assert line.startswith("The camera was refused. Allow it in this site’s settings")


def test_plain_http_from_another_host_is_one_line_and_drawing_still_works(open_page: Callable[..., Page]) -> None:
    page = open_page(host=socket.gethostname())
    assert page.evaluate("isSecureContext") is False
    assert page.inner_text("#notice").startswith("This page came over plain HTTP from another host")
    draw(page)
    assert page.evaluate("wireleak.errors.rebuilt") < 0.02


def test_it_installs_as_an_app_and_opens_without_the_network(open_page: Callable[..., Page]) -> None:
    page = open_page()
    page.evaluate("navigator.serviceWorker.ready.then(() => true)")
    manifest = page.evaluate("fetch('manifest.webmanifest').then((answer) => answer.json())")
    assert manifest["display"] == "standalone" and {one["sizes"] for one in manifest["icons"]} >= {"192x192", "512x512"}
    until(page, "caches.match('onnxruntime.wasm').then(Boolean)")


def test_the_page_cannot_reach_another_host(browser: Browser, served: Served) -> None:
    page = browser.new_page()
    page.goto(served.page)
    blocked = "fetch('https://example.com/').then(() => 'reached', (error) => error.name)"
    listening = "addEventListener('securitypolicyviolation', (event) => done(event.effectiveDirective))"
    asked = f"new Promise((done) => {{ {listening}; {blocked} }})"
    assert page.evaluate(asked) == "connect-src"
    page.close()


def test_a_thin_device_is_served_without_the_page(served: Served, tmp_path: Path) -> None:
    port = _free_pair()
    run = served.folder.parent / "web-latest"
    command = [sys.executable, "-m", "wireleak", "serve", str(run), "--port", str(port), "--out", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = list(islice(process.stdout, 4))
        (line,) = (line for line in said if line.startswith("devices: wireleak-device "))
        np.save(tmp_path / "inputs.npy", np.zeros((3, 1, 28, 28), np.float32))
        words = line.split()[2:-2]
        device = [sys.executable, "-m", "client.device", *words, "--json", "--input", str(tmp_path / "inputs.npy")]
        done = subprocess.run(device, capture_output=True, text=True, timeout=120)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert done.returncode == 0 and process.returncode == 0, done.stderr
    (capture,) = tmp_path.glob("serve-*/wide/tap/devices.pcap")
    assert sum(one.kind is Kind.ACTIVATION for one in observations([capture])) == 3


def test_ctrl_c_ends_every_process_and_keeps_the_capture(served: Served) -> None:
    """The last test: it ends the session."""
    ours = [
        one for one in psutil.process_iter(["cmdline"]) if str(served.folder) in " ".join(one.info["cmdline"] or ())
    ]
    assert len(ours) == 8
    served.process.send_signal(signal.SIGINT)
    said, _ = served.process.communicate(timeout=60)
    assert served.process.returncode == 0 and f"the capture is kept: {served.capture}" in said
    _, alive = psutil.wait_procs(ours, timeout=10)
    assert not alive
    command = next(line for line in said.splitlines() if line.startswith("attack it again: "))
    words = command.removeprefix("attack it again: wireleak ").split()
    done = subprocess.run([sys.executable, "-m", "wireleak", *words], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "guesses:" in done.stdout


def _free_pair() -> int:
    while True:
        with socket.socket() as one, socket.socket() as two:
            one.bind(("0.0.0.0", 0))
            port = int(one.getsockname()[1])
            try:
                two.bind(("0.0.0.0", port + 1))
            except OSError:
                continue
            return port


def _mapped() -> str:
    return f"MAP {socket.gethostname()} 127.0.0.1"
