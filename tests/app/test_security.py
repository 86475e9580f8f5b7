"""Requests of other pages, other users and other machines are refused."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from tests.app.live import TOKEN
from upscale.app.page import app_page
from upscale.app.routes import make_server
from upscale.app.security import Access
from upscale.errors import UsageError

HOST = "127.0.0.1:8000"
ORIGIN = f"http://{HOST}"
ADDRESSES = [
    ("GET", "/"),
    ("GET", "/api/config"),
    ("GET", "/api/uploads"),
    ("POST", "/api/uploads?name=a.png"),
    ("DELETE", "/api/uploads/x"),
    ("POST", "/api/command"),
    ("GET", "/api/tasks"),
    ("POST", "/api/tasks"),
    ("POST", "/api/previews"),
    ("DELETE", "/api/tasks/x"),
    ("POST", "/api/tasks/x/cancel"),
    ("POST", "/api/tasks/x/resume"),
    ("GET", "/tasks/x/archive.zip"),
    ("GET", "/tasks/x/comparison.html"),
    ("GET", "/files/x"),
    ("GET", "/files/x/comparison.html"),
]


@pytest.fixture
def client(make_application):
    """A client without a token."""
    return TestClient(make_server(make_application(), Access(TOKEN, "127.0.0.1", 8000)), ORIGIN)


@pytest.fixture
def guest(client):
    """A browser that has opened the address with the token."""
    assert client.get(f"/?token={TOKEN}").status_code == 200
    return client


def test_every_address_is_in_the_list_above(make_application):
    guard = make_server(make_application(), Access(TOKEN, "127.0.0.1", 8000))
    routes = {(method, route.path) for route in guard._app.routes for method in route.methods}
    listed = {(method, path.partition("?")[0]) for method, path in ADDRESSES}
    assert {(m, p.replace("{id}", "x")) for m, p in routes if m != "HEAD"} == listed


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_without_the_token_nothing_is_answered(client, method, path):
    for headers in (
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Cookie": "upscale-app-8000=wrong"},
        {"Cookie": f"upscale-app-8001={TOKEN}"},
    ):
        assert client.request(method, path, headers=headers).status_code == 403
    assert client.get("/?token=wrong").status_code == 403


@pytest.mark.parametrize(("method", "path"), ADDRESSES)
def test_another_name_in_host_is_refused_even_with_the_token(guest, method, path):
    """DNS rebinding: the name of another site leads to this machine."""
    for host in ("evil.example:8000", "127.0.0.1:9999", "127.0.0.1", "", "127.0.0.1.evil:8000"):
        headers = {"Host": host, "Authorization": f"Bearer {TOKEN}"}
        assert guest.request(method, path, headers=headers).status_code == 421


@pytest.mark.parametrize(("method", "path"), [each for each in ADDRESSES if each[0] != "GET"])
def test_a_change_from_another_origin_is_refused(guest, method, path):
    for headers in (
        {},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:9999", "Sec-Fetch-Site": "same-site"},
        {"Origin": ORIGIN, "Sec-Fetch-Site": "cross-site"},
        {"Origin": f"https://{HOST}"},
    ):
        assert guest.request(method, path, headers=headers).status_code == 403


def test_another_page_can_neither_embed_nor_read_anything(guest):
    for site in ("cross-site", "same-site"):
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "no-cors"}
        assert guest.get("/api/tasks", headers=headers).status_code == 403
        assert guest.get("/files/x", headers=headers).status_code == 403
        assert guest.get("/", headers=headers).status_code == 403
    headers = {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "navigate"}
    assert guest.get("/", headers=headers).status_code == 200, "a link to the page works"


def test_the_page_itself_is_let_through(guest):
    headers = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}
    assert guest.get("/api/tasks", headers={"Sec-Fetch-Site": "same-origin"}).json() == []
    assert guest.post("/api/command", headers=headers, content=b"[]").status_code == 400


def test_a_program_with_the_token_in_a_header_needs_no_origin(client):
    answer = client.post("/api/command", headers={"Authorization": f"Bearer {TOKEN}"}, content=b"x")
    assert answer.json() == {"error": "the request is not JSON"}


def test_the_cookie_is_out_of_reach_for_scripts_and_other_sites(client):
    cookie = client.get(f"/?token={TOKEN}").headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Domain" not in cookie


def test_every_answer_has_headers_that_protect_it(guest):
    for path in ("/", "/api/config", "/files/x", "/nowhere"):
        headers = guest.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert headers["cache-control"] == "no-store"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers


def test_the_policy_of_the_page_allows_its_own_script_only():
    policy = dict(part.split(" ", 1) for part in app_page().policy.split("; "))
    assert "unsafe" not in app_page().policy
    assert policy["default-src"] == "'none'"
    assert policy["script-src"].startswith("'sha256-")
    assert policy["connect-src"] == "'self'"
    html = app_page().content.decode()
    assert "http://" not in html and "https://" not in html, "nothing is loaded from elsewhere"
    assert "innerHTML" not in html and "document.write" not in html and " on" + "click=" not in html


@pytest.mark.parametrize(
    ("host", "listens", "is_own"),
    [
        ("localhost:8000", "127.0.0.1", True),
        ("[::1]:8000", "::1", True),
        ("192.168.1.5:8000", "127.0.0.1", False),
        ("192.168.1.5:8000", "0.0.0.0", True),
        ("evil.example:8000", "0.0.0.0", False),
        ("nas.local:8000", "nas.local", True),
    ],
)
def test_names_of_the_server(host, listens, is_own):
    assert Access(TOKEN, listens, 8000).is_own_name(host) is is_own


def test_the_address_names_this_machine_where_the_server_listens_everywhere():
    assert Access(TOKEN, "0.0.0.0", 80).url == f"http://127.0.0.1:80/?token={TOKEN}"
    assert Access(TOKEN, "::1", 80).url == f"http://[::1]:80/?token={TOKEN}"


def test_the_address_for_the_command_line_of_a_browser_opens_the_page_once(make_application):
    access = Access(TOKEN, "127.0.0.1", 8000)
    client = TestClient(make_server(make_application(), access), ORIGIN)
    assert TOKEN not in access.url_for_once
    path = access.url_for_once.removeprefix(ORIGIN)
    assert client.get("/?code=").status_code == 403
    assert client.get(path).status_code == 200
    client.cookies.clear()
    assert client.get(path).status_code == 403
    assert client.get("/?code=").status_code == 403


@pytest.mark.parametrize("token", ["", "short", "0123456789abcde;", "0123456789abcdef\n", "ä" * 20])
def test_a_weak_token_is_refused(token):
    with pytest.raises(UsageError, match="token"):
        Access(token, "127.0.0.1", 1)
