"""The cache of CUDA graphs, on a CPU: a stand-in records the work of a token and runs it when it is replayed."""

from contextlib import contextmanager
from functools import partial

import pytest
import torch

from rlvid.policy import graph_cache
from rlvid.policy.graph_cache import CudaGraphCache
from rlvid.policy.prefill import prefill
from tests.helpers.sampling import encode_all, make_sampler, no_timer

SmallCudaGraphCache = partial(CudaGraphCache, free_columns=5)
NOT_PERMITTED = "CUDA error: operation not permitted when stream is capturing"
OUT_OF_MEMORY = "CUDA out of memory. Tried to allocate 7 bytes."


class Recorded:
    """In place of `torch.cuda.CUDAGraph`: as there, recording does not run the work."""

    def __init__(self, work):
        self.replay = work


@pytest.fixture
def on_gpu(monkeypatch):
    """A function that sets what records a token's work, as if the CPU were a GPU."""

    def record_with(capture):
        monkeypatch.setattr(graph_cache, "captures_graphs", lambda device: True)
        monkeypatch.setattr(graph_cache, "capture_graph", capture)
        monkeypatch.setattr(CudaGraphCache, "can_capture", True)

    return record_with


def sampled(policy, prompts, **attributes):
    """The tokens of each prompt's completions, some of which end long before the others."""
    sampler = make_sampler(policy, SmallCudaGraphCache, max_completion_length=48)
    for name, value in attributes.items():
        setattr(sampler, name, value)
    groups = sampler(prompts, encode_all(policy, prompts), "7")
    return [[completion.tokens for completion in group] for group in groups]


@pytest.fixture(scope="module")
def expected(policy, prompts):
    return sampled(policy, prompts)


def test_replayed_graphs_sample_the_same_tokens(policy, prompts, expected, on_gpu):
    recorded = []
    on_gpu(lambda work: recorded.append(Recorded(work)) or recorded[-1])
    assert sampled(policy, prompts) == expected
    assert len(recorded) > 2, "one for each time that the rows move to a new cache"


def test_a_recording_that_fails_is_named_once_and_sampling_goes_on(policy, prompts, expected, on_gpu, capsys):
    attempts = []

    def fail(work):
        attempts.append(work)
        raise RuntimeError(f"{NOT_PERMITTED}\nCompile with TORCH_USE_CUDA_DSA")

    on_gpu(fail)
    assert sampled(policy, prompts) == expected == sampled(policy, prompts)
    assert len(attempts) == 1
    assert capsys.readouterr().err.count(f"a CUDA graph cannot be recorded ({NOT_PERMITTED}); sampling goes on") == 1


def test_a_recording_that_runs_out_of_memory_halves_the_batch(policy, prompts, expected, on_gpu, capsys):
    def run_out(work):
        try:
            raise RuntimeError(OUT_OF_MEMORY)
        finally:  # the end of a broken recording hides the first error
            on_gpu(Recorded)
            raise RuntimeError("CUDA error: operation failed due to a previous error during capture")

    on_gpu(run_out)
    assert sampled(policy, prompts) == expected
    assert "out of memory; from now on 3 prompts at a time" in capsys.readouterr().err
    assert CudaGraphCache.can_capture


def test_only_the_recording_thread_is_watched(monkeypatch):
    modes = []

    @contextmanager
    def graph(recorded, capture_error_mode):
        modes.append(capture_error_mode)
        yield

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", graph)
    graph_cache.capture_graph(lambda: modes.append("work"))
    assert modes == ["thread_local", "work"]


@torch.no_grad()
def test_the_prompts_keys_and_values_are_freed_as_they_are_repeated(policy, prompts):
    prefilled = prefill(policy, encode_all(policy, prompts[:3]), no_timer)
    keys = prefilled.cache.layers[0].keys.clone()
    cache = CudaGraphCache(policy, prefilled.cache, prefilled.attention_mask, prefilled.next_positions, count=4)
    assert (
        {layer.keys for layer in prefilled.cache.layers} == {layer.values for layer in prefilled.cache.layers} == {None}
    )
    assert torch.equal(cache.cache.layers[0].keys[:, :, : keys.shape[2]], keys.repeat_interleave(4, 0))


def test_finished_rows_may_be_looked_for_less_often(policy, prompts, expected):
    assert sampled(policy, prompts, finished_interval=8) == expected
