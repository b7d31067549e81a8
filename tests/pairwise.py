"""Pairwise test combinations: few rows with every pair of values, or all combinations."""

import itertools
import os
import random
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

Dimensions: TypeAlias = Mapping[str, Sequence[Any]]
Row: TypeAlias = dict[str, Any]
_Pair: TypeAlias = tuple[str, int, str, int]

ALL = os.environ.get("AUTHAPI_TEST_MATRIX") == "all"
"""Whether tests use all combinations (`make test-matrix`)."""
_CANDIDATES = 20


def pairs(dimensions: Dimensions, seed: int = 1) -> list[Row]:
    """Returns rows that contain each pair of values of two dimensions at least once.

    Greedy: each row completes a missing pair with the best of several random completions, the one
    that covers most missing pairs. The same seed gives the same rows.
    """
    chance = random.Random(seed)
    sizes = {name: len(values) for name, values in dimensions.items()}
    missing = {
        (one, i, other, j)
        for one, other in itertools.combinations(sizes, 2)
        for i in range(sizes[one])
        for j in range(sizes[other])
    }
    rows = []
    while missing:
        one, i, other, j = min(missing)
        drawn = [
            {name: chance.randrange(size) for name, size in sizes.items()} | {one: i, other: j}
            for _ in range(_CANDIDATES)
        ]
        best = max(drawn, key=lambda row: len(missing & _pairs_of(row)))
        missing -= _pairs_of(best)
        rows.append(best)
    return [{name: dimensions[name][i] for name, i in row.items()} for row in rows]


def product(dimensions: Dimensions, full: Sequence[str], seed: int = 1) -> list[Row]:
    """Returns every combination of the dimensions in `full`, with random values of the others."""
    chance = random.Random(seed)
    return [
        {name: chance.choice(values) for name, values in dimensions.items()}
        | dict(zip(full, chosen, strict=True))
        for chosen in itertools.product(*(dimensions[name] for name in full))
    ]


def _pairs_of(row: Mapping[str, int]) -> set[_Pair]:
    return {(one, i, other, j) for (one, i), (other, j) in itertools.combinations(row.items(), 2)}
