"""The language model from packages and the cross-encoder: what can be tested without the weights, and soak tests."""

import re
import socket
from collections import Counter

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from rlvid.config import JudgeConfig, load
from rlvid.errors import UserError
from rlvid.judges.endpoint import Judge
from rlvid.probes import language_model
from rlvid.probes.cross_encoder import nli_examples
from rlvid.probes.reasoning_pairs import handwritten_pairs, split_halves
from rlvid.registry import NANO_CHECKPOINT
from rlvid.trainer.metrics import MISMATCH
from rlvid.types import Prompt
from rlvid.utils.files import read_jsonl
from tests.helpers.policies import policy_of
from tests.helpers.reward_audit import auroc_of_text_reward
from tests.helpers.runs import train
from tests.helpers.tables import README, rows

MODELS = language_model.home()  # read before the tests get a cache of their own
PROMPT = Prompt("q", "What next?", ("open tap", "close tap"), "B")


def logits_of_both(source, graft):
    """Return the logits of a text prompt and a reply: of the original, and of the graft by rlvid's policy."""
    policy = policy_of(load("nano", [f'model="{graft}"']))
    reply = policy.tokenizer("<think>The tap runs.</think><answer>B")["input_ids"]
    inputs = policy.encode(PROMPT)
    with torch.no_grad():
        ours = policy.last_token_logits([inputs], [[reply]], 1.0)[0]
        whole = torch.cat([inputs.input_ids, torch.tensor(reply)])[None, :-1]
        original = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)(whole).logits[0, -1]
    return original, ours


def test_the_graft_scores_text_as_the_original(tmp_path):
    tokenizer = AutoTokenizer.from_pretrained(NANO_CHECKPOINT)
    torch.manual_seed(1)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=128, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, rope_parameters={"rope_type": "default", "rope_theta": 1e6}, initializer_range=0.2,
        tie_word_embeddings=False, eos_token_id=tokenizer.eos_token_id, bos_token_id=None,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(tmp_path / "original")
    tokenizer.save_pretrained(tmp_path / "original")
    language_model.graft(tmp_path / "original", tmp_path / "graft")
    original, ours = logits_of_both(tmp_path / "original", tmp_path / "graft")
    known = torch.isfinite(ours)  # tokens that are never sampled are -inf
    torch.testing.assert_close(ours[known], original[known], rtol=0, atol=1e-4)
    assert known.sum() >= len(tokenizer) - 5 and original.std() > 0.1


@pytest.mark.parametrize("weights", language_model.SIZES.values(), ids=language_model.SIZES)
def test_every_wheel_is_pinned_by_version_and_hash(weights):
    lines = [line for line in weights.requirements.read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w-]+==[\d.]+ --hash=sha256:[0-9a-f]{64}", line) for line in lines)
    names = [line.partition("==")[0] for line in lines]
    assert [part.partition("/")[0].replace("_", "-") for part in weights.parts] == names[: len(weights.parts)]


def test_a_taken_port_is_refused_before_anything_is_made(monkeypatch, tmp_path):
    monkeypatch.setenv("RLVID_CACHE", str(tmp_path))
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        monkeypatch.setattr(language_model, "PORT", taken.getsockname()[1])
        with pytest.raises(UserError, match=rf"port {language_model.PORT} .* is taken"), language_model.served():
            pass
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("errors", "shown"),
    [
        ("Traceback:\n  line 1\nValueError: no such part\n", "ValueError: no such part"),
        ("WARNING: old\nERROR: THE HASHES DIFFER\n    Got   70bc\n", "ERROR: THE HASHES DIFFER Got 70bc"),
    ],
)
def test_a_failed_step_leaves_no_folder_and_shows_the_errors(tmp_path, errors, shown):
    command = ["sh", "-c", f"printf '{errors}' >&2; exit 1"]
    with (
        pytest.raises(UserError, match=f"^the packages: {re.escape(shown)}$"),
        language_model.new_folder(tmp_path / "made") as out,
    ):
        (out / "half").touch()
        language_model._run(command, "the packages")
    assert not (tmp_path / "made").exists()


def test_a_cross_encoder_learns_from_each_option_of_each_consistent_pair():
    pairs = handwritten_pairs()
    examples = nli_examples(pairs)
    assert len(examples) == 4 * sum(pair.consistent for pair in pairs)
    labels = Counter(label for *_, label in examples)
    assert labels == {0: 3 * len(examples) // 4, 1: len(examples) // 4}
    premise, hypothesis, _ = next(example for example in examples if example[2])
    assert pairs[0].thought.endswith(premise)
    assert hypothesis == f"The answer is: {pairs[0].prompt.options['ABCD'.index(pairs[0].answer)]}."


def two_lora_steps(graft, out):
    """Train the adapter of a graft by a random reward, since an untrained graft earns nothing else, and look at it."""
    lora = ["train.lora_r=8", "train.max_steps=2", "train.save_steps=2", "train.num_generations=4"]
    small = ["train.prompts_per_step=1", "train.max_completion_length=16", "eval.splits=[]"]
    train(out, f'model="{graft}"', "rewards={random=1.0}", *lora, *small)
    steps = read_jsonl(out / "metrics.jsonl")
    assert len(steps) == 2 and all(step[f"{MISMATCH}/max"] < 1e-4 for step in steps)
    assert any(step["grad_norm"] > 0 for step in steps), "every group may earn the same in one step"
    tensors = load_file(out / "checkpoints/step-000002/adapter_model.safetensors")
    trained = [tensor for name, tensor in tensors.items() if "lora_B" in name]
    assert trained and all(tensor.isfinite().all() and tensor.abs().max() > 0 for tensor in trained), "B starts at zero"


def needs_models(test):
    """A soak test that needs the models from packages, in the cache of the user and not in that of the tests."""
    missing = not (MODELS / language_model.POLICY).exists()
    return pytest.mark.soak(pytest.mark.skipif(missing, reason="no language model in the cache")(test))


@needs_models
def test_the_real_graft_scores_text_as_the_original():
    original, ours = logits_of_both(MODELS / language_model.JUDGE, MODELS / language_model.POLICY)
    known = torch.isfinite(ours)
    torch.testing.assert_close(ours[known], original[known], rtol=0, atol=5e-3)


@needs_models
@pytest.mark.timeout(7200)
def test_two_steps_with_lora_train_the_real_graft(kitchen, tmp_path):
    two_lora_steps(MODELS / language_model.POLICY, tmp_path / "run")


@needs_models
def test_the_judges_cells_in_the_readme_are_reproduced(monkeypatch):
    monkeypatch.setenv("RLVID_CACHE", str(MODELS.parent))
    _, reported = split_halves(handwritten_pairs())
    with language_model.served() as url:
        config = JudgeConfig(url, language_model.JUDGE, max_tokens=language_model.MAX_TOKENS, **language_model.ON_CPU)
        computed = auroc_of_text_reward(reported, "consistency_judge", "judge", Judge(config))
    shown = rows(README.read_text())["consistency_judge"][1]
    assert float(computed.split()[0]) == pytest.approx(float(shown.split()[0]), abs=0.03)
