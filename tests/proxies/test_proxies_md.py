"""docs/proxies.md is true: its links, its snippets, and what it says of trailers."""

import re

import pytest
import uvicorn

import authapi
from tests.proxies.bed.backends import ROOT, Backends
from tests.proxies.bed.fronts import Fronts
from tests.proxies.bed.places import PLACES, place
from tests.proxies.test_trailers import send
from tests.test_readme import blocks

pytestmark = pytest.mark.slow

PATH = ROOT / "docs" / "proxies.md"
PAGE = PATH.read_text("utf-8")


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert {"../deploy/Caddyfile", "../deploy/nginx.conf", "../deploy/haproxy.cfg"} <= set(targets)
    for target in targets:
        assert (PATH.parent / target).exists(), target


def test_the_protocol_class_is_found_by_the_name_that_it_gives() -> None:
    names = re.findall(r"""(?:--http |http=|"http": )"?([\w:]+)""", PAGE)
    assert len(names) == 3
    for name in names:
        config = uvicorn.Config("tests.proxies.bed.applications:imported", factory=True, http=name)
        config.load()
        assert config.http_protocol_class is authapi.HTTPProtocol
    assert all(compile(text, "docs/proxies.md", "exec") for text in blocks("python", PAGE))


@pytest.mark.parametrize("where", PLACES)
def test_what_each_proxy_does_with_trailers(where: str, backends: Backends, fronts: Fronts) -> None:
    # Plain uvicorn takes them for header fields, and so tells whether they arrived.
    address = place(where, "imported", backends, fronts)
    [(name, value)] = backends["imported"].people[0].jwt.items()
    passed = []
    for announced in (True, False):
        answer = send(
            address, "POST", "/echo", [f"{name}: {value}"], body="{}", announced=announced
        )
        passed.append(answer is not None and answer.status == 200)
    assert (
        passed
        == {
            "direct": [True, True],
            "caddy": [False, False],
            "nginx": [False, False],
            "haproxy": [True, True],
        }[where]
    )
