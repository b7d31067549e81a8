"""No body is parsed as a request, for any protocol in `Upgrade`."""

import pytest

from tests.pairwise import ALL
from tests.proxies.testbed.attacks import attacks
from tests.proxies.testbed.backends import KINDS, Backends
from tests.proxies.testbed.proxies import NAMES, Proxies, Strictness
from tests.proxies.testbed.smuggling import AttackRunner

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("kind", KINDS)
def test_no_request_is_smuggled_directly(kind: str, backends: Backends) -> None:
    backend = backends[kind]
    runner = AttackRunner(backend, backend.address, is_direct=True)
    tried = attacks(backend.targets, runner.token)
    found = runner.problems(tried)
    assert not found, _report(found, len(tried))


@pytest.mark.parametrize("strictness", ["lax", "strict"])
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", KINDS)
def test_no_request_is_smuggled_through_a_proxy(
    kind: str, name: str, strictness: Strictness, backends: Backends, proxies: Proxies
) -> None:
    backend = backends[kind]
    address = proxies.address(name, backend, strictness)
    runner = AttackRunner(backend, address, is_direct=False)
    tried = attacks(backend.targets, runner.token)
    if not ALL:
        # Half of the attacks for each proxy. The shipped files remove most Upgrade headers.
        tried = tried[NAMES.index(name) % 2 :: 2 if strictness == "lax" else 10]
    found = runner.problems(tried)
    assert not found, _report(found, len(tried))


def _report(found: list[str], tried: int) -> str:
    return "\n".join([f"{len(found)} of {tried} attacks:", *found[:20]])
