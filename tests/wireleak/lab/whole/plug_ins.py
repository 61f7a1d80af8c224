"""Install a plug-in as a package of its own, as a user would."""

from pathlib import Path


def install_plug_in(folder: Path, module: str, code: str, attacks: dict[str, str]) -> Path:
    """Write a package with entry points of attacks (name to class); put the returned folder on the import path."""
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {module}\nVersion: 1.0\n")
    points = "".join(f"{name} = {module}:{attack}\n" for name, attack in attacks.items())
    (info / "entry_points.txt").write_text(f"[wireleak.attacks]\n{points}")
    return folder
