"""For rewards that a language model judges: enclose a policy's text in a prompt, send all prompts, read the replies."""

import hashlib
import re
from collections.abc import Sequence

from rlvid.answer import LETTERS
from rlvid.types import Group


def fence(text: str) -> tuple[str, str]:
    """Return a text between two equal lines that it cannot contain, and that line.

    The line is made of the text's own hash, so whoever writes the text would have to know the hash of what they write
    to break out of the frame.
    """
    line = f"[{hashlib.sha256(text.encode()).hexdigest()[:16]}]"
    return f"{line}\n{text}\n{line}", line


def remove_chat_markup(text: str) -> str:
    """Return a text in which no tokenizer finds a chat marker: a space breaks up `<|im_end|>`, `</s>` and `[INST]`."""
    return re.sub(r"<(?=\S)|\[(?=/?[A-Z_]+\])", r"\g<0> ", text)


def judge_replies(groups: Sequence[Group], prompts: Sequence[Sequence[str | None]]) -> dict[str, str | None]:
    """Return prompt -> the judge's reply, None if the call failed. All prompts are sent in one call, each of them once.

    Args:
        groups: whose evidence holds the judge.
        prompts: in rows of any length; None where nothing is to be judged.
    """
    to_send = list(dict.fromkeys(prompt for row in prompts for prompt in row if prompt))
    if not to_send:
        return {}
    judge = groups[0].evidence["judge"]
    send = getattr(judge, "call_unlogged", judge)  # rewards record the prompts and replies of their own groups
    return dict(zip(to_send, send(to_send), strict=True))


def read_yes_no(reply: str | None) -> bool | None:
    """Return what a reply says, None if the call failed or the reply is neither YES nor NO.

    >>> read_yes_no("Yes."), read_yes_no("NO"), read_yes_no("No doubt"), read_yes_no(None)
    (True, False, None, None)
    """
    match = re.fullmatch(r"\W*(YES|NO)\W*", (reply or "").strip(), re.IGNORECASE)
    return None if match is None else match[1].upper() == "YES"


def read_letter(reply: str | None, options: Sequence[str]) -> str | None:
    """Return the option that a reply names, "NONE" for none, and None if the call failed or it says another thing.

    >>> read_letter("(b)", ["tea", "milk"]), read_letter("None.", ["tea", "milk"]), read_letter("C", ["tea", "milk"])
    ('B', 'NONE', None)
    """
    match = re.fullmatch(r"\W*([A-Z]|NONE)\W*", (reply or "").strip(), re.IGNORECASE)
    named = match[1].upper() if match else ""
    return named if named == "NONE" or named in [*LETTERS[: len(options)]] else None
