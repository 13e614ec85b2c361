"""A protocol: all that turns a benchmark's question into a figure, as one named object with its source.

Two papers that evaluate the same weights on the same questions can differ by several points, because their prompts,
frames, decoding and parsers differ. A figure is comparable with a published one only under its protocol.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import tomli_w

from rlvid.answer import LETTERS, block, extract_thought, format_question, mean_relative_accuracy, parse_number
from rlvid.errors import UserError
from rlvid.protocols.extraction import EXTRACTIONS, extract, number_of, text_of
from rlvid.utils.text import plain_words

DENOMINATORS = {
    "all": "every question counts; one whose clip cannot be read, or whose reply names no answer, counts as wrong",
    "readable": "questions whose clips cannot be read are left out",
    "answered": "questions with an empty reply, or whose clips cannot be read, are left out",
}
KINDS = ("multiple_choice", "numerical", "regression", "free_form")  # of questions
NUMERIC = ("numerical", "regression")
INEQUALITIES = ("<", "<=")

_PLACEHOLDER = re.compile(r"{(question|options)}")


@dataclass(frozen=True)
class Protocol:
    """How questions are put to a model, how its replies are read, and what is counted.

    Attributes:
        name: "rlvid", "video_r1", .., or the path of a TOML file.
        text: what it is, in one line.
        source: the code and the paper that it follows, with the commit or version that was read.
        differences: in what it still differs from the source.
        prompt: kind of question (see `KINDS`) -> the text that the model reads, with {question} and {options}. Empty:
            the wording of SEED-Bench-R1 for every kind.
        option: the line of one option, with {letter} and {option}.
        settings: config key -> value: decoding, frames and pixels. Empty: those of the run's own config.
        extraction: how a letter is read from a reply, a key of `EXTRACTIONS`.
        number: how a number or a text is read: "strict" from the only `<answer>` block, "video_r1", or "lmms_eval", the
            first number or the whole text of the reply.
        mra: the inequality of the mean relative accuracy, "<" or "<=".
        denominator: which questions count, a key of `DENOMINATORS`.
    """

    name: str
    text: str = ""
    source: str = ""
    differences: str = ""
    prompt: Mapping[str, str] = field(default_factory=dict)
    option: str = "{letter}. {option}"
    settings: Mapping[str, Any] = field(default_factory=dict)
    extraction: str = "strict"
    number: str = "strict"
    mra: str = "<="
    denominator: str = "all"

    def format(self, question: str, options: Sequence[str], kind: str = "") -> str:
        """Return the text of a prompt.

        Args:
            question: the question alone.
            options: without letters; () for a question without options.
            kind: of a question without options, one of `KINDS`; "" means "free_form".

        Raises:
            UserError: if the protocol has no wording for such questions.
        """
        if not self.prompt:
            return format_question(question, options)
        kind = "multiple_choice" if options else kind or "free_form"
        if kind not in self.prompt:
            raise UserError(
                f"protocol {self.name!r} has no wording for {kind} questions such as {question[:60]!r}: leave them out "
                "with `where` in the TOML file of the benchmark, or use another protocol"
            )
        lines = [
            self.option.replace("{letter}", letter).replace("{option}", option)
            for letter, option in zip(LETTERS, options, strict=False)
        ]
        values = {"question": question, "options": "\n".join(lines)}
        return _PLACEHOLDER.sub(lambda match: values[match[1]], self.prompt[kind])

    def demonstration(self, reply: str) -> str:
        """Return a demonstration in the form that the protocol asks for: of two answers, the first one is added.

        A reply without one thought and one answer stays as it is.

        >>> Protocol("p", extraction="two_answers").demonstration("<think>It runs.</think><answer>B</answer>")
        '<answer>B</answer><think>It runs.</think><answer>B</answer>'
        """
        thought, answer = extract_thought(reply), block(reply)
        if self.extraction != "two_answers" or thought is None or answer is None:
            return reply
        boxed = any("\\boxed{" in text for text in self.prompt.values())
        mark = f"\\boxed{{{answer.strip()}}}" if boxed else f"<answer>{answer}</answer>"
        return f"{mark}<think>{thought}</think>{mark}"

    def answer(self, reply: str, options: Sequence[str]) -> str | None:
        """Return the letter that a reply answers with under this protocol, or None."""
        return extract(self.extraction, reply, options)

    def free_form(self, reply: str, gold: str) -> tuple[str | None, bool]:
        """Return the text that a reply answers a free-form question with, and whether it has the gold answer's words.

        Case, articles, white space and punctuation around words make no difference.
        """
        text = text_of(self.number, reply)
        return text, text is not None and plain_words(text) == plain_words(gold)

    def score(self, reply: str, gold: str, kind: str) -> float:
        """Return the score of a reply to a question whose answer is a number, from 0 to 1.

        "regression" is scored by the mean relative accuracy; "numerical" by equality to two decimals, where both
        numbers or neither must have a decimal point, as in Video-R1; lmms-eval reads a number without its form.
        """
        text = number_of(self.number, reply)
        number, true = parse_number(text or ""), parse_number(gold)
        if number is None or true is None:
            return 0.0
        if kind == "regression":
            return mean_relative_accuracy(number, true, self.mra)
        same_form = self.number == "lmms_eval" or any(mark in (text or "") for mark in ".,") == any(
            mark in gold for mark in ".,"
        )
        return float(same_form and round(number, 2) == round(true, 2))

    def counts(self, reply: str, unread: bool = False) -> bool:
        """Return whether a question is in the denominator; `unread` if its clip could not be read."""
        if self.denominator == "all":
            return True
        return not unread and (self.denominator == "readable" or bool(reply.strip()))

    def to_toml(self) -> str:
        """Return the protocol as TOML, in the form that `load_protocol` reads."""
        keys = ("text", "source", "differences", "extraction", "number", "mra", "denominator")
        table: dict[str, Any] = {key: getattr(self, key) for key in keys}
        if self.prompt:
            table |= {"option": self.option, "prompt": dict(self.prompt)}
        for key, value in self.settings.items():
            section, _, name = key.partition(".")
            table.setdefault(section, {})[name] = "" if value is None else value
        return tomli_w.dumps(table, multiline_strings=True)


def check_protocol(protocol: Protocol) -> Protocol:
    """Return a protocol. Raises UserError for a value that does not exist."""
    allowed = {
        "extraction": tuple(EXTRACTIONS),
        "number": ("strict", "video_r1", "lmms_eval"),
        "mra": INEQUALITIES,
        "denominator": tuple(DENOMINATORS),
    }
    for key, values in allowed.items():
        if getattr(protocol, key) not in values:
            raise UserError(f"protocol {protocol.name!r}: {key} must be one of {', '.join(values)}")
    for kind, template in protocol.prompt.items():
        if kind not in KINDS:
            raise UserError(f"protocol {protocol.name!r}: prompt.{kind}: no such kind of question: {', '.join(KINDS)}")
        if "{question}" not in template:
            raise UserError(f"protocol {protocol.name!r}: prompt.{kind} must hold {{question}}")
    if "{options}" not in protocol.prompt.get("multiple_choice", "{options}"):
        raise UserError(
            f"protocol {protocol.name!r}: prompt.multiple_choice must hold {{options}}: the model would not see them"
        )
    if "{option}" not in protocol.option:
        raise UserError(f'protocol {protocol.name!r}: option must hold {{option}}, such as "{{letter}}. {{option}}"')
    return protocol


DEFAULT = Protocol(
    "rlvid",
    "the wording of SEED-Bench-R1, the settings of the config, the strict parser, every question counts",
    "wording: TencentARC/SEED-Bench-R1 12e8fcc, infer.py (arXiv:2503.24376); parser: rlvid.answer.parse",
)
