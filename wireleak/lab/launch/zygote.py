"""The fork server, which starts all other processes: it imports the heavy libraries once, then forks.

`wireleak.lab.launch.processes.Launcher` starts `python -m wireleak.lab.launch.zygote FD` and exchanges JSON lines with
it over the socket `FD`. It never imports a party: a string names the code of a child, which is imported after the fork.
It stays single-threaded, because only the forking thread survives in a child.

A command is a list of strings: `["-m", MODULE, *arguments]` runs a module, `["package.module:function", *arguments]`
a console entry point, anything else a program on the path. No child imports from its working folder.

Nothing outlives it. Children lead their own session and die with this process (`PR_SET_PDEATHSIG`). When a child ends,
the rest of its group is killed. Processes that left the group are adopted and killed (`PR_SET_CHILD_SUBREAPER`). When
the launcher's end of the socket closes, for any reason, everything is killed.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import importlib
import io
import json
import os
import random
import runpy
import selectors
import shutil
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any, NoReturn

from wireleak.lab.launch.jail import Jail
from wireleak.lab.launch.parties import foreign_party

# In the order in which they are needed: Flower's daemons start while torch is still being imported.
FLOWER = (
    "numpy",
    "grpc",
    "flwr.superlink.cli",
    "flwr.superlink.main",
    "flwr.supernode.cli",
    "flwr.supernode.main",
    "flwr.cli.app",
    "flwr.serverapp.strategy",
    "flwr.clientapp",
    "flwr.superlink.runtime",
    "flwr.supernode.runtime.run_clientapp",
)
LEARNING = ("torch", "torch.optim", "torch._dynamo", "safetensors.torch", "wireleak.common.models", "pydantic", "typer")
ANALYSIS = (
    "sklearn.linear_model",
    "sklearn.neighbors",
    "sklearn.neural_network",
    "h11",
    "hpack",
    "hyperframe.frame",
    "py_landlock",
    "pyseccomp",
    "wireleak.common.wire",
    "wireleak.common.measures",
    "wireleak.common.targets.attribute",
    "wireleak.common.targets.input",
)
# Libraries read these on import, so a child with another value needs its own interpreter.
READ_AT_IMPORT = ("FLWR_TELEMETRY", "FLWR_LOG_LEVEL", "FLWR_PRIVATE_", "FLWR_SUPERGRID", "FLWR_LOCAL_", "PYTHON", "LD_")
# Without this, a child that is stopped before it sets its own handlers would run its parent's.
_DEFERRED = (signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def fork() -> int:
    """Fork. The child is killed when this process ends (Linux), and blocks signals until `become_child`."""
    parent = os.getpid()
    # A child's garbage collector would write to, and so copy, every inherited page.
    gc.freeze()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _DEFERRED)
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    if pid != 0:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return pid
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    return 0 if os.getppid() == parent else os._exit(137)


def run_command(argv: list[str]) -> int:
    """Run a module or an entry point as `__main__` in this process; return its exit status (negative: the signal)."""
    try:
        if argv[0] == "-m":
            sys.argv = argv[1:]
            runpy.run_module(argv[1], run_name="__main__", alter_sys=True)
        else:
            module, function = argv[0].split(":")
            sys.argv = [function.replace("_", "-"), *argv[1:]]
            getattr(importlib.import_module(module), function)()
    except SystemExit as exit_:
        if exit_.code is None or isinstance(exit_.code, int):
            return exit_.code or 0
        print(exit_.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return -signal.SIGINT
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def end_child(status: int) -> NoReturn:
    """End a forked process as the interpreter would, but without tearing down modules, which would copy every page."""
    # Joins threads that are not daemons; `multiprocessing` ends its forked children with the same two steps.
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status & 0xFF)


def become_child(log: Path | None = None) -> None:
    """Make a newly forked process independent: default signals, new random state, output to `log`."""
    for number in (signal.SIGTERM, signal.SIGCHLD, signal.SIGQUIT):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    # Even if the lab was started in the background, where SIGINT is ignored: the lab stops children with SIGINT.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if log is not None:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(output, 1)
        os.dup2(output, 2)
        os.close(output)
    _reseed()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _DEFERRED)


def _reseed() -> None:
    random.seed(seed := int.from_bytes(os.urandom(4), "little"))
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(seed)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(seed)


def _prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(option, value, 0, 0, 0)


class Zygote:
    """The fork server's side of the launcher's requests; see the module's docstring.

    Parameters
    ----------
    connection : socket.socket
        Connected stream to the launcher.
    preload : list of str
        Modules to import, in order. Empty: every child is a fresh interpreter.
    """

    def __init__(self, connection: socket.socket, preload: list[str]) -> None:
        self._connection = connection
        self._preload = preload
        self._loaded: set[str] = set()
        self._environment = dict(os.environ)
        self._waiting: list[dict[str, Any]] = []
        self._leaders: dict[int, int] = {}
        self._unread = b""
        self._open = True
        self._selector = selectors.DefaultSelector()
        self._wake, self._wakeup = socket.socketpair()

    def serve(self) -> None:
        """Import, then serve until the launcher is gone; kill all that is left."""
        _prctl(_PR_SET_CHILD_SUBREAPER, 1)
        for end in (self._wake, self._wakeup, self._connection):
            end.setblocking(False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, self._close)
        signal.set_wakeup_fd(self._wakeup.fileno())
        self._selector.register(self._connection, selectors.EVENT_READ)
        self._selector.register(self._wake, selectors.EVENT_READ)
        try:
            self._import_all()
            while self._open:
                self._turn(None)
        finally:
            self._kill_everything()

    def _import_all(self) -> None:
        began = time.monotonic()
        gc.disable()
        for module in self._preload:
            # A child that needs a missing extra reports the error itself.
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
            if module == "torch":
                sys.modules["torch"].set_num_threads(1)
            self._loaded.add(module)
            self._turn(0)
            if not self._open:
                return
        threads = len(list(Path("/proc/self/task").iterdir())) if sys.platform == "linux" else threading.active_count()
        self._send(event="ready", seconds=time.monotonic() - began, cpu=time.process_time(), threads=threads)

    def _turn(self, timeout: float | None) -> None:
        self._selector.select(timeout)
        with contextlib.suppress(BlockingIOError):
            self._wake.recv(4096)
        self._reap()
        self._read()
        ready, self._waiting = self._split_waiting()
        for request in ready:
            self._start(request)

    def _split_waiting(self) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        if len(self._loaded) == len(self._preload):
            return self._waiting, []
        if not self._loaded.issuperset(set(FLOWER) & set(self._preload)):
            return [], self._waiting
        early = [request for request in self._waiting if request["early"]]
        return early, [request for request in self._waiting if not request["early"]]

    def _read(self) -> None:
        try:
            data = self._connection.recv(1 << 20)
        except BlockingIOError:
            return
        except ConnectionError:
            data = b""
        if not data:
            self._open = False
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if request["request"] == "start":
                self._waiting.append(request)
            else:
                self._signal(request["id"], request["signal"])

    def _signal(self, identity: int, number: int) -> None:
        for request in [request for request in self._waiting if request["id"] == identity]:
            self._waiting.remove(request)
            self._send(event="ended", id=identity, status=-number, cpu=0.0, rss=0)
        for pid, leader in self._leaders.items():
            if leader == identity:
                os.kill(pid, number)

    def _start(self, request: dict[str, Any]) -> None:
        try:
            with Path(request["log"]).open("a"):
                pass
            Path(request["cwd"]).stat()
            pid = fork()
        except OSError as error:
            self._send(event="failed", id=request["id"], error=str(error))
            return
        if pid == 0:
            self._child(request)
        self._leaders[pid] = request["id"]
        self._send(event="started", id=request["id"], pid=pid)

    def _child(self, request: dict[str, Any]) -> NoReturn:
        status = 127
        try:
            os.setsid()
            become_child(Path(request["log"]))
            self._selector.close()
            for end in (self._wake, self._wakeup, self._connection):
                end.close()
            os.chdir(request["cwd"])
            if request["jail"] is not None:
                Jail.from_json(request["jail"]).enter()
            environment, argv = request["env"], request["argv"]
            if not self._can_fork(environment, argv):
                _execute(argv, environment)
            os.environ.update({name: value for name, value in environment.items() if os.environ.get(name) != value})
            for name in self._environment.keys() - environment.keys():
                del os.environ[name]
            for stream in (sys.stdout, sys.stderr):
                if isinstance(stream, io.TextIOWrapper):
                    stream.reconfigure(line_buffering=True)
            gc.enable()
            status = run_command(argv)
        except KeyboardInterrupt:
            status = -signal.SIGINT
        except OSError as error:
            print(f"cannot run {request['argv'][0]}: {error}", file=sys.stderr)
        finally:
            end_child(status)

    def _can_fork(self, environment: dict[str, str], argv: list[str]) -> bool:
        if not self._preload or not _is_python(argv):
            return False
        names = {*environment, *self._environment}
        return all(environment.get(n) == self._environment.get(n) for n in names if n.startswith(READ_AT_IMPORT))

    def _reap(self) -> None:
        while self._leaders or _children():
            try:
                ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            except ChildProcessError:
                return
            if ended is None:
                return
            pid = ended.si_pid
            if pid in self._leaders:
                # Before reaping, while no other group can get this number.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(pid, signal.SIGKILL)
            _, status, usage = os.wait4(pid, 0)
            identity = self._leaders.pop(pid, None)
            self._kill_orphans()
            if identity is not None:
                code = os.waitstatus_to_exitcode(status)
                cpu = usage.ru_utime + usage.ru_stime
                self._send(event="ended", id=identity, status=code, cpu=cpu, rss=usage.ru_maxrss)

    def _kill_orphans(self) -> None:
        for pid in _children():
            if pid not in self._leaders:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _kill_everything(self) -> None:
        deadline = time.monotonic() + 5
        while (children := _children()) and time.monotonic() < deadline:
            for pid in children:
                for kill in (os.killpg, os.kill):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        kill(pid, signal.SIGKILL)
            self._reap()
            time.sleep(0.01)

    def _send(self, **event: Any) -> None:
        try:
            self._connection.setblocking(True)
            self._connection.sendall(json.dumps(event).encode() + b"\n")
            self._connection.setblocking(False)
        except OSError:
            self._open = False

    def _close(self, *_: object) -> None:
        self._open = False


def _is_python(argv: list[str]) -> bool:
    return argv[0] == "-m" or (":" in argv[0] and not argv[0].startswith(("/", ".")))


def _execute(argv: list[str], environment: dict[str, str]) -> NoReturn:
    if _is_python(argv):
        code = "import sys; from wireleak.lab.launch.zygote import *; end_child(run_command(sys.argv[1:]))"
        argv = [sys.executable, "-P", *(argv if argv[0] == "-m" else ["-c", code, *argv])]
    program = shutil.which(argv[0], path=environment.get("PATH"))
    if program is None:
        raise FileNotFoundError("no such program")
    # Python ignores it, and a program would inherit this.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execve(program, argv, environment)


def _children() -> list[int]:
    """Return the direct children of this process, adopted ones included."""
    with contextlib.suppress(OSError):
        return [int(pid) for pid in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()]
    psutil: Any = importlib.import_module("psutil")
    return [child.pid for child in psutil.Process().children()]


def main() -> None:
    """Serve the launcher at the other end of the inherited socket."""
    connection = socket.socket(fileno=int(sys.argv[1]))
    if (refusal := foreign_party()) is not None:
        connection.sendall(json.dumps({"event": "refused", "error": refusal}).encode() + b"\n")
        # Ending before the launcher would reset the connection and could lose the refusal.
        while connection.recv(1 << 16):
            pass
        raise SystemExit(2)
    preload = [*FLOWER, *LEARNING, *ANALYSIS] if sys.argv[2] == "preload" else []
    Zygote(connection, preload).serve()
    # Nothing is left to clean up, and tearing down the libraries takes half a second.
    os._exit(0)


if __name__ == "__main__":
    main()
