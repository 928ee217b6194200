"""Downloads, against a server on this machine that misbehaves in every way that is known to happen."""

import gzip
import hashlib
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from zoo.data.fetch import fetch
from zoo.errors import InputError

CONTENT = bytes(range(256)) * 40
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PATIENCE = {"timeout_s": 0.5, "tries": 2, "pause_s": 0.01}
REASONS = {
    "slow": "timed out",
    "stalled": "timed out",
    "drip": "timed out",
    "cut": "cut off",
    "hangs_up": "without response",
    "missing": "status 404",
    "broken": "status 503",
    "wrong": "wrong content",
    "page": "b'<html>",
    "half_a_gzip": "damaged gzip",
}
TRIED_ONCE = {"missing", "wrong", "page", "half_a_gzip"}


class Handler(BaseHTTPRequestHandler):
    """Answers /<behaviour>/<any name>; the server counts the requests of each behaviour."""

    def do_GET(self):
        behaviour = self.path.split("/")[1]
        self.server.requests.append(behaviour)
        count, over = self.server.requests.count(behaviour), self.server.over
        body = {
            "wrong": CONTENT[:-1] + b"!",
            "page": b"<html>Please log in</html>",
            "half_a_gzip": gzip.compress(CONTENT)[:-20],
            "gzip": gzip.compress(CONTENT, 1),
        }.get(behaviour, CONTENT)
        if behaviour == "slow":
            over.wait(5)
        if behaviour == "hangs_up":
            return
        status = 404 if behaviour == "missing" else 200
        if behaviour == "broken" or (behaviour == "broken_once" and count == 1):
            status = 503
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if behaviour == "drip":
            for byte in body:
                self.wfile.write(bytes([byte]))
                if over.wait(0.05):
                    return
        if behaviour in ("cut", "stalled") or (behaviour == "cut_once" and count == 1):
            self.wfile.write(body[:1000])
            if behaviour == "stalled":
                self.wfile.flush()
                over.wait(5)
            return
        self.wfile.write(body)

    def log_message(self, *_):
        pass

    def handle_one_request(self):
        try:
            super().handle_one_request()
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True


@pytest.fixture
def server(monkeypatch, tmp_path):
    """A running server; proxies of the environment, which do not answer, must not matter to it."""
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("ZOO_MIRROR", "no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.requests, server.over = [], threading.Event()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield server
    server.over.set()
    server.shutdown()
    server.server_close()
    thread.join()
    assert not list(tmp_path.iterdir()), "a download must leave nothing behind"


def address(server, behaviour):
    return f"http://127.0.0.1:{server.server_port}/{behaviour}/"


@pytest.mark.parametrize("behaviour", REASONS)
def test_next_mirror_serves_when_one_fails(server, behaviour, capsys):
    mirrors = [address(server, behaviour), address(server, "good"), address(server, "unused")]
    assert fetch("set", "file", SHA256, mirrors, **PATIENCE) == CONTENT
    assert server.requests == [behaviour] * (1 if behaviour in TRIED_ONCE else 2) + ["good"]
    _, failure = capsys.readouterr().err.split(f"{mirrors[0]}file (")
    assert REASONS[behaviour] in failure


def test_all_fail_in_one_message(server):
    mirrors = [address(server, behaviour) for behaviour in REASONS] + ["http://127.0.0.1:9/closed/"]
    with pytest.raises(InputError) as caught:
        fetch("set", "file", SHA256, mirrors, **PATIENCE)
    message = str(caught.value)
    assert "\n" not in message
    places = [message.index(mirror + "file") for mirror in mirrors]
    assert places == sorted(places), "addresses in the order in which they were tried"
    for begin, end, reason in zip(places, [*places[1:], None], [*REASONS.values(), "refused"], strict=True):
        assert reason in message[begin:end]
    remedies = message[places[-1] :]
    assert all(word in remedies for word in ("again", "ZOO_MIRROR", "quick"))
    tries = {behaviour: 1 if behaviour in TRIED_ONCE else PATIENCE["tries"] for behaviour in REASONS}
    assert Counter(server.requests) == tries


@pytest.mark.parametrize("behaviour", ["cut_once", "broken_once"])
def test_what_passes_is_tried_again(server, behaviour):
    assert fetch("set", "file", SHA256, [address(server, behaviour)], **PATIENCE) == CONTENT
    assert server.requests == [behaviour] * 2


def test_content_is_checked_not_the_container(server):
    assert fetch("set", "file.gz", SHA256, [address(server, "gzip")], **PATIENCE) == CONTENT


def test_own_mirror_is_first(server, monkeypatch):
    monkeypatch.setenv("ZOO_MIRROR", address(server, "good"))
    assert fetch("set", "file", SHA256, [address(server, "unused")], **PATIENCE) == CONTENT
    assert server.requests == ["good"]


@pytest.mark.parametrize("slash", ["", "/"])
def test_own_mirror_is_a_folder(server, monkeypatch, tmp_path_factory, slash):
    folder = tmp_path_factory.mktemp("mirror")
    (folder / "set").mkdir()
    (folder / "set" / "file.gz").write_bytes(gzip.compress(CONTENT, 9))
    monkeypatch.setenv("ZOO_MIRROR", f"{folder}{slash}")
    assert fetch("set", "file.gz", SHA256, [address(server, "unused")], **PATIENCE) == CONTENT
    assert server.requests == []


@pytest.mark.parametrize("own", ["{folder}", "http://127.0.0.1:9", "http://[nonsense", "ftp://127.0.0.1/"])
def test_mirrors_follow_an_own_mirror_that_lacks_the_file(server, monkeypatch, tmp_path_factory, own, capsys):
    own = own.format(folder=tmp_path_factory.mktemp("empty"))
    monkeypatch.setenv("ZOO_MIRROR", own)
    assert fetch("set", "file", SHA256, [address(server, "good")], **PATIENCE) == CONTENT
    assert f"{own.rstrip('/')}/set/file (" in capsys.readouterr().err
