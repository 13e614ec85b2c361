"""ZeRO-3 on two CPU processes: only the main process holds all weights while loading, and prefetching goes on."""

import json
import os
import re
from pathlib import Path

import torch
from torch import nn
from transformers import AutoTokenizer, Qwen2VLForConditionalGeneration

from rlvid.config import load
from rlvid.distributed import make_accelerator
from rlvid.policy.deepspeed import TrainState, prepare
from rlvid.policy.model import Policy
from rlvid.policy.reference import Reference
from rlvid.registry import NANO_CHECKPOINT
from tests.helpers.processes import SERVER
from tests.helpers.tiny_models import tiny_config

WIDE = {"hidden_size": 512, "intermediate_size": 3072, "num_hidden_layers": 8, "head_dim": 128}
MEGABYTE = 2**20


def on_two_ranks(function, folder):
    """Call `function(folder)` on two processes under ZeRO-3; returns what it returned on each, through JSON."""
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "ACCELERATE_USE_DEEPSPEED": "true"}
    world |= {"MASTER_PORT": str(20000 + os.getpid() % 20000), "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"}
    ranks = [world | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
    processes = [SERVER.Process(target=call, args=(function, folder, environment)) for environment in ranks]
    for process in processes:
        process.start()
    for process in processes:
        process.join(400)
        assert process.exitcode == 0
    return [json.loads((folder / f"result-{rank}.json").read_text()) for rank in range(2)]


def call(function, folder, environment):
    os.environ.update(environment)
    (folder / f"result-{environment['RANK']}.json").write_text(json.dumps(function(folder)))


def memory(key):
    """A value of this process in MiB: "VmRSS" now, "VmHWM" at most since the start or `reset_peak`."""
    return int(re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024


def reset_peak():
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def peaks_of_loading(folder):
    """MiB by which loading a policy and a reference, and then sharding them, raise the peak of resident memory."""
    accelerator = make_accelerator(folder)
    config = load("nano", [f"model={folder / 'model'}"])
    start = reset_peak()
    policy = Policy.load(config.model, config.train, config.video)
    reference = Reference(policy, config.train)
    loading = memory("VmHWM") - start
    learner, optimizer = prepare(accelerator, policy, torch.optim.AdamW(policy.parameters()))
    state = TrainState.create(policy, learner, optimizer, reference)
    with state.gathered_parameters(policy, reference):
        sums = [[float(p.double().sum()) for p in (*m.parameters(), *m.buffers())] for m in (policy, reference)]
    return {"loading": loading, "sums": sums, "buffers": len(list(policy.buffers()))}


def test_only_the_main_process_holds_all_weights_while_loading(tmp_path):
    heads = {"num_attention_heads": 4, "num_key_value_heads": 4}
    rope = {"rope_parameters": {"rope_type": "default", "mrope_section": [16, 24, 24], "rope_theta": 1e4}}
    config = tiny_config("qwen2_vl", text=WIDE | heads | rope, vision={"hidden_size": 512})
    torch.manual_seed(0)
    model = Qwen2VLForConditionalGeneration(config)
    size = sum(p.numel() for p in model.parameters()) * 4 / MEGABYTE
    assert size > 150, "large enough to stand out from the memory of imports"
    model.to(torch.bfloat16).save_pretrained(tmp_path / "model")  # which nobody can map as float32 from the disk
    AutoTokenizer.from_pretrained(NANO_CHECKPOINT).save_pretrained(tmp_path / "model")

    main, other = on_two_ranks(peaks_of_loading, tmp_path)
    print(f"weights {size:.0f} MiB, loading {main['loading']:.0f} and {other['loading']:.0f} MiB")
    assert main["loading"] > 1.9 * size, "the policy and the reference, so the measure sees weights"
    assert other["loading"] < 0.5 * size
    assert main["sums"] == other["sums"] and main["buffers"] > 0
    policy_sums, reference_sums = main["sums"]
    assert policy_sums == reference_sums
    expected = Policy.load(*load_arguments(tmp_path))
    assert policy_sums == [float(p.double().sum()) for p in (*expected.parameters(), *expected.buffers())]


def load_arguments(folder):
    config = load("nano", [f"model={folder / 'model'}"])
    return config.model, config.train, config.video


class Layers(nn.Sequential):
    vision_cache = None


def prefetching(folder):
    """Whether the trace is complete in each of four steps of two micro-batches, each step after a gathered phase."""
    accelerator = make_accelerator(folder)
    policy = Layers(*(nn.Linear(400, 400) for _ in range(3)))  # large enough to be sharded
    learner, optimizer = prepare(accelerator, policy, torch.optim.AdamW(policy.parameters(), lr=1e-2))
    state = TrainState.create(policy, learner, optimizer, None)
    coordinator = learner.optimizer.parameter_offload.get_param_coordinator()
    complete, gathered = [], []
    for _ in range(4):
        with state.gathered_parameters(policy):
            for _ in range(1 + torch.distributed.get_rank()):  # no rank waits for another
                gathered.append(float(policy.forward(torch.ones(1, 400)).sum()))
        for last in (False, True):
            accelerator.sync_gradients = last
            loss = learner(torch.ones(2, 400)).square().sum()
            complete.append(coordinator.is_complete_trace())
            accelerator.backward(loss)
    return {"complete": complete, "gathered": sorted(set(gathered), key=gathered.index)}


def test_a_gathered_phase_keeps_the_trace_of_prefetching(tmp_path):
    first, second = on_two_ranks(prefetching, tmp_path)
    # The first forward and backward pass records the trace; from then on weights are gathered ahead.
    assert first["complete"] == second["complete"] == [False, *[True] * 7]
    assert first["gathered"] == second["gathered"] and len(first["gathered"]) == 4, "the weights are those of each step"
