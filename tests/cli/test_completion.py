"""Completion in bash, zsh and fish: each shell reads the lines of `rlvid completion` and completes a command."""

import os
import shutil
import subprocess
import sys

import pytest

ROOT_CASES = [
    ("rlvid tr", {"train"}),
    ("rlvid train nano_", {"nano_sft"}),
    ("rlvid train nano train.max_st", {"train.max_steps="}),
    ("rlvid train nano algorithm=dr_g", {"algorithm=dr_grpo"}),
    ("rlvid train nano --res", {"--resume"}),
    ("rlvid list algorithms pp", {"ppo"}),
    ("rlvid list config train.max_st", {"train.max_steps"}),
    ("rlvid grid exp", {"experiments/"}),
]
SCRIPTS = {
    "bash": """
        eval "$(rlvid completion bash)"
        COMP_LINE="$1"; COMP_POINT=${#1}; COMP_TYPE=9
        _python_argcomplete rlvid; printf '%s\\n' "${COMPREPLY[@]}" """,
    "zsh": """
        autoload -U compinit && compinit -u -D; eval "$(rlvid completion zsh)"
        BUFFER="$1"; CURSOR=${#1}; words=(${=1})
        _describe() { print -l -- ${(P)2} }; _python_argcomplete""",
    "fish": 'rlvid completion fish | source; complete -C "$argv[1]"',
}


@pytest.fixture
def environment(tmp_path):
    """An environment whose PATH finds this checkout's `rlvid`."""
    command = tmp_path / "rlvid"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m rlvid "$@"\n')
    command.chmod(0o755)
    return os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": str(tmp_path), "TERM": "dumb"}


@pytest.mark.parametrize("shell", list(SCRIPTS))
def test_a_shell_completes_commands_presets_keys_and_names(shell, environment):
    if not shutil.which(shell):
        pytest.skip(f"no {shell}")
    for line, expected in ROOT_CASES:
        arguments = ["-c", SCRIPTS[shell], line] if shell == "fish" else ["-c", SCRIPTS[shell], shell, line]
        done = subprocess.run([shell, *arguments], capture_output=True, text=True, env=environment, timeout=60)
        words = {word.partition("\t")[0].partition(":")[0].strip() for word in done.stdout.splitlines()}
        if shell == "bash" and "=" in line:  # bash splits words at "="
            expected = {word.partition("=")[2] for word in expected}
        assert expected <= words, (line, done.stdout, done.stderr)


@pytest.mark.parametrize("shell", list(SCRIPTS))
def test_the_first_line_says_how_to_switch_it_on(shell, environment):
    done = subprocess.run(["rlvid", "completion", shell], capture_output=True, text=True, env=environment)
    first = done.stdout.splitlines()[0]
    assert done.returncode == 0 and first.startswith("# ") and f"rlvid completion {shell}" in first
