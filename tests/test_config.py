"""Presets, overrides, run ids, and the error messages for wrong ones."""

import tomllib
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlvid.config import VIEW_NAMES, Config, Plugin, config_keys, from_table, load
from rlvid.errors import UserError
from rlvid.registry import build, preset_path
from rlvid.utils.renamed import RENAMED

pytestmark = pytest.mark.fast


def test_overrides_set_algorithm_fields_reward_weights_and_keys():
    overrides = [
        "algorithm=grpo",
        "algorithm.epsilon=0.3",
        'rewards."./my_reward.py:brevity"=0.1',
        "train.max_steps=10",
    ]
    config = load("nano.toml", [*overrides, "seed=1"])
    assert config.algorithm == Plugin("grpo", fields={"beta": 0.0, "epsilon": 0.3})
    assert Plugin("./my_reward.py:brevity", 0.1) in config.rewards and Plugin("accuracy") in config.rewards
    assert (config.train.max_steps, config.seed) == (10, 1)


def test_the_short_and_the_long_form_of_a_plugin_can_be_mixed():
    config = load("nano", ["rewards.format.partial=true"])
    assert Plugin("format", 0.2, {"partial": True}) in config.rewards  # with the weight of the preset
    assert load("nano", ["algorithm=sft"]).algorithm == Plugin("sft")  # without the preset's beta, a field of grpo
    assert load("nano", ["algorithm=grpo"]).id == load("nano").id  # the same algorithm keeps the preset's beta
    assert load("nano", ["algorithm.beta=0.5"]).algorithm == Plugin("grpo", fields={"beta": 0.5})


def test_an_algorithm_and_its_fields_may_come_in_any_order():
    expected = Plugin("dr_grpo", fields={"beta": 0.01})
    assert load("nano", ["algorithm.beta=0.01", "algorithm=dr_grpo"]).algorithm == expected
    assert load("nano", ["algorithm=dr_grpo", "algorithm.beta=0.01"]).algorithm == expected
    table = 'algorithm={name="dr_grpo", beta=0.02}'
    assert load("nano", ["algorithm.beta=0.01", table]).algorithm.fields == {"beta": 0.02}, "the last value counts"
    assert load("nano", [table, "algorithm=rloo"]).algorithm == Plugin("rloo"), "the last name counts"
    with pytest.raises(UserError, match="scale_rewards"):
        load("nano", ["algorithm.scale_rewards=batch", "algorithm=sft"]).algorithm.build("algorithms")


def test_an_option_does_not_add_a_reward_to_the_mix(tmp_path):
    with pytest.raises(UserError, match=r"rewards\.length has no weight: .* or remove rewards\.length\.low"):
        load("nano", ["rewards.length.low=300"])
    (tmp_path / "mine.toml").write_text("extends = 'nano'\n[rewards.length]\nlow = 300\n")
    with pytest.raises(UserError, match=r"mine\.toml: rewards\.length has no weight"):
        load(tmp_path / "mine.toml")
    both = load("nano", ["rewards.length.low=300", "rewards.length.weight=0.1"])
    assert Plugin("length", 0.1, {"low": 300}) in both.rewards


def test_a_value_may_contain_an_equals_sign():
    assert load("nano", ['data="/a=b"']).data == load("nano", ["data=/a=b"]).data == "/a=b"


def test_a_preset_extends_another(tmp_path):
    (tmp_path / "base.toml").write_text("extends = 'nano'\nseed = 7\n[train]\nmax_steps = 3\n")
    (tmp_path / "child.toml").write_text("extends = 'base.toml'\n[train]\nlearning_rate = 1\n")
    config = load(tmp_path / "child.toml")
    assert (config.seed, config.train.max_steps, config.train.learning_rate) == (7, 3, 1.0)
    assert config.train.prompts_per_step == load("nano").train.prompts_per_step


@pytest.mark.parametrize("name", ["nano", "qwen2_vl_2b", "qwen2_vl_7b", "qwen2_vl_7b_sft"])
def test_a_resolved_config_reads_back_equal(name):
    config = load(name, ["video.resized_height=none", "video.resized_width=none"])
    assert config.video.resized_height is None
    with pytest.raises(UserError, match="must both be set"):
        load(name, ["video.resized_height=none"])
    read_back = from_table(tomllib.loads(config.to_toml()))
    assert read_back.id == config.id and read_back.to_toml() == config.to_toml()
    assert (read_back.train, read_back.video, read_back.eval) == (config.train, config.video, config.eval)
    build("algorithms", config.algorithm.name, **config.algorithm.fields)


def test_the_7b_preset_has_the_settings_of_the_paper():
    paper = load("qwen2_vl_7b")
    assert (paper.train.learning_rate, paper.train.num_generations, paper.train.prompts_per_step) == (1e-6, 8, 8)
    assert (paper.train.max_completion_length, paper.algorithm.fields["beta"]) == (256, 0.1)
    assert paper.rewards == (Plugin("accuracy"),)
    assert (paper.video.fps, paper.video.max_frames, paper.video.resized_height) == (2.0, 16, 252)


def test_the_id_depends_on_the_config_and_on_the_text_of_the_files_that_it_names(tmp_path, monkeypatch):
    assert load("nano").id == load("nano").id != load("nano", ["seed=1"]).id
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no such file"):
        load("nano", ['rewards."./r.py:r"=1']).id  # noqa: B018
    (tmp_path / "r.py").write_text("def r(groups): return 1")
    before = load("nano", ['rewards."./r.py:r"=1']).id
    (tmp_path / "r.py").write_text("def r(groups): return 2")
    assert load("nano", ['rewards."./r.py:r"=1']).id != before


def test_the_id_does_not_depend_on_settings_that_change_no_result():
    neutral = {key.name: key.value for key in config_keys(Config()) if key.neutral}
    other = {bool: "true", int: "7", float: "7.5", str: '"x"', tuple: '["wandb"]'}
    values = {"judge.url": '"http://localhost:1/v1"', "report_to": '["trackio"]'}
    changed = [f"{name}={values.get(name, other[type(value)])}" for name, value in neutral.items()]
    assert load("nano", changed).id == load("nano").id
    assert load("nano", changed).exact_id != load("nano").exact_id
    assert all(load("nano", [change]).to_toml() != load("nano").to_toml() for change in changed)
    for change in ("judge.model=b", "judge.temperature=0.5", "train.max_tokens_per_forward=64", "video.fps=1.0"):
        assert load("nano", [change]).id != load("nano").id


def test_a_saved_config_holds_every_field_and_the_hash_of_every_plugin_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def mine(groups, *, alpha=0.5, names=('a',), limit=None): ...")
    saved = tomllib.loads(load("nano", ['rewards."./mine.py"=1', "noise.kind=symmetric", "noise.rate=0.1"]).to_toml())
    assert (
        saved["algorithm"] | {"beta": 0.0, "epsilon": 0.2, "epsilon_high": "", "scale_rewards": "group"}
        == (saved["algorithm"])
    )
    assert saved["rewards"]["./mine.py"] == {"weight": 1.0, "anneal": 0.0, "alpha": 0.5, "names": ["a"], "limit": ""}
    assert saved["rewards"]["format"]["partial"] is False
    assert saved["noise"] == {"kind": "symmetric", "seed": 0, "rate": 0.1, "drop": False}
    assert list(saved["plugins"]) == ["mine.py"] and len(saved["plugins"]["mine.py"]) == 12


def test_a_default_that_is_spelled_out_is_the_same_run(tmp_path, monkeypatch):
    assert load("nano", ["algorithm.epsilon=0.2", "algorithm.epsilon_high=none"]).id == load("nano").id
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text("def mine(groups, *, alpha=1.0): ...")
    first = load("nano", ['rewards."./mine.py"=1']).id
    assert load("nano", ['rewards."./mine.py".alpha=1', 'rewards."./mine.py".weight=1']).id == first
    (tmp_path / "mine.py").write_text("def mine(groups, *, alpha=2.0): ...")
    assert load("nano", ['rewards."./mine.py"=1']).id != first


def test_a_saved_config_is_read_with_its_plugins_as_they_were(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plugin, text = tmp_path / "mine.py", "def mine(groups, *, alpha=1.0): return alpha"
    plugin.write_text(text)
    config = load("nano.toml", ["rewards.format=0", 'rewards."./mine.py"=1'])
    (tmp_path / "run/plugins").mkdir(parents=True)
    (tmp_path / "run/config.toml").write_text(config.to_toml())
    saved_id, saved_name = config.id, config.rewards[-1].copy_name()
    assert load("run/config.toml").id == saved_id
    plugin.write_text(text.replace("1.0", "2.0"))
    with pytest.raises(UserError, match=r"saved with mine\.py as [0-9a-f]{12}, which has changed since"):
        load("run/config.toml")
    (tmp_path / "run/plugins" / saved_name).write_text(text)
    for folder in (tmp_path, tmp_path / "run"):  # there is no ./mine.py in the second folder
        monkeypatch.chdir(folder)
        copied = load(tmp_path / "run/config.toml")
        assert copied.id == saved_id
        assert copied.rewards[-1].name == "./mine.py" and copied.rewards[-1].build("rewards")([]) == 1.0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("train.max_step=1", "unknown key 'max_step' in [train]. Did you mean 'max_steps'?"),
        ("max_steps=1", "unknown key 'max_steps'. Did you mean cold_start.max_steps or train.max_steps?"),
        ("trian.max_steps=1", "unknown key 'trian'. Did you mean 'train'?"),
        ("train.max_steps=abc", "train.max_steps must be int, not 'abc'"),
        ("train.max_steps=1.5", "must be int"),
        ("train.max_steps=-1", "train.max_steps must be 0 or more"),
        ("train.gradient_checkpointing=1", "must be bool"),
        ("train.lr_scheduler_type=cosin", "lr_scheduler_type must be"),
        ("train.temperature=0", "temperature must be above 0"),
        ("train.top_p=1.5", "train.top_p must be in (0, 1], not 1.5"),
        ("video.min_frames=32", "video.min_frames must be at most video.max_frames"),
        (
            r'judge.url="http://host:80\n/v1"',
            r"judge.url 'http://host:80\n/v1' is no address: write one such as http://",
        ),
        ('judge.url="http://[host/v1"', "is no address"),
        ("judge.url=localhost", "judge.url 'localhost' is no address: write one such as http://"),
        ('judge.url="http://host:99999/v1"', "is no address"),
        ("judge.concurrency=0", "judge.concurrency must be 1 or more"),
        ("judge.retries=-1", "judge.retries must be 0 or more"),
        ("judge.timeout=inf", "judge.timeout must be a finite number, not inf"),
        ("train.learning_rate=nan", "train.learning_rate must be a finite number, not nan"),
        ("train.weight_decay=-0.1", "train.weight_decay must be 0 or more"),
        ("train.lora_alpha=0", "train.lora_alpha must be 1 or more"),
        ("train.eval_steps=-1", "train.eval_steps must be 0 or more"),
        ("train.vllm_gpu_memory_utilization=1.5", "must be in (0, 1]"),
        ("cold_start.learning_rate=0.0", "cold_start.learning_rate must be above 0"),
        ("video.resized_height=0", "video.resized_height must be 1 or more"),
        ("video.max_pixels=0", "video.max_pixels must be 1 or more"),
        ("eval.limit=-1", "eval.limit must be 0 or more"),
        ("eval.top_p=0.0", "eval.top_p must be in (0, 1]"),
        ("eval.confidence_gate=1.5", "eval.confidence_gate must be in [0, 1]"),
        ("seed=-1", "seed must be 0 or more"),
        ("noise.seed=-1", "noise.seed must be 0 or more"),
        ("rewards.accuracy=nan", "rewards.accuracy.weight must be a finite number"),
        ("rewards.format={weight=0.1, anneal=inf}", "format.anneal must be a finite number"),
        ('judge.url="http://user:secret@host/v1"', "judge.url must not hold a password"),
        ("train.lora_r=-1", "lora_r must be 0 or more"),
        ("video.on_bad_video=ignore", "on_bad_video must be"),
        ("rewards=3", "rewards needs at least one line"),
        ("rewards.format={weight=0.1, anneal=-1}", "format.anneal must be a number of steps"),
        ("eval.rewards=3", "eval.rewards needs at least one line"),
        ('eval.views=["shufled"]', 'eval.views must hold only "shuffled"'),
        ("rewards.accuracy=much", "must be a weight or a table"),
        ("algorithm=3", "must be a name or a table"),
        ("noise.kind=3", "must be str"),
        ("steps", "is not an assignment"),
        ("=3", "is not an assignment"),
        ("eval.splits=L1", "must be a list"),
    ],
)
def test_a_wrong_override_is_one_clear_line(override, message):
    with pytest.raises(UserError) as error:
        load("nano", [override])
    assert message in str(error.value) and "\n" not in str(error.value)


def test_a_wrong_preset_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="Did you mean 'nano'"):
        load("nanoo")
    (tmp_path / "bad.toml").write_text("a = = 1")
    with pytest.raises(UserError, match=r"bad\.toml: not valid TOML"):
        load(tmp_path / "bad.toml")
    assert preset_path("nano").is_file()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("algorithm.beta=-0.1", "beta must be 0 or more, not -0.1"),
        ("algorithm.beta=nan", "beta must be a finite number, not nan"),
        ("algorithm.num_iterations=0", "num_iterations must be 1 or more, not 0"),
        ("algorithm.num_minibatches=0", "num_minibatches must be 1 or more, not 0"),
    ],
)
def test_a_wrong_field_of_an_algorithm_is_one_clear_line(override, message):
    with pytest.raises(UserError) as error:
        load("nano", [override]).algorithm.build("algorithms")
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("train.steps=3", "unknown key 'steps' in [train]; it is called max_steps"),
        ("cold_start.steps=3", "unknown key 'steps' in [cold_start]; it is called max_steps"),
        ("train.tokens_per_forward=64", "; it is called max_tokens_per_forward"),
    ],
)
def test_an_old_key_names_the_new_one(override, hint):
    with pytest.raises(UserError) as error:
        load("nano", [override])
    assert str(error.value).endswith(hint)


def test_the_replacement_of_every_renamed_key_exists():
    known = {key.name for key in config_keys(Config())}
    for old, new in RENAMED["config key"].items():
        section = old.rpartition(".")[0]
        assert f"{section}.{new}" in known and old not in known


def test_every_key_has_a_meaning_and_a_default_within_its_limits():
    listed = list(config_keys(Config()))
    assert {"model", "algorithm", "noise.kind", "train.max_steps", "eval.views"} <= {key.name for key in listed}
    assert all(key.meaning and key.limits.allow(key.value) for key in listed)
    plain = {key for key, value in asdict(Config()).items() if not isinstance(value, dict)}
    assert plain <= {key.name for key in listed}, "every key is declared with setting()"


def test_the_views_of_a_config_are_those_that_exist():
    from rlvid.video.views import VIEWS

    assert set(VIEW_NAMES) == set(VIEWS)


@given(st.text(max_size=40), st.text(max_size=40))
def test_any_override_is_accepted_or_raises_a_user_error(key, value):
    try:
        assert isinstance(load("nano", [f"{key}={value}"]), Config)
    except UserError as error:
        assert str(error)
