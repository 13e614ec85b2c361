"""Tests of `rlvid data get` with a local server that speaks the hub's protocol, and without any server."""

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
from rlvid.data.hub import DATASETS
from rlvid.data.seed_bench_r1 import load

SHA = "0123456789" * 4


class HubHandler(BaseHTTPRequestHandler):
    """Serves the description of a data set, its list of files, and the files, whole or in ranges.

    The first download of a file that begins with "cut" breaks off in the middle.
    """

    protocol_version = "HTTP/1.1"

    def __init__(self, files, log, *arguments):
        self.files, self.log = files, log
        super().__init__(*arguments)

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.log.append((self.command, path, self.headers.get("Range")))
        if match := re.fullmatch(r"/datasets/[^/]+/[^/]+/resolve/[^/]+/(.+)", path):
            return self.send_file(self.files[match[1]])
        if not path.startswith("/api/datasets/"):
            return self.send_data(b"", 404)
        tree = [
            {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for name, data in self.files.items()
        ]
        name = path.removeprefix("/api/datasets/").partition("/revision")[0]
        description = {"id": name, "sha": SHA, "siblings": [{"rfilename": file} for file in self.files]}
        self.send_data(json.dumps(tree if "/tree/" in path else description).encode())

    do_HEAD = do_GET

    def send_file(self, data):
        start = int(re.search(r"\d+", self.headers.get("Range", "0"))[0])
        etag = hashlib.sha1(data).hexdigest()
        breaks_off = data.startswith(b"cut") and not start and self.command == "GET"
        stop = len(data) // 2 if breaks_off else len(data)
        self.send_data(data[start:stop], 206 if start else 200, length=len(data) - start, etag=etag)
        if breaks_off:
            self.close_connection = True

    def send_data(self, data, status=200, length=None, etag=""):
        self.send_response(status)
        headers = {"Content-Length": length or len(data), "ETag": f'"{etag}"', "X-Repo-Commit": SHA}
        for name, value in headers.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def refuse_access(self):
        """Respond as the real hub does for a gated data set without access."""
        self.send_response(403)
        for name, value in {"Content-Length": 0, "X-Error-Code": "GatedRepo", "X-Error-Message": "no access"}.items():
            self.send_header(name, str(value))
        self.end_headers()

    def log_message(self, *arguments):
        """Print nothing."""


@pytest.fixture
def serve():
    """A function that starts a hub with some files; it returns the address and the log of requests."""
    servers = []

    def start(files):
        log = []
        server = ThreadingHTTPServer(("127.0.0.1", 0), partial(HubHandler, files, log))
        Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}", log

    yield start
    for server in servers:
        server.shutdown()


def download(name, folder, endpoint, **environment):
    """Run `rlvid data get NAME FOLDER` in a process of its own."""
    variables = {"HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_XET": "1", "HF_HOME": str(folder.parent)}
    command = [sys.executable, "-m", "rlvid", "data", "get", name, str(folder)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, env=os.environ | variables | environment
    )


def file_requests(log):
    """Return (path, range) of the downloads of files in a log."""
    return [(path, part) for command, path, part in log if command == "GET" and "/resolve/" in path]


def test_files_are_downloaded_once_after_the_licence_is_printed(serve, tmp_path):
    files = {"json/object_existence.json": b"[1]", "README.md": b"card"}
    address, log = serve(files)
    done = download("mvbench", tmp_path / "MVBench", address)
    assert done.returncode == 0, done.stderr
    assert {name: (tmp_path / "MVBench" / name).read_bytes() for name in files} == files
    assert (tmp_path / "MVBench" / "mvbench.toml").read_text().startswith("# Fourteen of the twenty tasks of MVBench")
    assert (tmp_path / "MVBench" / "mvbench_seconds.toml").is_file()
    assert done.stdout.index("licence: annotations MIT") < done.stdout.index("downloaded ")
    assert len(file_requests(log)) == 2 and all(f"/{SHA}/" in path for path, _ in file_requests(log))
    again = download("mvbench", tmp_path / "MVBench", address)
    assert again.returncode == 0 and len(file_requests(log)) == 2


def test_a_download_that_breaks_off_is_resumed(serve, tmp_path):
    clip = b"cut" + bytes(range(256)) * 100_000  # 26 MB: huggingface_hub keeps a broken file in parts of 10 MB
    address, log = serve({"videos/Ego4D/batch_1.tar.gz": clip})
    done = download("seed_bench_r1", tmp_path / "SB", address)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "SB/videos/Ego4D/batch_1.tar.gz").read_bytes() == clip
    ranges = [part for _, part in file_requests(log)]
    assert ranges[0] in (None, "bytes=0-") and re.fullmatch(r"bytes=[1-9]\d*-", ranges[1]), ranges
    assert "unpack the archives so that videos/SOURCE/NAME.mp4" in done.stdout


@pytest.mark.parametrize("offline", [False, True], ids=["nothing listens", "HF_HUB_OFFLINE"])
def test_without_a_hub_the_error_is_one_line_with_the_manual_steps(tmp_path, offline):
    (tmp_path / "LVB").mkdir()
    (tmp_path / "LVB" / "half.mp4").touch()  # an incomplete folder does not count as downloaded
    variables = {"HF_HUB_OFFLINE": "1"} if offline else {}
    done = download("longvideobench", tmp_path / "LVB", "http://127.0.0.1:9", **variables)
    assert done.returncode == 2 and "licence: CC BY-NC-SA 4.0" in done.stdout and "downloaded" not in done.stdout
    [line] = [line for line in done.stderr.splitlines() if line.strip()]
    assert line.startswith("rlvid: longvideobench/LongVideoBench cannot be downloaded: ")
    assert "git lfs clone https://huggingface.co/datasets/longvideobench/LongVideoBench" in line
    assert "videos.tar.part.* | tar x" in line and "HF_TOKEN" in line


def test_the_error_about_a_gated_data_set_is_one_line_with_what_to_do(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(HubHandler, "send_file", lambda self, data: self.refuse_access())
    address, _ = serve({"lvb_val.json": b"[]"})
    done = download("longvideobench", tmp_path / "LVB", address)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "request access on its page" in done.stdout
    assert "cannot be downloaded: " in done.stderr.splitlines()[-1] and not (tmp_path / "LVB/lvb_val.json").exists()


def test_a_snapshot_in_the_cache_of_huggingface_hub_can_be_read_and_checked(serve, tmp_path, capsys):
    """In the layout that the library makes, every file of a snapshot is a link to ../../blobs."""
    kitchen.write(tmp_path / "written", counts={"train": 2, "L1": 2, "L2": 1, "L3": 1, "dev": 1})
    files = {str(p.relative_to(tmp_path / "written")): p.read_bytes() for p in (tmp_path / "written").rglob("*.*")}
    address, _ = serve(files)
    snapshot = snapshot_download("TencentARC/SEED-Bench-R1", repo_type="dataset", cache_dir=tmp_path, endpoint=address)
    assert all((Path(snapshot) / name).is_symlink() for name in files)
    written = [replace(prompt, video=None, image=None) for prompt in load(tmp_path / "written", "L1")]
    assert [replace(prompt, video=None, image=None) for prompt in load(Path(snapshot), "L1")] == written
    assert main(["data", "check", snapshot]) == 0, capsys.readouterr().out


def test_an_unknown_name_is_an_error_with_a_suggestion(tmp_path, capsys):
    assert main(["data", "get", "longvideobensh", str(tmp_path / "x")]) == 2
    assert "Did you mean 'longvideobench'?" in capsys.readouterr().err


def test_the_help_lists_all_data_sets(capsys):
    with pytest.raises(SystemExit):
        parser().parse_args(["data", "get", "--help"])
    assert set(DATASETS) <= set(re.findall(r"\w+", capsys.readouterr().out))
