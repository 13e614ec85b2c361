"""`rlvid data get` against a hub of our own on this machine, speaking the real one's protocol, and against none."""

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from huggingface_hub import snapshot_download

from rlvid.__main__ import main
from rlvid.cli.parser import parser
from rlvid.data import kitchen
from rlvid.data.hub import PUBLISHED
from rlvid.data.seed_bench_r1 import load

SHA = "0123456789" * 4


class Hub(BaseHTTPRequestHandler):
    """A data set's description, its list of files, and the files, in parts where parts are asked for."""

    protocol_version = "HTTP/1.1"

    def __init__(self, files, log, *arguments):
        self.files, self.log = files, log
        super().__init__(*arguments)

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.log.append((self.command, path, self.headers.get("Range")))
        if found := re.fullmatch(r"/datasets/[^/]+/[^/]+/resolve/[^/]+/(.+)", path):
            return self.file(self.files[found[1]])
        if not path.startswith("/api/datasets/"):
            return self.answer(b"", 404)
        listed = [
            {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for name, data in self.files.items()
        ]
        siblings = [{"rfilename": name} for name in self.files]
        about = {"id": path.removeprefix("/api/datasets/").partition("/revision")[0], "sha": SHA, "siblings": siblings}
        self.answer(json.dumps(listed if "/tree/" in path else about).encode())

    do_HEAD = do_GET

    def file(self, data):
        start = int(re.search(r"\d+", self.headers.get("Range", "0"))[0])
        etag = hashlib.sha1(data).hexdigest()
        stop = len(data) // 2 if data.startswith(b"cut") and not start and self.command == "GET" else len(data)
        self.answer(data[start:stop], 206 if start else 200, length=len(data) - start, etag=etag)
        if stop < len(data) and self.command == "GET":
            self.close_connection = True  # the line breaks in the middle of a file

    def answer(self, data, status=200, length=None, etag=""):
        self.send_response(status)
        headers = {"Content-Length": length or len(data), "ETag": f'"{etag}"', "X-Repo-Commit": SHA}
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def refuse(self):
        """As the real hub answers for a gated data set without access."""
        self.send_response(403)
        for name, value in {"Content-Length": 0, "X-Error-Code": "GatedRepo", "X-Error-Message": "no access"}.items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, *arguments):
        """Silence."""


@pytest.fixture
def hub():
    """Start a hub that holds these files; returns its address and what was asked of it."""
    servers = []

    def start(files):
        log = []
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Hub, files, log))
        Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", log

    yield start
    for server in servers:
        server.shutdown()


def get(name, folder, endpoint, **environment):
    """`rlvid data get` as a process of its own."""
    environment = (
        os.environ | {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(folder.parent)} | environment
    )
    command = [sys.executable, "-m", "rlvid", "data", "get", name, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)


def test_what_the_hub_has_is_fetched_once_after_the_licence(hub, tmp_path):
    files = {"json/object_existence.json": b"[1]", "README.md": b"card"}
    address, log = hub(files)
    done = get("mvbench", tmp_path / "MVBench", address)
    assert done.returncode == 0, done.stderr
    assert {name: (tmp_path / "MVBench" / name).read_bytes() for name in files} == files
    assert (tmp_path / "MVBench" / "mvbench.toml").read_text().startswith("# One task of MVBench")
    assert (tmp_path / "MVBench" / "mvbench_seconds.toml").is_file()
    assert done.stdout.index("licence: annotations MIT") < done.stdout.index("fetched ")
    fetched = [path for command, path, _ in log if command == "GET" and "/resolve/" in path]
    assert len(fetched) == 2 and all(f"/{SHA}/" in path for path in fetched)
    again = get("mvbench", tmp_path / "MVBench", address)
    assert again.returncode == 0 and len([p for c, p, _ in log if c == "GET" and "/resolve/" in p]) == 2


def test_a_file_that_was_cut_short_is_gone_on_with(hub, tmp_path):
    clip = b"cut" + bytes(range(256)) * 100_000  # 26 MB: what huggingface_hub keeps of a broken file are parts of 10 MB
    address, log = hub({"videos/Ego4D/batch_1.tar.gz": clip})
    done = get("seed_bench_r1", tmp_path / "SB", address)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "SB/videos/Ego4D/batch_1.tar.gz").read_bytes() == clip
    starts = [part for command, path, part in log if command == "GET" and "/resolve/" in path]
    assert starts[0] in (None, "bytes=0-") and re.fullmatch(r"bytes=[1-9]\d*-", starts[1]), starts
    assert "unpack the archives until videos/SOURCE/NAME.mp4" in done.stdout


@pytest.mark.parametrize("how", ["nothing listens", "HF_HUB_OFFLINE"])
def test_without_a_hub_it_is_one_line_with_the_manual_steps(tmp_path, how):
    (tmp_path / "LVB").mkdir()
    (tmp_path / "LVB" / "half.mp4").touch()  # a folder that is there is not taken for the whole
    offline = {"HF_HUB_OFFLINE": "1"} if how == "HF_HUB_OFFLINE" else {}
    done = get("longvideobench", tmp_path / "LVB", "http://127.0.0.1:9", **offline)
    assert done.returncode == 2 and "licence: CC BY-NC-SA 4.0" in done.stdout and "fetched" not in done.stdout
    [line] = [line for line in done.stderr.splitlines() if line.strip()]
    assert line.startswith("rlvid: longvideobench/LongVideoBench cannot be fetched: ")
    assert "git lfs clone https://huggingface.co/datasets/longvideobench/LongVideoBench" in line
    assert "videos.tar.part.* | tar x" in line and "HF_TOKEN" in line


def test_a_gated_data_set_says_so_in_one_line(hub, tmp_path, monkeypatch):
    monkeypatch.setattr(Hub, "file", lambda self, data: self.refuse())
    address, _ = hub({"lvb_val.json": b"[]"})
    done = get("longvideobench", tmp_path / "LVB", address)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "access is asked for on its page" in done.stdout
    assert "cannot be fetched: " in done.stderr.splitlines()[-1] and not (tmp_path / "LVB/lvb_val.json").exists()


def test_the_snapshot_that_huggingface_hub_caches_is_read_and_checked_as_it_is(hub, tmp_path, capsys):
    """Its real layout, made by the library itself: every file of the snapshot is a link to ../../blobs."""
    kitchen.write(tmp_path / "made", counts={"train": 2, "L1": 2, "L2": 1, "L3": 1})
    files = {str(p.relative_to(tmp_path / "made")): p.read_bytes() for p in (tmp_path / "made").rglob("*.*")}
    address, _ = hub(files)
    snapshot = snapshot_download("TencentARC/SEED-Bench-R1", repo_type="dataset", cache_dir=tmp_path, endpoint=address)
    assert all((Path(snapshot) / name).is_symlink() for name in files)
    direct = [replace(p, video=None, image=None) for p in load(tmp_path / "made", "L1")]
    assert [replace(p, video=None, image=None) for p in load(Path(snapshot), "L1")] == direct
    assert main(["data", "check", snapshot]) == 0, capsys.readouterr().out


def test_an_unknown_name_is_suggested_for(tmp_path):
    done = get("longvideobensh", tmp_path / "x", "http://127.0.0.1:9")
    assert done.returncode == 2 and "Did you mean 'longvideobench'?" in done.stderr


def test_the_command_line_names_them_all(capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["data", "get", "--help"])
    assert set(PUBLISHED) <= set(re.findall(r"\w+", capsys.readouterr().out))
