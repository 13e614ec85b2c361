"""Evidence: correct, made once, kept in the samples, and free where no reward needs it."""

from contextlib import nullcontext
from dataclasses import replace

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertForSequenceClassification, BertTokenizerFast, PreTrainedTokenizerFast

from rlvid import api
from rlvid.answer import LETTERS
from rlvid.config import load
from rlvid.errors import UserError
from rlvid.judges import encoder
from rlvid.policy.oom import OOMBackoff
from rlvid.policy.option_probs import option_letter_probs, split_at_letter
from rlvid.policy.reference import Reference
from rlvid.registry import build
from rlvid.reward import RewardMix
from rlvid.trainer.evidence import EvidenceProvider, EvidenceRequest, check_evidence, check_evidence_of_model
from rlvid.trainer.evidence_kinds import reshuffled_options
from rlvid.trainer.records import evidence_to_json
from rlvid.types import Completion, Group, Prompt
from rlvid.utils.files import read_jsonl
from rlvid.video.views import Clip
from tests.helpers.runs import TINY, stop_after, train

pytestmark = pytest.mark.usefixtures("quick_runs")

ONE = OOMBackoff("tokens", 1)  # a prompt at a time
NOSY = 'rewards."tests/helpers/nosy.py:Nosy"=0.5'
TEXTS = [
    "<think>The corn went in. Next is the beet.</think><answer>B</answer>",
    "<think>The onion went in.</think>\n<answer>C</answer>",
    "<answer>A</answer>",
    "<think>The corn went in. Next is the beet.</think><answer>B</answer>",
]


def groups(policy, prompts, texts=TEXTS):
    """Groups of completions as the sampler makes them, and the model inputs of their prompts."""
    made = [Group(p, [Completion(t, tuple(policy.tokenizer(t)["input_ids"])) for t in texts]) for p in prompts]
    return made, [policy.encode(p) for p in prompts]


def provider(policy, *needs, **train):
    """An evidence provider for one reward with these needs."""
    config = load("nano")
    reward = type("Needy", (), {"needs": frozenset(needs), "__call__": lambda self, gs: [[0.0] * len(g) for g in gs]})()
    mix = RewardMix(
        {"accuracy": lambda gs: [[float(c.answer == g.prompt.answer) for c in g] for g in gs], "needy": reward}, {}
    )
    settings = replace(config.train, num_generations=3, max_completion_length=16, **train)
    backoff = OOMBackoff("tokens", settings.max_tokens_per_forward)
    reference = Reference(policy, config.train)
    return EvidenceProvider(mix, policy, reference, config.evidence, settings, backoff, lambda phase: nullcontext())


def test_option_probabilities_equal_those_of_writing_each_letter(policy, prompts):
    prompt, head = prompts[0], "<think>The corn went in.</think><answer>"
    encoded = policy.encode(prompt)
    (found,) = option_letter_probs(policy, [encoded], [[head, head]], [4], ONE)
    whole = [policy.tokenizer(f"{head}{letter}</answer>")["input_ids"] for letter in LETTERS[:4]]
    with torch.no_grad():
        logps = policy([encoded], [Group(prompt, [Completion("", tuple(ids)) for ids in whole])]).logps
    split = next(i for i, column in enumerate(zip(*whole, strict=True)) if len(set(column)) > 1)
    assert found[0] == found[1] and sum(found[0]) == pytest.approx(1)
    assert found[0] == pytest.approx(logps[:, split].softmax(0).tolist(), abs=1e-6)


@pytest.mark.parametrize(
    ("joined", "shared", "letters"),
    [
        ("", ["t", ">"], ["A", "B", "C"]),  # the letter is its own token
        ("ABC", ["t"], [">A", ">B", ">C"]),  # always joined to the tag's bracket
        ("B", ["t", ">"], ["A", "B", "C"]),  # sometimes joined: kept apart for all
    ],
)
def test_the_token_that_holds_the_letter_is_found_in_any_tokenizer(joined, shared, letters):
    words = ["t", "<", "/", ">", *"ABC", *(f">{letter}" for letter in joined), *"answer"]
    words = list(dict.fromkeys(words))
    bpe = models.BPE({w: i for i, w in enumerate(words)}, [(">", letter) for letter in joined])
    inner = Tokenizer(bpe)
    inner.pre_tokenizer = pre_tokenizers.Split("\x00", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner)
    head, chosen = split_at_letter(tokenizer, "t>", 3)
    assert tokenizer.convert_ids_to_tokens(head) == shared
    assert tokenizer.convert_ids_to_tokens(chosen) == letters


def test_a_forced_choice_reads_the_reasoning_in_whatever_form(policy, prompts):
    thought = "The corn went in. Next is the beet."
    formed = f"<think>{thought}</think><answer>"
    texts = [f"{formed}B</answer>", f"{formed}B or C</answer>", f"{thought} <answer>B", thought, f"<THINK>{thought}"]
    made, encoded = groups(policy, prompts[:2], texts)
    provider(policy, "forced_probs", "answer_probs").attach(EvidenceRequest(made, encoded, "s"))
    for group, seen in zip(made, encoded, strict=True):
        [[expected]] = option_letter_probs(policy, [seen], [[formed]], [4], ONE)
        assert [probs == group.evidence["forced_probs"][0] for probs in group.evidence["forced_probs"]] == [True] * 5
        assert group.evidence["forced_probs"][0] == pytest.approx(expected, abs=1e-5)
        assert group.evidence["answer_probs"][2:] == [None] * 3
        gold = LETTERS.index(group.prompt.answer)
        assert build("rewards", "forced_choice")([group]) == [[group.evidence["forced_probs"][0][gold]] * 5]


def test_answer_likelihood_separates_reasoning_and_video(policy, prompts):
    made, encoded = groups(policy, prompts[:3])
    source = provider(policy, "answer_likelihood", "answer_probs")
    source.attach(EvidenceRequest(made, encoded, "s"))
    for group, seen in zip(made, encoded, strict=True):
        likelihood, probs = group.evidence["answer_likelihood"], group.evidence["answer_probs"]
        assert likelihood[2] is None and probs[2] is None  # it did not think
        assert likelihood[0] == likelihood[3] != likelihood[1]
        assert likelihood[0].full == pytest.approx(probs[0], abs=1e-5)  # the reference is still the policy
        assert likelihood[0].no_reasoning == likelihood[1].no_reasoning != likelihood[0].full
        bare = policy.encode(group.prompt, Clip())
        assert len(bare.grid_thw) == 0 < len(seen.grid_thw)
        [[text_only]] = option_letter_probs(policy, [bare], [[TEXTS[0].removesuffix("B</answer>")]], [4], ONE)
        assert likelihood[0].no_video == pytest.approx(text_only, abs=1e-5)


def test_reanswer_reshuffles_the_options(policy, prompts):
    made, encoded = groups(policy, prompts[:4])
    provider(policy, "reanswer").attach(EvidenceRequest(made, encoded, "s"))
    for group in made:
        order = reshuffled_options(group.prompt)
        assert sorted(order) == [0, 1, 2, 3] and all(place != original for place, original in enumerate(order))
        said = group.evidence["reanswer"]
        assert said[2] is None and {said[0], said[1], said[3]} <= set("ABCD") and said[0] == said[3]
        moved = replace(group.prompt, options=tuple(group.prompt.options[i] for i in order))
        head = TEXTS[0].removesuffix("B</answer>")
        [[probs]] = option_letter_probs(policy, [policy.encode(moved, Clip())], [[head]], [4], ONE)
        assert moved.options[probs.index(max(probs))] == group.prompt.options[LETTERS.index(said[0])]


def test_views_are_sampled_with_the_same_seed_and_scored(policy, prompts):
    made, encoded = groups(policy, prompts[:2])
    source, corrupted = provider(policy, "view:shuffled", "view:text_only"), []
    source.attach(EvidenceRequest(made, encoded, "s", corrupt=lambda column, gs: corrupted.append(column)))
    once = [group.evidence["view:shuffled"] for group in made]
    assert [len(group) for group in once] == [3, 3] and "accuracy" in corrupted and "needy" not in once[0].columns
    assert all(set(g["accuracy"]) <= {0.0, 1.0} for g in once)
    source.attach(EvidenceRequest(made, encoded, "s"))
    again, blind = ([group.evidence[f"view:{name}"] for group in made] for name in ("shuffled", "text_only"))
    assert [c.tokens for g in once for c in g] == [c.tokens for g in again for c in g]
    assert [c.logps for g in once for c in g] != [c.logps for g in blind for c in g]
    hide = lambda prompt, clip: Clip()  # noqa: E731 (noise that hides the clip hides it under a view, too)
    provider(policy, "view:shuffled").attach(EvidenceRequest(made, encoded, "s", alter_clip=hide))
    assert [c.logps for g in blind for c in g] == [c.logps for m in made for c in m.evidence["view:shuffled"]]


def test_ref_logps_equal_the_reference_models(policy, prompts):
    made, encoded = groups(policy, prompts[:3])
    source = provider(policy, "ref_logps")
    source.attach(EvidenceRequest(made, encoded, "s"))
    with torch.no_grad():
        expected = source.reference(encoded, made, 1.0).logps.tolist()
    rows = [row for group in made for row in group.evidence["ref_logps"]]
    assert [len(row) for row in rows] == [len(c.tokens) for group in made for c in group]
    for row, full in zip(rows, expected, strict=True):
        assert row == pytest.approx(full[: len(row)], abs=1e-5)


def test_every_kind_reaches_a_reward_the_samples_and_a_resumed_run(kitchen, tmp_path):
    settings = [*TINY, NOSY, "train.max_steps=2", "train.save_steps=1", "algorithm.beta=0.1"]
    whole = train(tmp_path, *settings)
    metrics = read_jsonl(whole / "metrics.jsonl")
    row = read_jsonl(whole / "samples/step-000002.jsonl")[0]
    assert set(row["evidence"]) == {
        "narrations", "ref_logps", "answer_probs", "forced_probs", "answer_likelihood", "reanswer", "view:shuffled",
        "view:text_only", "visual_attention",
    }  # fmt: skip
    assert row["evidence"]["view:shuffled"]["completions"] and row["columns"]["tests/helpers/nosy.py:Nosy"]
    timing = read_jsonl(whole / "timing.jsonl")[0]
    assert min(timing[f"timing_s/{kind}"] for kind in ("view", "answer_likelihood", "reanswer", "ref_logps")) > 0
    (question, *_) = read_jsonl(whole / "eval/L1.jsonl")
    assert len(question["evidence"]["view:shuffled"]["completions"]) == 1
    stop_after(tmp_path, 1)
    train(tmp_path, *settings, resume=True)
    assert read_jsonl(whole / "metrics.jsonl") == metrics


@pytest.mark.parametrize("kind", ["frozen", "average", "adapter", "cold start"])
def test_evaluating_a_run_uses_the_reference_of_its_training(kitchen, tmp_path, kind):
    """The trained policy is not the reference: evidence of the same replies equals that of the run."""
    how = {
        "frozen": [],
        "average": ["train.sync_ref_model=true", "train.ref_model_sync_steps=1", "train.ref_model_mixup_alpha=0.5"],
        "adapter": ["train.lora_r=4"],
        "cold start": ["cold_start.max_steps=1", "cold_start.prompts_per_step=4", "cold_start.learning_rate=3e-4"],
    }
    out = train(tmp_path / "run", *TINY, "rewards.consistency_likelihood=1", "train.max_steps=2", *how[kind])
    again = [f"eval.completions={out / 'eval'}"]
    api.evaluate(out, overrides=again, out=tmp_path / "again")
    api.evaluate(out, overrides=[*again, "evidence.reference="], out=tmp_path / "itself")
    inside, after, itself = (likelihoods(folder) for folder in (out, tmp_path / "again", tmp_path / "itself"))
    assert after == pytest.approx(inside, abs=1e-5) and len(after) > 0
    assert itself != pytest.approx(inside, abs=1e-4), "or this would show nothing"
    api.evaluate(tmp_path / "again", out=tmp_path / "third")
    assert likelihoods(tmp_path / "third") == after, "an evaluation's own evaluation is held to the same"


def likelihoods(folder):
    """Every probability of an evaluation's evidence, in order."""
    told = [row["evidence"]["answer_likelihood"][0] for row in read_jsonl(folder / "eval/L1.jsonl")]
    return [p for likelihood in told if likelihood for probs in likelihood.values() for p in probs]


def test_evidence_that_no_reward_needs_is_not_made(kitchen, tmp_path):
    out = train(tmp_path / "run", *TINY)
    assert read_jsonl(out / "samples/step-000001.jsonl")[0]["evidence"] == {}
    assert "evidence" not in read_jsonl(out / "eval/L1.jsonl")[0]
    assert not {"timing_s/view", "timing_s/ref_logps"} & read_jsonl(out / "timing.jsonl")[0].keys()


def test_data_without_the_evidence_is_refused():
    def mix(need):
        return RewardMix({"mine": type("Mine", (), {"needs": frozenset({need})})()}, {})

    bare = [Prompt("q", "What is it?", ("a", "b"))]
    for need in ("narrations", "view:shuffled"):
        with pytest.raises(UserError, match=f"reward 'mine' needs '{need}', and no sample of the data can give it"):
            check_evidence(mix(need), bare)
    with pytest.raises(UserError, match="'reanswer'"):
        check_evidence(mix("reanswer"), [Prompt("q", "What is it?")])
    check_evidence(mix("reanswer"), bare)


def test_an_unknown_kind_of_evidence_is_refused_with_a_suggestion():
    mix = RewardMix({"x": type("Mine", (), {"needs": frozenset({"view:shufled"})})()}, {})
    refused = r"reward 'x' needs 'view:shufled', which is no kind of evidence\. Did you mean 'view:shuffled'"
    with pytest.raises(UserError, match=refused):
        check_evidence(mix, [])


def test_evidence_is_saved_as_json():
    group = Group(Prompt("q", "?", ("a", "b"), "A"), [Completion("<answer>A</answer>")], {"accuracy": [1.0]})
    kept = evidence_to_json({"view:blank": group, "embeddings": len, "reanswer": ["A", None]})
    view = {"completions": ["<answer>A</answer>"], "answers": ["A"], "columns": {"accuracy": [1.0]}}
    assert kept == {"view:blank": view, "reanswer": ["A", None]}


def test_entailment_uses_the_models_own_label(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]))
    torch.manual_seed(0)
    labels = {0: "contradiction", 1: "entailment", 2: "neutral"}
    config = BertConfig(
        vocab_size=7, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        id2label=labels, label2id={v: k for k, v in labels.items()}, num_labels=3, initializer_range=1.0,
    )  # fmt: skip
    model, tokenizer = BertForSequenceClassification(config).eval(), BertTokenizerFast(str(tmp_path / "vocab.txt"))
    model.save_pretrained(tmp_path / "nli")
    tokenizer.save_pretrained(tmp_path / "nli")
    pairs = [("a b", "b"), ("b b b", "a")]
    with torch.no_grad():
        expected = [model(**tokenizer(*pair, return_tensors="pt")).logits.softmax(-1)[0, 1].item() for pair in pairs]
    assert encoder.entailment(pairs, str(tmp_path / "nli")) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(UserError, match="set a cross-encoder"):
        encoder.entailment(pairs, "")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["rewards.consistency_nli=1"], "set a cross-encoder"),
        (["rewards.consistency_nli=0.1", "evidence.nli=/nowhere"], "cross-encoder '/nowhere': no such folder"),
        (["eval.rewards.consistency_embedding=1", "evidence.encoder=/nowhere"], "text encoder '/nowhere': no such"),
        (["eval.rewards.consistency_judge=1"], "judge.url="),
    ],
)
def test_models_that_cannot_be_loaded_are_refused_before_the_run_folder_exists(kitchen, tmp_path, settings, message):
    with pytest.raises(UserError, match=message):
        train(tmp_path / "run", *TINY, *settings)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("table", ["rewards", "eval.rewards"])
def test_completions_are_not_paired_by_random_numbers_under_vllm(kitchen, tmp_path, table):
    settings = [*TINY, "train.use_vllm=true", f"{table}.grounding_counterfactual=1"]
    with pytest.raises(
        UserError, match="'grounding_counterfactual' pairs completions by their random numbers"
    ) as error:
        train(tmp_path / "run", *settings)
    assert "\n" not in str(error.value) and not (tmp_path / "run").exists()
    unpaired = RewardMix({"grounding_counterfactual": build("rewards", "grounding_counterfactual", paired=False)}, {})
    check_evidence_of_model(unpaired, "nano", True)
    check_evidence_of_model(RewardMix.build(load("nano", settings[-1:]).rewards), "nano", False)


def test_embeddings_are_cached(monkeypatch):
    first = encoder.embed(["a pot", "a pan", "a pot"])
    monkeypatch.setattr(encoder, "load_encoder", lambda name: pytest.fail("computed again"))
    assert (encoder.embed(["a pan", "a pot"]) == first[[1, 0]]).all()
