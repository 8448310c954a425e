"""A judge's server that drips, sends too much, sends us elsewhere, or answers with a page."""

import gzip
import json
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sa_lightning.errors import JudgeError
from sa_lightning.evaluation.judges import endpoint
from sa_lightning.evaluation.judges.endpoint import Endpoint

ANSWER = json.dumps({"choices": [{"text": "yes"}]}).encode()


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.01)
    servers = []

    def start(respond):
        asked = []

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(404)
                self.end_headers()

            def do_POST(self):
                asked.append(self.headers)
                with suppress(OSError):  # the other side may have gone
                    respond(self)

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1", asked

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def _asked(url, **more):
    return dict(Endpoint(url, "m", retries=0, **more).answer(["is it harmful?"], 4))


def _send(handler, body, **headers):
    handler.send_response(200)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body)


def test_plain_and_compressed_answers_are_read(serve):
    assert _asked(serve(lambda h: _send(h, ANSWER))[0]) == {0: "yes"}
    url, _ = serve(lambda h: _send(h, gzip.compress(ANSWER), Content_Encoding="gzip"))
    assert _asked(url) == {0: "yes"}


def test_a_server_that_drips_is_left_in_time(serve):
    def drip(handler):
        handler.send_response(200)
        handler.end_headers()
        for _ in range(200):
            handler.wfile.write(b" ")
            handler.wfile.flush()
            time.sleep(0.05)

    began = time.monotonic()
    with pytest.raises(JudgeError, match="had not ended in time"):
        _asked(serve(drip)[0], timeout=0.5)
    assert time.monotonic() - began < 4


def test_an_answer_that_unfolds_is_cut(serve, monkeypatch):
    monkeypatch.setattr(endpoint, "_LARGEST", 1 << 20)
    url, _ = serve(lambda h: _send(h, gzip.compress(b" " * (64 << 20)), Content_Encoding="gzip"))
    with pytest.raises(JudgeError, match="more than 1 MiB"):
        _asked(url)


def test_nothing_is_sent_to_another_address(serve, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "secret-key")
    other, asked_there = serve(lambda h: _send(h, ANSWER))

    def away(handler):
        handler.send_response(307)
        handler.send_header("Location", f"{other}/completions")
        handler.end_headers()

    with pytest.raises(JudgeError, match="sends us on to another address"):
        _asked(serve(away)[0], api_key_env="JUDGE_KEY")
    assert asked_there == []


def test_a_page_is_named_as_no_json_and_shown(serve):
    url, _ = serve(lambda h: _send(h, b"<html>\x1b]0;x\x07 busy</html>"))
    with pytest.raises(JudgeError, match="no JSON: <html>") as raised:
        _asked(url)
    assert "StopIteration" not in str(raised.value)
    assert "\x1b" not in str(raised.value)
