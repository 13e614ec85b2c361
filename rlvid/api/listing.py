"""What `rlvid list` lists: names with a line each, and what there is to know about each name.

The line of a plug-in is the first line of its docstring. Its fields are those of a dataclass, inherited ones too, or
the keyword-only parameters of a function.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import tomli_w

from rlvid.api.outside_plugins import is_outside, read_outside
from rlvid.bench.gpu.parts import PARTS
from rlvid.config import Config, ConfigKey, config_keys
from rlvid.errors import UserError
from rlvid.nano.conditions import CONDITIONS
from rlvid.probes.verdicts import THRESHOLDS, false_alarms
from rlvid.protocols import EXTRACTIONS, PROTOCOLS
from rlvid.protocols.base import DENOMINATORS
from rlvid.registry import available, plugin_file, suggest
from rlvid.utils.plugin_source import PluginField, module_file, read_plugin, read_source


@dataclass(frozen=True)
class Description:
    """A name that a config or a reward can use."""

    name: str
    text: str  # one line
    source: str  # file:line
    fields: Mapping[str, PluginField] = field(default_factory=dict)
    documentation: str = ""  # its docstrings in full
    usage: str = ""  # a command or a line that uses it


def list_plugins(kind: str) -> list[Description]:
    """Describe every plug-in of a folder; `kind` is "rewards" or "algorithms"."""
    return [_describe_plugin(kind, name) for name in available(kind)]


def _describe_plugin(kind: str, name: str) -> Description:
    outside = is_outside(name)
    plugin = read_outside(name) if outside else read_plugin(kind, name)
    source = f"{plugin_file(name) if outside else f'{kind}/{plugin.file}'}:{plugin.line}"
    if outside and kind == "rewards":
        usage = f"rlvid train nano 'rewards.\"{name}\"=0.1'"
        return Description(name, plugin.text, source, plugin.fields, plugin.documentation, usage)
    usage = f"rlvid train nano rewards.{name}=0.1" if kind == "rewards" else f"rlvid train nano algorithm={name}"
    if example := next((key for key, field in plugin.fields.items() if field.own or kind == "rewards"), None):
        prefix = f"rewards.{name}" if kind == "rewards" else "algorithm"
        usage += f" {prefix}.{example}={_in_toml(plugin.fields[example].default)}"
    return Description(name, plugin.text, source, plugin.fields, plugin.documentation, usage)


def list_presets() -> list[Description]:
    """Describe the shipped presets by the comment in their first line."""
    rows = []
    for path in sorted((module_file("experiments").parent / "presets").glob("*.toml")):
        content = path.read_text()
        text = content.partition("\n")[0].lstrip("# ")
        usage = f"rlvid train {path.stem}        all keys with their defaults: rlvid config {path.stem}"
        rows.append(Description(path.stem, text, f"presets/{path.name}", documentation=content, usage=usage))
    return rows


def list_views() -> list[Description]:
    """Describe the altered views of a clip."""
    from rlvid.video.views import VIEWS

    source = f"video/{module_file('rlvid.video.views').name}"
    texts = {name: inspect.getdoc(view) or "" for name, view in VIEWS.items()}
    return [
        Description(
            name,
            text.partition("\n")[0],
            source,
            documentation=text,
            usage=f"rlvid eval RUN 'eval.views=[\"{name}\"]'        in a reward: needs view:{name}",
        )
        for name, text in texts.items()
    ]


def list_noises() -> list[Description]:
    """Describe every kind of noise, with its fields."""
    from rlvid.noise.apply import NOISES

    rows = []
    for name, kind in NOISES.items():
        parsed = read_source(kind.__module__).plugin(kind.__name__)
        text = inspect.getdoc(kind) or ""
        rate = " noise.rate=0.2" if "rate" in parsed.fields else ""
        usage = f"rlvid train nano noise.kind={name}{rate}"
        source = f"noise/{parsed.file}:{parsed.line}"
        rows.append(Description(name, text.partition("\n")[0], source, parsed.fields, text, usage))
    return rows


def list_benchmarks() -> list[Description]:
    """Describe the values that `data` and `eval.transfer` can have in a config."""
    known = (
        ("kitchen", "the embedded benchmark: short mp4 clips of a cook, levels L1 to L3", "kitchen"),
        ("kitchen/small", "the first records of each level of kitchen, for tests and first tries", "kitchen"),
        ("kitchen/skewed", "kitchen, but in train, L1 and dev the answer is the first step in 7 of 10", "kitchen"),
        ("kitchen/balanced", "kitchen/skewed with the training data of kitchen: what looking can reach", "kitchen"),
        ("kitchen_long", "the embedded transfer benchmark: longer films, levels 15s and 60s", "kitchen_long"),
        ("FOLDER", "the layout of SEED-Bench-R1, recognized by annotations/", "seed_bench_r1"),
        ("FOLDER", "the layout of LongVideoBench, recognized by lvb_val.json; levels 15s to 3600s", "longvideobench"),
        ("FILE.toml", "any questions with options, by a map of their fields", "multiple_choice"),
    )
    rows = []
    for name, text, module in known:
        documentation = read_source(f"rlvid.data.{module}").documentation
        usage = f"rlvid train nano data={name}        check it first: rlvid data check {name}"
        rows.append(Description(name, text, f"data/{module}.py", documentation=documentation, usage=usage))
    return rows


def list_conditions() -> list[Description]:
    """Describe the conditions: what each is for, and what was measured of its base model."""
    rows = []
    for condition in CONDITIONS.values():
        text = condition.purpose + (f". Base: {condition.figures}" if condition.figures else "")
        fields = {key: PluginField("", getattr(condition, key)) for key in ("model", "data")}
        usage = " ".join(
            ("rlvid train nano", f"model={condition.model}", f"data={condition.data}", *condition.overrides)
        )
        command = f"Pretraining: python -m rlvid.nano.model OUT --condition {condition.name} --seed 0"
        if condition.figures:
            command = f"Figures are on L1 / L2 / L3. {command}"
        rows.append(Description(condition.name, text, "nano/conditions.py", fields, f"{text}\n\n{command}", usage))
    return rows


def list_evidence() -> list[Description]:
    """Describe every kind of evidence, by the `@evidence(...)` decorators in the source."""
    file = read_source("rlvid.trainer.evidence_kinds")
    rows = []
    for node in file.definitions():
        for call in node.decorator_list:
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "evidence":
                name = ast.literal_eval(call.args[0])
                options = {str(option.arg): PluginField("", ast.unparse(option.value)) for option in call.keywords}
                text = ast.get_docstring(node) or ""
                need = {"view": "view:shuffled", "view_logps": "view_logps:blank"}.get(name, name)
                usage = f'needs = frozenset({{"{need}"}}), then group.evidence["{need}"] in a reward'
                source = f"trainer/{file.path.name}:{node.lineno}"
                rows.append(Description(name, text.partition("\n")[0], source, options, text, usage))
    return rows


def list_protocols() -> list[Description]:
    """Describe the protocols of an evaluation: prompt, settings, parser and denominator, each with its source."""
    rows = []
    for name, protocol in PROTOCOLS.items():
        rules = f"parser: {EXTRACTIONS[protocol.extraction].text}\ndenominator: {DENOMINATORS[protocol.denominator]}"
        example = protocol.format("QUESTION", ("OPTION", "OPTION"))
        differs = f"differs from it: {protocol.differences}" if protocol.differences else ""
        parts = (
            protocol.text,
            f"source: {protocol.source}",
            *filter(None, [differs]),
            rules,
            f"A prompt:\n\n{example}",
        )
        toml = f"As TOML, for a copy with changes:\n\n{protocol.to_toml()}"
        usage = f"rlvid eval RUN eval.protocol={name}"
        fields = {key: PluginField("", default_in_toml(value)) for key, value in protocol.settings.items() if value}
        rows.append(
            Description(name, protocol.text, "protocols/published.py", fields, "\n\n".join((*parts, toml)), usage)
        )
    return rows


def list_parts() -> list[Description]:
    """Describe the parts of `rlvid bench gpu`."""
    rows = []
    for part in PARTS:
        fields = {
            "limit": PluginField("seconds", f"{part.limit:g}"),
            "presets": PluginField("", " ".join(part.presets)),
        }
        documentation = f"{part.text}\n\nBar: {part.bar}" if part.bar else part.text
        usage = f"rlvid bench gpu --parts {part.name}"
        module, _, function = part.function.rpartition(":")
        source = f"bench/gpu/{module.rpartition('.')[2]}.py:{function}"
        rows.append(Description(part.name, part.text, source, fields, documentation, usage))
    return rows


def list_thresholds() -> list[Description]:
    """Describe the thresholds of a probe: meaning, default, and how often each is a false alarm."""
    rows = []
    for name, (default, meaning) in THRESHOLDS.items():
        rates = false_alarms()[name]
        documentation = f"{meaning}\n\nFails honest rewards: {rates['honest']}. Fails a random one: {rates['random']}."
        usage = f"rlvid probe REWARD --threshold {name}={default:g}"
        source = "probes/verdicts.py"
        rows.append(Description(name, f"{default:g}: {meaning}", source, documentation=documentation, usage=usage))
    return rows


LISTS: dict[str, Callable[[], list[Description]]] = {
    "rewards": lambda: list_plugins("rewards"),
    "algorithms": lambda: list_plugins("algorithms"),
    "presets": list_presets,
    "benchmarks": list_benchmarks,
    "conditions": list_conditions,
    "evidence": list_evidence,
    "noise": list_noises,
    "parts": list_parts,
    "protocols": list_protocols,
    "thresholds": list_thresholds,
    "views": list_views,
}


LIST_TEXTS = {
    "rewards": "what a completion is scored by: rewards.NAME",
    "algorithms": "how a policy learns from scores: algorithm",
    "presets": "configs to start from: rlvid train PRESET",
    "benchmarks": "what questions come from: data, eval.transfer",
    "conditions": "base models with a known weakness, and their worlds: model, data",
    "evidence": "what a reward can ask for besides the text",
    "noise": "errors in labels, verdicts and frames: noise.kind",
    "parts": "what a GPU is checked and measured by: rlvid bench gpu --parts NAME",
    "protocols": "how questions are put and replies are read: eval.protocol",
    "thresholds": "what a probe fails a reward for: rlvid probe REWARD --threshold NAME=VALUE",
    "views": "altered clips: eval.views, and evidence view:NAME",
}


def list_names(what: str, name: str = "") -> list[Description]:
    """Return what a config or a reward can name, with description, fields, source and an example of its use.

    Args:
        what: "rewards", "algorithms", "presets", "benchmarks", "conditions", "evidence", "noise", "parts", "protocols",
            "thresholds" or "views".
        name: only the rows of this name; usually one, several for names such as FOLDER. A reward or an algorithm of
            the user's own: `./file.py` or `./file.py:name`.

    Raises:
        UserError: for an unknown list, or a name that is not in it.
    """
    if what not in LISTS:
        raise UserError(f"no list {what!r}.{suggest(what, LISTS)}")
    if what in ("rewards", "algorithms") and is_outside(name):
        return [_describe_plugin(what, name)]
    rows = LISTS[what]()
    wanted = name.partition(":")[0] if what in ("evidence", "views") else name  # without the view or its strength
    if wanted and not any(row.name == wanted for row in rows):
        raise UserError(f"rlvid list {what}: no {name!r}.{suggest(name, {row.name for row in rows})}")
    return [row for row in rows if wanted in ("", row.name)]


def find_config_keys(section: str = "") -> list[ConfigKey]:
    """Return the keys of a config, those of a section, or one key.

    Args:
        section: "" for all, or a section such as "train", or a key such as "train.max_steps".

    Raises:
        UserError: for an unknown section or key.
    """
    keys = list(config_keys(Config()))
    found = [key for key in keys if section in ("", key.name, key.name.partition(".")[0])]
    if not found:
        sections = {key.name.partition(".")[0] for key in keys}
        raise UserError(
            f"no section {section!r} in a config.{suggest(section, sections)}"
            if "." not in section
            else f"no key {section!r} in a config.{suggest(section, [key.name for key in keys])}"
        )
    return found


def default_in_toml(value: Any) -> str:
    """Write a default as it would stand in a TOML file; plug-ins by name."""
    if isinstance(value, tuple):
        return "[" + ", ".join(default_in_toml(item) for item in value) + "]"
    if hasattr(value, "name"):  # a Plugin
        return str(value.name)
    return tomli_w.dumps({"x": value}).removeprefix("x = ").strip()


def _in_toml(expression: str) -> str:
    """Turn the source of a default into a value of the command line: None is "", strings need no quotes there."""
    try:
        value = ast.literal_eval(expression)
    except ValueError:
        return "VALUE"
    if value is None:
        return "VALUE"
    return value if isinstance(value, str) and value else default_in_toml(value)
