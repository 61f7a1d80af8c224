"""Everything of the lab that depends on Flower's internals: shorter waits, and ClientApps that live through a run.

With `--isolation process`, SuperNodes and the SuperLink wait for another program to run their apps. That program is
`wireleak.lab.launch.runner`; this file has its dealings with Flower. Where an interface is missing, `unavailable` says
so, and Flower starts the apps itself.

Flower's nodes and its ServerApp look for messages every 3 seconds, and for a reply of the app every 0.5 seconds, which
is most of the time of a small study. Here they are woken: a process that has something for a node rings the node's
bell, a named pipe. On other machines, and without pipes, they look every `WIRELEAK_FLOWER_POLL` seconds. They also send
heartbeats more often, so that a killed one is noticed sooner.

Flower starts a process for each message, which imports torch and the app, opens connections, and is torn down.
`ClientAppLife` does the same work for all messages of a run in one process of the client's own.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import importlib
import os
import pkgutil
import select
import time
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from wireleak.common.words import without_folders

POLL = "WIRELEAK_FLOWER_POLL"
WAKE = "WIRELEAK_FLOWER_WAKE"
BELL = "WIRELEAK_FLOWER_BELL"
SENT = "WIRELEAK_FLOWER_SENT"
CLIENTAPP, SERVERAPP = TASKS = ("flwr-clientapp", "flwr-serverapp")
# Replies that come within this time are pulled together.
_TOGETHER_SECONDS = 0.05
# Flower drops a node that is silent for twice this long; Flower's own value is 30.
_HEARTBEAT_SECONDS = 12
# Clients close an idle connection after 5 seconds. If the server does so too, it may drop a request that is on its way.
_IDLE_SECONDS = 60
# A SuperLink drops a reply of which no part arrived for 180 seconds; its node must not wait for longer.
_PART_SECONDS = 60
_USED = {
    "flwr.supercore.runtime": ("RuntimeHttpClient",),
    "flwr.supercore.interceptors": ("RuntimeVersionHttpInterceptor", "RuntimeTokenHttpInterceptor"),
    "flwr.proto.runtime_pb2": ("AcquireTaskRequest",),
    "flwr.supernode.runtime.run_clientapp": (
        "get_load_client_app_fn",
        "install_from_fab",
        "make_push_object_fn_protobuf",
        "make_simple_http_retry_invoker",
        "make_task_heartbeat_fn_http",
        "HeartbeatSender",
        "pull_task_input",
        "push_message",
        "push_task_output",
        "ErrorCode",
        "LoadClientAppError",
        "PullAppMessagesRequest",
        "SubStatus",
    ),
    "flwr.supercore.inflatable.inflatable_protobuf_utils": ("make_push_object_fn_protobuf",),
    "flwr.supercore.inflatable.inflatable_utils": ("ObjectPushError",),
    "flwr.common.serde": ("message_from_proto",),
    "flwr.supernode.start_client_internal": ("_pull_and_store_message", "_push_messages"),
    "flwr.superlink.grid.http_grid": ("HttpGrid",),
}


class _Clock:
    """The module `time` with shorter sleeps; it replaces `time` in one of Flower's modules."""

    def __init__(self, longest: float) -> None:
        self._longest = longest

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def sleep(self, seconds: float) -> None:
        time.sleep(min(seconds, self._longest))


class _Bell(_Clock):
    """The module `time` with sleeps that end when another process writes to a named pipe."""

    def __init__(self, path: str, longest: float = 3.0) -> None:
        super().__init__(longest)
        # Opened for writing too, so that the pipe does not end while nobody else has it open.
        self._pipe = os.open(path, os.O_RDWR | os.O_NONBLOCK)

    def sleep(self, seconds: float) -> None:
        if select.select([self._pipe], [], [], min(seconds, self._longest))[0]:
            os.read(self._pipe, 65536)


def make_pipe(path: Path) -> Path | None:
    """Make a named pipe; return None on a file system without pipes, where the runner polls the nodes instead."""
    path.unlink(missing_ok=True)
    try:
        os.mkfifo(path)
    except OSError:
        return None
    return path


def ring(path: str | None, word: str = "") -> None:
    """Write a line to a named pipe; without a reader nothing happens."""
    flags = os.O_WRONLY | os.O_NONBLOCK
    with contextlib.suppress(OSError, TypeError), os.fdopen(os.open(path, flags), "w") as pipe:  # type: ignore[arg-type]
        pipe.write(f"{word}\n")


def unavailable() -> str | None:
    """Return why the runner cannot drive this Flower, or None if it can."""
    try:
        for module, names in _USED.items():
            for name in names:
                _flower(module, name)
        _flower("flwr.supercore.runtime", "RuntimeHttpClient").AcquireTask  # noqa: B018
        for task in TASKS:
            command(task)
    except (ImportError, AttributeError, LookupError) as error:
        return str(error)
    return None


def superlink() -> None:
    """Run `flower-superlink` without a log line for each of its requests, of which a message needs about ten."""
    uvicorn: Any = importlib.import_module("uvicorn")
    run = uvicorn.run
    uvicorn.run = lambda *given, **named: run(
        *given, **named | {"access_log": False, "timeout_keep_alive": _IDLE_SECONDS}
    )
    _flower("flwr.superlink.cli", "flower_superlink")()


def supernode() -> None:
    """Run `flower-supernode`; it is woken by its bell, or else looks every `WIRELEAK_FLOWER_POLL` seconds."""
    module = "flwr.supernode.start_client_internal"
    uvicorn: Any = importlib.import_module("uvicorn")
    uvicorn.Config = functools.partial(uvicorn.Config, timeout_keep_alive=_IDLE_SECONDS)
    quicken(module)
    if bell := os.environ.get(BELL):
        importlib.import_module(module).time = _Bell(bell)  # type: ignore[attr-defined]
    if wake := os.environ.get(WAKE):
        _call_when_given_a_message(wake)
    _wait_no_longer_for_a_part()
    if sent := os.environ.get(SENT):
        _ring_after(importlib.import_module(module), "_push_messages", [sent])
    if os.environ.get(POLL):
        for beating in ("flwr.client.grpc_rere_client.connection", "flwr.supercore.corestate.in_memory_corestate"):
            _beat(beating)
    _flower("flwr.supernode.cli", "flower_supernode")()


def runtime_client(address: str, root_certificates: str | None, *, patient: bool = False) -> Any:
    """Return a client of a node's or the SuperLink's Runtime API; with `patient`, it tries again after an error."""
    certificates = root_certificates and Path(root_certificates).read_bytes()
    retries = _flower("flwr.supernode.runtime.run_clientapp", "make_simple_http_retry_invoker")() if patient else None
    return _flower("flwr.supercore.runtime", "RuntimeHttpClient").from_server_address(
        server_address=address,
        insecure=root_certificates is None,
        root_certificates=certificates,
        interceptors=[_version()],
        retry_invoker=retries,
    )


def acquire(client: Any) -> tuple[str, str, int] | None:
    """Return type, token and run of a task that waits at a Runtime API, if there is one."""
    response = client.AcquireTask(_flower("flwr.proto.runtime_pb2", "AcquireTaskRequest")(supported_task_types=TASKS))
    if response.HasField("task") and response.token:
        return response.task.type, response.token, response.task.run_id
    return None


class ClientAppLife:
    """A ClientApp that answers all messages of a run, in this process.

    It makes the requests of Flower's `run_clientapp`, but loads the app once, and its connections stay open.

    Parameters
    ----------
    address : str
        Of the node's Runtime API.
    root_certificates : str, optional
        Path of the certificate with which to check the node.
    own : str, optional
        "module:attribute" of the app to run, whatever bundle the server sends.
    bell : str, optional
        The node's bell, rung when a reply is ready.
    """

    def __init__(self, address: str, root_certificates: str | None, own: str | None, bell: str | None) -> None:
        self._flower: Any = importlib.import_module("flwr.supernode.runtime.run_clientapp")
        self._flower.make_push_object_fn_protobuf = _push_each  # type: ignore[attr-defined]
        self._client = runtime_client(address, root_certificates, patient=True)
        self._own = own
        self._bell = bell
        self._app: Callable[..., Any] | None = None

    def answer(self, token: str) -> bool:
        """Answer the message of a task, with an error if the app fails; return whether it succeeded."""
        flower, client = self._flower, self._client
        client._interceptors = (_version(), flower.RuntimeTokenHttpInterceptor(token))
        beating = flower.HeartbeatSender(_but_not_at_once(flower.make_task_heartbeat_fn_http(client)))
        beating.start()
        message = context = None
        status, details = flower.SubStatus.COMPLETED, ""
        try:
            message, context, run, fab = flower.pull_task_input(client)
            if self._app is None:
                self._app = self._load(run, fab)
            reply = self._app(message=message, context=context)
        except Exception as error:
            flower.log(flower.ERROR, "ClientApp raised an exception", exc_info=error)
            status, details = flower.SubStatus.FAILED, without_folders(f"{type(error)}:<'{error}'>")
            loading = isinstance(error, flower.LoadClientAppError)
            codes = flower.ErrorCode
            code = codes.LOAD_CLIENT_APP_EXCEPTION if loading else codes.CLIENT_APP_RAISED_EXCEPTION
            if message is None:
                beating.stop()
                self.answer_for(token, details)
                return False
            reply = flower.Message(flower.Error(code=code, reason=details), reply_to=message)
        try:
            flower.push_message(client, reply, context)
        except Exception as error:
            flower.log(flower.ERROR, "the reply may be lost", exc_info=error)
            status, details = flower.SubStatus.FAILED, f"{type(error)}:<'{error}'>"
        ring(self._bell)
        # A heartbeat for a task that has just ended would be refused, and Flower then interrupts this process.
        beating.stop()
        # A task that never ends makes the node answer a later message with an error, and from then on one too late.
        flower.push_task_output(client, context, status, details)
        return bool(status == flower.SubStatus.COMPLETED)

    def answer_for(self, token: str, why: str) -> None:
        """Answer a message with an error, because the process of its task died or failed before it took the message.

        If it was taken, Flower answers when the token expires. A task's input, given once, is not asked for again.
        """
        flower, client = self._flower, self._client
        client._interceptors = (_version(), flower.RuntimeTokenHttpInterceptor(token))
        for taken in client.PullMessages(flower.PullAppMessagesRequest()).messages_list:
            message = _flower("flwr.common.serde", "message_from_proto")(taken)
            about = SimpleNamespace(run_id=message.metadata.run_id, node_id=message.metadata.dst_node_id)
            reply = flower.Message(flower.Error(flower.ErrorCode.CLIENT_APP_CRASHED, why), reply_to=message)
            flower.push_message(client, reply, about)
            ring(self._bell)
            flower.push_task_output(client, None, flower.SubStatus.FAILED, why)

    def _load(self, run: Any, fab: Any) -> Any:
        if self._own is not None:
            return pkgutil.resolve_name(self._own)
        install_once(fab.content)
        load = self._flower.get_load_client_app_fn(default_app_ref="", app_path=None, multi_app=True)
        return load(run.fab_id, run.fab_version, fab.hash_str)


def quicken(module: str | None = None) -> None:
    """Shorten the waits in one of Flower's modules, including those for an object that has not arrived."""
    if longest := os.environ.get(POLL):
        if module is not None:
            importlib.import_module(module).time = _Clock(float(longest))  # type: ignore[attr-defined]
        for function in ("pull_objects", "pull_and_inflate_object_from_tree"):
            waits = _flower("flwr.supercore.inflatable.inflatable_utils", function).__kwdefaults__
            waits.update(initial_backoff=float(longest) / 4, backoff_cap=float(longest))
        _beat("flwr.supercore.heartbeat")


def join_bells(bell: str | None, nodes: Iterable[str]) -> None:
    """Make this ServerApp ring the nodes after it has sent messages, and look for replies when it is rung."""
    grid: Any = _flower("flwr.superlink.grid.http_grid", "HttpGrid")
    _ring_after(grid, "push_messages", list(nodes))
    if bell is None or not os.environ.get(POLL) or not Path(bell).is_fifo():
        return
    # A reply from another machine rings nothing.
    longest = float(os.environ[POLL])
    clock, pull = _Bell(bell, longest), grid.pull_messages

    def waiting(*given: Any, **named: Any) -> Any:
        clock.sleep(longest)
        return pull(*given, **named)

    grid.pull_messages = waiting
    # The loop around it would wait again.
    importlib.import_module("flwr.superlink.grid.http_grid").time = _Clock(_TOGETHER_SECONDS)  # type: ignore[attr-defined]


def install_once(content: bytes) -> None:
    """Unpack and check a bundle in this process's FLWR_HOME, unless that was done."""
    done = Path(os.environ["FLWR_HOME"]) / f"installed-{hashlib.sha256(content).hexdigest()}"
    if not done.exists():
        _flower("flwr.supernode.runtime.run_clientapp", "install_from_fab")(content, skip_prompt=True)
        done.touch()


def command(task: str) -> str:
    """Return the entry point of Flower's program for a kind of task."""
    (entry,) = [entry for entry in entry_points(group="console_scripts", name=task) if entry.module.startswith("flwr.")]
    return entry.value


def _ring_after(owner: Any, name: str, bells: list[str]) -> None:
    """Make a function of Flower's ring bells when it returns."""
    function = getattr(owner, name)

    def ringing(*given: Any, **named: Any) -> Any:
        result = function(*given, **named)
        for bell in bells:
            ring(bell)
        return result

    setattr(owner, name, ringing)


def _call_when_given_a_message(wake: str) -> None:
    """Make this node write its pid to the runner's pipe after it has stored a message for its app."""
    module: Any = importlib.import_module("flwr.supernode.start_client_internal")
    pull = module._pull_and_store_message

    def calling(*given: Any, **named: Any) -> int | None:
        run: int | None = pull(*given, **named)
        if run is not None:
            ring(wake, str(os.getpid()))
        return run

    module._pull_and_store_message = calling


class _Parts:
    """A node's store of objects in which the parts of a reply are awaited for a limited time."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self._asked: dict[str, float] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def get(self, part: str) -> Any:
        """Return a part, or b"" while it has not arrived."""
        content, now = self._store.get(part), time.monotonic()
        if content == b"" and now - self._asked.setdefault(part, now) > _PART_SECONDS:
            raise TimeoutError(f"a part of the reply did not arrive in {_PART_SECONDS} s; its ClientApp may have died")
        return content


def _wait_no_longer_for_a_part() -> None:
    """Make this node drop a reply of which a part never arrives: an app that dies while it pushes leaves one."""
    module: Any = importlib.import_module("flwr.supernode.start_client_internal")
    push = module._push_messages

    def patient(**named: Any) -> None:
        push(**named | {"object_store": _Parts(named["object_store"])})

    module._push_messages = patient


def _push_each(*known: Any, **named: Any) -> Callable[[str, bytes], None]:
    """Return Flower's push of a part of a reply, which goes on to the next part where Flower refuses one.

    Flower refuses a part that it has, which comes again if an answer was lost; the node waits for the others for ever.
    """
    module = "flwr.supercore.inflatable.inflatable_protobuf_utils"
    push: Callable[[str, bytes], None] = _flower(module, "make_push_object_fn_protobuf")(*known, **named)
    refused = _flower("flwr.supercore.inflatable.inflatable_utils", "ObjectPushError")

    def one(object_id: str, content: bytes) -> None:
        try:
            push(object_id, content)
        except refused as error:
            app = importlib.import_module("flwr.supernode.runtime.run_clientapp")
            app.log(app.ERROR, "a part of the reply was refused", exc_info=error)

    return one


def _but_not_at_once(beat: Callable[[], bool]) -> Callable[[], bool]:
    """Leave out the first heartbeat: a task that has just started counts as alive, and most end before the second."""
    first = iter([True])
    return lambda: next(first, False) or beat()


def _version() -> Any:
    return _flower("flwr.supercore.interceptors", "RuntimeVersionHttpInterceptor")("wireleak-runner")


def _beat(module: str) -> None:
    importlib.import_module(module).HEARTBEAT_DEFAULT_INTERVAL = _HEARTBEAT_SECONDS  # type: ignore[attr-defined]


def _flower(module: str, name: str) -> Any:
    return getattr(importlib.import_module(module), name)
