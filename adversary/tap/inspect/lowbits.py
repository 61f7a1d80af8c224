"""Detect data hidden in the low mantissa bits of activations.

The low bits of honest float32 values look random too, so randomness is no evidence. Honest computation leaves two
patterns. Bits above the lowest set bit are fair coins, independent of each other, of the neighbouring value and of the
message before (below it are the zeros of cancellation). A value that repeats exactly, such as the zero after a ReLU or
a picture's background, repeats in all of its bits. Code that hides a payload breaks one of the two patterns:

structured
    Neighbouring bits agree too often (those of a picture do, those of a key stream do not). Values that occurred
    before, and multiples of 1/255, which come from pixels, are not counted.
smeared
    Values share their high bits far more often than values just above and below do, but differ in the low bits; or
    there are numbers below float32's normal range and none just above it. This finds encrypted payloads too.

After 2^18 values of a link, two messages of every 64 are examined. By then a payload that is always sent has shown. One
that starts later shows in these messages, once there are enough of them.

Both miss an encrypted payload that spares zeros and all other repeated values. Then the small values of a plain sum
lack the zeros of cancellation, which `grid` shows in comparison with a clean device, and only then. Both also miss
payloads of few bits, in a small part of a wide activation, or in high bits, sizes, times or predictions.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from adversary.tap.decode.observation import Kind, Observation
from adversary.tap.decode.read import Event
from adversary.tap.inspect.summary import capture_of
from wireleak.common.words import counted

Words = npt.NDArray[np.uint32]
Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

FALSE_ALARM = 1e-6
MISSES = "an encrypted payload that spares zeros and other repeated values would not show"
LOW = 16
# Most values of a message that are examined; which ones changes from message to message.
WINDOW = 1 << 14
# So many values of a link are all examined: over 200,000 pairs in each stretch, where 100,000 show a lean of `LEAN`.
THOROUGH = 1 << 18
# Of later messages, two neighbours of so many.
SPARSE = 64
MAX_LINKS = 64
STRETCHES = 16
_TABLE = 1 << 22
_NORMAL = 0x0080
# Deviation from 50 % that is allowed without a payload: rounding is only nearly fair.
LEAN = 0.01
_LEAST = 32
_STEEP = 8
_GRID_OCTAVES = 6
# The cell of values just below 1, where outputs of tanh, sigmoid and softmax collect: their leading bits are ones.
_SATURATED = 0x3F7F
_KINDS = ("within a value", "between neighbours", "between messages")


class _Coins:
    """Counts of bit pairs, and of those that agree, per stretch of an activation: a payload may fill only the first."""

    def __init__(self) -> None:
        self.pairs = np.zeros(STRETCHES, np.int64)
        self.agree = np.zeros(STRETCHES, np.int64)

    def add(self, differing: Words, usable: Words, stretch: Ints) -> None:
        """Count a pair for each one in `usable`; the pair differs if `differing` has a one there too."""
        pairs = np.bitwise_count(usable).sum(0, dtype=np.int64)
        agree = pairs - np.bitwise_count(differing & usable).sum(0, dtype=np.int64)
        self.pairs += np.bincount(stretch, pairs, STRETCHES).astype(np.int64)
        self.agree += np.bincount(stretch, agree, STRETCHES).astype(np.int64)

    def worst(self) -> tuple[float, int, float]:
        """Return rate of agreement, number of pairs and log p-value of the stretch that is least like a fair coin.

        The p-value is Hoeffding's two-sided bound, which assumes no distribution of the tail.
        """
        lean = np.divide(self.agree, self.pairs, out=np.full(STRETCHES, 0.5), where=self.pairs > 0) - 0.5
        logs = np.where(np.abs(lean) > LEAN, math.log(2) - 2 * self.pairs * lean**2, 0.0)
        at = int(logs.argmin())
        return float(lean[at]) + 0.5, int(self.pairs[at]), float(logs[at])


class LowBits:
    """Statistics of the low bits of one link's float32 activations; memory does not grow with messages.

    Parameters
    ----------
    link : str
        The link's name in the findings.
    """

    def __init__(self, link: str) -> None:
        self.link = link
        self.messages = self.values = 0
        self._coins = {kind: _Coins() for kind in _KINDS}
        self._seen = np.zeros(_TABLE, bool)
        self._filled = self._zeros = self._stepped = 0
        self._high = np.zeros(1 << 16, np.int64)
        self._spike = 0
        self._octaves = np.zeros(256, np.int64)
        self._trailing = np.zeros(256, np.int64)
        self._finest = 23
        self._before: Words | None = None

    def add(self, tensor: npt.NDArray[Any]) -> None:
        """Count one message's activation, float32 (n, ...); other types are ignored, as their low bits differ."""
        if tensor.dtype != np.float32 or not tensor.ndim or not tensor.size:
            return
        self.messages += 1
        if self.values > THOROUGH and self.messages % SPARSE > 1:
            self._before = None
            return
        rows = np.ascontiguousarray(tensor, np.float32).reshape(len(tensor), -1).view(np.uint32)
        rows, stretch = self._window(rows)
        rows = rows & np.uint32(0x7FFFFFFF)
        self.values += rows.size
        self._zeros += int((rows == 0).sum())
        fresh = self._fresh(rows)
        usable = np.where(fresh & ~_predictable(rows), _above_lowest(rows), np.uint32(0))
        self._coins["within a value"].add(rows ^ rows >> np.uint32(1), usable & np.uint32(0x7FFF), stretch)
        self._pairs("between neighbours", rows[:, 1:], rows[:, :-1], usable[:, 1:], usable[:, :-1], stretch[1:])
        if self._before is not None and self._before.shape[1:] == rows.shape[1:]:
            stacked = np.concatenate([self._before, rows])
            masks = np.concatenate([_above_lowest(self._before), usable])
            self._pairs("between messages", stacked[1:], stacked[:-1], masks[1:], masks[:-1], stretch)
        self._before = rows[-1:].copy()
        self._count(rows[fresh])

    def finding(self) -> dict[str, Any]:
        """Return the result of the check, as plain JSON values.

        Returns
        -------
        dict
            `suspicious` and the `reasons`. `agreement`: rate for each kind of pair in its least fair stretch (honest:
            .5). `smeared`: number of values that should repeat exactly and do not. `significant_bits`: mantissa bits in
            use (23, less after requantisation). `grid`: mean number of trailing zero bits of values far below the most
            common ones, None if there are too few. It is 3 or more for a plain sum, and 1 if the last step multiplies
            or if the bits were overwritten.
        """
        worst = {kind: coins.worst() for kind, coins in self._coins.items()}
        reasons = [
            f"bits {kind} agree in {rate:.1%} of {counted(pairs, 'pair')}; honest computation gives 50 %"
            for kind, (rate, pairs, log_p) in worst.items()
            if log_p < math.log(FALSE_ALARM / (len(_KINDS) * STRETCHES))
        ]
        smeared = self._smeared()
        if smeared:
            values = counted(smeared, "value differs", "values differ")
            reasons.append(f"{values} only in the low bits from values that should be equal")
        return {
            "link": self.link,
            "messages": self.messages,
            "values": self.values,
            "zeros": self._zeros / self.values if self.values else 0.0,
            "suspicious": bool(reasons),
            "reasons": reasons,
            "agreement": {kind: rate for kind, (rate, pairs, _) in worst.items() if pairs},
            "smeared": smeared,
            "significant_bits": 23 - self._finest,
            "grid": self._grid(),
            "false_alarm": FALSE_ALARM,
            "misses": MISSES,
        }

    def _window(self, rows: Words) -> tuple[Words, Ints]:
        """Return the examined values and their stretches: the same places for 16 messages, then the next places."""
        length = rows.shape[1]
        width = min(WINDOW, length)
        start = self._stepped // 16 * width % length
        self._stepped += 1
        rows = rows[: max(1, WINDOW // width), start : start + width]
        return rows, np.arange(start, start + rows.shape[1]) * STRETCHES // length

    def _fresh(self, rows: Words) -> Bools:
        """Mark nonzero values that did not occur before, in any message: a repeated constant counts only once."""
        flat = rows.ravel()
        slots = ((flat * np.uint32(2654435761)) >> np.uint32(10)).astype(np.int64)
        new: Bools = ~self._seen[slots]
        new &= flat != 0
        # Of equal values the first: it is written last. Two values with one slot count as equal, as they do above.
        places = np.flatnonzero(new).astype(np.int32)
        short = slots[places] & ((1 << (8 * len(flat)).bit_length()) - 1)
        first = np.empty(1 << (8 * len(flat)).bit_length(), np.int32)
        first[short[::-1]] = places[::-1]
        new[places[first[short] != places]] = False
        fresh = slots[new]
        if self._filled + len(fresh) > _TABLE // 2:
            self._seen[:] = False
            self._filled = 0
            self._seen[slots] = True
        self._seen[fresh] = True
        self._filled += len(fresh)
        return new.reshape(rows.shape)

    def _pairs(self, kind: str, a: Words, b: Words, usable_a: Words, usable_b: Words, stretch: Ints) -> None:
        # Values close to each other share high bits and some low bits, so only distant pairs count.
        apart = np.abs(a.astype(np.int64) - b) > 1 << 20
        self._coins[kind].add(a ^ b, np.where(apart, usable_a & usable_b & np.uint32(0xFFFF), np.uint32(0)), stretch)

    def _count(self, values: Words) -> None:
        if not len(values):
            return
        cells, counts = np.unique(values >> np.uint32(LOW), return_counts=True)
        self._high[cells] += counts
        # A background that differs from picture to picture is a spike only in its own message.
        self._spike += _spikes(cells, counts)
        trailing = _trailing_zeros(values)
        self._finest = min(self._finest, int(trailing.min()))
        self._octaves += np.bincount(values >> np.uint32(23), minlength=256)
        self._trailing += np.bincount(values >> np.uint32(23), trailing, minlength=256).astype(np.int64)

    def _smeared(self) -> int:
        below, above = int(self._high[:_NORMAL].sum()), int(self._high[_NORMAL : _NORMAL + (25 << 7)].sum())
        # A softmax or GELU tail that reaches 2^-127 has as many values in the 25 octaves just above.
        zeros = below if below >= _LEAST and below > _STEEP * above else 0
        cells = np.flatnonzero(self._high).astype(np.uint32)
        return zeros + max(self._spike, _spikes(cells, self._high[cells]))

    def _grid(self) -> float | None:
        if not self._octaves.any():
            return None
        small = slice(0, max(0, int(self._octaves[1:].argmax()) + 1 - _GRID_OCTAVES))
        count = int(self._octaves[small].sum())
        return float(self._trailing[small].sum() / count) if count >= _LEAST else None


class LinksLowBits:
    """The low bits of every link; a link is a capture and an activation shape."""

    def __init__(self) -> None:
        self._links: dict[tuple[str, tuple[int, ...]], LowBits] = {}

    def add_one(self, event: Event) -> None:
        """Count one event, if it is an activation."""
        if not isinstance(event, Observation) or event.kind is not Kind.ACTIVATION:
            return
        shape = event.tensor.shape[1:]
        key = capture_of(event), shape
        if key not in self._links:
            # A hostile capture could have any number of shapes, and each costs memory.
            if len(self._links) >= MAX_LINKS:
                return
            self._links[key] = LowBits(f"{Path(key[0]).stem} {'×'.join(map(str, shape)) or 'scalar'}")
        self._links[key].add(event.tensor)

    def findings(self, capture: str | None = None) -> list[dict[str, Any]]:
        """Return `LowBits.finding` of each link, or only of one capture's links."""
        return [link.finding() for (name, _), link in self._links.items() if link.values and capture in (None, name)]

    def lines(self) -> list[str]:
        """Return one readable line per link."""
        return [f"low bits: {finding['link']}: {_words(finding)}" for finding in self.findings()]


def _words(finding: dict[str, Any]) -> str:
    if finding["suspicious"]:
        return f"SOMETHING MAY BE HIDDEN: {'; '.join(finding['reasons'])}"
    if finding["significant_bits"] <= 23 - LOW:
        return f"nothing hidden: {finding['significant_bits']} mantissa bits in use, the rest are zero"
    return f"nothing found in {counted(finding['values'], 'value')} ({MISSES})"


def _spikes(cells: Words, counts: Ints) -> int:
    """Count values in cells (values with the same high bits) far fuller than both neighbouring cells; `cells` ascend.

    With a locally smooth density a third of the three cells' values lie in the middle one. 32 of 36 has a probability
    under 1e-10.
    """
    near = np.diff(cells) == 1
    around = np.zeros_like(counts)
    around[1:][near] += counts[:-1][near]
    around[:-1][near] += counts[1:][near]
    spiked = (counts >= _LEAST) & (counts > _STEEP * around) & (cells >= _NORMAL) & (cells != _SATURATED)
    return int(counts[spiked].sum())


def _trailing_zeros(words: Words) -> Ints:
    """Return the number of zero bits below the lowest set bit of the mantissa; 23 if no bit is set."""
    mantissa = words & np.uint32(0x7FFFFF)
    lowest = (mantissa & (~mantissa + np.uint32(1))) - np.uint32(1)
    return np.minimum(np.bitwise_count(lowest), 23).astype(np.int64)


def _above_lowest(words: Words) -> Words:
    """Return ones at the mantissa bits above the lowest set bit; below it are the zeros of cancellation."""
    mantissa = words & np.uint32(0x7FFFFF)
    lowest = mantissa & (~mantissa + np.uint32(1))
    return np.asarray(~(lowest | (lowest - np.uint32(1))) & np.uint32(0x7FFFFF), np.uint32)


def _predictable(words: Words) -> Bools:
    """Mark values whose bits follow a pattern even without a payload.

    Multiples of 1/255 and of its halves down to 1/256 (pixels, or means of some pixels) repeat their bits. Within 2^-7
    of 1 the leading bits are all ones or all zeros.
    """
    scaled = words.view(np.float32).astype(np.float64) * (255 * 256)
    cells = words >> np.uint32(LOW)
    pixels: Bools = np.abs(scaled - np.round(scaled)) < 0.01
    pixels |= (cells == _SATURATED) | (cells == _SATURATED + 1)
    return pixels
