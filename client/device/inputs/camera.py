"""Frames of a camera, one after the other, by the program ffmpeg; of a Raspberry Pi's own camera, by rpicam-vid too."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from client.device.inputs import images
from client.device.inputs.item import Item
from client.device.model.errors import DeviceError

PI = "pi"
_PI_PROGRAMS = ("rpicam-vid", "libcamera-vid")
_PACKAGES = {"ffmpeg": "apt install ffmpeg", "rpicam-vid": "apt install rpicam-apps"}
_PIXELS = {1: "gray", 3: "rgb24"}


def frames(
    camera: str, shape: tuple[int, ...], scaling: Mapping[str, Any], seconds: float
) -> Generator[Item, None, None]:
    """Yield a frame every `seconds`, scaled to the encoder's size by area, until the generator is closed.

    Parameters
    ----------
    camera : str
        A video device such as /dev/video0, or "pi".
    shape : tuple of int
        (channels, height, width).
    scaling : mapping
        "low" and "high" of pictures.
    seconds : float

    Raises
    ------
    DeviceError
        A program is missing, or the camera cannot be opened or ends.
    """
    channels, height, width = shape
    source = ["-f", "mjpeg", "-i", "pipe:0"] if camera == PI else ["-f", "v4l2", "-i", camera]
    filters = f"fps=1/{seconds:g},scale={width}:{height}:flags=area"
    reading = [_program(("ffmpeg",)), "-v", "error", *source, "-vf", filters]
    reading += ["-pix_fmt", _PIXELS[channels], "-f", "rawvideo", "pipe:1"]
    with contextlib.ExitStack() as started:
        taken: Any = subprocess.DEVNULL
        if camera == PI:
            size = ["--width", "640", "--height", "480", "--codec", "mjpeg", "-n", "-t", "0", "-o", "-"]
            taken = _start([_program(_PI_PROGRAMS), *size], subprocess.DEVNULL, started).stdout
        process = _start(reading, taken, started)
        assert process.stdout is not None and process.stderr is not None
        number, wanted = 0, channels * height * width
        while len(frame := process.stdout.read(wanted)) == wanted:
            pixels = np.frombuffer(frame, np.uint8).reshape(height, width, channels)
            yield images.scaled(f"{camera}:{number}", pixels, shape, scaling)
            number += 1
        reason = " ".join(process.stderr.read().decode(errors="replace").split())[-200:]
        raise DeviceError(f"--camera: {camera} gives no frames: {reason or 'it has ended'}")


def _program(names: tuple[str, ...]) -> str:
    for name in names:
        if (path := shutil.which(name)) is not None:
            return path
    raise DeviceError(f"--camera: the program {names[0]} is missing; install it (Debian: {_PACKAGES[names[0]]})")


def _start(command: list[str], taken: Any, started: contextlib.ExitStack) -> subprocess.Popen[bytes]:
    process = subprocess.Popen(command, stdin=taken, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    started.callback(_end, process)
    return process


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
