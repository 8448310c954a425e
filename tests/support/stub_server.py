"""A server on this machine that speaks OpenAI's protocol, and says what a test wants."""

import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@contextmanager
def serving(answer, *, models_status=200):
    """Yield the base URL and the list of requests so far, each with `path`, `body`, `key`.

    `answer(body)` returns the text of an answer, or a status and the text of an error, or these and headers. A text
    that ends with `…` counts as cut short.
    """
    requests = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self):
            self.send(models_status, {"data": []}, {})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            requests.append({"path": self.path, "body": body, "key": self.headers.get("Authorization")})
            said = answer(body)
            if isinstance(said, str):
                choice = {"text": said} if "prompt" in body else {"message": {"role": "assistant", "content": said}}
                reason = "length" if said.endswith("…") else "stop"
                self.send(200, {"choices": [{**choice, "finish_reason": reason}]}, {})
            else:
                status, text, *headers = said
                self.send(status, {"error": {"message": text}}, *headers or [{}])

        def send(self, status, body, headers):
            data = json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request, client_address):
            """A client that has gone away is none of a test's business."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", requests
    finally:
        server.shutdown()
        server.server_close()


def text_of(body):
    """The whole text of a request, as a model would see it."""
    return body["prompt"] if "prompt" in body else "\n".join(message["content"] for message in body["messages"])
