"""How a run's seeds divide the data among the parties."""

import numpy as np
import pytest

from wireleak.common.measures import PERCENT
from wireleak.lab.data.dataset import DataError
from wireleak.lab.data.roles import Roles
from wireleak.lab.report.findings import shared_line
from wireleak.lab.run.division import Division, shared_by_seeds
from wireleak.lab.run.results import Disjoint, Results
from wireleak.lab.steps.plan import make_plan
from wireleak.lab.study.library import load_study
from wireleak.lab.study.schema import Study


def test_the_seeds_of_the_default_study_have_other_victims() -> None:
    study, _ = load_study("digits")
    plan = make_plan(study)
    name = study.variants[0].name
    victims = [plan.divisions[name, seed].roles.victims for seed in study.seeds]
    assert len(np.unique(np.concatenate(victims))) == 3 * 500
    # 4,800 of 5,000 examples have a role with each seed.
    shared = shared_by_seeds([plan.divisions[name, seed] for seed in study.seeds], None)
    assert shared["victims"] == 0 and shared["examples"] == pytest.approx(0.96, abs=0.01)


def test_a_client_with_too_few_for_a_batch_gets_another_draw() -> None:
    study, _ = load_study("active-sweep")

    def with_train(train: int) -> Study:
        data = study.data.model_copy(update={"train": train})
        return study.model_copy(update={"data": data, "seeds": tuple(range(12)), "variants": study.variants[:1]})

    plan = make_plan(with_train(136))  # of the 68 digits of each of two clients, 32 must not be thick, and half are
    thick = plan.dataset.attribute("thickness").values == 1
    for seed in range(12):
        held = [shard.train for shard in plan.divisions["alpha-0", seed].shards]
        assert all((~thick)[one].sum() >= 32 for one in held) and thick[held[1]].sum() >= 16
    with pytest.raises(DataError, match="one batch needs 32 examples of a kind"):
        make_plan(with_train(66))


def test_the_share_that_two_seeds_have_in_common_is_counted_and_said() -> None:
    def of(victims: list[int], clients: list[int]) -> Division:
        none = np.zeros(0, np.int64)
        return Division(Roles(np.array(clients), none, none, np.array(victims), 0), [], [], {})

    first, second = of([0, 1], [2, 3]), of([1, 4], [2, 5])
    people = np.array([0, 0, 1, 1, 2, 2])
    found = shared_by_seeds([first, second], people)
    assert found == {"examples": 0.5, "victims": 0.5, "persons": pytest.approx(5 / 6), "victims' persons": 0.75}
    assert not shared_by_seeds([first], people)
    results = Results(
        study="s", created="", command="", disjoint=Disjoint(seeds_share={"examples": 0.96, "victims": 0})
    )
    assert shared_line(results) == f"Two seeds share 96{PERCENT} of their examples and no victims."
    assert shared_line(Results(study="s", created="", command="")) == ""
