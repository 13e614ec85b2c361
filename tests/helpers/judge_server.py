"""A real HTTP server with the protocol of an OpenAI-compatible endpoint, and with faults where a test needs them."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class JudgeServer(ThreadingHTTPServer):
    """Starts at once, on a free port of this machine.

    `reply(prompt, attempt)` decides the response to a prompt; `attempt` counts its requests from 1. It returns

        str                the text of a reply
        bytes              a raw body, with status 200
        (status, headers)  an error that quotes the `Authorization` header
        float              seconds to wait before the reply "late"

    Attributes:
        requests: the bodies of all requests, in order.
        headers: their headers, with names in lower case.
        times: when they arrived, in seconds of `time.monotonic`.
        max_in_flight: the largest number of requests at one time.
    """

    daemon_threads = True

    def __init__(self, reply):
        self.reply = reply
        self.requests, self.headers, self.times = [], [], []
        self.in_flight = self.max_in_flight = 0
        super().__init__(("127.0.0.1", 0), _Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def count(self, prompt):
        """Return the number of requests with a prompt."""
        return sum(body["messages"][-1]["content"] == prompt for body in self.requests)

    def handle_error(self, request, client_address):
        """Print nothing when a client has closed the connection."""


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        server = self.server
        server.times.append(time.monotonic())
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt = body["messages"][-1]["content"]
        server.requests.append(body)
        server.headers.append({name.lower(): value for name, value in self.headers.items()})
        server.in_flight += 1
        server.max_in_flight = max(server.max_in_flight, server.in_flight)
        response = server.reply(prompt, server.count(prompt))
        if isinstance(response, float):
            time.sleep(response)
            response = "late"
        server.in_flight -= 1
        if isinstance(response, tuple):
            self._send_error(*response)
        else:
            self._send_body(response if isinstance(response, bytes) else _completion(response))

    def _send_error(self, status, headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(json.dumps({"error": {"message": f"no: {self.headers['Authorization']}"}}).encode())

    def _send_body(self, body):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        """Print nothing."""


def _completion(text):
    """Return the body of a chat completion with 10 prompt tokens and 2 completion tokens."""
    message = {"role": "assistant", "content": text}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"message": message, "finish_reason": "stop", "index": 0}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
    }
    return json.dumps(body).encode()
