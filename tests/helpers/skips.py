"""The end of a test run: which tests were skipped, why, and how to enable them."""

from collections import Counter

# part of a skip reason -> how to enable the test
HOW_TO_ENABLE = {
    "chromium": "make system (Debian packages, as root)",
    "axe-core": "make axe (npm)",
    "munged": "make system (Debian packages, as root)",
    "C compiler": "make system (Debian packages, as root)",
    "no zsh": "make system (Debian packages, as root)",
    "no fish": "make system (Debian packages, as root)",
    "root": "run the tests as root",
    "vllm": "make test-vllm (an environment of its own), or pip install 'vllm>=0.32'",
    "torchvision": "pip install torchvision",
    "num2words": "pip install num2words",
    "selenium": "pip install selenium",
    "language model": "python -m rlvid.probes.language_model (downloads 0.5 GB, takes 3 GB)",
    "lmms-eval": "pip install lmms-eval, in an environment of its own",
    "Linux": "run the tests on Linux",
}


def skip_lines(reports):
    """Return one line per skip reason, with the number of tests and how to enable them.

    Args:
        reports: pytest's reports of skipped tests. Every worker of pytest-xdist reports a skipped module; it counts
            once.
    """
    reasons = {report.nodeid: report.longrepr[2].removeprefix("Skipped: ") for report in reports}
    lines = []
    for reason, count in Counter(reasons.values()).most_common():
        hints = [hint for part, hint in HOW_TO_ENABLE.items() if part in reason]
        lines.append(f"{count:>4}  {reason}" + (f". To enable: {hints[0]}" if hints else ""))
    return lines
