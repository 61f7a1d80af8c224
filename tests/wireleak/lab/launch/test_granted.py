"""The jail of a party opens what its config names, and the code of the network that it builds."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from wireleak.lab.launch import jail as module
from wireleak.lab.launch.granted import jail_of


def network(name: str) -> dict[str, Any]:
    return {"model": {"name": name, "input_shape": [1, 8, 8], "classes": 2}, "address": "127.0.0.1:80"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A package with a network in a package of its own, a module next to it, and a file that is nobody's."""
    inner = tmp_path / "pkg" / "models"
    inner.mkdir(parents=True)
    for folder in (tmp_path / "pkg", inner):
        (folder / "__init__.py").touch()
    for file in (inner / "net.py", tmp_path / "helper.py", tmp_path / "diary.txt"):
        file.touch()
    return tmp_path


def test_a_network_in_a_package_opens_the_package_and_its_neighbours(project: Path) -> None:
    config = project / "run" / "config.json"
    found = jail_of(config, network(f"{project}/pkg/models/net.py:make"), project / "run")
    assert set(found.read) == {config, project / "pkg", project / "helper.py"}


def test_a_network_of_an_installed_package_opens_it_wherever_its_source_lies(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An installation from source may leave no trace on the import path."""
    spec = importlib.util.spec_from_file_location(
        "pkg", project / "pkg" / "__init__.py", submodule_search_locations=[str(project / "pkg")]
    )
    monkeypatch.setattr(module, "find_spec", lambda name: spec if name == "pkg" else None)
    config = project / "run" / "config.json"
    assert set(jail_of(config, network("pkg.models.net:make"), project / "run").read) == {config, project / "pkg"}
    assert set(jail_of(config, network("small-cnn"), project / "run").read) == {config}


@pytest.mark.parametrize("own", ["server", "adversary/inversion-input"])
@pytest.mark.parametrize("secret", ["run/sealed/secret", "run/wide-seed0/sealed/ledger.npz", "run/wide-seed0/sealed"])
def test_a_sealed_file_is_no_grant(tmp_path: Path, own: str, secret: str) -> None:
    folder = tmp_path / "run" / "wide-seed0" / own
    with pytest.raises(AssertionError, match="sealed"):
        jail_of(folder / "config.json", {"truth": str(tmp_path / secret)}, folder)


def test_a_users_folder_may_be_called_sealed(tmp_path: Path) -> None:
    """Of the network, and of the runs."""
    home = tmp_path / "sealed"
    folder = home / "out" / "runs" / "run" / "wide-seed0" / "server"
    (network_file := home / "net.py").parent.mkdir()
    network_file.touch()
    found = jail_of(folder / "config.json", network(f"{network_file}:make"), folder)
    assert network_file in found.read
