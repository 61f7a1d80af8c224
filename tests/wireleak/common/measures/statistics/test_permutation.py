import numpy as np

from wireleak.common.measures.statistics.permutation import null_orders


def test_people_of_one_label_each_keep_their_examples_together() -> None:
    people = np.repeat(np.arange(6), 5)
    labels = np.array([0, 0, 0, 1, 1, 1])[people]
    for order in null_orders(labels, people, 20, np.random.default_rng(0)):
        permuted = labels[order].reshape(6, 5)
        assert (permuted == permuted[:, :1]).all()
        assert permuted[:, 0].sum() == 3


def test_people_of_several_labels_are_permuted_by_example() -> None:
    people, labels = np.repeat(np.arange(6), 5), np.tile(np.arange(5), 6)
    orders = list(null_orders(labels, people, 20, np.random.default_rng(0)))
    assert all(sorted(order) == list(range(30)) for order in orders)
    assert any((labels[order] != labels).any() for order in orders)
