"""The shape of a model and its gradients, cached features of its vision tower, and steps that do not fit in memory."""

from __future__ import annotations

import ctypes
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch

from rlvid.bench.gpu.part_run import PartRun, random_groups
from rlvid.bench.implementations import PackedStep
from rlvid.bench.parameter_counts import count_parameters
from rlvid.policy.oom import OOMBackoff

PUBLISHED = {"2b": "Qwen/Qwen2-VL-2B-Instruct", "7b": "Qwen/Qwen2-VL-7B-Instruct"}
GROUPS = 8  # of the step that does not fit
LORA_R = 16  # of it: with all weights, what AdamW needs would hide what micro-batches need
UNLIMITED = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


def shapes(run: PartRun) -> None:
    """Check the size of the model, and that a step at the workload's shape reaches every trained weight."""
    policy = run.policy("train.dtype=auto")
    config, model = run.config(), policy.model
    adapters = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    parameters = sum(p.numel() for p in model.parameters()) - adapters
    counts = count_parameters(PUBLISHED.get(run.preset, config.model), config.train)
    published = counts.all - counts.adapters
    head = model.get_output_embeddings()
    tied = head.weight is model.get_input_embeddings().weight
    run.record(parameters=parameters, adapters=adapters, vocabulary=head.out_features, tied=tied)
    run.require(parameters == published, f"the model has {parameters:,} parameters, published are {published:,}")
    run.require(tied == model.config.tie_word_embeddings, "the head is not tied as config.json says")

    prompts, inputs = zip(*run.prompts(policy)[:1], strict=True)
    groups = random_groups(prompts, run.workload.num_generations, run.workload.completion_tokens)
    policy.train()
    logps = policy(inputs, groups).logps
    run.record(prompt_tokens=len(inputs[0].input_ids), mean_logp=logps.mean().item())
    run.require(bool(logps.isfinite().all()), "log-probs are not finite")
    logps.mean().backward()
    trained = {name: p.grad for name, p in policy.named_parameters() if p.requires_grad}
    bad = [name for name, grad in trained.items() if grad is None or not grad.isfinite().all() or not grad.any()]
    run.record(trained=len(trained), without_gradient=len(bad))
    run.require(not bad, f"the gradient of {len(bad)} weights is missing, 0 or not finite, such as {bad[:1]}")


@torch.no_grad()
def features(run: PartRun) -> None:
    """Compare computed features with those read from the cache, and log-probs with and without the cache."""
    policy = run.policy("train.freeze_vision_tower=true", "train.lora_r=0", "train.dtype=bfloat16")
    cache = policy.vision_cache
    assert cache
    prompts, inputs = zip(*run.prompts(policy), strict=True)
    computed = policy.vision_features(inputs)
    misses = cache.misses
    again = [prompt_inputs for _, prompt_inputs in run.prompts(policy)]
    from_file = policy.vision_features(again)
    run.record(misses=misses, hits=cache.hits)
    run.require(cache.misses == misses and cache.hits > 0, "encoding the same clips again did not use the cache")
    run.require(torch.equal(computed, from_file), "features from the file are not the same bits as computed ones")

    groups = random_groups(prompts, 2, min(32, run.workload.completion_tokens))
    with_cache = policy(again, groups).logps
    policy.vision_cache = None  # now the tower encodes all clips in one call
    without = policy(inputs, groups).logps
    policy.model.float()
    policy.bf16 = False
    rounding = (without - policy(inputs, groups).logps).abs().mean().item()
    difference = (with_cache - without).abs().mean().item()
    run.record(bf16_mean=difference, rounding_mean=rounding)
    run.require(difference <= 1.5 * rounding, f"with cached features log-probs differ by {difference:.1e} nats a token")


def out_of_memory(run: PartRun) -> None:
    """Learn from eight groups with half of the memory that all of them take at once; compare with the whole step."""
    if not run.on_gpu and sys.platform != "linux":
        run.skip("only Linux limits the memory of a process")
    if not run.on_gpu:
        ctypes.CDLL(None).mallopt(-3, 1 << 16)  # large blocks are mapped from the system, and returned to it when freed
    workload = replace(run.workload, groups=GROUPS, lora_r=LORA_R)
    step = PackedStep(run.model_folder(), workload)
    for parameters in step.state.optimizer.param_groups:
        parameters["lr"] = 0.0  # so that all steps have the same weights
    inputs = [step.policy.encode(*row) for row in zip(step.prompts, step.clips, strict=True)]
    groups = random_groups(step.prompts, workload.num_generations, workload.completion_tokens)
    credited = step.credit(inputs, groups)
    step.learn(credited)  # now AdamW has its moments
    tokens = credited.largest_budget

    def learn() -> dict[str, float]:
        step.backoff = OOMBackoff("tokens", tokens)
        return step.learn(credited)

    whole, growth = with_peak(run, learn)
    run.record(whole_step_gb=growth / 1e9, tokens=tokens)
    with memory_limit(run, growth // 2):
        smaller = learn()
    run.record(tokens_after=step.backoff.size)
    run.require(step.backoff.size < tokens, "memory did not run out with half of what the whole step took")
    tolerance = 1e-2 if step.policy.bf16 else 1e-4
    for name in ("loss", "grad_norm"):
        run.record(**{name: whole[name], f"{name}_after": smaller[name]})
        difference = abs(whole[name] - smaller[name]) / max(abs(whole[name]), 1e-3)
        run.require(difference <= tolerance, f"{name} is {whole[name]:.6g} at once, in parts {smaller[name]:.6g}")


def with_peak(run: PartRun, work: Callable[[], dict[str, float]]) -> tuple[dict[str, float], int]:
    """Return what `work` returns, and by how many bytes its peak exceeds the memory in use before."""
    if run.on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = work()
        return result, torch.cuda.max_memory_allocated() - before
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = memory_in_use("VmRSS")
    result = work()
    return result, memory_in_use("VmHWM") - before


def memory_in_use(name: str) -> int:
    """Return a row of this process's /proc/self/status in bytes."""
    rows = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(rows[name].split()[0]) * 1024


@contextmanager
def memory_limit(run: PartRun, more: int) -> Iterator[None]:
    """Inside the context this process can allocate so many bytes more than it has now."""
    if run.on_gpu:
        torch.cuda.empty_cache()
        total = torch.cuda.get_device_properties(0).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_reserved() + more) / total))
        try:
            yield
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return
    torch.backends.mkldnn.set_flags(False)  # oneDNN has other messages when memory runs out
    resource.setrlimit(resource.RLIMIT_AS, (memory_in_use("VmSize") + more, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, UNLIMITED)
        torch.backends.mkldnn.set_flags(True)
