"""Overlap, roles, partitions and augmentation."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from wireleak.lab import data
from wireleak.lab.data.augment import augment
from wireleak.lab.data.dataset import Dataset
from wireleak.lab.data.roles import Turn

ROLES = ("clients", "evaluation", "attacker", "victims")


def made(n: Any = 600, seed: Any = 0, groups: Any = 12) -> Dataset:
    rng = np.random.default_rng(seed)
    person = rng.integers(0, groups, n)
    return data.Dataset(
        "made",
        rng.random((n, 1, 6, 6)).astype(np.float32),
        rng.integers(0, 4, n),
        "task",
        tuple("abcd"),
        {"hat": data.Attribute("hat", person % 3, tuple("xyz"), False)},
        {"person": person, "half": (np.arange(n) >= n // 2).astype(np.int64)},
        "-",
        {"half": ("first", "second")},
    )


@pytest.fixture(scope="module")
def dataset() -> Any:
    return made()


# ---------------------------------------------------------------- overlap


def test_overlap_counts_copies_on_both_sides() -> None:
    x = made().x
    first, second = x[:100], np.concatenate([x[95:200], x[95:96]])
    found = data.find_overlap(first, second)
    assert found.count == 6
    assert found.first.tolist() == [95, 96, 97, 98, 99]
    assert found.second.tolist() == [0, 1, 2, 3, 4, 105]
    assert data.find_overlap(x[:100], x[100:]).count == 0


def test_an_image_that_went_through_a_file_is_the_same_image() -> None:
    x = np.rint(made().x * 255).astype(np.float32) / np.float32(255)
    assert data.find_overlap(x, x + np.float32(1e-4)).count == len(x)
    changed = x.copy()
    changed[:, 0, 0, 0] = (changed[:, 0, 0, 0] + 0.5) % 1
    assert data.find_overlap(x, changed).count == 0


def test_sensor_windows_are_compared_exactly() -> None:
    x = np.random.default_rng(0).normal(size=(10, 6, 128)).astype(np.float32)
    assert data.find_overlap(x, x.copy()).count == 10
    assert data.find_overlap(x, x + np.float32(1e-3)).count == 0
    zero = np.zeros((1, 6, 128), np.float32)
    assert data.find_overlap(zero, -zero).count == 1
    assert len(set(data.content_hashes(x).tolist())) == 10


def test_shapes_are_part_of_the_content() -> None:
    assert data.find_overlap(np.zeros((1, 1, 4, 4), np.float32), np.zeros((1, 1, 2, 8), np.float32)).count == 0


def test_overlapping_parts_are_refused() -> None:
    x = made().x
    data.refuse_overlap({"client-0": x[:100], "attacker": x[100:200], "victims": x[200:]})
    with pytest.raises(data.DataError, match="client-0 and victims share 3 identical examples") as error:
        data.refuse_overlap({"client-0": x[:103], "attacker": x[200:], "victims": x[100:200]})
    assert "\n" not in str(error.value)
    data.refuse_overlap(
        {"client-0": np.concatenate([x[:5], x[:5]]), "victims": x[10:]}
    )  # repeats within one are its own


# ---------------------------------------------------------------- roles


def test_roles_are_disjoint_and_repeat_with_the_seed(dataset: Any) -> None:
    ask: dict[str, Any] = {"clients": 300, "evaluation": 50, "attacker": 150, "victims": 100}
    roles = data.assign_roles(dataset, **ask, seed=3)
    assert [len(getattr(roles, r)) for r in ROLES] == [300, 50, 150, 100]
    assert len(np.unique(np.concatenate([getattr(roles, r) for r in ROLES]))) == 600
    again = data.assign_roles(dataset, **ask, seed=3)
    other = data.assign_roles(dataset, **ask, seed=4)
    assert (again.victims == roles.victims).all() and not np.array_equal(np.sort(other.victims), np.sort(roles.victims))


def test_seeds_take_other_victims_and_share_nothing_where_the_set_allows_it(dataset: Any) -> None:
    def drawn(number: int, **ask: Any) -> Any:
        return data.assign_roles(dataset, **ask, seed=10 + number, turn=Turn(7, number))

    large = {"clients": 300, "evaluation": 50, "attacker": 150, "victims": 100}
    held = [drawn(number, **large) for number in range(7)]
    victims = [one.victims for one in held]
    assert len(np.unique(np.concatenate(victims[:6]))) == 600  # all that there are
    assert np.array_equal(np.sort(victims[6]), np.sort(victims[0])) and not np.array_equal(victims[6], victims[0])
    assert all(len(np.unique(np.concatenate([getattr(one, r) for r in ROLES]))) == 600 for one in held)
    small = {"clients": 100, "evaluation": 20, "attacker": 50, "victims": 30}
    held = [drawn(number, **small) for number in range(3)]
    assert len(np.unique(np.concatenate([getattr(one, r) for one in held for r in ROLES]))) == 600
    # Persons are taken whole, and so that no two seeds have a victim's person in common.
    person = dataset.group("person")
    held = [drawn(number, **small, disjoint_by="person") for number in range(4)]
    assert len({who for one in held for who in np.unique(person[one.victims])}) == sum(
        len(np.unique(person[one.victims])) for one in held
    )
    assert not set(person[held[0].victims]) & set(person[np.concatenate([held[0].clients, held[0].attacker])])
    # Rules of the study come first.
    fixed = {"victims": {"half": ["first"]}}
    assert (drawn(0, **small, only=fixed).victims < 300).all()


def test_copies_never_have_two_roles() -> None:
    one = made(200)
    x = np.concatenate([one.x, one.x[:50]])
    two = np.concatenate
    both = data.Dataset("twice", x, two([one.y, one.y[:50]]), "t", tuple("abcd"), {}, {}, "-")
    roles = data.assign_roles(both, clients=100, evaluation=20, attacker=50, victims=30)
    assert roles.duplicates == 50
    data.refuse_overlap({r: both.x[getattr(roles, r)] for r in ROLES})
    with pytest.raises(data.DataError, match="are left; take fewer"):
        data.assign_roles(both, clients=101, evaluation=20, attacker=50, victims=30)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_roles_by_group_share_no_group(seed: Any) -> None:
    dataset = made(seed=seed % 5)
    roles = data.assign_roles(
        dataset, clients=150, evaluation=30, attacker=80, victims=60, disjoint_by="person", seed=seed
    )
    person = dataset.groups["person"]
    theirs = [set(person[np.concatenate([roles.clients, roles.evaluation])].tolist())]
    theirs += [set(person[roles.attacker].tolist()), set(person[roles.victims].tolist())]
    assert not (theirs[0] & theirs[1] or theirs[0] & theirs[2] or theirs[1] & theirs[2])


def test_roles_restricted_to_values(dataset: Any) -> None:
    only: dict[str, dict[str, list[str | int]]] = {
        "clients": {"half": ["second"]},
        "attacker": {"person": [0, 1, 2], "half": ["first"]},
        "victims": {"person": [3]},
    }
    roles = data.assign_roles(dataset, clients=None, evaluation=40, attacker=None, victims=20, only=only)
    assert set(dataset.groups["half"][roles.clients].tolist()) == {1}
    assert set(dataset.groups["half"][roles.evaluation].tolist()) == {1}
    assert set(dataset.groups["person"][roles.attacker].tolist()) == {0, 1, 2}
    assert set(dataset.groups["half"][roles.attacker].tolist()) == {0}
    assert set(dataset.groups["person"][roles.victims].tolist()) == {3}
    first = (dataset.groups["person"] <= 2) & (dataset.groups["half"] == 0)
    assert len(roles.attacker) == first.sum()
    second = dataset.groups["half"] == 1
    assert len(roles.clients) == second.sum() - 40 - second[roles.victims].sum()


def test_by_group_the_rest_may_go_to_one_role(dataset: Any) -> None:
    roles = data.assign_roles(
        dataset, clients=None, evaluation=10, attacker=100, victims=100, disjoint_by="person", seed=1
    )
    person = dataset.groups["person"]
    taken = set(person[np.concatenate([roles.attacker, roles.victims])].tolist())
    assert len(roles.clients) + 10 == (~np.isin(person, list(taken))).sum()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clients": 9999}, "data.train: 9999 examples are more than the"),
        ({"clients": -1}, "data.train: must be 0 or more examples, not -1"),
        ({"disjoint_by": "alphabet"}, "no group called 'alphabet'; choose one of half, person"),
        ({"only": {"spy": {}}}, "data.only: no role called 'spy'; choose one of clients"),
        (
            {"only": {"victims": {"half": ["third"]}}},
            "no value of half called 'third'; choose one of first, second",
        ),
        ({"only": {"victims": {"person": [99]}}}, "person of made has no value 99"),
        ({"attacker": 200, "victims": 200, "clients": 190, "disjoint_by": "half"}, "take fewer"),
        ({"clients": 600, "evaluation": 0, "attacker": 0, "victims": None}, "data.victims: no examples are left"),
    ],
)
def test_roles_that_cannot_be(dataset: Any, change: dict[str, Any], message: str) -> None:
    ask: dict[str, Any] = {"clients": 100, "evaluation": 10, "attacker": 10, "victims": 10} | change
    with pytest.raises(data.DataError, match=message) as error:
        data.assign_roles(dataset, **ask)
    assert "\n" not in str(error.value)


# ---------------------------------------------------------------- partition


@settings(max_examples=40, deadline=None)
@given(
    clients=st.integers(1, 4),
    how=st.sampled_from([("iid", None), ("dirichlet", None), ("by_attribute", "hat"), ("by_group", "person")]),
    seed=st.integers(0, 1000),
    size=st.integers(200, 600),
)
def test_a_partition_gives_each_example_to_one_client(clients: Any, how: Any, seed: Any, size: Any) -> None:
    dataset = made()
    pool = np.random.default_rng(seed).permutation(600)[:size]
    if how[0] == "by_attribute" and clients > 3:
        clients = 3
    parts = data.partition(dataset, pool, clients, how[0], by=how[1], seed=seed)
    assert len(parts) == clients and all(len(part) for part in parts)
    assert np.concatenate(parts).shape == pool.shape
    assert np.array_equal(np.sort(np.concatenate(parts)), np.sort(pool))


def test_iid_is_even_and_dirichlet_is_as_uneven_as_alpha_says() -> None:
    dataset = made(6000)
    pool = np.arange(6000)

    def spread(how: Any, alpha: Any = 1.0) -> Any:
        parts = data.partition(dataset, pool, 3, how, alpha=alpha, seed=1)
        shares = np.array([np.bincount(dataset.y[part], minlength=4) for part in parts]) / np.bincount(dataset.y)
        return shares.std(axis=0).mean()

    assert {len(part) for part in data.partition(dataset, pool, 3)} == {2000}
    assert spread("iid") < 0.03 and spread("dirichlet", 1000.0) < 0.03
    assert spread("dirichlet", 0.1) > 0.25 > spread("dirichlet", 10.0)


@pytest.mark.parametrize(("how", "by"), [("by_attribute", "hat"), ("by_group", "person")])
def test_whole_values_stay_together(dataset: Any, how: str, by: str) -> None:
    parts = data.partition(dataset, np.arange(600), 3, how, by=by)
    values = dataset.attributes[by].values if how == "by_attribute" else dataset.groups[by]
    held = [set(values[part].tolist()) for part in parts]
    assert sum(map(len, held)) == len(set(values.tolist()))
    assert max(map(len, parts)) < 2 * min(map(len, parts))


def test_a_client_evaluates_on_its_own_kind_of_data(dataset: Any) -> None:
    roles = data.assign_roles(dataset, clients=400, evaluation=100, attacker=50, victims=50)
    person = dataset.groups["person"]
    parts = data.shards(dataset, roles, 3, "by_group", by="person")
    assert sorted(np.concatenate([s.train for s in parts])) == sorted(roles.clients)
    assert sorted(np.concatenate([s.evaluation for s in parts])) == sorted(roles.evaluation)
    for shard in parts:
        assert set(person[shard.evaluation].tolist()) <= set(person[shard.train].tolist())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clients": 3, "how": "random"}, "no partition called 'random'; choose one of iid, dirichlet"),
        ({"clients": 601}, "data.clients: 601 clients need at least one example each, of 600"),
        ({"clients": 13, "how": "by_group", "by": "person"}, "person has 12 values, too few for 13 clients"),
        ({"clients": 3, "how": "by_group"}, "data.by: is missing; partition 'by_group' needs the name of the group"),
        ({"clients": 3, "how": "by_attribute", "by": "person"}, "no attribute called 'person'; choose one of hat"),
        ({"clients": 3, "how": "dirichlet", "alpha": 0}, "data.alpha: must be positive, not 0"),
        (
            {"clients": 50, "how": "dirichlet", "alpha": 1e-3},
            "alpha: 0.001 leaves one of 50 clients without examples",
        ),
    ],
)
def test_partitions_that_cannot_be(dataset: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(data.DataError, match=message):
        data.partition(dataset, np.arange(600), **arguments)


# ---------------------------------------------------------------- augment

STILL: dict[str, Any] = {"shift": 0, "rotation": 0, "scale": (1, 1), "shear": 0}


def blob() -> Any:
    x = np.zeros((5, 1, 28, 28), np.float32)
    x[:, 0, 9:15, 10:20] = 1
    return ndimage.gaussian_filter(x, (0, 0, 1, 1))


def test_augment_repeats_with_the_generator_and_changes_images() -> None:
    x = blob()
    one, two = augment(x, np.random.default_rng(1)), augment(x, np.random.default_rng(1))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, augment(x, np.random.default_rng(2)))
    assert one.dtype == np.float32 and one.min() >= 0 and one.max() <= 1
    assert all(np.abs(one[i] - x[i]).max() > 0.05 for i in range(5))
    np.testing.assert_allclose(augment(x, np.random.default_rng(1), **STILL), x, atol=1e-5)


def test_augment_shifts_at_most_two_pixels() -> None:
    x = blob()
    moved = augment(x, np.random.default_rng(0), **{**STILL, "shift": 2.0})
    centres = np.array([ndimage.center_of_mass(image[0]) for image in moved])
    offset = centres - ndimage.center_of_mass(x[0, 0])
    assert np.abs(offset).max() <= 2.01 and np.abs(offset).max() > 0.5


@pytest.mark.parametrize("shape", [(28, 28), (20, 40)])
def test_augment_turns_and_scales_as_scipy_does(shape: Any) -> None:
    x = np.zeros((1, 1, *shape), np.float32)
    x[0, 0, 6:12, 8:18] = 1
    x = ndimage.gaussian_filter(x, (0, 0, 1, 1))
    rng = np.random.default_rng(5)
    ours = augment(x, rng, shift=0, rotation=10, scale=(1.1, 1.1), shear=0)[0, 0]
    angle = np.deg2rad(np.random.default_rng(5).uniform(-10, 10, 1))[0]
    # Ours maps (x, y), scipy (row, column): the same turn with the axes swapped.
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) / 1.1
    middle = (np.array(shape) - 1) / 2
    theirs = ndimage.affine_transform(x[0, 0], matrix, middle - matrix @ middle, order=1, mode="nearest")
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_augment_takes_images_alone() -> None:
    with pytest.raises(ValueError, match="must be images"):
        augment(np.zeros((2, 6, 128), np.float32), np.random.default_rng(0))


def test_no_client_is_left_without_evaluation_examples_by_chance() -> None:
    dataset = data.load("digits")
    for seed in range(20):
        roles = data.assign_roles(dataset, clients=3600, evaluation=400, attacker=50, victims=50, seed=seed)
        held = data.shards(dataset, roles, 100, seed=seed)
        assert {(len(shard.train), len(shard.evaluation)) for shard in held} == {(36, 4)}


def test_dirichlet_draws_again_until_each_client_can_evaluate(dataset: Any) -> None:
    """With 20 examples to evaluate on, one draw in three leaves one of four clients without any."""
    roles = data.assign_roles(dataset, clients=400, evaluation=20, attacker=50, victims=50)
    for seed in range(60):
        for shard in data.shards(dataset, roles, 4, "dirichlet", seed=seed):
            assert len(shard.train) and len(shard.evaluation)
