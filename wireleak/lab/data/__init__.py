"""Data sets, their private attributes and each role's examples. Augmentation needs torch: import it by its module."""

from wireleak.lab.data.dataset import Attribute, DataError, Dataset
from wireleak.lab.data.dependence import Dependence, dependence
from wireleak.lab.data.overlap import Overlap, content_hashes, find_overlap, first_occurrences, refuse_overlap
from wireleak.lab.data.partition import Shard, partition, shards
from wireleak.lab.data.registry import Description, describe, find, load, names, register
from wireleak.lab.data.roles import Roles, assign_roles

__all__ = [
    "Attribute",
    "DataError",
    "Dataset",
    "Dependence",
    "Description",
    "Overlap",
    "Roles",
    "Shard",
    "assign_roles",
    "content_hashes",
    "dependence",
    "describe",
    "find",
    "find_overlap",
    "first_occurrences",
    "load",
    "names",
    "partition",
    "refuse_overlap",
    "register",
    "shards",
]
