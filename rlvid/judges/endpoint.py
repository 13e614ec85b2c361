"""A language model that judges: any OpenAI-compatible endpoint, each question asked once, replies kept on disk.

The key is read from the environment variable that `judge.api_key_env` names, and is written nowhere. A call that fails,
after its retries with growing pauses, is None and counted, never a score of 0.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track

from rlvid import config as settings
from rlvid.errors import UserError

if TYPE_CHECKING:
    from openai import OpenAI

KEPT = 1_000_000  # replies; the oldest go first
SECRET = 8  # letters; a shorter key, such as "none" or "EMPTY", keeps nobody out


class Judge:
    """Asks for replies to prompts; UserError if the endpoint cannot be used at all."""

    def __init__(self, config: settings.JudgeConfig) -> None:
        if not config.url or not config.model:
            raise UserError(
                'a reward needs "judge": name an OpenAI-compatible endpoint and its model, such as '
                "judge.url=http://localhost:8000/v1 judge.model=Qwen/Qwen3-8B"
            )
        self.config, self.replies, self.lock = config, Replies(config), Lock()
        self.key = os.environ.get(config.api_key_env, "")
        self.counts = dict.fromkeys(
            ("calls", "cached", "failures", "prompt_tokens", "completion_tokens", "seconds"), 0.0
        )

    def __call__(self, prompts: Sequence[str]) -> list[str | None]:
        """The reply to each prompt, in order; None where the call failed."""
        known = {prompt: self.replies.get(prompt) for prompt in dict.fromkeys(prompts)}
        new = [prompt for prompt, reply in known.items() if reply is None]
        self.counts["cached"] += len(known) - len(new)
        start, before, failures = time.perf_counter(), self.counts["calls"], list[str]()
        with self.client() as client, waiting_for_none(self.config.concurrency) as pool:
            answers = pool.map(lambda prompt: self._ask(client, prompt, failures), new)
            console = Console(stderr=True)
            quiet = not console.is_terminal or os.environ.get("RANK", "0") != "0"
            for prompt, reply in zip(
                new, track(answers, "judging", len(new), console=console, disable=quiet), strict=True
            ):
                if reply is not None:
                    self.replies.put(prompt, reply)
                known[prompt] = reply
        self.counts["seconds"] += time.perf_counter() - start
        if failures and before == 0 and len(failures) == len(new):
            raise UserError(f"judge {self.config.model!r} at {self.config.url}: every call failed: {failures[0]}")
        return [known[prompt] for prompt in prompts]

    def costs(self) -> dict[str, float]:
        """What it took so far: `judge/calls`, `judge/failures`, tokens, seconds, dollars."""
        prices = self.config.input_price, self.config.output_price
        tokens = self.counts["prompt_tokens"], self.counts["completion_tokens"]
        dollars = sum(price * count for price, count in zip(prices, tokens, strict=True)) / 1e6
        return {f"judge/{name}": value for name, value in (self.counts | {"dollars": dollars}).items()}

    @contextmanager
    def client(self) -> Iterator[OpenAI]:
        """A connection; it retries by itself, waits as `Retry-After` says, and gives up after `timeout` each time."""
        try:
            from openai import OpenAI
        except ModuleNotFoundError as error:
            raise UserError("a judge is asked through the openai package: pip install 'rlvid[judge]'") from error
        config = self.config
        with OpenAI(
            base_url=config.url, api_key=self.key or "none", timeout=config.timeout, max_retries=config.retries
        ) as client:
            yield client

    def _ask(self, client: OpenAI, prompt: str, failures: list[str]) -> str | None:
        from openai import OpenAIError

        config = self.config
        try:
            answer = client.chat.completions.create(
                model=config.model,
                messages=[{"role": "user", "content": prompt}],
                temperature=config.temperature,
                max_tokens=config.max_tokens,
            )
            reply = answer.choices[0].message.content
        except (
            OpenAIError,
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
        ) as error:  # or no chat completion at all
            return self._failed(failures, f"{type(error).__name__}: {error}")
        with self.lock:
            self.counts["calls"] += 1
            self.counts["prompt_tokens"] += answer.usage.prompt_tokens if answer.usage else 0
            self.counts["completion_tokens"] += answer.usage.completion_tokens if answer.usage else 0
        return self._without_key(reply) if reply else self._failed(failures, "an empty reply")

    def _failed(self, failures: list[str], why: str) -> str | None:
        with self.lock:
            self.counts["failures"] += 1
            failures.append(self._without_key(why))
        return None

    def _without_key(self, text: str) -> str:
        """Servers quote what they were sent."""
        return text.replace(self.key, "***") if len(self.key) >= SECRET else text


@contextmanager
def waiting_for_none(count: int) -> Iterator[ThreadPoolExecutor]:
    """So many threads. Who is interrupted does not wait for what they are at; what is not begun is dropped."""
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class Replies:
    """Replies by model, settings and prompt, in one SQLite file that all runs share."""

    def __init__(self, config: settings.JudgeConfig) -> None:
        folder = config.cache_dir or os.environ.get("RLVID_CACHE") or Path.home() / ".cache" / "rlvid"
        self.path = Path(folder).expanduser() / "judge.sqlite"
        self.origin = config.url, config.model, config.temperature, config.max_tokens
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._open() as base:
                base.execute("create table if not exists replies (key text primary key, reply text)")
        except (OSError, sqlite3.Error) as error:
            raise UserError(f"judge cache {self.path}: {error}; set judge.cache_dir to another folder") from error

    def get(self, prompt: str) -> str | None:
        """What was replied to the prompt, None if it was never asked."""
        with self._open() as base:
            row = base.execute("select reply from replies where key = ?", (self._key(prompt),)).fetchone()
        return row[0] if row else None

    def put(self, prompt: str, reply: str) -> None:
        """Keep a reply."""
        with self._open() as base:
            base.execute("insert or replace into replies values (?, ?)", (self._key(prompt), reply))
            base.execute("delete from replies where rowid <= (select max(rowid) from replies) - ?", (KEPT,))

    def _key(self, prompt: str) -> str:
        return hashlib.sha256(repr((*self.origin, prompt)).encode()).hexdigest()

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=60)) as base, base:
            yield base
