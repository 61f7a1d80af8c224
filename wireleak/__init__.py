"""Measure how much an eavesdropper learns from a split or federated model.

The names in `wireleak.__all__` are public; all else may change between versions.
"""

# Where each public name is defined. A name is imported at its first use, so `import wireleak` stays fast and a process
# imports only what it uses. Parties import `wireleak.common`, which runs this file, so it must import nothing itself.
# Names of `adversary` and `client` are for a user's own process: for authors of plug-ins and for readers of captures.
# They are strings because wireleak imports no party; nothing in wireleak uses these names.
_PLACES = {
    "run": "wireleak.lab.api",
    "audit": "wireleak.lab.api",
    "read_results": "wireleak.lab.api",
    "inspect": "adversary.tap.inspect.command",
    "observations": "adversary.tap.decode.read",
    "Kind": "adversary.tap.decode.observation",
    "Attack": "adversary.attacks.harness.attack",
    "ActivationAttack": "adversary.attacks.harness.activation_attack",
    "GradientAttack": "adversary.attacks.harness.gradient_attack",
    "UpdateAttack": "adversary.attacks.harness.update_attack",
    "ModelAttack": "adversary.attacks.harness.update_attack",
    "Knowledge": "adversary.attacks.harness.knowledge",
    "ThreatModel": "adversary.attacks.harness.threat",
    "Vantage": "adversary.attacks.harness.threat",
    "Knows": "adversary.attacks.harness.threat",
    "Transform": "client.transforms.registry",
    "Changes": "client.transforms.registry",
    "Measure": "wireleak.common.measures.scores.measure",
    "Target": "wireleak.common.targets.target",
}
__all__ = sorted(["__version__", *_PLACES])


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("wireleak")
    if name not in _PLACES:
        from difflib import get_close_matches

        near = get_close_matches(name, _PLACES, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"it offers {', '.join(_PLACES)}"
        raise AttributeError(f"module 'wireleak' has no attribute {name!r}; {hint}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(_PLACES[name]), name)
    return value


def __dir__() -> list[str]:
    return __all__
