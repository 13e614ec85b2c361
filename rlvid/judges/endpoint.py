"""A language model as a judge, behind any OpenAI-compatible endpoint.

Each prompt is sent once: replies are cached on disk, and all runs share the cache. A call that still fails after its
retries gives None and is counted; it is never a score of 0. The API key is read from the environment variable that
`judge.api_key_env` names, and is not written to any file or message.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track

from rlvid.config import JudgeConfig
from rlvid.errors import UserError

if TYPE_CHECKING:
    from openai import OpenAI

MAX_CACHED_REPLIES = 1_000_000  # when there are more, the oldest are deleted
MIN_KEY_LENGTH = 8  # a shorter key, such as "none" or "EMPTY", is no secret and is not masked
CHECK_PROMPT = "Reply with OK."
CHECK_TOKENS = 16
CHECK_RETRIES = 2
COUNTERS = ("calls", "cached", "failures", "prompt_tokens", "completion_tokens", "seconds")


def check_endpoint(config: JudgeConfig) -> None:
    """Raise UserError if `url` or `model` is not set."""
    if not config.url or not config.model:
        raise UserError(
            'a reward needs "judge": set an OpenAI-compatible endpoint and its model, such as '
            "judge.url=http://localhost:8000/v1 judge.model=Qwen/Qwen3-8B"
        )


class Judge:
    """Send prompts to a language model and return its replies.

    Raises UserError, when it is built, if `url` or `model` is not set or if the cache cannot be written.
    """

    def __init__(self, config: JudgeConfig) -> None:
        check_endpoint(config)
        self.config = config
        self.cache = ReplyCache(config)
        self.key = os.environ.get(config.api_key_env, "")
        self.counts = dict.fromkeys(COUNTERS, 0.0)
        self._lock = Lock()  # guards `counts` and lists of failures, which several threads change

    def __call__(self, prompts: Sequence[str]) -> list[str | None]:
        """Return the reply to each prompt, in order; None where the call failed. Equal prompts are sent once.

        Raises:
            UserError: if all new calls fail and none has worked yet, or if the cache fails. Empty replies beside cached
                ones are no error: the endpoint works, and the prompt would fail each time that a run is resumed.
        """
        replies = {prompt: self.cache.get(prompt) for prompt in dict.fromkeys(prompts)}
        new = [prompt for prompt, reply in replies.items() if reply is None]
        self.counts["cached"] += len(replies) - len(new)
        has_worked_before = self.counts["calls"] > 0
        failures: list[str] = []
        start = time.perf_counter()
        with self._client() as client, _thread_pool(self.config.concurrency) as pool:
            new_replies = pool.map(lambda prompt: self._send(client, prompt, failures), new)
            console = Console(stderr=True)
            show_progress = console.is_terminal and os.environ.get("RANK", "0") == "0"
            progress = track(new_replies, "judging", len(new), console=console, disable=not show_progress)
            for prompt, reply in zip(new, progress, strict=True):
                if reply is not None:
                    self.cache.put(prompt, reply)
                replies[prompt] = reply
        self.counts["seconds"] += time.perf_counter() - start
        works = has_worked_before or (self.counts["calls"] > 0 and len(new) < len(replies))
        if failures and not works and len(failures) == len(new):
            raise UserError(f"judge {self.config.model!r} at {self.config.url}: every call failed: {failures[0]}")
        return [replies[prompt] for prompt in prompts]

    def check(self) -> None:
        """Send one short request, which is neither cached nor counted, to see whether the endpoint answers.

        It is sent as all others are, but with two retries at most. Any chat completion is an answer, even an empty one:
        a model may spend so few tokens on thinking.

        Raises:
            UserError: if there is no answer, as when no server listens there, the key or the model is not accepted, or
                the openai package is not installed.
        """
        config = self.config
        retries, max_tokens = min(config.retries, CHECK_RETRIES), min(config.max_tokens, CHECK_TOKENS)
        trial = Judge(replace(config, retries=retries, max_tokens=max_tokens))  # it has counts of its own
        failures: list[str] = []
        with trial._client() as client:
            trial._send(client, CHECK_PROMPT, failures)
        if not trial.counts["calls"]:
            raise UserError(
                f"judge {config.model!r} at {config.url} does not answer: {failures[0].rstrip('.')}. Start its server, "
                f"or correct judge.url, judge.model or the key in ${config.api_key_env}"
            )

    def costs(self) -> dict[str, float]:
        """Return the totals so far: calls, cached replies, failures, tokens, seconds and dollars, as `judge/NAME`."""
        config, counts = self.config, self.counts
        input_cost = config.input_price * counts["prompt_tokens"]  # prices are in dollars per million tokens
        output_cost = config.output_price * counts["completion_tokens"]
        totals = counts | {"dollars": (input_cost + output_cost) / 1e6}
        return {f"judge/{name}": value for name, value in totals.items()}

    @contextmanager
    def _client(self) -> Iterator[OpenAI]:
        """Open a client. It retries with growing pauses, obeys `Retry-After`, and limits each attempt to `timeout`."""
        try:
            from openai import OpenAI
        except ModuleNotFoundError as error:
            raise UserError(
                "a judge needs the openai package: pip install -e '.[judge]' in the clone of rlvid"
            ) from error
        config = self.config
        with OpenAI(
            base_url=config.url, api_key=self.key or "none", timeout=config.timeout, max_retries=config.retries
        ) as client:
            yield client

    def _send(self, client: OpenAI, prompt: str, failures: list[str]) -> str | None:
        """Return the reply to one prompt. A failure is appended to `failures` and gives None."""
        from openai import OpenAIError

        config = self.config
        try:
            response = client.chat.completions.create(
                model=config.model,
                messages=[{"role": "user", "content": prompt}],
                temperature=config.temperature,
                max_tokens=config.max_tokens,
            )
            reply = response.choices[0].message.content
        # Besides the API's own errors: the response may not be a chat completion at all.
        except (OpenAIError, ValueError, LookupError, TypeError, AttributeError) as error:
            self._add_failure(failures, f"{type(error).__name__}: {error}")
            return None
        with self._lock:
            self.counts["calls"] += 1
            self.counts["prompt_tokens"] += response.usage.prompt_tokens if response.usage else 0
            self.counts["completion_tokens"] += response.usage.completion_tokens if response.usage else 0
        if not reply or not reply.strip():
            self._add_failure(failures, "an empty reply")
            return None
        return self._mask_key(_without_surrogates(reply))

    def _add_failure(self, failures: list[str], reason: str) -> None:
        with self._lock:
            self.counts["failures"] += 1
            failures.append(self._mask_key(reason))

    def _mask_key(self, text: str) -> str:
        """Return a text without the API key, because servers may quote what they receive."""
        return text.replace(self.key, "***") if len(self.key) >= MIN_KEY_LENGTH else text


def _without_surrogates(text: str) -> str:
    """Return a text with half a character, such as JSON's "\\ud83d" alone, replaced: no file can hold it."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@contextmanager
def _thread_pool(count: int) -> Iterator[ThreadPoolExecutor]:
    """Open a pool of `count` threads that is left at once, even by an exception.

    Calls that have not begun are dropped, and running ones are not waited for.
    """
    pool = ThreadPoolExecutor(count)
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


class ReplyCache:
    """Replies by endpoint, model, sampling settings and prompt, in one SQLite file that all runs share.

    Raises UserError if the file cannot be read or written, when it is built and later.
    """

    def __init__(self, config: JudgeConfig) -> None:
        folder = config.cache_dir or os.environ.get("RLVID_CACHE") or Path.home() / ".cache" / "rlvid"
        self.path = Path(folder).expanduser() / "judge.sqlite"
        self.settings = config.url, config.model, config.temperature, config.max_tokens
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise self._error(error) from error
        with self._connect() as database:
            database.execute("create table if not exists replies (key text primary key, reply text)")

    def get(self, prompt: str) -> str | None:
        """Return the cached reply to a prompt, or None."""
        with self._connect() as database:
            row = database.execute("select reply from replies where key = ?", (self._key(prompt),)).fetchone()
        return row[0] if row else None

    def put(self, prompt: str, reply: str) -> None:
        """Cache the reply to a prompt."""
        with self._connect() as database:
            database.execute("insert or replace into replies values (?, ?)", (self._key(prompt), reply))
            database.execute(
                "delete from replies where rowid <= (select max(rowid) from replies) - ?", (MAX_CACHED_REPLIES,)
            )

    def _key(self, prompt: str) -> str:
        return hashlib.sha256(repr((*self.settings, prompt)).encode()).hexdigest()

    @contextmanager
    def _connect(self) -> Iterator[sqlite3.Connection]:
        """Open the database for one transaction, and close it."""
        try:
            with closing(sqlite3.connect(self.path, timeout=60)) as database, database:
                yield database
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _error(self, error: Exception) -> UserError:
        return UserError(f"judge cache {self.path}: {error}; set judge.cache_dir to another folder, or remove the file")
