"""The jails of Flower's processes, and the config of the runner, which puts the apps into theirs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

from wireleak.lab.launch.certificates import Identity
from wireleak.lab.launch.flower_folder import SERVERAPP, FlowerFolder
from wireleak.lab.launch.jail import Jail, ports_of


@dataclass(frozen=True)
class Host:
    """A node, or the SuperLink, as the runner asks it for tasks.

    Parameters
    ----------
    name : str
        Of the node, or `SERVERAPP`.
    address : str
        "host:port" of its Runtime API.
    pid : int
    own : str, optional
        "module:attribute" of the app to run instead of the bundle that it receives.
    """

    name: str
    address: str
    pid: int
    own: str | None = None


def flower_jail(
    home: Path,
    tls: Identity | None,
    *,
    pipes: Iterable[Path | None] = (),
    connect: Iterable[str] = (),
    listen: Iterable[int] = (),
    serves_tls: bool = False,
) -> Jail:
    """Return the jail of one of Flower's processes.

    Parameters
    ----------
    home : Path
        Its FLWR_HOME.
    tls : Identity, optional
        The SuperLink's certificate.
    pipes : iterable of Path
        Named pipes that it reads or writes; missing ones are left out.
    connect : iterable of str
        "host:port" of the servers that it may reach.
    listen : iterable of int
        Ports on which it serves.
    serves_tls : bool
        Whether it serves with the SuperLink's key.
    """
    read = () if tls is None else (tls.ca, tls.certificate, tls.key) if serves_tls else (tls.ca,)
    held = tuple(pipe for pipe in pipes if pipe is not None and pipe.exists())
    return Jail(read, (home, *held), ports_of(connect), tuple(listen), sockets=True)


def runner_setup(
    folder: FlowerFolder,
    hosts: Iterable[Host],
    tls: Identity | None,
    jails: Mapping[str, Jail] | None,
    *,
    poll: float,
    calls: bool,
) -> tuple[dict[str, Any], Jail | None]:
    """Return the config of the runner, and its jail.

    Parameters
    ----------
    folder : FlowerFolder
    hosts : iterable of Host
        The ServerApp's first.
    tls : Identity, optional
        The SuperLink's certificate.
    jails : mapping, optional
        What each app needs in addition to Flower's files and links, by its host's name; without it nothing is jailed.
    poll : float
        Seconds between two questions to every host.
    calls : bool
        Whether nodes call the runner when they have a task.
    """
    hosts = list(hosts)
    apps: list[dict[str, Any]] = []
    # The runner watches the nodes, and each app, which is in its jail too, reads about itself.
    own = Jail((folder.runner, Path("/proc")), (folder.home("runner"), folder.logs, folder.events))
    held = [own | flower_jail(folder.home("runner"), tls, pipes=[folder.wake], connect=(h.address for h in hosts))]
    for host in hosts:
        serves = host.name == SERVERAPP
        name = host.name if serves else f"{host.name}-app"
        app: dict[str, Any] = {"name": name, "address": host.address, "pid": host.pid, "own": host.own}
        app |= {"home": str(folder.home(name)), "log": str(folder.log(name)), "bell": str(folder.bell(host.name))}
        app |= {"root_certificates": str(tls.ca) if tls and serves else None, "calls": calls and not serves}
        if jails is not None:
            pipes = [folder.bell(one.name) for one in (hosts if serves else [host])]
            reach = flower_jail(folder.home(name), tls if serves else None, pipes=pipes, connect=[host.address])
            held.append(reach | jails[host.name])
            app["jail"] = held[-1].as_json()
        apps.append(app)
    config = {"poll": poll, "events": str(folder.events), "wake": str(folder.wake) if folder.wake.exists() else None}
    folder.events.touch()
    return config | {"apps": apps}, None if jails is None else reduce(or_, held)
