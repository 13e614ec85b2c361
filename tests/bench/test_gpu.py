"""`rlvid bench gpu` on a CPU: one run with planted failures and real parts, and what the parts compute."""

import json
import re
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from rlvid.__main__ import main
from rlvid.api import measure_gpu
from rlvid.bench.gpu import flops, parts, runner, sampling, tables
from rlvid.bench.gpu.part_run import PartRun, random_groups
from rlvid.bench.parameter_counts import count_parameters
from rlvid.bench.token_memory import StepShape
from rlvid.config import TrainConfig
from rlvid.errors import UserError
from rlvid.policy.families import family_of
from rlvid.policy.sampler import Sampler
from rlvid.registry import build
from rlvid.utils.logging import silence_libraries
from tests.helpers.processes import SERVER
from tests.helpers.sources import ROOT

REAL = ["shapes", "packing", "sampler", "graph", "features", "resume", "trl"]

PLANTED_IN = "tests.helpers.planted_parts"
PLANTED = [
    parts.Part("misses", "", f"{PLANTED_IN}:misses_its_bar", 60, "at most 1"),
    parts.Part("raises", "", f"{PLANTED_IN}:raises", 60, "never"),
    parts.Part("dies", "", f"{PLANTED_IN}:dies", 60, "never"),
    parts.Part("hangs", "", f"{PLANTED_IN}:hangs", 0.3, "never"),
]
HIDING = parts.Part("hides", "", f"{PLANTED_IN}:hides_packages", 60, "none")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The exit code and the rows by name of a run with planted and real parts."""
    out = tmp_path_factory.mktemp("gpu")
    real = [part for part in parts.PARTS if part.name in REAL]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "PARTS", (*PLANTED, HIDING, *real))
        patch.setattr(runner, "START_METHOD", SERVER.get_start_method())
        code = main(["bench", "gpu", "--device", "cpu", "--preset", "tiny", "--out", str(out)])
    result = json.loads((out / "gpu.json").read_text())
    return code, {row["name"]: row for row in result["cases"]}


# Imports all that `rlvid bench gpu` imports, where only the packages in argv and what they require are installed.
WITH_THESE_PACKAGES = """
import re, sys, tomllib
from importlib import import_module
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from packaging.requirements import Requirement

def name(text):
    return re.sub("[-_.]+", "-", Requirement(text).name).lower()

def required_by(package):
    try:
        found = [Requirement(text) for text in requires(package) or []]
    except PackageNotFoundError:
        return []
    return [str(one.name) for one in found if not one.marker or one.marker.evaluate({"extra": ""})]

installed, new = set(), set(map(name, sys.argv[1:]))
while new:
    installed |= new
    new = {name(one) for package in new for one in required_by(package)} - installed
project = tomllib.load(open("pyproject.toml", "rb"))["project"]
groups = [project["dependencies"], *project["optional-dependencies"].values()]
missing = {name(text) for group in groups for text in group} - installed - {"rlvid"}
assert {"trl", "decord", "sentence-transformers"} <= missing, missing
modules = [module for module, owners in packages_distributions().items() if missing & set(map(name, owners))]
sys.modules.update(dict.fromkeys(modules))
import_module("rlvid.__main__")
import_module("rlvid.cli.commands")
for part in import_module("rlvid.bench.gpu.parts").PARTS:
    import_module(part.function.partition(":")[0])
"""


def test_the_packages_that_the_readme_lists_are_enough_to_import_it():
    text = " ".join((ROOT / "rlvid/README.md").read_text().split())
    listed = re.search(r"It imports (torch, [^;.]+), and what these require", text)[1]
    packages = re.split(", | and ", listed)
    ended = subprocess.run([sys.executable, "-c", WITH_THESE_PACKAGES, *packages], cwd=ROOT, capture_output=True)
    assert ended.returncode == 0, ended.stderr.decode()


def test_a_failing_part_is_recorded_and_the_others_run(finished):
    code, rows = finished
    assert code == 1
    assert {name: rows[name]["message"] for name in ("misses", "raises", "dies", "hangs")} == {
        "misses": "bar missed: 2 is more than 1",
        "raises": "RuntimeError: planted",
        "dies": "the process died with exit code 9",
        "hangs": "over its time limit of 0.3 s",
    }
    assert {rows[part.name]["status"] for part in PLANTED} == {"failed"}
    assert "in raises" in rows["raises"]["traceback"] and "Timeout" in rows["hangs"]["traceback"]
    assert rows["misses"]["values"] == {"difference": 2.0} and rows["raises"]["values"] == {"before": 1}


def test_the_parts_pass_on_the_embedded_size(finished):
    _, rows = finished
    statuses = {name: rows[name]["status"] for name in REAL}
    assert statuses == dict.fromkeys(REAL, "passed") | {"graph": "skipped", "trl": "skipped"}
    assert rows["graph"]["message"] == "needs CUDA" and rows["trl"]["message"] == "trl is not installed"
    assert rows["packing"]["values"]["float32_max"] < 1e-4 < rows["packing"]["values"]["rounding_separate"]
    assert rows["sampler"]["values"]["float32_greedy_same"] == 8
    assert rows["resume"]["values"]["weights_difference"] == 0


def test_speed_is_told_relative_to_ours():
    values = {"ours": {"step_s": 2.0, "peak_gb": 4.0}, "rows": {"step_s": 7.0, "peak_gb": 6.0}}
    values["decode"] = {"rows_8_ms": 6.0, "rows_8_floor_ms": 4.0, "rows_8_ratio": 1.5}
    cases = [{"name": name, "preset": "2b", "status": "measured", "values": row} for name, row in values.items()]
    cells = [list(column.cells) for column in tables.speed_table({"cases": cases}).columns]
    assert cells[2:] == [["2", "7"], ["1.00", "3.50"], ["4", "6"], ["1.00", "1.50"]]
    efficiency = tables.efficiency_table({"cases": cases})
    assert [next(column.cells) for column in efficiency.columns[:3]] == ["2b", "6", "1.5"]


def test_parts_that_do_not_fit_are_skipped(tmp_path):
    result = measure_gpu("cpu", parts=["packing", "ours"], minutes=0.5, out=tmp_path)
    assert [row["status"] for row in result["cases"]] == ["skipped", "skipped"]
    assert result["cases"][0]["message"] == "may take 90 s, and 30 s are left"
    assert json.loads((tmp_path / "gpu.json").read_text()) == result


def test_correctness_comes_first_and_mistakes_are_named():
    cases = parts.planned()
    bars = [bool(case.part.bar) for case in cases]
    assert bars == sorted(bars, reverse=True) and {case.preset for case in cases} == {"2b", "7b"}
    assert [case.name for case in parts.planned("tiny", ["ours", "packing"])] == ["packing tiny", "ours tiny"]
    with pytest.raises(UserError, match=r"no part 'packin' of rlvid bench gpu\. Did you mean 'packing'"):
        parts.planned("tiny", ["packin"])
    with pytest.raises(UserError, match="no preset '3b'"):
        parts.planned("3b")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="no CUDA device here"):
            measure_gpu()


def test_the_command_names_what_is_missing(capsys):
    assert main(["list", "parts", "packing"]) == 0
    assert "rlvid bench gpu --parts packing" in capsys.readouterr().out


def test_eager_decoding_has_the_samplers_log_probs(policy, prompts):
    train = TrainConfig(num_generations=2, max_completion_length=4)
    inputs = [policy.encode(prompt) for prompt in prompts[:2]]
    groups = Sampler(policy, train, lambda phase: nullcontext())(prompts[:2], inputs, "eager")
    groups = [g for g in groups if all(len(c.tokens) == 4 for c in g)]
    assert groups
    kept = [row for row, prompt in zip(inputs, prompts, strict=False) if any(g.prompt is prompt for g in groups)]
    eager = sampling.eager_logps(policy, kept, groups)
    assert (eager - sampling.sampled_logps(groups)).abs().max() < 1e-4


@pytest.mark.parametrize("lora_r", [0, 4])
def test_model_flops_are_those_that_torch_counts(tmp_path, lora_r):
    silence_libraries()
    run = PartRun("tiny", tmp_path)
    workload = replace(run.workload, lora_r=lora_r)
    config = run.config(workload=workload)
    policy = run.policy(f"train.lora_r={lora_r}").train()
    prompts, inputs = zip(*run.prompts(policy)[:1], strict=True)
    groups = random_groups(prompts, workload.num_generations, workload.completion_tokens)
    if policy.vision_cache:
        policy.vision_features(inputs)  # encoded before
    with FlopCounterMode(display=False) as counter:
        policy(inputs, groups).logps.sum().backward()
    counts = count_parameters(config.model, config.train)
    algorithm = build("algorithms", "grpo")
    shape = StepShape.of(config.train, config.video, algorithm, 1, family_of(counts.config))
    shape = replace(shape, groups=1)
    attention = flops.attention_flops(counts, shape)
    pairs = 3 * (sum(range(1, 213)) + 4 * sum(range(213, 245)))  # keys of each query, in all layers but the last,
    pairs += 4 * sum(range(212, 244))  # where the state before each completion token has a query
    assert attention == pairs * 4 * 192, "two products of 192 numbers"
    products = flops.learning_flops(counts, shape) - 3 * attention  # on a CPU torch does not count attention
    assert products == pytest.approx(counter.get_total_flops(), rel=0.03)
