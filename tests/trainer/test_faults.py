"""Real faults: killed and stopped processes, signals, full disks, damaged checkpoints, broken rewards."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from rlvid import api
from rlvid.errors import UserError
from rlvid.utils.files import read_json, read_jsonl
from tests.helpers.processes import SMALL, Child, several, wait_for

ROOT = Path(__file__).parents[2]
LONG = ["train.max_steps=4", "train.save_steps=2"]


def train(out, *overrides, resume=False):
    """A small run in this process; returns its folder."""
    api.train("nano", [*SMALL, *LONG, *overrides], out, resume)
    return out


def same(ours, theirs):
    """Whether two runs left identical files."""
    files = ("metrics.jsonl", "eval/L1.jsonl", "samples/step-000004.jsonl")
    files += ("checkpoints/step-000004/model.safetensors", "checkpoints/step-000004/optimizer.safetensors")
    return [file for file in files if (ours / file).read_bytes() != (theirs / file).read_bytes()] == []


@pytest.fixture(scope="module")
def uninterrupted(kitchen, tmp_path_factory):
    return train(tmp_path_factory.mktemp("runs") / "uninterrupted")


@pytest.fixture
def interrupted(uninterrupted, tmp_path):
    """A copy of the run that looks as if it was killed after its last checkpoint."""
    copy = shutil.copytree(uninterrupted, tmp_path / "interrupted")
    (copy / "status.json").write_text(json.dumps(read_json(copy / "status.json") | {"state": "running"}))
    return copy


@pytest.fixture
def disk(tmp_path):
    """A function that mounts a separate disk with given options, such as its size."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(options):
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", place], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"a disk of its own needs root: {done.stderr.strip()}")
        return place

    yield mount
    subprocess.run(["umount", place], capture_output=True)


@pytest.mark.parametrize(
    "sign, words, zero",
    [(signal.SIGKILL, "ended", 0), (signal.SIGSTOP, "did not arrive within", 0), (signal.SIGKILL, "ended", 3)],
)
def test_a_process_reports_where_it_waited_for_a_dead_peer(kitchen, tmp_path, sign, words, zero):
    out = tmp_path / "run"
    first, second = several(out, "train.max_steps=500", "train.ddp_timeout=8", zero=zero)
    wait_for(out, 1, first, second)
    second.send(sign)
    code, output = first.end(within=60)
    second.process.kill()
    assert code == 2 and "Traceback" not in output
    assert "process 0 of 2, after step" in output and words in output and "--resume continues" in output
    assert "waited for the other processes" in read_json(out / "status.json")["message"]


@pytest.mark.parametrize("rank", [0, 1])
def test_waiting_for_a_missing_process_ends_with_an_error(kitchen, tmp_path, rank):
    (child,) = several(tmp_path / "run", "train.ddp_timeout=5", ranks=[rank])
    code, output = child.end(within=60)
    assert code == 2 and "Traceback" not in output, output
    assert f"process {rank} of 2 waited train.ddp_timeout = 5 s for 2 processes to start at 127.0.0.1:" in output


def test_sigterm_saves_the_step_and_ends_the_run(uninterrupted, tmp_path):
    out = tmp_path / "run"
    child = Child(out, *LONG, "train.save_steps=100")
    wait_for(out, 1, child)
    child.send(signal.SIGTERM)
    code, output = child.end()
    assert code == 130 and "--resume continues" in output and "Traceback" not in output
    status, steps = read_json(out / "status.json"), len(read_jsonl(out / "metrics.jsonl"))
    assert status["state"] == "interrupted" and status["step"] == steps < 4
    assert (out / f"checkpoints/step-{steps:06d}/state.json").is_file()


def test_sigterm_reaches_all_processes_of_a_run(kitchen, tmp_path):
    out = tmp_path / "run"
    first, second = several(out, "train.max_steps=500", "train.save_steps=1000")
    wait_for(out, 1, first, second)
    second.send(signal.SIGTERM)  # to one process only; the other one ends, too
    assert [child.end(60)[0] for child in (first, second)] == [130, 130]
    steps = len(read_jsonl(out / "metrics.jsonl"))
    assert (out / f"checkpoints/step-{steps:06d}").is_dir()


def stopped_at_random(out, uninterrupted, times, rng):
    """Stop a run at random moments and resume it each time; the result must equal an uninterrupted run."""
    hits = Counter[str]()
    while hits.total() < times:
        child = Child(out, *LONG, *(["--resume"] if (out / "status.json").exists() else []))
        child.process.join(rng.uniform(0, 4))
        child.send(sign := rng.choice([signal.SIGKILL, signal.SIGTERM, signal.SIGINT]))
        code, output = child.end()
        hits.update([sign.name] if code else [])  # else it had ended, or was about to
        early = code == 1 and "KeyboardInterrupt" in output  # before there was a run
        assert early or code in (-signal.SIGKILL, -signal.SIGTERM, 0, 130), output
        if read_json(out / "status.json") and read_json(out / "status.json")["state"] == "done":
            assert same(out, uninterrupted)
            shutil.rmtree(out)
    print(f"{hits.total()} stops that hit:", ", ".join(f"{count} {name}" for name, count in sorted(hits.items())))
    train(out, resume=True)
    assert same(out, uninterrupted)


def test_a_run_stopped_at_random_moments_equals_an_uninterrupted_one(uninterrupted, tmp_path):
    stopped_at_random(tmp_path / "run", uninterrupted, 4, random.Random(0))


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_run_stopped_sixty_times_equals_an_uninterrupted_one(uninterrupted, tmp_path):
    stopped_at_random(tmp_path / "run", uninterrupted, 60, random.Random(time.time_ns()))


@pytest.mark.parametrize(
    "where, size", [("(samples|status)", "40k"), ("checkpoints", "50m")], ids=["while logging", "while saving"]
)
def test_a_full_disk_ends_the_run_in_one_line_and_loses_nothing(uninterrupted, disk, where, size):
    out = disk(f"size={size}") / "run"
    with pytest.raises(UserError, match=f"{where}.* cannot be written: .*[Nn]o space left on device.*--resume"):
        train(out)
    assert not list((out / "checkpoints").glob(".*"))
    disk("remount,size=500m")
    train(out, resume=True)
    assert same(out, uninterrupted)


def test_a_full_cache_ends_the_run_in_one_line_and_loses_nothing(uninterrupted, disk, tmp_path):
    cache = disk("size=200k")
    with pytest.raises(UserError, match=r"frame cache .*; free disk space"):
        train(tmp_path / "run", f"video.cache_dir={cache}")
    disk("remount,size=100m")
    assert same(train(tmp_path / "run", f"video.cache_dir={cache}", resume=True), uninterrupted)


def test_a_read_only_folder_is_refused(disk, kitchen):
    with pytest.raises(UserError, match=r"cannot be written: .*Read-only file system"):
        train(disk("ro") / "run")


def flip(path):
    """Flip one bit in the middle of a file."""
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    """Cut a file to half its size."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


@pytest.mark.parametrize("damage", [flip, cut])
@pytest.mark.parametrize("name", ["model.safetensors", "state.json"])
def test_a_damaged_checkpoint_is_set_aside(interrupted, uninterrupted, capsys, name, damage):
    damage(interrupted / "checkpoints/step-000004" / name)
    train(interrupted, resume=True)
    assert f"step-000004 is set aside: {name} changed" in capsys.readouterr().err.replace("\n", " ")
    assert (interrupted / "checkpoints/damaged-step-000004").is_dir()
    assert same(interrupted, uninterrupted)


@pytest.mark.parametrize("when", [0, 4_000_000_000], ids=["1970", "2096"])
def test_a_changed_system_clock_changes_nothing(interrupted, uninterrupted, when):
    for path in [interrupted, *interrupted.rglob("*")]:
        os.utime(path, (when, when))
    status = read_json(interrupted / "status.json")
    said = datetime.fromtimestamp(when, UTC).isoformat(timespec="seconds")
    (interrupted / "status.json").write_text(json.dumps(status | {"updated": said}))
    assert same(train(interrupted, resume=True), uninterrupted)
    assert all(value >= 0 for row in read_jsonl(interrupted / "timing.jsonl") for value in row.values())


JUMPING_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
#include <sys/time.h>
static long jump(void) { static unsigned looks; return looks++ % 3 ? -86400 : 7200; }
int clock_gettime(clockid_t which, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int failed = real(which, now);
    if (which == CLOCK_REALTIME) now->tv_sec += jump();
    return failed;
}
time_t time(time_t *out) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (out) *out = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(struct timeval *out, void *zone) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec, out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
"""


def test_a_clock_that_jumps_at_every_call_changes_nothing(uninterrupted, tmp_path):
    """The C library returns times a day back or two hours ahead during the whole run."""
    if not shutil.which("cc"):
        pytest.skip("needs a C compiler")
    (tmp_path / "clock.c").write_text(JUMPING_CLOCK)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", "clock.so", "clock.c", "-ldl"], cwd=tmp_path, check=True)
    out, ahead = tmp_path / "run", []
    command = [sys.executable, "-m", "rlvid", "train", "nano", *SMALL, *LONG, "--out", str(out)]
    jumping = {**os.environ, "LD_PRELOAD": str(tmp_path / "clock.so")}
    with subprocess.Popen(command, cwd=ROOT, env=jumping, stderr=subprocess.PIPE, text=True) as child:
        while child.poll() is None:
            if said := (read_json(out / "status.json") or {}).get("updated"):
                ahead.append((datetime.fromisoformat(said) - datetime.now(UTC)).total_seconds())
            if len(ahead) == 1:
                with pytest.raises(UserError, match="in use by another process"):
                    train(out, resume=True)
            time.sleep(0.01)
        assert child.returncode == 0, child.stderr.read()
    assert max(ahead) > 3600 and min(ahead) < -3600, "the clock jumped"
    assert same(out, uninterrupted)
    assert all(0 <= value < 3600 for row in read_jsonl(out / "timing.jsonl") for value in row.values())


def test_without_an_intact_checkpoint_a_run_starts_again(interrupted, uninterrupted):
    for folder in (interrupted / "checkpoints").iterdir():
        (folder / "optimizer.safetensors").unlink()
    assert same(train(interrupted, resume=True), uninterrupted)


def test_checksums_equal_those_of_sha256sum(uninterrupted):
    folder = uninterrupted / "checkpoints/step-000004"
    subprocess.run(["sha256sum", "--check", "--strict", "SHA256SUMS"], cwd=folder, check=True, capture_output=True)
    assert len((folder / "SHA256SUMS").read_text().splitlines()) == len(list(folder.iterdir())) - 1


def test_a_second_process_in_the_folder_is_refused(kitchen, tmp_path):
    out = tmp_path / "run"
    first = Child(out, "train.max_steps=500")
    wait_for(out, 1, first)
    with pytest.raises(UserError, match="in use by another process"):
        api.train("nano", [*SMALL, "train.max_steps=500"], out, resume=True)
    first.send(signal.SIGINT)
    assert first.end()[0] == 130


STUBBORN = """
import time
def slow(groups):
    while True:
        try:
            time.sleep(600)
        except Exception:
            pass
"""
NATIVE = """
import ctypes
def slow(groups):
    lock = ctypes.create_string_buffer(64)
    while True:
        ctypes.PyDLL(None).pthread_mutex_lock(lock)  # the second time never comes back
"""


@pytest.mark.parametrize("code", ["import time\ndef slow(groups):\n    time.sleep(600)\n", STUBBORN])
def test_a_reward_that_never_returns_ends_the_run_and_is_named(kitchen, tmp_path, code):
    (tmp_path / "slow.py").write_text(code)
    start = time.monotonic()
    with pytest.raises(UserError, match=r"reward '.*slow' did not return within train.reward_timeout = 0.5 s"):
        train(tmp_path / "run", f'rewards."{tmp_path}/slow.py:slow"=1.0', "train.reward_timeout=0.5")
    assert time.monotonic() - start < 120 and read_json(tmp_path / "run/status.json")["state"] == "failed"


def test_a_reward_that_hangs_in_native_code_ends_the_process_with_its_location(kitchen, tmp_path):
    (tmp_path / "slow.py").write_text(NATIVE)
    child = Child(tmp_path / "run", f'rewards."{tmp_path}/slow.py:slow"=1.0', "train.reward_timeout=0.5")
    code, output = child.end(within=120)
    assert code == 1 and "Timeout (0:00:02)!" in output and f'File "{tmp_path}/slow.py", line 6 in slow' in output


@pytest.mark.parametrize(
    "size, algorithm, says",
    [
        (
            "1e30",
            "dr_grpo",
            "step 2: grad_norm not finite.*check the rewards for one that explodes, in a new run with another --out",
        ),
        ("1e30", "ppo", "step 2: loss and grad_norm not finite"),
        ("1e200", "grpo", "step 2: reward '.*boom' explodes, its size reached 1e[+]200"),
        ("-1e200", "sft", "step 2: reward '.*boom' explodes"),
        ("1e30", "grpo", ""),
    ],
)
def test_a_reward_that_explodes_ends_the_run_at_its_step(kitchen, tmp_path, size, algorithm, says):
    """The reward is finite but huge on some completions from step 2 on; GRPO divides by its spread and survives."""
    out = tmp_path / "run"
    (tmp_path / "boom.py").write_text(
        "from pathlib import Path\nfrom rlvid.reward import each\nSEEN = []\n\n\n@each\n"
        "def boom(completion, prompt):\n    SEEN.append(1)\n"
        f"    return {size} if Path({str(out)!r}, 'checkpoints/step-000001').exists() and len(SEEN) % 2 else 0.0\n"
    )
    settings = [f'rewards."{tmp_path}/boom.py:boom"=1.0', f"algorithm={algorithm}", "train.save_steps=1"]
    if not says:
        rows = read_jsonl(train(out, *settings) / "metrics.jsonl")
        assert len(rows) == 4 and all(row["grad_norm"] < 10 for row in rows)
        return
    with pytest.raises(UserError, match=says):
        train(out, *settings)
    assert [folder.name for folder in (out / "checkpoints").iterdir()] == ["step-000001"]


def test_a_reward_that_raises_stops_the_run_and_is_named(kitchen, tmp_path):
    (tmp_path / "bad.py").write_text("def bad(groups):\n    raise ZeroDivisionError('no reward today')\n")
    with pytest.raises(ZeroDivisionError, match="no reward today"):
        train(tmp_path / "run", f'rewards."{tmp_path}/bad.py:bad"=1.0')
    status = read_json(tmp_path / "run/status.json")
    assert status["state"] == "failed" and status["message"] == "ZeroDivisionError: no reward today"
