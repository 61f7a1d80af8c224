"""Checks of the replies of secure aggregation (SecAgg+), by the stage that asked for them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from io import BytesIO
from typing import Any, cast

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from flwr.app import ArrayRecord, ConfigRecord, Message
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS, Key, Stage
from flwr.compat.common.recorddict_compat import recorddict_to_fitres

from server.guard import UnusableError, check_number, check_weight, npy_header

# A share of a key and its encryption are far shorter.
_MOST_BYTES = 4096


class MaskedReplies:
    """Checks one round's replies; a client cannot be told from a hostile one by its masked numbers.

    Parameters
    ----------
    arrays : ArrayRecord
        The global model.
    modulus : int
        Masked numbers lie in [0, modulus).
    most : callable
        The largest number of examples of a node.
    """

    def __init__(self, arrays: ArrayRecord, modulus: int, most: Callable[[int], int]) -> None:
        self._shapes = [(1,), *(tuple(array.shape) for array in arrays.values())]
        self._modulus = modulus
        self._most = most
        self._keys: set[bytes] = set()

    def check(self, asked: Mapping[int, Mapping[str, Any]], node: int, reply: Message) -> None:
        """Check a reply to the request that `asked` holds of its node.

        Raises
        ------
        UnusableError
            The first rule that the reply breaks.
        """
        request = asked[node]
        if RECORD_KEY_CONFIGS not in reply.content.config_records:
            raise UnusableError(f"holds no record called {RECORD_KEY_CONFIGS!r}")
        answer = reply.content.config_records[RECORD_KEY_CONFIGS]
        match request[Key.STAGE]:
            case Stage.SETUP:
                self._check_keys(answer)
            case Stage.SHARE_KEYS:
                neighbours = {int(name) for name in request if name.lstrip("-").isdigit()} - {node}
                _check_shares(answer, Key.DESTINATION_LIST, Key.CIPHERTEXT_LIST, neighbours)
            case Stage.COLLECT_MASKED_VECTORS:
                self._check_masked(answer)
                result = recorddict_to_fitres(reply.content, keep_input=True)
                check_weight(result.num_examples, self._most(node))
                check_number("train-loss", result.metrics.get("train-loss"))
            case Stage.UNMASK:
                nodes = {*request[Key.ACTIVE_NODE_ID_LIST], *request[Key.DEAD_NODE_ID_LIST]}
                _check_shares(answer, Key.NODE_ID_LIST, Key.SHARE_LIST, nodes)

    def _check_keys(self, answer: ConfigRecord) -> None:
        # Honest clients fail on a key of another kind, and on one that occurs twice.
        for name in (Key.PUBLIC_KEY_1, Key.PUBLIC_KEY_2):
            key = _bytes(answer.get(name), name)
            try:
                public = load_pem_public_key(key)
            except ValueError as error:
                raise UnusableError(f"{name} is no public key") from error
            if not isinstance(public, EllipticCurvePublicKey) or not isinstance(public.curve, SECP384R1):
                raise UnusableError(f"{name} is no public key of Flower's curve")
            if key in self._keys:
                raise UnusableError(f"{name} is a key that was sent before")
            self._keys.add(key)

    def _check_masked(self, answer: ConfigRecord) -> None:
        arrays = answer.get(Key.MASKED_PARAMETERS)
        if not isinstance(arrays, list) or len(arrays) != len(self._shapes):
            raise UnusableError(f"{Key.MASKED_PARAMETERS} holds no {len(self._shapes)} arrays")
        for place, (data, shape) in enumerate(zip(cast(list[Any], arrays), self._shapes, strict=True)):
            held, size = npy_header(data)
            if held != (shape, "int64"):
                raise UnusableError(f"masked array {place} is {held} where {(shape, 'int64')} is expected")
            if size != 8 * int(np.prod(shape, dtype=np.int64)):
                raise UnusableError(f"masked array {place} has {size} bytes after its header")
            values = np.load(BytesIO(data), allow_pickle=False)
            if values.size and not (values.min() >= 0 and values.max() < self._modulus):
                raise UnusableError(f"masked array {place} holds numbers outside 0..{self._modulus - 1}")


def _check_shares(answer: ConfigRecord, nodes: str, shares: str, expected: set[int]) -> None:
    named, sent = answer.get(nodes), answer.get(shares)
    if not isinstance(named, list) or len(named) != len(expected) or set(named) != expected:
        raise UnusableError(f"{nodes} does not name the {len(expected)} clients that were asked for")
    if not isinstance(sent, list) or len(sent) != len(named):
        raise UnusableError(f"{shares} holds no {len(expected)} shares")
    for share in sent:
        _bytes(share, shares)


def _bytes(value: object, name: str) -> bytes:
    if not isinstance(value, bytes) or not 0 < len(value) <= _MOST_BYTES:
        raise UnusableError(f"{name} is no string of 1 to {_MOST_BYTES} bytes")
    return value
