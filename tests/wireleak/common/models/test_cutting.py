"""Any network falls into blocks that compute what it computes, and only where one tensor crosses."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from wireleak.common.models import build
from wireleak.common.models.cutting import CutError, find_cuts
from wireleak.common.models.factory import FactoryError, resolve
from wireleak.lab.audit.cost import device_costs

EXAMPLE = Path(__file__).resolve().parents[4] / "examples" / "audit_model.py"
IMAGE, TEXT = (1, 28, 28), (12,)


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.read, self.head = nn.Embedding(50, 8), nn.LSTM(8, 6, batch_first=True), nn.Linear(6, 4)

    def forward(self, tokens: Any) -> Any:
        _, (state, _) = self.read(self.embed(tokens))
        return self.head(functional.dropout(state[-1], 0.5, self.training))


class Sizes(nn.Module):
    """Sizes that outlive the tensor they were read from, and batch normalisation as a function."""

    mean: torch.Tensor
    variance: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(1, 4, 3, 2), nn.Conv2d(4, 4, 3, 2), nn.Linear(4 * 36, 4)
        self.register_buffer("mean", torch.zeros(4))
        self.register_buffer("variance", torch.ones(4))

    def forward(self, x: Any, scale: Any = None) -> Any:
        batch, channels = x.shape[:2]
        x = functional.batch_norm(self.a(x), self.mean, self.variance, training=self.training)
        x = x if scale is None else x * scale
        return self.c(self.b(functional.relu(x)).view(batch, channels * 144))


class Preactivated(nn.Module):
    """Each block changes its input in place."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 4, 3)
        self.steps = nn.ModuleList(nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3)) for _ in range(3))
        self.head = nn.Linear(4 * 20 * 20, 4)

    def forward(self, x: Any) -> Any:
        x = self.first(x)
        for step in self.steps:
            x = step(x)
        return self.head(torch.flatten(x, 1))


class Branching(nn.Module):
    """Asks its data what to do, which torch.fx cannot trace."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.ReLU(inplace=True))
        self.b, self.flat, self.c = nn.Conv2d(4, 8, 3, 2, 1), nn.Flatten(), nn.Linear(8 * 49, 4)

    def forward(self, x: Any) -> Any:
        if x.mean() > 1000:
            raise ValueError("too bright")
        return self.c(self.flat(self.b(self.a(x))))


class Opaque(nn.Module):
    """A part that cannot be traced, in a whole that can."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.head = nn.Linear(784, 16), _Stubborn(), nn.Linear(16, 4)

    def forward(self, x: Any) -> Any:
        return self.head(self.middle(torch.relu(self.first(x.flatten(1)))))


class _Stubborn(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weigh = nn.Linear(16, 16)

    def forward(self, x: Any) -> Any:
        return self.weigh(x) if float(x.detach().sum()) > -1e9 else x


def text() -> Any:
    return __import__("runpy").run_path(str(EXAMPLE))["make_text"](4, TEXT)


def images() -> Any:
    return __import__("runpy").run_path(str(EXAMPLE))["make"](4, IMAGE)


CASES = {
    "residual": (images, IMAGE, ["stem", "stages_0", "stages_1", "stages_2", "head"]),
    "transformer": (text, TEXT, ["words", "encoder_layers_0", "encoder_layers_1", "head"]),
    "lstm": (Lstm, TEXT, ["embed", "read", "head"]),
    "sizes": (Sizes, IMAGE, ["a", "b", "c"]),
    "preactivated": (Preactivated, IMAGE, ["first", "steps_0_1", "steps_1_1", "steps_2_1", "head"]),
    "branching": (Branching, IMAGE, ["a_0", "b", "c"]),
    "opaque": (Opaque, IMAGE, ["first", "middle", "head"]),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Any:
    make, shape, names = CASES[request.param]
    torch.manual_seed(0)
    network = make()
    x = torch.randint(0, 40, (5, *shape)).float() if shape == TEXT else torch.rand(5, *shape)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    blocks = find_cuts(network, shape, 4, "net").apply(network)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    return network, blocks, x, (x.long() if shape == TEXT else x), names


def test_blocks_have_readable_names_and_share_every_parameter(case: Any) -> None:
    network, blocks, _, _, names = case
    assert [name for name, _ in blocks.named_children()] == names
    assert {id(one) for one in blocks.parameters()} == {id(one) for one in network.parameters()}
    keys = list(blocks.state_dict())
    assert len(keys) == len(network.state_dict())


def test_blocks_compute_what_the_network_computes_bit_for_bit(case: Any) -> None:
    network, blocks, x, given, _ = case
    network.eval(), blocks.eval()
    with torch.no_grad():
        assert torch.equal(blocks(x), network(given))
    network.train(), blocks.train()
    state = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(1)
    ours, buffers = blocks(x), {name: value.clone() for name, value in network.state_dict().items()}
    network.load_state_dict(state)
    torch.manual_seed(1)
    assert torch.equal(ours, network(given))
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in buffers.items())


def test_training_across_every_cut_gives_the_gradients_of_training_in_one(case: Any) -> None:
    network, blocks, x, given, _ = case
    labels = torch.arange(5) % 4
    network.eval(), blocks.eval()  # no dropout: the same numbers either way
    functional.cross_entropy(network(given), labels).backward()
    wanted = [one.grad.clone() for one in network.parameters()]
    for cut in range(1, len(blocks)):
        network.zero_grad()
        sent = blocks[:cut](x)
        assert sent.dtype == torch.float32 and len(sent) == 5
        received = torch.from_numpy(sent.detach().numpy().copy()).requires_grad_()
        functional.cross_entropy(blocks[cut:](received), labels).backward()
        sent.backward(received.grad)
        assert all(
            torch.allclose(one.grad, grad, atol=1e-6) for one, grad in zip(network.parameters(), wanted, strict=True)
        )


def test_what_is_found_on_one_instance_holds_for_the_next() -> None:
    torch.manual_seed(0)
    first, second = images(), images()
    cuts = find_cuts(first, IMAGE, 4, "net")
    x = torch.rand(2, *IMAGE)
    with torch.no_grad():
        assert torch.equal(cuts.apply(second).eval()(x), second.eval()(x))


def test_weights_that_both_sides_need_are_not_cut_apart() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.c = nn.Linear(784, 784), nn.Linear(784, 4)

        def forward(self, x: Any) -> Any:
            return self.c(torch.relu(self.a(torch.relu(self.a(x.flatten(1))))))

    assert find_cuts(Tied(), IMAGE, 4, "net").names == ("a", "c")


def test_a_network_without_a_cut_says_so() -> None:
    class Dense(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(784, 8), nn.Linear(784, 4)

        def forward(self, x: Any) -> Any:
            x = x.flatten(1)
            return self.b(x) + self.a(x)[:, :4]

    with pytest.raises(CutError, match="net cannot be cut: no point where one tensor crosses"):
        find_cuts(Dense(), IMAGE, 4, "net")


def test_a_network_that_nobody_here_wrote() -> None:
    """pytorchcv's ResNet for CIFAR: residual blocks with batch normalisation."""
    resnet = pytest.importorskip("pytorchcv.models.resnet_cifar")
    network = resnet.CIFARResNet(
        channels=[[16], [32], [64]], init_block_channels=16, bottleneck=False, in_size=(32, 32), num_classes=4
    )
    blocks = find_cuts(network, (3, 32, 32), 4, "net").apply(network)
    names = ["features_init_block", "features_stage1", "features_stage2", "features_stage3", "output"]
    assert [name for name, _ in blocks.named_children()] == names
    x = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(blocks.eval()(x), network.eval()(x))


FILE = """
from torch import nn
def make(classes): return nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, classes))
def many(**options): return make(options["num_classes"])
def fixed(): return make(7)
def broken(): raise KeyError("weights")
def reading(): open("mine.txt")
def number(): return 3
def one(classes): return nn.Sequential(nn.Flatten(), nn.Linear(784, classes))
def narrow(classes): return nn.Linear(5, classes)
def pair(classes): return nn.LSTM(28, classes)
constant = 3
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.py"
    path.write_text(FILE)
    return path


@pytest.mark.parametrize("factory", ["make", "many"])
def test_a_factory_in_a_file_is_a_network_like_any_other(file: Path, factory: str) -> None:
    network, again = (build(f"{file}:{factory}", IMAGE, 4, 3) for _ in range(2))
    assert [name for name, _ in network.blocks.named_children()] == ["1", "3"]
    assert network.activation_shape(1) == (8,)
    pairs = zip(network.blocks.state_dict().values(), again.blocks.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_factory_is_given_what_the_guide_says(tmp_path: Path) -> None:
    """Every name that docs/how-to/network.md lists, and torchvision's and timm's names for the same."""
    guide = (EXAMPLE.parents[1] / "docs" / "how-to" / "network.md").read_text()
    listed = guide.partition("fills in parameters that are")[2].partition(".")[0]
    names = [*re.findall(r"`(\w+)`", listed), "num_classes", "in_channels", "in_chans"]
    assert {"classes", "input_shape", "channels", "length"} <= set(names)
    (tmp_path / "given.py").write_text(
        "from torch import nn\n"
        + "".join(
            f"def with_{name}({name}):\n    assert {name} == {value}\n"
            "    return nn.Sequential(nn.Conv1d(3, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 18, 4))\n"
            for name in names
            for value in [4 if "classes" in name else {"input_shape": (3, 20), "length": 20}.get(name, 3)]
        )
    )
    for name in names:
        assert len(build(f"{tmp_path / 'given.py'}:with_{name}", (3, 20), 4, 0).blocks) >= 2


@pytest.mark.parametrize(
    ("factory", "error", "message"),
    [
        (
            "fixed",
            CutError,
            r"returns \(2, 7\) for 2 inputs of shape \(1, 28, 28\), not \(2, 4\).*let the factory take",
        ),
        ("broken", FactoryError, r"the factory .*:broken failed: KeyError: 'weights' \(model.py, line 6\)"),
        ("reading", FactoryError, r"failed: FileNotFoundError: .*'mine.txt' .*reads code and what it is granted: give"),
        ("number", FactoryError, "returned int; a factory returns a torch.nn.Module"),
        ("one", CutError, "cannot be cut"),
        ("narrow", CutError, "fails on 2 inputs of shape"),
        ("pair", CutError, "fails on 2 inputs|returns"),
        ("missing", FactoryError, "has no factory 'missing'; choose .*make"),
        ("constant", FactoryError, "has no factory 'constant'"),
    ],
)
def test_a_users_mistake_is_one_line(file: Path, factory: str, error: Any, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        build(f"{file}:{factory}", IMAGE, 4, 0)
    assert "\n" not in str(caught.value)


def test_a_missing_file_or_module_and_one_that_does_not_import_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import nothing_of_that_name\n\ndef make(): pass\n")
    for name, message in (
        (f"{tmp_path}/none.py:make", "no file"),
        ("none_of_that_name.models:make", "no module 'none_of_that_name.models'"),
        (f"{tmp_path}/bad.py:make", "cannot be imported: ModuleNotFoundError"),
        (f"{tmp_path}/bad.py:mak", "has no factory .mak.; did you mean .make."),
    ):
        with pytest.raises(FactoryError, match=message):
            build(name, IMAGE, 4, 0)


def test_a_name_is_resolved_to_what_every_process_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "mine"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "parts.py").write_text("def size(): return 8\n")
    (package / "net.py").write_text(
        "from torch import nn\nfrom .parts import size\n"
        "def make(classes): return nn.Sequential(nn.Flatten(), nn.Linear(784, size()), nn.Linear(size(), classes))\n"
    )
    monkeypatch.chdir(tmp_path)
    resolved = resolve("mine.net:make")
    assert resolved == f"{package / 'net.py'}:make" == resolve("mine/net.py:make")
    assert resolve("torch.nn:Linear") == "torch.nn:Linear"
    monkeypatch.chdir("/")
    assert len(build(resolved, IMAGE, 4, 0).blocks) == 2


def test_costs_are_those_that_one_counts_by_hand() -> None:
    """A layer's products, a multiply-add as two; fused kernels count as their parts."""
    network = build(f"{EXAMPLE}:make_text", TEXT, 4, 0)
    length, width, hidden = 12, 32, 64
    attention = 2 * length * width * (3 * width + width) + 2 * 2 * length * length * width
    layer = attention + 2 * 2 * length * width * hidden
    assert [device_costs(network)[cut].flops for cut in network.cuts] == [0, layer, 2 * layer]
    assert device_costs(network)[1].parameters == 5001 * width + length * width
    assert [device_costs(network)[cut].bytes for cut in network.cuts] == [4 * length * width] * 2 + [4 * width]
    pictures = build(f"{EXAMPLE}:make", IMAGE, 4, 0)
    assert device_costs(pictures)[1].flops == 2 * 28 * 28 * 8 * 9
    assert device_costs(pictures)[1].floats == np.prod(pictures.activation_shape(1))


def test_a_study_finds_a_network_beside_it_whatever_folder_a_process_is_in(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from wireleak.lab.steps.plan import make_plan
    from wireleak.lab.study.schema import Study

    roles = {"train": 40, "evaluation": 20, "attacker": 20, "victims": 20}
    variants = [{"name": "a", "cut": 1}, {"name": "b", "cut": 1, "model": "strided28"}]
    declared = {"name": "s", "description": "", "data": {"name": "digits"} | roles, "variants": variants}
    monkeypatch.chdir(file.parent)
    plan = make_plan(Study.model_validate(declared | {"model": {"name": "model.py:make"}}))
    assert plan.study.model.name == f"{file}:make" and plan.study.variants[1].model == "strided28"
