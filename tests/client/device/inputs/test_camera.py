"""Camera frames, from programs that stand in for ffmpeg and rpicam-vid, and from ffmpeg where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from client.device.inputs.camera import frames
from client.device.model.errors import DeviceError

SCALING = {"low": 0.0, "high": 1.0}


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Put a Python program on an otherwise empty PATH; it records its arguments in NAME.args."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def add(name: str, code: str) -> Path:
        path = folder / name
        head = (
            f"#!{sys.executable}\nimport sys, time\nopen({str(path) + '.args'!r}, 'w').write(' '.join(sys.argv[1:]))\n"
        )
        path.write_text(head + code)
        path.chmod(0o755)
        return Path(f"{path}.args")

    return add


def test_frames_are_scaled_and_numbered(programs: Callable[[str, str], Path]) -> None:
    told = programs("ffmpeg", "while True: sys.stdout.buffer.write(bytes(range(0, 240, 20))); sys.stdout.flush()")
    source = frames("/dev/video7", (3, 2, 2), SCALING, 0.5)
    first, second = islice(source, 2)
    source.close()
    assert (first.name, second.name) == ("/dev/video7:0", "/dev/video7:1")
    want = np.arange(0, 240, 20).reshape(2, 2, 3).transpose(2, 0, 1) / 255
    np.testing.assert_allclose(first.values, want, atol=1e-6)
    assert "-f v4l2 -i /dev/video7 -vf fps=1/0.5,scale=2:2:flags=area -pix_fmt rgb24" in told.read_text()


def test_the_pi_s_own_camera_goes_through_rpicam(programs: Callable[[str, str], Path]) -> None:
    told = programs("rpicam-vid", "sys.stdout.buffer.write(b'ab' * 8)")
    programs("ffmpeg", "sys.stdout.buffer.write(sys.stdin.buffer.read(16)); sys.stdout.flush(); time.sleep(60)")
    source = frames("pi", (1, 4, 4), SCALING, 1)
    frame = next(source)
    source.close()
    np.testing.assert_allclose(frame.values.ravel()[:2], np.array([97, 98]) / 255, atol=1e-6)
    assert "--codec mjpeg" in told.read_text()


def test_a_missing_program_is_named(programs: Callable[[str, str], Path]) -> None:
    with pytest.raises(DeviceError, match=r"--camera: the program ffmpeg is missing; install it \(Debian: apt install"):
        next(frames("/dev/video0", (1, 2, 2), SCALING, 1))
    programs("ffmpeg", "")
    with pytest.raises(DeviceError, match="the program rpicam-vid is missing"):
        next(frames("pi", (1, 2, 2), SCALING, 1))


def test_a_camera_that_is_refused_is_one_line(programs: Callable[[str, str], Path]) -> None:
    programs("ffmpeg", "sys.exit('/dev/video0: Permission denied')")
    with pytest.raises(DeviceError, match="--camera: /dev/video0 gives no frames: /dev/video0: Permission denied"):
        next(frames("/dev/video0", (1, 2, 2), SCALING, 1))


def test_programs_end_with_the_stream(programs: Callable[[str, str], Path], tmp_path: Path) -> None:
    alive = tmp_path / "alive"
    code = (
        f"import os; open({str(alive)!r}, 'w').write(str(os.getpid()))\nwhile True: sys.stdout.buffer.write(bytes(4))"
    )
    programs("ffmpeg", code)
    source = frames("/dev/video0", (1, 2, 2), SCALING, 1)
    next(source)
    source.close()
    assert not Path(f"/proc/{alive.read_text()}").exists()


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed (make deps-system)")
def test_ffmpeg_takes_the_options(tmp_path: Path) -> None:
    # ffmpeg's own test picture in place of a camera.
    argv = ["ffmpeg", "-v", "error", "-f", "lavfi", "-i", "testsrc", "-vf", "fps=1/0.1,scale=8:6:flags=area"]
    argv += ["-pix_fmt", "gray", "-frames:v", "2", "-f", "rawvideo", "pipe:1"]
    assert len(subprocess.run(argv, capture_output=True, check=True).stdout) == 2 * 8 * 6
