"""A parser of command lines whose errors are one line: what is wrong, and what was probably meant."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from rlvid.errors import UserError


class Collect(argparse.Action):
    """Collects the values of an option that is given several times; the first ones replace the default."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: str | None = None
    ) -> None:
        """Store the values, or add them to those that are stored already."""
        before = getattr(namespace, self.dest)
        setattr(namespace, self.dest, [*([] if before is self.default else before), *values])


class ArgumentParser(argparse.ArgumentParser):
    """`argparse.ArgumentParser` that raises UserError, with a suggestion, instead of printing its usage.

    An option of several values may be given several times: `--only a b` and `--only a --only b` are the same.

    Attributes:
        option_hint: called with an unknown option and the argument after it, such as ("--steps", "3"); returns the end
            of the error message, or "".
    """

    option_hint: Callable[[str, str], str] = staticmethod(lambda option, value: "")

    def add_argument(self, *names: str, **settings: Any) -> argparse.Action:
        """Add an argument as argparse does; an option of several values collects them."""
        if names[0].startswith("-") and settings.get("nargs") in ("+", "*"):
            settings["action"] = Collect
        return super().add_argument(*names, **settings)

    @property
    def _command(self) -> str:
        """The command in messages, which begin with `rlvid: ` anyway."""
        return self.prog.removeprefix("rlvid ")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse arguments; assignments may stand on both sides of options. Unknown arguments raise UserError."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if isinstance(getattr(parsed, "overrides", None), list):
            assignments = [argument for argument in unknown if "=" in argument and not argument.startswith("-")]
            parsed.overrides = [*parsed.overrides, *self._taken_assignments(parsed), *assignments]
            unknown = [argument for argument in unknown if argument not in assignments]
        if unknown:
            self._refuse(unknown)
        return parsed, unknown

    def _taken_assignments(self, parsed: argparse.Namespace) -> list[str]:
        """Remove assignments from options of several values, which take what stands after them, and return them."""
        taken: list[str] = []
        for action in self._actions:
            if isinstance(action, Collect) and "=" not in str(action.metavar):  # else its values are assignments
                values = getattr(parsed, action.dest, None) or ()
                taken += [value for value in values if "=" in value]
                setattr(parsed, action.dest, [value for value in values if "=" not in value])
        return taken

    def _refuse(self, unknown: Sequence[str]) -> NoReturn:
        """Raise UserError for the first unknown option, or for the first argument too many."""
        options = [number for number, argument in enumerate(unknown) if argument.startswith("-")]
        if not options:
            raise UserError(f"{self._command}: one argument too many: {unknown[0]!r}. See {self.prog} --help")
        first = options[0]
        option, _, value = unknown[first].partition("=")
        value = value or next((argument for argument in unknown[first + 1 : first + 2] if argument[:1] != "-"), "")
        nearest = get_close_matches(option, self._option_string_actions, n=1, cutoff=0.7)
        hint = f". Did you mean {nearest[0]}?" if nearest else self.option_hint(option, value)
        raise UserError(f"{self._command}: no option {option!r}{hint or f'. See {self.prog} --help'}")

    def error(self, message: str) -> NoReturn:
        """Raise UserError for anything else that argparse refuses, such as a missing argument."""
        raise UserError(f"{self._command}: {message}. See {self.prog} --help")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Refuse a value that is none of an argument's choices, and name the nearest one."""
        if action.choices is None or value in action.choices:
            return
        choices = [str(choice) for choice in action.choices]
        nearest = get_close_matches(str(value), choices, n=1)
        question = f" Did you mean {nearest[0]!r}?" if nearest else ""
        name = str(action.metavar or action.dest).lower()
        raise UserError(f"{self._command}: no {name} {value!r}.{question} Known: {', '.join(choices)}.")
