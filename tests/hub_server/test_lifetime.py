"""The server itself: it ends with the test, and a test that did not do what it meant to do fails."""

import threading

import httpx
import pytest

from hub_server import HubServer, Status


def test_nothing_is_left_running():
    before = set(threading.enumerate())
    server = HubServer().start()
    with httpx.Client() as idle:  # it keeps its connection open
        assert idle.get(f"{server.url}/api/models/a/b").status_code == 401
        assert len(set(threading.enumerate()) - before) == 2
        server.stop()
        assert set(threading.enumerate()) == before
        with pytest.raises(httpx.ConnectError):
            httpx.get(server.url)
    server.stop()


def test_what_did_not_happen_is_reported():
    with pytest.raises(AssertionError) as error, HubServer() as server:
        server.order(Status(500), "GET", "/api/", times=2)
        server.once("PUT", "/lfs/", print)
        assert httpx.get(f"{server.url}/api/whoami-v2").status_code == 500
    assert "GET /api/: 1 times" in str(error.value) and "PUT /lfs/: 0 times" in str(error.value)


def test_a_hook_that_fails_is_reported():
    with pytest.raises(AssertionError, match="not what I saw"), HubServer() as server:
        server.once("GET", "/api/", lambda: pytest.fail("not what I saw"))
        assert httpx.get(f"{server.url}/api/whoami-v2").status_code == 401


def test_a_route_that_fails_is_reported():
    with pytest.raises(AssertionError, match="KeyError: 'content'"), HubServer() as server:
        assert httpx.post(f"{server.url}/api/validate-yaml", json={}).status_code == 500
