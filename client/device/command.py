"""What `wireleak-device` does with its arguments."""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from itertools import islice

from client.device.benchmark import benchmark, shown
from client.device.inputs.item import Floats
from client.device.inputs.source import Source, nothing, open_camera, open_source
from client.device.model.encoder import Encoder
from client.device.model.errors import DeviceError, HeadAwayError
from client.device.model.manifest import Manifest, read_manifest
from client.device.model.transforms import Chain
from client.device.output import Printer, say
from client.device.streaming.link import Link, checked_address
from client.device.streaming.outbox import Message, Outbox
from client.device.streaming.record import Record
from client.device.streaming.stream import Streamer
from wireleak.common.wire import Security, decode_tensor
from wireleak.common.wire import split_head_pb2 as pb
from wireleak.common.words import told


def run(chosen: argparse.Namespace) -> None:
    """Stream the chosen inputs until all are answered, or run the benchmark.

    Raises
    ------
    DeviceError
        One line for the user.
    """
    _check_numbers(chosen)
    if chosen.benchmark:
        rows = benchmark(chosen.encoder, chosen.batch, chosen.threads)
        print(json.dumps(rows) if chosen.json else shown(rows))
        return
    if chosen.head is None:
        raise DeviceError("--head: is missing; give the head's host:port")
    address, security = checked_address(chosen.head), _security(chosen)
    manifest = read_manifest(chosen.encoder)
    chain = Chain(manifest.transforms, chosen.seed, manifest.kind)
    for step in manifest.transforms:
        say(f"{step.name}: {step.guarantee or step.refusal or 'no guarantee'}")
    if chosen.seed is not None and chain.draws:
        say(f"--seed {chosen.seed}: the noise can be repeated by whoever knows the seed, so nothing is guaranteed")
    encoder = Encoder(manifest, chosen.threads)
    printer = Printer(manifest.classes, chosen.json)
    record = Record(chosen.record) if chosen.record else None

    def deliver(message: Message, probabilities: Floats) -> None:
        printer.answer(message, probabilities)
        if record is not None:
            activations = decode_tensor(pb.Tensor.FromString(message.tensor)).astype("f4")
            record.add(message.first, activations, probabilities)

    source = _source(chosen, manifest)
    with closing(source.items), closing(Outbox(chosen.queue, manifest.identity)) as outbox:
        link = Link(address, security, manifest, chosen.batch, chosen.patience, chosen.timeout, say)
        streamer = Streamer(lambda inputs: chain(encoder(chain.before(inputs))), outbox, link, chosen.batch, deliver)
        try:
            streamer.run(islice(source.items, chosen.count), live=source.live)
        except HeadAwayError as error:
            fix = (
                "run the same command again to go on"
                if chosen.queue
                else "give --queue FOLDER, and a next start goes on"
            )
            raise HeadAwayError(
                f"{error}; inputs from number {outbox.unanswered()} on have no answer; {fix}"
            ) from error
        finally:
            if record is not None:
                record.write()
            if streamer.totals.inputs:
                printer.totals(streamer.totals)


def _source(chosen: argparse.Namespace, manifest: Manifest) -> Source:
    if chosen.camera and chosen.input:
        raise DeviceError("--camera: is given, and --input too; give one of them")
    if chosen.camera:
        return open_camera(chosen.camera, manifest, chosen.every)
    if chosen.input:
        return open_source(chosen.input, manifest, chosen.resize, say)
    if chosen.queue is not None:
        return nothing()
    raise DeviceError("--input: is missing; name files, a folder, or - for standard input")


def _check_numbers(chosen: argparse.Namespace) -> None:
    for option in ("batch", "threads", "timeout", "patience"):
        value, least = getattr(chosen, option), 0 if option == "patience" else 1
        if not value >= least:
            raise DeviceError(f"--{option}: {value:g} is too small; give {least} or more")
    if chosen.seed is not None and chosen.seed < 0:
        raise DeviceError(f"--seed: {chosen.seed} is negative; give 0 or more")
    if chosen.count is not None and chosen.count < 1:
        raise DeviceError(f"--count: {chosen.count} is too small; give 1 or more")
    if not 0.01 <= chosen.every <= 86400:
        raise DeviceError(f"--every: {chosen.every:g} is no time between frames; give seconds from 0.01 to 86400")


def _security(chosen: argparse.Namespace) -> Security:
    try:
        return Security(chosen.ca, chosen.certificate, chosen.key)
    except ValueError as error:
        raise DeviceError(f"--certificate, --key: {told(error)}") from error
