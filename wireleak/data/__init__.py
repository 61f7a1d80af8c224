"""Data sets, their private attributes, and who holds what; `wireleak.data.augment` needs torch and is apart."""

from wireleak.data.dataset import Attribute, DataError, Dataset
from wireleak.data.dependence import Dependence, dependence
from wireleak.data.overlap import Overlap, content_hashes, find_overlap, first_occurrences, refuse_overlap
from wireleak.data.partition import Shard, partition, shards
from wireleak.data.registry import Description, describe, load, names, register
from wireleak.data.roles import Roles, assign_roles

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
    "find_overlap",
    "first_occurrences",
    "load",
    "names",
    "partition",
    "refuse_overlap",
    "register",
    "shards",
]
