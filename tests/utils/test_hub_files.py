"""Small files from a hub, here a server of this machine: tokens and offline mode as huggingface_hub reads them."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from rlvid.errors import UserError
from rlvid.utils.hub_files import fetch

TOKEN = "hf_secret"


class _Gated(BaseHTTPRequestHandler):
    """Shows a file to whom sends the token."""

    def do_GET(self):
        allowed = self.headers["Authorization"] == f"Bearer {TOKEN}"
        self.send_response(200 if allowed else 401)
        self.end_headers()
        self.wfile.write(b"{}" if allowed else b"")

    def log_message(self, *arguments):
        """Print nothing."""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with gated models; the folder of HF_HOME, which is empty."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Gated)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_HUB_OFFLINE", "HF_HUB_CACHE"):
        monkeypatch.delenv(name, raising=False)
    yield tmp_path
    server.shutdown()
    server.server_close()


def test_a_gated_model_is_shown_to_whom_has_logged_in(hub):
    with pytest.raises(UserError, match="none of this name that it shows you: check it, or log in"):
        fetch("owner/gated", "config.json", "text encoder", "use another")
    (hub / "token").write_text(f"{TOKEN}\n")  # as `hf auth login` does
    assert fetch("owner/gated", "config.json", "text encoder", "use another") == "{}"


def test_offline_is_what_it_is_for_huggingface_hub(hub, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("HF_HUB_OFFLINE", "false")
    assert fetch("owner/gated", "config.json", "text encoder", "use another") == "{}"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match="HF_HUB_OFFLINE is set: use another"):
        fetch("owner/gated", "config.json", "text encoder", "use another")
