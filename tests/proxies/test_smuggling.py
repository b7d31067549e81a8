"""No byte of a body is read as a request, whichever protocol the head offers."""

import pytest

from tests.proxies.bed.attacks import attacks
from tests.proxies.bed.backends import KINDS, Backends
from tests.proxies.bed.fronts import NAMES, Fronts, Manner
from tests.proxies.bed.pairwise import ALL
from tests.proxies.bed.smuggling import Battle

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", KINDS)
def test_directly(kind: str, backends: Backends) -> None:
    backend = backends[kind]
    battle = Battle(backend, backend.address, is_direct=True)
    tried = attacks(backend.targets, battle.token)
    found = battle.problems(tried)
    assert not found, _report(found, len(tried))


@pytest.mark.parametrize("manner", ["lax", "strict"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_through_a_proxy(
    kind: str, name: str, manner: Manner, backends: Backends, fronts: Fronts
) -> None:
    backend = backends[kind]
    address = fronts.address(name, backend, manner)
    battle = Battle(backend, address, is_direct=False)
    tried = attacks(backend.targets, battle.token)
    if not ALL:
        # Another half for each proxy. As they ship, they pass on hardly any Upgrade field.
        tried = tried[NAMES.index(name) % 2 :: 2 if manner == "lax" else 10]
    found = battle.problems(tried)
    assert not found, _report(found, len(tried))


def _report(found: list[str], tried: int) -> str:
    return "\n".join([f"{len(found)} of {tried} attacks:", *found[:20]])
