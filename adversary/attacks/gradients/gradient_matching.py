"""Common parts of the attacks that search the inputs behind an update: its gradients, labels and imitation."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from adversary.attacks.gradients.batch_labels import labels_of
from adversary.attacks.harness.knowledge import Array, Knowledge
from adversary.attacks.harness.pace import shown
from adversary.attacks.harness.threat import Knows, ThreatModel, Vantage
from adversary.attacks.harness.training import Recipe, Update
from adversary.attacks.harness.update_attack import UpdateAttack
from wireleak.common.targets.input import Input

if TYPE_CHECKING:
    # Importing the models imports torch, which would make listing the attacks slow.
    from wireleak.common.models.networks import Network


@dataclass(frozen=True)
class Victim:
    """One update, ready for a search.

    Parameters
    ----------
    network : torch.nn.Module
        As the client trained it, without dropout.
    start : dict of str to torch.Tensor
        Parameters of the global model at the start of the round.
    gradients : dict of str to torch.Tensor
        By parameter: the sum of the local steps' gradients, -delta / learning rate; of several clients, their mean.
    shape : tuple of int
        Shape of the inputs: (examples, *input_shape).
    classes : int
    recipe : Recipe
    clients : int
        The update is the mean of so many clients' updates. Each client has an equal part of the examples.
    """

    network: Any
    start: dict[str, Any]
    gradients: dict[str, Any]
    shape: tuple[int, ...]
    classes: int
    recipe: Recipe
    clients: int = 1

    @property
    def device(self) -> Any:
        """Device of the tensors."""
        return next(iter(self.start.values())).device

    @property
    def steps(self) -> list[npt.NDArray[np.int64]]:
        """A client's rows in each local step, in one order in every epoch, because its shuffling is unknown."""
        from wireleak.common.models.training import Training

        examples = self.shape[0] // self.clients
        one = Training(self.recipe.plan.model_copy(update={"epochs": 1}), (0,)).batches(examples)
        starts = np.cumsum([len(rows) for rows in one])[:-1]
        return np.split(np.arange(examples), starts) * self.recipe.plan.epochs

    def labels(self, rule: str) -> Any:
        """Return the examples' labels, int64 (examples,), by `labels_of` from the last layer's weights or biases."""
        import torch
        from torch import nn

        linear = [name for name, module in self.network.named_modules() if isinstance(module, nn.Linear)]
        if not linear:
            raise ValueError(
                "model: labels are read from the last linear layer, and this network has none; take another network"
            )
        biases = self.gradients.get(f"{linear[-1]}.bias") if rule == "biases" else None
        if rule == "biases" and biases is None:
            raise ValueError('options.labels: the last linear layer has no biases; set labels = "weights"')
        weights = self.gradients[f"{linear[-1]}.weight"].cpu().numpy()
        found = labels_of(weights, None if biases is None else biases.cpu().numpy(), self.shape[0])
        return torch.from_numpy(found).to(self.device)

    def imitate(self, inputs: Any, labels: Any) -> list[Any]:
        """Imitate the update for these inputs, in the form of `gradients`, differentiable by the inputs.

        It runs the recipe's steps of plain SGD; labels are numbers (n,) or probabilities (n, classes). Of several
        clients, the first trains on the first part of the rows, and so on; their mean is returned.
        """
        parts = zip(inputs.chunk(self.clients), labels.chunk(self.clients), strict=True)
        each = [self._client(x, y) for x, y in parts]
        return [sum(layer) / self.clients for layer in zip(*each, strict=True)] if self.clients > 1 else each[0]

    def _client(self, inputs: Any, labels: Any) -> list[Any]:
        """Imitate one client's update."""
        import torch
        from torch.func import functional_call
        from torch.nn.functional import cross_entropy

        rate, weights, steps = self.recipe.plan.learning_rate, self.start, self.steps
        total: list[Any] = []
        for rows in steps:
            # One step over all rows is the usual case; indexing would only copy.
            x, y = (inputs, labels) if len(rows) == len(inputs) else (inputs[rows], labels[rows])
            loss = cross_entropy(functional_call(self.network, weights, (x,)), y)
            made = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
            total = [one + more for one, more in zip(total, made, strict=True)] if total else list(made)
            if len(steps) > 1:
                weights = {name: w - rate * g for (name, w), g in zip(weights.items(), made, strict=True)}
        return total


def victim(update: Update, network: Network, recipe: Recipe, examples: int) -> Victim:
    """Prepare an update of `examples` examples for a search; on the GPU if there is one.

    Raises
    ------
    ValueError
        The update's layers differ from the network's.
    """
    import torch
    from torch import nn

    device, blocks = torch.device("cuda" if torch.cuda.is_available() else "cpu"), network.blocks
    try:
        blocks.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in update.start.items()})
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise ValueError(
            f"granted.model: the captured global model is not of this network ({first}); grant the trained network"
        ) from None
    # Normalisation works as in training. Dropout is off, because the attacker cannot know the dropped units.
    blocks.to(device).train()
    for module in blocks.modules():
        if isinstance(module, nn.Dropout | nn.Dropout1d | nn.Dropout2d):
            module.eval()
    gradients = update.gradient(recipe.plan.learning_rate)
    start = {name: value.detach().clone().requires_grad_() for name, value in blocks.named_parameters()}
    wanted = {name: torch.from_numpy(np.nan_to_num(gradients[name])).to(device) for name in start}
    shape, clients = (examples, *network.input_shape), recipe.clients(update.sender)
    return Victim(blocks, start, wanted, shape, network.classes, recipe, clients)


def total_variation(x: Any) -> Any:
    """Return the mean absolute difference of neighbours in x (n, channels, ...), summed over the spatial axes."""
    axes = [axis for axis in range(2, x.dim()) if x.shape[axis] > 1]
    return sum((x.diff(dim=axis).abs().mean() for axis in axes), start=x.new_zeros(()))


class GradientMatching(UpdateAttack):
    """Base of the searches: calls `invert` on each update to rebuild its inputs.

    A participant sees the mean update of all others, and rebuilds the inputs of all of them.
    """

    threat = ThreatModel(
        vantage=(Vantage.LINK, Vantage.SERVER, Vantage.PARTICIPANT),
        sees=("model-update", "global-model"),
        knows=(Knows.ARCHITECTURE,),
    )
    target = Input

    def fit(self, knowledge: Knowledge) -> None:
        """Keep the captured training; nothing is trained.

        Raises
        ------
        ValueError
            The clients' optimiser is not plain SGD, or the network takes no real-valued inputs.
        """
        network, (_, recipe) = knowledge.network(), knowledge.trained()
        if recipe.plan.optimiser != "sgd":
            raise ValueError(
                f"system.optimiser: {self.name} imitates plain SGD, because one step of it sends its gradient; "
                'set optimiser = "sgd"'
            )
        self._recipe, self._range = recipe, knowledge.input_range
        self._network = network

    def guess(self, updates: Sequence[Update]) -> Array:
        """Return inputs (updates * examples, *input_shape), update after update."""
        lost = []
        pieces = []
        for update in _shown(updates, self.name):
            one = victim(update, self._network, self._recipe, self._recipe.behind(update.sender))
            inputs, distance = self.invert(one)
            lost.append(distance)
            pieces.append(np.nan_to_num(inputs).clip(*self._range))
        self.report["distance"] = lost
        return np.concatenate(pieces).astype(np.float32)

    @abstractmethod
    def invert(self, one: Victim) -> tuple[Array, float]:
        """Return inputs (examples, *input_shape) that explain one update, and the remaining distance."""


def _shown(updates: Iterable[Update], name: str) -> Iterable[Update]:
    return shown(list(updates), f"{name}: updates")
