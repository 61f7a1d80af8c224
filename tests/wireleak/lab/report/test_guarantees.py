"""What the report says of private training: the guarantee whole, what it leaves out, and what was measured there."""

import math
from typing import Any

from wireleak.lab.report import page as report
from wireleak.lab.report.findings import titles
from wireleak.lab.report.guarantees import private_training, wire_transforms
from wireleak.lab.run import results as r
from wireleak.lab.run.results import Results

PRIVACY = r.Private(noise_multiplier=0.5, max_grad_norm=1, delta=1e-5, optimiser="adam", batch=250, examples=11_000)
MSE = {"none": (0.0412, 0.041), "noisy": (0.040, 0.039)}


def results(private: Any = True) -> Results:
    shared = {"study": "s", "link": "plaintext", "vantage": "gateway", "attack": "inversion", "target": "input"}
    return r.Results(
        study="s",
        created="2026-01-01T00:00:00+00:00",
        command="wireleak run s",
        variants=[
            r.VariantSummary(name="none", title="No DP", cut=4, link="plaintext", mode="federated"),
            r.VariantSummary(
                name="noisy", title="DP 0.5", cut=4, link="plaintext", privacy=PRIVACY if private else None
            ),
        ],
        rows=[
            r.Row(**shared, variant=name, seed=seed, measure="mse", value=value, n=100, chance=math.nan)
            for name, values in MSE.items()
            for seed, value in enumerate(values)
        ],
        tasks=[
            r.Task(variant=variant, seed=seed, measure=name, value=value, n=10, rounds=2)
            for variant, name, values in (
                ("none", "accuracy", (0.6, 0.62)),
                ("noisy", "accuracy", (0.40, 0.42)),
                ("noisy", "epsilon", (21.3, 21.4)),
            )
            for seed, value in enumerate(values)
        ],
    )


def test_the_guarantee_is_told_whole_with_what_it_does_not_cover() -> None:
    found = results()
    first, bare, last = private_training(found, titles(found))
    for part in ("DP 0.5", "ε = 21.40", "δ = 1e-05", "among a client's 11,000", "1 in 44", "Poisson", "41.0"):
        assert part in first
    assert "No DP 61.0" in bare
    assert "It does not cover the inputs of inference" in last
    assert "inversion on victims' inputs: DP 0.5 MSE 0.0395" in last and "No DP MSE 0.0411" in last


def test_where_every_attack_is_on_training_the_guarantee_covers_what_it_targets() -> None:
    found = results()
    shared = {"variant": "noisy", "attack": "member-lira", "target": "member", "vantage": "link"}
    found.grants = [r.Grant(**shared, sees=["global-model", "model-update"])]
    last = private_training(found, titles(found))[-1]
    assert "covers the training examples of the network, which these attacks target." in last
    found.grants.append(r.Grant(**shared | {"target": "input"}, sees=["activation"]))
    last = private_training(found, titles(found))[-1]
    assert "network, which the attacks on updates and models target. It does not cover the inputs of" in last
    found.grants = found.grants[1:]
    last = private_training(found, titles(found))[-1]
    assert "the inputs of inference, which these attacks target" in last


def test_an_audit_by_canaries_is_told_next_to_the_accounted_epsilon() -> None:
    found = results()
    shared = {"study": "s", "link": "plaintext", "vantage": "link", "attack": "member-loss", "target": "member-canary"}
    for variant, value in (("none", 3.0), ("noisy", 0.25)):
        measured = {"measure": "canary-epsilon", "value": value, "n": 100, "chance": 0.0}
        found.rows.append(r.Row(**shared, variant=variant, seed=0, **measured))
    said = private_training(found, titles(found))
    assert (
        "Audit by canaries, member-loss, mean over seeds (95 % for each): DP 0.5 ε ≥ 0.25 of 21.40; No DP ε ≥ 3.00."
        in said
    )


def test_the_page_says_it_only_where_somebody_trained_privately() -> None:
    assert "It does not cover the inputs of inference" in report.page(results())
    assert "private training" not in report.page(results(private=False))


def test_what_devices_do_before_sending_is_told_with_its_guarantee() -> None:
    found = results(private=False)
    found.variants[1].transforms = ["noise", "requantise"]
    found.variants[1].guarantees = ["noise: local (4.38, 1e-05)-DP"]
    (line,) = wire_transforms(found, titles(found))
    assert line == "DP 0.5, before sending: noise; then requantise. noise: local (4.38, 1e-05)-DP."
    found.variants[1].changes = [
        "noise: on the device: adds noise; on the wire: noise",
        "requantise: on the wire: less",
    ]
    (line,) = wire_transforms(found, titles(found))
    assert line == (
        "DP 0.5, before sending: noise: on the device: adds noise; on the wire: noise; then requantise: on the wire: "
        "less. noise: local (4.38, 1e-05)-DP."
    )
    assert line in report.page(found)
    found.variants[1].guarantees = []
    assert "no guarantee" in wire_transforms(found, titles(found))[0]
    assert wire_transforms(results(), titles(found)) == []


def test_in_split_training_it_is_of_both_stages_weights_and_of_nothing_that_crosses_the_wire() -> None:
    found = results()
    found.variants[1].mode = "split"
    first = private_training(found, titles(found))[0]
    for part in ("0.354 (0.5/√2)", "weights of encoder and head", "if the head is honest", "in the clear"):
        assert part in first
    found.variants[1].mode = "federated"
    assert "√2" not in private_training(found, titles(found))[0]


def test_padding_is_told_with_what_it_leaves() -> None:
    found = results(private=False)
    found.variants[0].pad, found.variants[1].pad = 4096, "powers"
    one, other = wire_transforms(found, titles(found))
    assert "a multiple of 4,096 bytes" in one and "a power of two" in other
    assert "number and times stay visible" in one


def test_an_audit_says_what_it_proves_and_the_smallest_fault_that_it_would_have_seen() -> None:
    found = results()
    found.variants[1].transforms = ["noise"]
    figures = {"errors": 430, "messages": 3000, "allowed": 0.15865, "promised": 10.0}
    found.audits = [r.NoiseAudit(variant="noisy", **figures, lower=9.84, smallest_fault=0.881, holds=True)]
    (line,) = wire_transforms(found, titles(found))
    assert "3,000 messages of two known tensors were told apart with 14.33% errors" in line
    assert "the noise allows no fewer than 15.87%. This proves ε ≥ 9.84 of the promised 10 (99.9 %)." in line
    assert line.endswith("Noise of 0.88 times the promised would be refuted with probability .95.")
    found.audits = [r.NoiseAudit(variant="noisy", **figures, lower=21.0, smallest_fault=0.4, holds=False)]
    (line,) = wire_transforms(found, titles(found))
    assert "REFUTED: ε is at least 21, not the promised 10 (99.9 %)." in line
    assert line.endswith("Noise of 0.40 times the promised would be refuted with probability .95; half might not be.")
