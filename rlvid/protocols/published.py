"""The protocols that published tables were made with, read in the code that is named in `source`.

Two things differ from the published code. A clip of one frame is shown as it is, where qwen-vl-utils fails. And both
limits of pixels hold for videos and images alike, where the published code has limits of its own for images.
`differences` lists what else a protocol does not reproduce.
"""

from __future__ import annotations

from typing import Any

from rlvid.protocols.base import DEFAULT, Protocol, check_protocol

TOKEN = 28 * 28  # pixels of a visual token of Qwen2-VL
LMMS_EVAL = "lmms-eval 0.7.3"
QWEN = "lmms_eval/models/simple/qwen2_5_vl.py, qwen-vl-utils 0.0.14"

PONDER = (
    "Please think about this question as if you were a human pondering deeply. "
    "Engage in an internal dialogue using expressions such as 'let me think', 'wait', 'Hmm', 'oh, I see', 'let's break "
    "it down', etc, or other natural language thought expressions "
    "It's encouraged to include self-reflection or verification in the reasoning process. "
    "Provide your detailed reasoning between the <think> and </think> tags, and then give your final answer between "
    "the <answer> and </answer> tags."
)
NUMBER = " Please provide the numerical value (e.g., 42 or 3.14) within the <answer> </answer> tags."
VIDEO_R1_PROMPT = {
    "multiple_choice": f"{{question}}Options:\n{{options}}\n\n{PONDER} Please provide only the single option letter "
    "(e.g., A, B, C, D, etc.) within the <answer> </answer> tags.",
    "numerical": f"{{question}}\n{PONDER}{NUMBER}",
    "regression": f"{{question}}\n{PONDER}{NUMBER}",
    "free_form": f"{{question}}\n{PONDER} Please provide your text answer within the <answer> </answer> tags.",
}


def settings(temperature: float, top_p: float, length: int, frames: int, pixels: tuple[int, int]) -> dict[str, Any]:
    """Return config keys for decoding and frames at 2 per second, whose sizes keep their aspect ratio."""
    low, high = pixels
    return {
        "eval.temperature": temperature,
        "eval.top_p": top_p,
        "eval.max_completion_length": length,
        "video.fps": 2.0,
        "video.min_frames": 4,
        "video.max_frames": frames,
        "video.resized_height": None,
        "video.resized_width": None,
        "video.min_pixels": low,
        "video.max_pixels": high,
    }


FRAMES = (
    "lmms-eval takes 32 of the frames read at 2 per second, ours are evenly spaced in the clip; it allows 2,048 visual "
    "tokens, which qwen-vl-utils 0.0.14 lowers to 768, and further beyond 150 s, where ours stay at 768"
)


def harness(
    task: str, text: str, length: int, extraction: str, prompt: dict[str, str], differs: str = "", **fields: Any
) -> Protocol:
    """Return the protocol of a task of lmms-eval with the frames of its Qwen2.5-VL: greedy, up to 32 frames."""
    decoding = settings(0.0, 1.0, length, 32, (256 * TOKEN, 768 * TOKEN))
    where = f"{LMMS_EVAL}, lmms_eval/tasks/{task or '_task_utils/mcq_extract.py'}"
    name = f"lmms_eval/{task}" if task else "lmms_eval"
    differences = "; ".join(filter(None, (differs, FRAMES)))
    return Protocol(
        name, text, f"{where}; {QWEN}", differences, prompt, settings=decoding, extraction=extraction, **fields
    )


DIRECTLY = "Answer with the option's letter from the given choices directly."
RESPOND = "Select the best answer to the following multiple-choice question based on the video"
EGOPLAN = "{question}\n{options}\nAnswer with the option's letter from the given choices"

# VideoAuto-R1's instruction; {box} is how an answer is marked.
TWICE = (
    "FIRST: Output your initial answer inside the first {box} without any analysis or explanations. "
    "If you cannot determine the answer without reasoning, output {fallback} instead.\n"
    "THEN: Think through the reasoning as an internal monologue enclosed within <think>...</think>.\n"
    "AT LAST: Output the final answer again inside {box}. If you believe the previous answer was correct, repeat it; "
    "otherwise, correct it.\nOutput format: {box}<think>...</think>{box}"
)
FALLBACK = "Let's analyze the problem step by step."


def two_answers(name: str, text: str, mark: str, differs: str) -> Protocol:
    """Return a protocol whose replies are an answer, a thought, an answer; `mark` is an answer, {} its text."""
    wording = TWICE.replace("{box}", mark.replace("{}", "...")).replace("{fallback}", mark.replace("{}", FALLBACK))
    return Protocol(
        name,
        text,
        "IVUL-KAUST/VideoAuto-R1 f7d91a3, videoauto_r1/utils/data_rl.py, lmms_eval/models/simple (arXiv:2601.05175)",
        f"its instruction is a system message, ours follows the question; decoding and frames are those of the config; "
        f"{differs}the gate is a setting of its own, eval.confidence_gate, 0.97 in the released code",
        {"multiple_choice": "{question}\n{options}\n" + wording},
        extraction="two_answers",
    )


_ALL = (
    DEFAULT,
    Protocol(
        "seed_bench_r1",
        "SEED-Bench-R1's released evaluation: samples at temperature 1, 256 tokens, first character of the answer",
        "TencentARC/SEED-Bench-R1 12e8fcc, infer.py, vision_process_egoplan.py (arXiv:2503.24376)",
        settings={
            **settings(1.0, 1.0, 256, 16, (56 * 56, 256 * TOKEN)),
            "video.resized_height": 252,
            "video.resized_width": 252,
        },
        extraction="seed_bench_r1",
    ),
    Protocol(
        "grpo_care",
        "GRPO-CARE on SEED-Bench-R1: Video-R1's wording and parser, 16 frames of 128 to 134 visual tokens",
        "TencentARC/GRPO-CARE b0628fc, src/eval_bench.py, scripts/eval_seed_bench_r1.sh (arXiv:2506.16141)",
        "its images have 4 to 256 visual tokens, ours as many as frames; it drops the batch of 4 in which a clip "
        "fails, ours that question alone",
        VIDEO_R1_PROMPT,
        settings=settings(0.1, 0.001, 1024, 16, (128 * TOKEN, int(128 * TOKEN * 1.05))),
        extraction="video_r1",
        number="video_r1",
        mra="<",
        denominator="readable",
    ),
    Protocol(
        "video_r1",
        "Video-R1's evaluation, 16 frames of 128 to 256 visual tokens; for its other columns video.max_frames=32 or 64",
        "tulerfeng/Video-R1 59d65c3, src/eval_bench.py; frames as its README.md says (arXiv:2503.21776)",
        "where a clip fails it counts the batch of 64 as wrong, ours that question alone; its README says temperature "
        "0.01, its code 0.1, as here",
        VIDEO_R1_PROMPT,
        settings=settings(0.1, 0.001, 1024, 16, (128 * TOKEN, 256 * TOKEN)),
        extraction="video_r1",
        number="video_r1",
        mra="<",
    ),
    two_answers(
        "video_auto",
        "VideoAuto-R1: a first answer, a thought and a second answer, in boxes; also for training, train.protocol",
        "\\boxed{{}}",
        "",
    ),
    two_answers(
        "video_auto_tags",
        "video_auto with answers in <answer> tags, for models that know these, such as nano",
        "<answer>{}</answer>",
        "answers stand in tags; ",
    ),
    harness(
        "",
        "lmms-eval's shared parser with the wording of most of its tasks; for one task see lmms_eval/TASK",
        16,
        "lmms_eval",
        {"multiple_choice": f"{{question}}\n{{options}}\n{DIRECTLY}"},
        number="lmms_eval",
    ),
    harness(
        "videomme",
        "lmms-eval's task for Video-MME without subtitles",
        16,
        "lmms_eval",
        {
            "multiple_choice": f"{RESPOND} and the subtitles. Respond with only the letter (A, B, C, or D) of the "
            f"correct option.\n{{question}}\n{{options}}\n\n{DIRECTLY}"
        },
    ),
    harness(
        "mvbench",
        "lmms-eval's tasks for MVBench; an empty reply leaves the denominator",
        16,
        "lmms_eval_mvbench",
        {"multiple_choice": "Question:{question}\nOption:\n{options}\nOnly give the best option.\n"},
        option="({letter}) {option}",
        denominator="answered",
    ),
    harness(
        "tempcompass",
        "lmms-eval's task for the multiple-choice questions of TempCompass",
        16,
        "lmms_eval_tempcompass",
        {"multiple_choice": "{question}\n{options}\nPlease directly give the best option:"},
        "lmms-eval asks a language model where its rules fail, ours counts such a reply as wrong",
    ),
    harness(
        "mmvu",
        "lmms-eval's task mmvu_val",
        1024,
        "lmms_eval_mmvu",
        {
            "multiple_choice": "\nQuestion:{question}\n{options}\nVisual Information: processed video\nDo not generate "
            "any intermediate reasoning process. Answer directly with the option letter from the\ngiven choices.\n",
            "free_form": "\nQuestion:{question}\nVisual Information: processed video\nDo not generate any intermediate "
            "reasoning process. Directly output the final answer.\n",
        },
        "lmms-eval also counts a reply that holds the right letter or the right option's text anywhere; questions "
        "without options have a language model as judge there, and the reward open_ended here",
        option="{letter}: {option}",
    ),
    harness(
        "vsibench",
        "lmms-eval's task for VSI-Bench; its first-word parser reads no letter in a tag",
        16,
        "lmms_eval_vsibench",
        {
            "multiple_choice": f"These are frames of a video.\n{{question}}\nOptions:\n{{options}}\n{DIRECTLY}",
            "regression": "These are frames of a video.\n{question}\nPlease answer the question using a single word or "
            "phrase.",
        },
        number="lmms_eval",
        mra="<=",
    ),
    harness(
        "videommmu",
        "lmms-eval's tasks video_mmmu_perception and video_mmmu_comprehension",
        1024,
        "lmms_eval",
        {"multiple_choice": "{question}\n{options}\nPlease ignore the Quiz question in last frame of the video."},
    ),
    harness(
        "video_holmes",
        "lmms-eval's task for Video-Holmes; a reply without a letter gets a random one",
        64,
        "lmms_eval_random",
        {
            "multiple_choice": f"Question: {{question}}\n{{options}}\n{RESPOND}. Respond with only the letter (A, B, "
            "C, D, E, or F) of the correct option."
        },
    ),
    harness(
        "longvideobench",
        "lmms-eval's task longvideobench_val_v; a reply without a letter gets a random one",
        32,
        "lmms_eval_first",
        {"multiple_choice": f"{{question}}\n{{options}}\n{DIRECTLY}\n"},
    ),
    harness(
        "egoplan",
        "lmms-eval's tasks egoplan and egoplan2",
        4096,
        "lmms_eval_egoplan",
        {"multiple_choice": EGOPLAN},
        "lmms-eval words EgoPlan's question anew, with an image that it does not pass; ours is the benchmark's own",
    ),
)
PROTOCOLS: dict[str, Protocol] = {protocol.name: check_protocol(protocol) for protocol in _ALL}
