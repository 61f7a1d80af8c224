"""What `wireleak-device` does with its arguments."""

from __future__ import annotations

import argparse
from contextlib import closing

from client.device.inputs.item import Floats
from client.device.inputs.source import Source, open_source
from client.device.model.encoder import Encoder
from client.device.model.errors import DeviceError, HeadAwayError
from client.device.model.manifest import read_manifest
from client.device.model.transforms import Chain
from client.device.output import Printer, say
from client.device.streaming.link import Link, checked_address
from client.device.streaming.outbox import Message, Outbox
from client.device.streaming.record import Record
from client.device.streaming.stream import Streamer
from wireleak.common.wire import Security, decode_tensor
from wireleak.common.wire import split_head_pb2 as pb


def stream(chosen: argparse.Namespace) -> None:
    """Stream the chosen inputs until all are answered.

    Raises
    ------
    DeviceError
        One line for the user.
    """
    _check_numbers(chosen)
    manifest = read_manifest(chosen.encoder)
    chain = Chain(manifest.transforms, chosen.seed)
    for step in manifest.transforms:
        say(f"{step.name}: {step.guarantee or step.refusal or 'no guarantee'}")
    if chosen.seed is not None and chain.draws:
        say(f"--seed {chosen.seed}: the noise can be repeated by whoever knows the seed, so nothing is guaranteed")
    if chosen.input:
        source = open_source(chosen.input, manifest, chosen.resize, say)
    elif chosen.queue is not None:
        source = Source((), live=False)
    else:
        raise DeviceError("--input: is missing; name files, a folder, or - for standard input")
    encoder = Encoder(manifest, chosen.threads)
    printer = Printer(manifest.classes, chosen.json)
    record = Record(chosen.record) if chosen.record else None

    def deliver(message: Message, probabilities: Floats) -> None:
        printer.answer(message, probabilities)
        if record is not None:
            activations = decode_tensor(pb.Tensor.FromString(message.tensor)).astype("f4")
            record.add(message.first, activations, probabilities)

    with closing(Outbox(chosen.queue, manifest.identity)) as outbox:
        link = Link(
            checked_address(chosen.head),
            _security(chosen),
            manifest,
            chosen.batch,
            chosen.patience,
            chosen.timeout,
            say,
        )
        streamer = Streamer(lambda inputs: chain(encoder(inputs)), outbox, link, chosen.batch, deliver)
        try:
            streamer.run(source.items, live=source.live)
        except HeadAwayError as error:
            kept = f"start again to send the inputs that wait in {chosen.queue}" if chosen.queue else "the rest is lost"
            hint = kept if chosen.queue else f"{kept}; give --queue FOLDER to keep unanswered inputs"
            raise HeadAwayError(f"{error}; {outbox.count()} inputs were not answered; {hint}") from error
        finally:
            if record is not None:
                record.write()
    printer.totals(streamer.totals)


def _check_numbers(chosen: argparse.Namespace) -> None:
    for option in ("batch", "threads", "timeout", "patience"):
        value, least = getattr(chosen, option), 0 if option == "patience" else 1
        if not value >= least:
            raise DeviceError(f"--{option}: {value:g} is too small; give {least} or more")
    if chosen.seed is not None and chosen.seed < 0:
        raise DeviceError(f"--seed: {chosen.seed} is negative; give 0 or more")
    if chosen.head is None:
        raise DeviceError("--head: is missing; give the head's host:port")


def _security(chosen: argparse.Namespace) -> Security:
    try:
        return Security(chosen.ca, chosen.certificate, chosen.key)
    except ValueError as error:
        raise DeviceError(f"--certificate, --key: {error}") from error
