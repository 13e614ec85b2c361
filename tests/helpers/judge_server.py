"""A real HTTP server that speaks the protocol of an OpenAI-compatible endpoint, and now and then does not."""

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """Replies by a function of the prompt: a text, or a status, or a raw body, or seconds to sleep first."""

    daemon_threads = True

    def __init__(self, reply):
        self.reply, self.asked, self.headers, self.inflight, self.most = reply, [], [], 0, 0
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        prompt, server = body["messages"][-1]["content"], self.server
        server.asked.append(body)
        server.headers.append({name.lower(): value for name, value in self.headers.items()})
        server.inflight += 1
        server.most = max(server.most, server.inflight)
        said = server.reply(prompt, sum(b["messages"][-1]["content"] == prompt for b in server.asked))
        if isinstance(said, float):
            time.sleep(said)
            said = "late"
        server.inflight -= 1
        if isinstance(said, tuple):
            status, headers = said
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(json.dumps({"error": {"message": f"no: {self.headers['Authorization']}"}}).encode())
            return
        content = {
            "choices": [{"message": {"role": "assistant", "content": said}, "finish_reason": "stop", "index": 0}]
        }
        content |= {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
        content |= {"usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}}
        payload = said if isinstance(said, bytes) else json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(payload)))
        self.end_headers()
        self.wfile.write(payload)

    def log_message(self, *args):
        pass
