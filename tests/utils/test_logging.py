"""The bars of third-party libraries."""

import io

import transformers

from rlvid.utils import logging


def test_a_bar_of_transformers_is_shown_only_if_it_takes_long(monkeypatch):
    monkeypatch.setattr(logging.sys.stderr, "isatty", lambda: True, raising=False)
    was_active = transformers.logging.is_progress_bar_enabled()
    transformers.logging.enable_progress_bar()
    try:
        logging.silence_libraries()
        short, shown = io.StringIO(), io.StringIO()
        assert list(transformers.logging.tqdm(range(3), file=short)) == [0, 1, 2]
        assert list(transformers.logging.tqdm(range(3), file=shown, delay=0)) == [0, 1, 2]
        assert short.getvalue() == "" and "3/3" in shown.getvalue()
    finally:
        transformers.logging.set_tqdm_hook(None)
        if not was_active:
            transformers.logging.disable_progress_bar()
