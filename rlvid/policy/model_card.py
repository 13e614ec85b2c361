"""The README.md of an exported model: how other tools get the accuracy that `rlvid eval` measures."""

from __future__ import annotations

from rlvid.answer import INSTRUCTION
from rlvid.config import Config
from rlvid.policy.families import Family
from rlvid.policy.processor_files import frame_pixels
from rlvid.protocols import DEFAULT

CARD = """\
# A model trained with rlvid

`rlvid eval {folder}` measures it with the settings of its run, which are in `rlvid.toml`. To get the same accuracy
with another tool, give it the same input:

- **Processors.** Those in this folder. The published model's resize frames to other sizes, and then the model reads
  another number of visual tokens than it was trained with.
- **Frames.** {frames}
- **Message.** One user message: the video, then the image, then the text. No system message beside that of the chat
  template.
- **Text.** The question, one line `A. text` for each option, and after it on a line of its own, with a space before
  and after: `{instruction}`
- **Decoding.** {decoding}, at most {tokens} tokens, no repetition penalty. `generation_config.json` says so to
  `generate`; vLLM has to be told the temperature.
- **Answer.** The one option that `<answer>` names, by its letter, its text or both.{protocol}

```python
model = AutoModelForImageTextToText.from_pretrained("{folder}")
processor = AutoProcessor.from_pretrained("{folder}")
chat = processor.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
inputs = processor(text=[chat], videos=[frames], images=[image], do_sample_frames=False, return_tensors="pt")
model.generate(**inputs)                                                      # transformers

SamplingParams(temperature={temperature:g}, {top_p}max_tokens={tokens})  # vLLM, generate or chat
```

lmms-eval: `rlvid export --lmms-eval-task TASKS` writes a task with these words and frames. Some of its models compute
in bfloat16 and have sizes of their own: give them `min_pixels={fewest},max_pixels={most}`. Its models of Qwen2.5-VL
take frames that they are given as 2 per second, whatever they are.
"""
FIXED = "{count}, evenly spaced from the first to the last, each resized to {height} x {width} before the processor."
FREE = "{count}, evenly spaced from the first to the last; the processor resizes them."
PROTOCOL = """
- **Protocol.** The run is evaluated under `{name}`, whose wording and way to read answers hold instead of these:
  `rlvid list protocols {name}`."""
COUNT = "{fps:g} per second, an even number from {min_frames} to {max_frames}"
CLOCK = " Their times are needed, too: pass `video_metadata`."


def model_card(folder: str, config: Config, family: Family) -> str:
    """Return the text of README.md.

    Args:
        folder: the exported folder, as it is written in commands.
        config: that of its evaluation.
        family: the model's.
    """
    video, temperature = config.video, config.eval.temperature
    fewest, most = frame_pixels(video, family) if family.packs_rows else (video.min_pixels, video.max_pixels)
    count = COUNT.format(fps=video.fps, min_frames=video.min_frames, max_frames=video.max_frames)
    top_p = config.eval.top_p
    sampled = temperature and top_p < 1
    top = f" and top_p {top_p:g}" if sampled else ""
    fixed = video.resized_height and video.resized_width
    frames = (FIXED if fixed else FREE).format(count=count, height=video.resized_height, width=video.resized_width)
    return CARD.format(
        folder=folder,
        frames=frames + (CLOCK if family.name in ("Qwen2.5-VL", "Qwen3-VL") else ""),
        instruction=INSTRUCTION.strip(),
        decoding=f"Sampled at temperature {temperature:g}{top}" if temperature else "Greedy",
        temperature=temperature,
        fewest=fewest,
        most=most,
        tokens=config.eval_max_tokens,
        top_p=f"top_p={top_p:g}, " if sampled else "",
        protocol=PROTOCOL.format(name=name) if (name := config.eval.protocol) != DEFAULT.name else "",
    )
