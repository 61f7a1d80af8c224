"""Stream inputs to the head: encode, queue, send, take each answer once, and go on after a lost link."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

import grpc
import numpy as np

from client.device.inputs.item import Floats, Item
from client.device.model.errors import DeviceError
from client.device.streaming.link import Link, LinkLostError, Stream
from client.device.streaming.outbox import Message, Outbox
from wireleak.common.wire import encode_tensor

# Enough messages to keep the link and the head busy, few enough to bound the memory of those that wait.
WINDOW = 8


@dataclass
class Totals:
    """What a stream has cost so far.

    Parameters
    ----------
    inputs, messages : int
        Answered ones.
    sent_bytes, received_bytes : int
        Sizes of all messages, those sent again included.
    encode_seconds : float
        Seconds in the encoder and the transforms.
    losses : int
        How often the link was lost.
    """

    inputs: int = 0
    messages: int = 0
    sent_bytes: int = 0
    received_bytes: int = 0
    encode_seconds: float = 0.0
    losses: int = 0


class Streamer:
    """Streams the inputs of a source.

    Parameters
    ----------
    encode : callable
        float32 (n, *input_shape) -> the activations to send, transforms applied.
    outbox : Outbox
    link : Link
    batch : int
        Inputs in one message.
    deliver : callable
        Takes each answered message and its probabilities (n, classes), once and in order.
    """

    def __init__(
        self,
        encode: Callable[[Floats], Floats],
        outbox: Outbox,
        link: Link,
        batch: int,
        deliver: Callable[[Message, Floats], None],
    ) -> None:
        self._encode = encode
        self._outbox = outbox
        self._link = link
        self._batch = batch
        self._deliver = deliver
        self.totals = Totals()

    def run(self, source: Iterable[Item], *, live: bool) -> None:
        """Send what waits from before, then every input, and return when all are answered.

        A live source, such as a camera, waits for each answer before the next input is read.

        Raises
        ------
        DeviceError
            The head refuses, stays away, or an input cannot be used. Unanswered messages stay in the outbox.
        """
        fresh = self._messages(source, remember=not live and self._outbox.folder is not None)
        while True:
            try:
                with self._link.open() as stream:
                    self._serve(stream, chain(self._outbox.waiting(), fresh), 1 if live else WINDOW)
                self._outbox.all_answered()
                return
            except grpc.RpcError as error:
                failure = self._link.failure(error)
            except LinkLostError as error:
                failure = error
            if not isinstance(failure, LinkLostError):
                raise failure
            self.totals.losses += 1
            self._link.wait(failure)

    def _serve(self, stream: Stream, messages: Iterator[Message], window: int) -> None:
        unanswered: deque[Message] = deque()
        problem: DeviceError | None = None
        while True:
            try:
                while problem is None and len(unanswered) < window and (message := next(messages, None)) is not None:
                    self.totals.sent_bytes += stream.send(message)
                    unanswered.append(message)
            except DeviceError as error:  # of an input: those before it are still answered
                problem = error
            if not unanswered:
                if problem is not None:
                    raise problem
                return
            probabilities, size = stream.receive(len(unanswered[0].names))
            self._link.heard()
            message = unanswered.popleft()
            self._deliver(message, probabilities)
            self._outbox.answered(message)
            self.totals.received_bytes += size
            self.totals.messages += 1
            self.totals.inputs += len(message.names)

    def _messages(self, source: Iterable[Item], *, remember: bool) -> Iterator[Message]:
        """Encode the source's inputs, a batch at a time, and store each message before it can be sent."""
        held: list[Item] = []
        for item in source:
            if remember and self._outbox.took(item.name):
                continue
            held.append(item)
            if len(held) == self._batch:
                yield self._stored(held, remember)
                held = []
        if held:
            yield self._stored(held, remember)

    def _stored(self, items: list[Item], remember: bool) -> Message:
        began = time.perf_counter()
        try:
            activation = self._encode(np.stack([item.values for item in items]))
        except DeviceError as error:
            raise DeviceError(f"{error} (input {items[0].name})") from error
        self.totals.encode_seconds += time.perf_counter() - began
        tensor = encode_tensor(activation).SerializeToString()
        return self._outbox.put([item.name for item in items], tensor, remember=remember)
