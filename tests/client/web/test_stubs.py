"""The page's stubs say the same as the contract (`make proto-web` makes them again)."""

from __future__ import annotations

import base64
import re
from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto

from wireleak.common.wire.split_head_pb2 import DESCRIPTOR

STUBS = Path(__file__).parents[3] / "client" / "web" / "src" / "gen" / "split_head_pb.js"


def plain(file: FileDescriptorProto) -> FileDescriptorProto:
    """Leave out what depends on the generator: the file's own name, and names in JSON."""
    file.ClearField("name")
    for message in file.message_type:
        for field in message.field:
            field.ClearField("json_name")
    return file


def test_the_pages_stubs_are_those_of_the_contract() -> None:
    text = STUBS.read_text()
    (encoded,) = re.findall(r'fileDesc\("([^"]+)"', text)
    ours = FileDescriptorProto()
    DESCRIPTOR.CopyToProto(ours)
    theirs = FileDescriptorProto.FromString(base64.b64decode(encoded + "=" * (-len(encoded) % 4)))
    assert plain(theirs) == plain(ours)
