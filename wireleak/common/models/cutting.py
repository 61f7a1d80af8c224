"""The possible cuts of any network: by torch.fx where it can be traced, else by the order in which modules are called.

A cut is possible where one single tensor crosses: float32, batch first, and no weights shared by both sides. Residual
blocks are therefore cut only between blocks. Norms, activations, pooling and reshaping stay with the layer before.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import fx, nn

from wireleak.common.models.tracing import _NORMS, Traced, Whole


class CutError(ValueError):
    """A network cannot be cut: one line that says why."""


@dataclass(frozen=True)
class _Graphs:
    """A block as a graph; `training` where training runs other code than evaluation."""

    evaluation: fx.Graph
    training: fx.Graph | None


@dataclass(frozen=True)
class _Modules:
    """A block as the network's own modules, called in turn."""

    paths: tuple[str, ...]
    integers: bool


@dataclass(frozen=True)
class Cuts:
    """How a network falls into blocks; what was found on one instance applies to any other of the same factory."""

    names: tuple[str, ...]
    _recipes: tuple[_Graphs | _Modules, ...]

    def apply(self, network: nn.Module) -> nn.Sequential:
        """The blocks of `network`, by name, sharing its parameters."""
        blocks = nn.Sequential()
        for name, recipe in zip(self.names, self._recipes, strict=True):
            blocks.add_module(name, _make(network, recipe, name))
        return blocks


class TwoModes(nn.Module):
    """A block whose forward runs other code in training, such as a dropout that asks for the mode."""

    def __init__(self, evaluation: nn.Module, training: nn.Module) -> None:
        super().__init__()
        self.evaluation = evaluation
        # Its parts are those of `evaluation`: registered twice, each parameter would have two names.
        self._unregistered = (training,)

    def forward(self, x: torch.Tensor) -> Any:
        """Run the code of the mode that the block is in."""
        return (self._unregistered[0] if self.training else self.evaluation)(x)


class _Integers(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.long()


def find_cuts(network: nn.Module, input_shape: tuple[int, ...], classes: int, name: str) -> Cuts:
    """Find where a network can be cut.

    Parameters
    ----------
    network : nn.Module
        Left as it was.
    input_shape : tuple of int
        One example's shape.
    classes : int
        It must answer (n, classes).
    name : str
        How messages name it.

    Raises
    ------
    CutError
        It fails on an input, answers something else, or has no cut.
    """
    with _undisturbed(network):
        network.eval()
        probe = _Probe(network, input_shape, classes, name)
        calls = _record(Whole(network, probe.integers), probe(3))
        problems = []
        for attempt in (_by_graph, _by_calls):
            try:
                cuts = attempt(network, probe, calls)
                same = probe.agrees(cuts.apply(network))
            except Exception as error:  # whatever a user's code does while it is traced
                problems.append(" ".join(str(error).split())[:200])
                continue
            if len(cuts.names) > 1 and same:
                return cuts
            nothing = "no point where one tensor crosses between two layers with weights"
            problems.append(nothing if same else "the blocks give another output than the network")
    raise CutError(
        f"model: {name} cannot be cut: {problems[0]} (by torch.fx); {problems[1]} (by the order of its modules); "
        "pass one tensor from each module to the next, or give an nn.Sequential"
    )


class _Probe:
    """Inputs to try a network on, and what it answers to them."""

    def __init__(self, network: nn.Module, input_shape: tuple[int, ...], classes: int, name: str) -> None:
        self.network, self.input_shape = network, input_shape
        self.integers = False
        answer, problem = self._try()
        if problem is not None:
            # A network that looks up tokens takes whole numbers alone.
            self.integers = True
            answer, whole = self._try()
            if whole is not None:
                raise CutError(f"model: {name} fails on 2 inputs of shape {input_shape}: {problem}")
        given = tuple(answer.shape) if isinstance(answer, torch.Tensor) else type(answer).__name__
        if given != (2, classes):
            raise CutError(
                f"model: {name} returns {given} for 2 inputs of shape {input_shape}, not (2, {classes}); the data has "
                f"{classes} classes: let the factory take `classes` and `input_shape`"
            )
        network.train()
        answer, problem = self._try()
        network.eval()
        if problem is not None or not isinstance(answer, torch.Tensor):
            said = problem or f"it returns {type(answer).__name__}, not a tensor; turn auxiliary outputs off"
            raise CutError(f"model: {name} cannot be trained on 2 inputs of shape {input_shape}: {said}")

    def __call__(self, size: int) -> torch.Tensor:
        x = torch.rand(size, *self.input_shape, generator=torch.Generator().manual_seed(size))
        return (x < 0.5).float() if self.integers else x

    def agrees(self, blocks: nn.Sequential) -> bool:
        """Whether blocks compute what the network computes, bit for bit."""
        with torch.no_grad():
            pairs = [(Whole(self.network, self.integers)(self(size)), blocks.eval()(self(size))) for size in (1, 3)]
        return all(torch.allclose(ours, theirs, rtol=0, atol=0, equal_nan=True) for ours, theirs in pairs)

    def _try(self) -> tuple[Any, str | None]:
        """What the network answers to two inputs, or why it does not."""
        try:
            with torch.no_grad():
                return Whole(self.network, self.integers)(self(2)), None
        except Exception as error:  # somebody else's code
            return None, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _by_graph(network: nn.Module, probe: _Probe, calls: _Call) -> Cuts:
    counts = Counter(_paths(calls))
    chains: dict[str, Sequence[str]] = {
        _inner(call.path): [_inner(path) for path in call.chain(counts)] for call in calls.all()
    }
    evaluation = Traced(network, probe.integers, probe, chains)
    training = Traced(network.train(), probe.integers, probe, chains)
    network.eval()
    keys = [key for key in evaluation.cuts if key in training.cuts]
    graphs = evaluation, training
    ends = [(0, *(one.cuts[key] for key in keys), len(one.order) - 1) for one in graphs]
    recipes, names = [], []
    value = probe(2)
    for index in range(len(keys) + 1):
        ours, theirs = (one.piece(*at[index : index + 2]) for one, at in zip(graphs, ends, strict=True))
        _keep_input(network, theirs, value)
        value = _keep_input(network, ours, value)
        codes = {graph.python_code("self").src for graph in (ours, theirs)}
        recipes.append(_Graphs(ours, theirs if len(codes) > 1 else None))
        names.append(evaluation.title(*ends[0][index : index + 2]))
    return Cuts(_distinct(names), tuple(recipes))


def _keep_input(network: nn.Module, graph: fx.Graph, value: torch.Tensor) -> torch.Tensor:
    """Have a block copy its input first if it would change it: at a cut that is a leaf, which cannot be changed."""
    entry = next(iter(graph.nodes))
    mine = value.clone()
    before = mine._version
    with torch.no_grad():
        output: torch.Tensor = fx.GraphModule(network, graph)(mine)
    if mine._version != before:
        with graph.inserting_after(entry):
            copy = graph.call_method("clone", (entry,))
        entry.replace_all_uses_with(copy, delete_user_cb=lambda user: user is not copy)
    return output


def _by_calls(network: nn.Module, probe: _Probe, calls: _Call) -> Cuts:
    """Blocks of modules that were called one after the other, each on what the one before gave."""
    paths = calls.chain(Counter(_paths(calls)))
    if paths == ["network"]:
        raise CutError("its modules are not called one after the other")
    outputs = {call.path: call.output for call in calls.all()}
    paths = [_inner(path) for path in paths]
    modules = [network.get_submodule(path) for path in paths]
    heavy = [not isinstance(one, _NORMS) and any(p.ndim >= 2 for p in one.parameters()) for one in modules]
    tensors = [{id(tensor) for tensor in (*one.parameters(), *one.buffers())} for one in modules]
    blocks: list[list[str]] = [[]]
    for place, path in enumerate(paths):
        value = outputs[f"network.{paths[place - 1]}"] if place else None
        fits = isinstance(value, torch.Tensor) and value.dtype == torch.float32 and value.shape[:1] == (3,)
        tied = set().union(*tensors[:place]) & set().union(*tensors[place:])
        if heavy[place] and any(heavy[:place]) and fits and not tied:
            blocks.append([])
        blocks[-1].append(path)
    recipes = tuple(_Modules(tuple(block), probe.integers and not at) for at, block in enumerate(blocks))
    last = [next((path for path in block if heavy[paths.index(path)]), block[-1]) for block in blocks]
    return Cuts(_distinct([path.replace(".", "_") for path in last]), recipes)


def _make(network: nn.Module, recipe: _Graphs | _Modules, name: str) -> nn.Module:
    if isinstance(recipe, _Graphs):
        evaluation = fx.GraphModule(network, recipe.evaluation, name)
        if recipe.training is None:
            return evaluation
        return TwoModes(evaluation, fx.GraphModule(network, recipe.training, name))
    modules = [network.get_submodule(path) for path in recipe.paths]
    block = nn.Sequential(*([_Integers()] if recipe.integers else []))
    for path, module in zip(recipe.paths, modules, strict=True):
        block.add_module(path.replace(".", "_"), module)
    return block


def _distinct(names: Sequence[str]) -> tuple[str, ...]:
    return tuple(name if names.count(name) == 1 else f"{name}_{at}" for at, name in enumerate(names, 1))


@dataclass(eq=False)
class _Call:
    """One call of a module, and the calls that it made."""

    path: str
    inputs: list[torch.Tensor]
    output: Any = None
    children: list[_Call] = field(default_factory=list)

    def all(self) -> Iterator[_Call]:
        """Itself and all calls beneath."""
        yield self
        for child in self.children:
            yield from child.all()

    def chain(self, counts: Counter[str]) -> list[str]:
        """Modules whose calls in turn make up this one: itself, unless each takes just what the one before gave."""
        value: Any = self.inputs[0] if len(self.inputs) == 1 else None
        for child in self.children:
            if len(child.inputs) != 1 or child.inputs[0] is not value or counts[child.path] > 1:
                return [self.path]
            value = child.output
        if not self.children or value is not self.output:
            return [self.path]
        return [path for child in self.children for path in child.chain(counts)]


def _record(whole: Whole, x: torch.Tensor) -> _Call:
    """Run a network and note every call of a module beneath `whole.network`."""
    root = _Call("", [])
    stack = [root]

    def enter(path: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            call = _Call(path, [one for one in (*args, *kwargs.values()) if isinstance(one, torch.Tensor)])
            stack[-1].children.append(call)
            stack.append(call)

        return hook

    def leave(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        stack.pop().output = output

    handles: list[Any] = []
    try:
        for path, module in whole.named_modules():
            if path:
                handles.append(module.register_forward_pre_hook(enter(path), with_kwargs=True))
                handles.append(module.register_forward_hook(leave))
        with torch.no_grad():
            whole(x)
    finally:
        for handle in handles:
            handle.remove()
    return root.children[0]


def _inner(path: str) -> str:
    return path.removeprefix("network.")


def _paths(calls: _Call) -> list[str]:
    return [call.path for call in calls.all()]


@contextmanager
def _undisturbed(network: nn.Module) -> Iterator[None]:
    """Leave modes and buffers as they are, whatever trying the network out does to them."""
    modes = {module: module.training for module in network.modules()}
    state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for name, tensor in network.state_dict().items():
                tensor.copy_(state[name])
