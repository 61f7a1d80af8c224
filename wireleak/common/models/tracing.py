"""The graph of a network by torch.fx, made ready for cutting: where one single tensor crosses, what lies between."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

# Of a network that is traced inside a wrapper, which hands it one input and so fixes all its other arguments.
_PREFIX = "network."
# Functions through which a bare parameter does the work of a layer; adding one is a bias or a position.
_MULTIPLY = ("linear", "matmul", "bmm", "einsum", "addmm", "embedding", "conv1d", "conv2d", "conv3d")
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)
_BATCHES = (2, 3)


class TraceError(ValueError):
    """torch.fx cannot make use of a network; the message says why."""


class Whole(nn.Module):
    """A network as a function of one tensor; token numbers arrive as floats and are made whole."""

    def __init__(self, network: nn.Module, integers: bool) -> None:
        super().__init__()
        self.network = network
        self.integers = integers

    def forward(self, x: torch.Tensor) -> Any:
        """Return what the network answers."""
        return self.network(x.long() if self.integers else x)


class _Tracer(fx.Tracer):
    """Traces into a user's modules; one that cannot be traced stays a single step."""

    def __init__(self) -> None:
        einops = sys.modules.get("einops")
        wrapped = (einops.rearrange, einops.repeat, einops.reduce) if einops else ()
        super().__init__(autowrap_functions=wrapped)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        before, stack = set(self.graph.nodes), copy.copy(self.module_stack)
        path = self.path_of_module(m)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            if path == _PREFIX[:-1]:
                raise
            for node in reversed([node for node in self.graph.nodes if node not in before]):
                self.graph.erase_node(node)
            self.module_stack = copy.copy(stack)
            self.module_stack[path] = (path, type(m))
            leaf = self.create_proxy("call_module", path, args, kwargs)
            self.module_stack = stack
            return leaf


@dataclass(frozen=True)
class _Fact:
    """What a node's value is for a batch: a number, or a tensor's shape and type."""

    number: float | None = None
    shape: tuple[int, ...] | None = None
    dtype: torch.dtype | None = None

    @classmethod
    def of(cls, value: Any) -> _Fact:
        if isinstance(value, torch.Tensor):
            return cls(shape=tuple(value.shape), dtype=value.dtype)
        return cls(number=value) if isinstance(value, (int, float)) else cls()


class _Watch(fx.Interpreter):
    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.facts: dict[fx.Node, _Fact] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        self.facts[n] = _Fact.of(value)
        return value


class Traced:
    """One graph of a network, in the mode in which it was traced.

    Parameters
    ----------
    network : nn.Module
    integers : bool
        It takes whole numbers.
    probe : callable
        Batch size -> an input.
    chains : mapping of str to sequence of str
        Modules that do nothing but call these others in turn.

    Attributes
    ----------
    cuts : dict of frozenset of str to int
        Where one single tensor crosses and a layer with weights follows: layers used until then -> position.
    """

    def __init__(
        self,
        network: nn.Module,
        integers: bool,
        probe: Callable[[int], torch.Tensor],
        chains: dict[str, Sequence[str]],
    ) -> None:
        self.network = network
        self.graph = _Tracer().trace(Whole(network, integers))
        self._unwrap()
        self._expand(chains)
        facts = [self._facts(probe(size)) for size in _BATCHES]
        self._settle_numbers(*facts)
        (self.source,) = [node for node in self.graph.nodes if node.op == "placeholder"]
        (self.result,) = [node for node in self.graph.nodes if node.op == "output"]
        if not isinstance(self.result.args[0], fx.Node):
            raise TraceError("it returns more than one tensor")
        self.free = self._free_nodes()
        rest = [node for node in self.graph.nodes if node not in self.free and node is not self.result]
        self.order = [self.source, *(node for node in rest if node is not self.source)]
        self.cuts = self._find_cuts(*facts)

    def piece(self, after: int, until: int) -> fx.Graph:
        """The graph from the value at position `after` to the value at `until`."""
        graph = fx.Graph()
        entry = graph.placeholder("x")
        known = {self.order[after]: entry}

        def use(node: fx.Node) -> fx.Node:
            if node not in known:
                if node is self.batch:
                    known[node] = graph.call_method("size", (entry, 0))
                elif node in self.free:
                    known[node] = graph.node_copy(node, use)
                else:
                    raise TraceError(f"{node.name} is used on both sides of a cut")
            return known[node]

        for node in self.order[after + 1 : until + 1]:
            known[node] = graph.node_copy(node, use)
        graph.output(known[self.order[until]])
        return graph

    def title(self, after: int, until: int) -> str:
        """A name for the block between two positions: the largest module of the user's that lies in it."""
        inside = self.order[after + 1 : until + 1]
        rest = (*self.order[: after + 1], *self.order[until + 1 :])
        outside = {path for node in rest for path in _scopes(node)}
        last = next((node for node in reversed(inside) if self.weights_of(node)), inside[-1])
        whole = [path for path in _scopes(last) if path not in outside]
        return (min(whole, key=len) if whole else last.name).replace(".", "_")

    def weights_of(self, node: fx.Node) -> set[str]:
        """Names of the layers and parameters by which a node multiplies; none for norms and for what has no weights."""
        if node.op == "call_module":
            module = self.network.get_submodule(str(node.target))
            heavy = any(parameter.ndim >= 2 for parameter in module.parameters())
            return {str(node.target)} if heavy and not isinstance(module, _NORMS) else set()
        name = str(getattr(node.target, "__name__", node.target))
        if not name.endswith(_MULTIPLY):
            return set()
        return {str(one.target) for one in node.all_input_nodes if one.op == "get_attr"}

    def _unwrap(self) -> None:
        for node in self.graph.nodes:
            if node.op in ("call_module", "get_attr"):
                if not str(node.target).startswith(_PREFIX):
                    raise TraceError("it is a single module of torch.nn")
                node.target = str(node.target).removeprefix(_PREFIX)

    def _expand(self, chains: dict[str, Sequence[str]]) -> None:
        for node in list(self.graph.nodes):
            steps = chains.get(str(node.target), ()) if node.op == "call_module" else ()
            if len(steps) < 2 or len(node.args) != 1 or node.kwargs:
                continue
            value = node.args[0]
            with self.graph.inserting_before(node):
                for path in steps:
                    value = self.graph.call_module(path, (value,))
                    value.meta["nn_module_stack"] = {**node.meta.get("nn_module_stack", {}), path: (path, None)}
            node.replace_all_uses_with(value)
            self.graph.erase_node(node)

    def _facts(self, x: torch.Tensor) -> dict[fx.Node, _Fact]:
        watch = _Watch(fx.GraphModule(self.network, self.graph))
        with torch.no_grad():
            watch.run(x)
        return watch.facts

    def _settle_numbers(self, few: dict[fx.Node, _Fact], more: dict[fx.Node, _Fact]) -> None:
        """Sizes become numbers and the batch's size one node, so that neither has to cross a cut."""
        source = next(node for node in self.graph.nodes if node.op == "placeholder")
        with self.graph.inserting_after(source):
            self.batch = self.graph.call_method("size", (source, 0))
        for node in list(few):
            number, other = few[node].number, more[node].number
            if number is None or node.op == "output":
                continue
            if (number, other) == _BATCHES:
                node.replace_all_uses_with(self.batch)
            elif number == other:
                for user in list(node.users):
                    _put(user, node, number)
        for node in reversed(list(self.graph.nodes)):
            if (
                node in few
                and few[node].shape is None
                and not node.users
                and node.op in ("call_function", "call_method")
            ):
                self.graph.erase_node(node)

    def _free_nodes(self) -> set[fx.Node]:
        """Parameters, constants, and what depends on these and the batch's size alone: made anew where it is used."""
        free = {self.batch}
        for node in self.graph.nodes:
            pure = node.op in ("get_attr", "call_function", "call_method")
            if pure and node is not self.batch and all(one in free for one in node.all_input_nodes):
                free.add(node)
        return free

    def _find_cuts(self, few: dict[fx.Node, _Fact], more: dict[fx.Node, _Fact]) -> dict[frozenset[str], int]:
        place = {node: position for position, node in enumerate(self.order)}
        place[self.result] = len(self.order)
        # Up to where each value is needed.
        ends = {node: max((place[user] for user in node.users if user in place), default=-1) for node in self.order}
        held = [self._tensors_of(node) for node in self.order]
        # Tied weights on both sides of a wire would drift apart.
        last = {tensor: position for position, tensors in enumerate(held) for tensor in tensors}
        single, tied_until, crossing = [], 0, {self.source}
        for position in range(1, len(self.order) - 1):
            node = self.order[position]
            crossing = {one for one in (*crossing, node) if ends[one] > position}
            tied_until = max([tied_until, *(last[tensor] for tensor in held[position])])
            facts = few.get(node, _Fact()), more.get(node, _Fact())
            fits = all(
                fact.shape is not None and fact.shape[:1] == (size,) and fact.dtype == torch.float32
                for fact, size in zip(facts, _BATCHES, strict=True)
            )
            if crossing == {node} and fits and tied_until <= position:
                single.append(position)
        used = [self.weights_of(node) for node in self.order]
        cuts = {}
        for position, following in zip(single, [*single[1:], len(self.order) - 1], strict=True):
            before = frozenset().union(*used[: position + 1])
            # What has no weights (activations, pooling, norms) goes with the layer before: the device may as well
            # do it, and what it sends gets no larger and tells no more.
            if before and any(used[position + 1 : following + 1]):
                cuts[before] = position
        return cuts

    def _tensors_of(self, node: fx.Node) -> set[int]:
        """Parameters and buffers that a node uses, directly or through what is made for it."""
        found: set[int] = set()
        todo, seen = [node], {node}
        while todo:
            one = todo.pop()
            if one.op == "call_module":
                module = self.network.get_submodule(str(one.target))
                found |= {id(tensor) for tensor in (*module.parameters(), *module.buffers())}
            elif one.op == "get_attr":
                found.add(id(_attribute(self.network, str(one.target))))
            fresh = [other for other in one.all_input_nodes if other in self.free and other not in seen]
            seen.update(fresh)
            todo += fresh
        return found


def _put(user: fx.Node, node: fx.Node, number: float) -> None:
    """Have `user` take a number where it took `node`."""
    user.args = fx.map_arg(user.args, lambda one: number if one is node else one)
    user.kwargs = fx.map_arg(user.kwargs, lambda one: number if one is node else one)


def _attribute(network: nn.Module, path: str) -> Any:
    value: Any = network
    for part in path.split("."):
        value = getattr(value, part)
    return value


def _scopes(node: fx.Node) -> list[str]:
    """Paths of the user's modules in whose call a node was traced."""
    stack = node.meta.get("nn_module_stack", {})
    paths = [str(path).removeprefix(_PREFIX) for path, _ in stack.values()]
    return [path for path in paths if path not in ("", _PREFIX[:-1])]
