"""docs/proxies.md is correct: its links, its snippets, and its statements on trailers."""

import re

import pytest
import uvicorn

import authapi
from tests.proxies.test_trailers import send
from tests.proxies.testbed.backends import ROOT, Backends
from tests.proxies.testbed.places import PLACES, place
from tests.proxies.testbed.proxies import Proxies
from tests.test_readme import blocks

pytestmark = pytest.mark.slow

PATH = ROOT / "docs" / "proxies.md"
PAGE = PATH.read_text("utf-8")


def test_links_resolve() -> None:
    targets = re.findall(r"\]\(([^)#]+)\)", PAGE)
    assert {"../deploy/Caddyfile", "../deploy/nginx.conf", "../deploy/haproxy.cfg"} <= set(targets)
    for target in targets:
        assert (PATH.parent / target).exists(), target


def test_protocol_class_is_importable_by_the_documented_name() -> None:
    names = re.findall(r"""(?:--http |http=|"http": )"?([\w:]+)""", PAGE)
    assert len(names) == 3
    for name in names:
        config = uvicorn.Config(
            "tests.proxies.testbed.applications:imported", factory=True, http=name
        )
        config.load()
        assert config.http_protocol_class is authapi.HTTPProtocol
    assert all(compile(text, "docs/proxies.md", "exec") for text in blocks("python", PAGE))


@pytest.mark.parametrize("where", PLACES)
def test_trailer_behavior_of_each_proxy_is_documented(
    where: str, backends: Backends, proxies: Proxies
) -> None:
    # Plain uvicorn treats trailers as headers, so its response shows whether they arrived.
    address = place(where, "imported", backends, proxies)
    [(name, value)] = backends["imported"].accounts[0].jwt.items()
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
