"""`wireleak-device`: stream activations of private inputs to a head, and print its predictions."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NoReturn

# An error is one line of our own: gRPC's core would write a second line to stderr.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")

from client.device.model.errors import DeviceError
from client.device.output import say

_INTERRUPTED = 130


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are one line."""

    def error(self, message: str) -> NoReturn:
        say(f"{message}; see wireleak-device --help")
        raise SystemExit(2)


class _Version(argparse.Action):
    """Print the version. It is looked up only then: a device may run the code without an installed package."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        try:
            print(f"wireleak {version('wireleak')}")
        except PackageNotFoundError:
            parser.error("--version: the code is not installed as a package, so its version is not known")
        raise SystemExit(0)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    made = _Parser(
        prog="wireleak-device",
        usage="%(prog)s ENCODER [OPTIONS]",
        description="Stream activations of private inputs to a head, and print its predictions.",
        epilog="Example: wireleak-device encoder --head 192.168.1.10:9092 --input photos --resize",
    )
    made.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    made.add_argument("encoder", metavar="ENCODER", type=Path, help="folder that `wireleak export` wrote")
    made.add_argument("--head", metavar="HOST:PORT", help="address of the head, or of the tap before it")
    made.add_argument(
        "--input",
        metavar="PATH",
        nargs="+",
        default=[],
        help='picture, .csv of sensor readings, .txt of lines, .npy, .npz with "x", a folder of them, or - for '
        "standard input; without it only what waits in --queue is sent",
    )
    made.add_argument("--camera", metavar="DEVICE", help='camera such as /dev/video0, or "pi" for the Pi\'s own')
    made.add_argument(
        "--every", type=float, default=1, metavar="S", help="seconds between its frames (default: %(default)s)"
    )
    made.add_argument("--count", type=int, metavar="N", help="stop after N inputs (default: all; of a camera, no end)")
    made.add_argument("--resize", action="store_true", help="scale pictures to the encoder's size, by area")
    made.add_argument("--batch", type=int, default=1, metavar="N", help="inputs in one message (default: %(default)s)")
    made.add_argument("--json", action="store_true", help="print JSON lines, with all probabilities and the totals")
    made.add_argument("--queue", type=Path, metavar="FOLDER", help="keep unanswered inputs here, for the next start")
    made.add_argument("--record", type=Path, metavar="FILE.npz", help="write all activations and predictions here")
    made.add_argument(
        "--patience", type=float, default=60, metavar="S", help="seconds to wait for a lost head (default: %(default)s)"
    )
    made.add_argument(
        "--timeout",
        type=float,
        default=30,
        metavar="S",
        help="seconds after which an answer is lost (default: %(default)s)",
    )
    made.add_argument("--ca", type=Path, metavar="PEM", help="authority that signed the head's certificate: TLS")
    made.add_argument("--certificate", type=Path, metavar="PEM", help="this device's certificate: mutual TLS")
    made.add_argument("--key", type=Path, metavar="PEM", help="key of this device's certificate")
    made.add_argument(
        "--threads", type=int, default=1, metavar="N", help="threads of the encoder (default: %(default)s)"
    )
    made.add_argument(
        "--seed", type=int, metavar="N", help="repeat the same noise, which then protects nobody: for tests only"
    )
    made.add_argument(
        "--benchmark", action="store_true", help="print size, start, memory and time of a batch, and torch's; no head"
    )
    return made


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command, and exit with 0, 1 (head away or disk full), 2 (mistake) or 130 (interrupted)."""
    chosen = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        from client.device.command import run

        run(chosen)
    except DeviceError as error:
        say(str(error))
        raise SystemExit(error.status) from None
    except KeyboardInterrupt:
        say("interrupted" + (f"; unanswered inputs wait in {chosen.queue}" if chosen.queue else ""))
        raise SystemExit(_INTERRUPTED) from None
    except BrokenPipeError:
        # The reader of the predictions has ended; Python would print a second error when it flushes them at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
