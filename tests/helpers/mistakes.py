"""Mistakes of users, as rows (what is wrong, the line that they must get); a test makes each of them.

"FILE" stands for the file that the mistake is in.
"""

# Overrides of the preset nano.
OVERRIDES = [
    ("train.max_step=1", "unknown key 'max_step' in [train]. Did you mean 'max_steps'?"),
    ("max_steps=1", "unknown key 'max_steps'. Did you mean cold_start.max_steps or train.max_steps?"),
    ("trian.max_steps=1", "unknown key 'trian'. Did you mean 'train'?"),
    ("train.steps=3", "unknown key 'steps' in [train]; it is called max_steps"),
    ("train.beta=0.1", "unknown key 'beta' in [train]; here it is algorithm.beta"),
    ("train.epsilon=0.1", "unknown key 'epsilon' in [train]; here it is algorithm.epsilon"),
    ("train.seed=1", "unknown key 'seed' in [train]; here it is seed"),
    ("train.num_iterations=2", "unknown key 'num_iterations' in [train]; here it is algorithm.num_iterations"),
    ("train.loss_type=dapo", "unknown key 'loss_type' in [train]; here it is algorithm"),
    ("train.per_device_train_batch_size=8", "here it is train.prompts_per_step"),
    ("train.lr=1", "here it is train.learning_rate"),
    ("train.bf16=true", "here it is train.dtype"),
    ("train.output_dir=x", "here it is --out DIR"),
    ("output_dir=x", "here it is --out DIR"),
    ("reward_funcs=x", "here it is rewards"),
    ("beta=0.1", "here it is algorithm.beta"),
    ("actor_rollout_ref.rollout.n=8", "unknown key 'actor_rollout_ref'; here it is train.num_generations"),
    ("actor_rollout_ref.actor.optim.lr=8", "here it is train.learning_rate"),
    ("trainer.total_training_steps=8", "Did you mean 'train'?"),
    (
        "algorithm.learning_rate=1",
        "algorithm 'grpo' has no field 'learning_rate'; in a config it is train.learning_rate",
    ),
    ("algorithm.epsilom=0.3", "algorithm 'grpo' has no field 'epsilom'. Did you mean 'epsilon'?"),
    ("algorithm.value_steps=3", "has no field 'value_steps'; it is called critic_warmup_steps"),
    ("gpu=3", "unknown key 'gpu'; `rlvid list config` lists the keys"),
    ("train.zzz=3", "unknown key 'zzz' in [train]; `rlvid list config train` lists the keys"),
    ("train.max_steps=abc", "train.max_steps must be int, not 'abc'"),
    ("train.max_steps=1.5", "train.max_steps must be int, not 1.5"),
    ("train.max_steps=-1", "train.max_steps must be 0 or more, not -1"),
    ("train.max_steps=true", "train.max_steps must be int, not True"),
    ("train.gradient_checkpointing=1", "train.gradient_checkpointing must be bool, not 1"),
    ("train.gradient_checkpointing=True", "train.gradient_checkpointing must be bool, not 'True'"),
    ("train.lr_scheduler_type=cosin", 'train.lr_scheduler_type must be "linear", "cosine" or "constant", not'),
    ("train.temperature=0", "train.temperature must be above 0"),
    ("train.top_p=1.5", "train.top_p must be in (0, 1], not 1.5"),
    ("train.max_grad_norm=-1", "train.max_grad_norm must be 0 or more, not -1.0"),
    ("train.warmup_steps=-5", "train.warmup_steps must be 0 or more, not -5"),
    ("train.ref_model_sync_steps=0", "train.ref_model_sync_steps must be 1 or more, not 0"),
    ("train.ref_model_mixup_alpha=7", "train.ref_model_mixup_alpha must be in (0, 1], not 7.0"),
    ("train.ref_model_mixup_alpha=0", "train.ref_model_mixup_alpha must be in (0, 1], not 0.0"),
    ("train=3", "train must be a table, not 3"),
    ("train={}", "override 'train={}': train is an empty table, which changes nothing"),
    ("video.min_frames=32", "video.min_frames must be at most video.max_frames"),
    ("eval.splits=L1", "eval.splits must be a list, not 'L1'; write 'eval.splits=[\"L1\"]'"),
    (
        "eval.splits=[L1,L2]",
        "eval.splits must be a list, not '[L1,L2]'; the shell removes quotes, so quote the whole assignment: "
        '\'eval.splits=["L1", "L2"]\'',
    ),
    (
        "rewards.length={weight=0.1",
        "rewards.length must be a weight or a table, not '{weight=0.1'; quote the whole assignment, or the shell takes "
        "it apart: 'KEY={weight=0.1, OPTION=50}'",
    ),
    ('eval.views=["shufled"]', "eval.views must hold only"),
    ('judge.url="http://me:secret@host/v1"', "judge.url must not hold a password"),
    ("rewards={}", "override 'rewards={}': rewards is an empty table, which changes nothing"),
    ("rewards=3", "rewards needs at least one line such as: accuracy = 1.0"),
    ("rewards.acuracy=1", "no reward 'acuracy'. Did you mean 'accuracy'?"),
    ("rewards.coin=1", "no reward 'coin'; it is called random"),
    ("rewards.accuracy=much", "rewards.accuracy must be a weight or a table, not 'much'"),
    ("rewards.format.parital=true", "reward 'format' has no field 'parital'. Did you mean 'partial'?"),
    ("rewards.format.partial=1", "reward 'format': partial must be bool, not 1"),
    ("rewards.format={weight=0.1, anneal=-1}", "rewards.format.anneal must be a number of steps"),
    ('rewards."./nowhere.py:thing"=1', "./nowhere.py': no such file. Paths are relative to"),
    ('rewards."no.such:thing"=1', "no module 'no'. Is it on PYTHONPATH?"),
    ('rewards."rlvid.evidence:Model"=1', "no module 'rlvid.evidence'; it is called rlvid.trainer.evidence"),
    ('rewards."json:nothing"=1', "defines nothing callable named 'nothing'"),
    ("eval.rewards.acuracy=1", "no reward 'acuracy'. Did you mean 'accuracy'?"),
    ("algorithm=grppo", "no algorithm 'grppo'. Did you mean 'grpo'?"),
    ("algorithm=3", "algorithm must be a name or a table, not 3"),
    ("algorithm=./nowhere.py", "./nowhere.py': no such file"),
    ("algorithm=json:dumps", "is no algorithm: derive its class from rlvid.algorithm.Algorithm"),
    ("algorithm.beta=high", "algorithm 'grpo': beta must be a number, not 'high'"),
    ("algorithm.delta=high", "algorithm 'grpo': delta must be a number, not 'high'"),
    ("algorithm.num_iterations=1.5", "algorithm 'grpo': num_iterations must be int, not 1.5"),
    ("algorithm.kl=k9", "kl must be one of k2, k3, k3_is, k1_reward, not 'k9'"),
    ("noise.rate=0.2", "noise.rate is set but noise.kind is not"),
    ("noise.seed=3", "noise.seed is set but noise.kind is not"),
    ("noise.kind=symmetric", "noise.kind = 'symmetric' changes nothing at noise.rate = 0"),
    ("noise.kind=verifier", "changes nothing at noise.false_positives = 0 and noise.false_negatives = 0"),
    ("noise.kind=symetric", "no kind of noise 'symetric'. Did you mean 'symmetric'?"),
    ("noise.kind=symmetric noise.rat=0.1", "noise 'symmetric' has no field 'rat'. Did you mean 'rate'?"),
    ("noise.kind=symmetric noise.rate=2", "noise 'symmetric': rate must be in [0, 1], not 2"),
    ("noise.kind=symmetric noise.rate=half", "noise 'symmetric': rate must be a number, not 'half'"),
    (
        "algorithm=s_grpo algorithm.false_positives=0.1",
        "algorithm.false_negatives = 0.1 correct errors that 'kitchen' does not have without noise",
    ),
    ("steps", "override 'steps' is not an assignment; write key.sub=value"),
    ("=3", "override '=3' is not an assignment"),
    ("rewards./x.py:f=1", "quote parts with dots or slashes"),
]

# Preset files, by their text.
PRESETS = [
    ("a = = 1", "FILE: not valid TOML"),
    ("[train]\nmax_step = 1", "FILE: unknown key 'max_step' in [train]. Did you mean 'max_steps'?"),
    ("extends = 'nano'\n[train]\nbeta = 1", "FILE: unknown key 'beta' in [train]; here it is algorithm.beta"),
    ("extends = 'nanno'", "no preset 'nanno'"),
    ("extends = 'mine.toml'", "FILE: extends itself"),
    ("extends = 3", "FILE: extends must be the name or the path of a preset, not 3"),
    ("rewards = {}", "FILE: rewards is an empty table"),
    ("algorithm = {beta = 1}\n[train]\nmax_steps = 'x'", "FILE: train.max_steps must be int, not 'x'"),
    ("[rewards]\naccuracy = true", "FILE: rewards.accuracy must be a weight or a table, not True"),
    ("[noise]\nrate = 0.2", "noise.rate is set but noise.kind is not"),
    ("report_to = 'wandb'", "FILE: report_to must be a list, not 'wandb'; write 'report_to=[\"wandb\"]'"),
    ("\x00", "FILE: not valid TOML"),
]

# Files of a reward, by their text; they are refused before a run.
REWARD_FILES = [
    ("def mine(groups)\n    return 1", "FILE:1: SyntaxError: expected ':'"),
    ("\nimport torhc", "no module 'torhc'. Is it on PYTHONPATH?"),
    ("\nx = 1 / 0", "FILE:2: ZeroDivisionError: division by zero, in `x = 1 / 0`"),
    ("def other(groups): ...", "defines nothing callable named 'mine'"),
    ("def mines(groups): ...", "defines nothing callable named 'mine'. Did you mean 'mines'?"),
    ("mine = 3", "defines nothing callable named 'mine'"),
    (
        "def mine(completion, prompt): ...",
        "at FILE:1 takes (completion, prompt), but a reward is called with the groups",
    ),
    ("def mine(): ...", "at FILE:1 takes (), but a reward is called with the groups"),
    ("def mine(groups, *, limit): ...", "missing a required argument: 'limit'; set it, or give it a default"),
    (
        "from rlvid.reward import each\n@each\ndef mine(completion, prompt, *, limit): ...",
        "missing a required argument: 'limit'; set it, or give it a default",
    ),
    ("def mine(completions, **columns): ...", "at FILE:1 is a reward_func of TRL, no reward of rlvid: make one with"),
    (
        "def mine(data_source, solution_str, ground_truth, extra_info=None): ...",
        "and `mine = from_verl(mine)`, and name mine",
    ),
    ("def mine(reward_inputs): ...", "and `mine = from_easyr1(mine, batched=True)`, and name mine"),
    (
        "class Mine:\n    needs = 'judge'\n    def __call__(self, groups): ...",
        "at FILE:1: needs is the text 'judge': write frozenset({'judge'})",
    ),
    ("class Mine:\n    pass", "at FILE:1 cannot be called: a class needs __call__(self, groups)"),
    ("class Mine:\n    def __init__(self): self.x = y\n    def __call__(self, groups): ...", "FILE:2: NameError"),
    ("from rlvid.reward import eech", "FILE:1: ImportError: cannot import name 'eech'"),
    ("from rlvid.evidence import Model", "no module 'rlvid.evidence'; it is called rlvid.trainer.evidence"),
    ("\n\traise RuntimeError", "FILE:2: IndentationError: unexpected indent"),
]

# Bodies of `def mine(groups)`, which starts on line 6; they fail when they are called.
REWARD_BODIES = [
    ("return [[1 / 0 for _ in g] for g in groups]", "FILE:7: ZeroDivisionError: division by zero, in `return [[1 / 0"),
    (
        "return [[c.txt for c in g] for g in groups]",
        "FILE:7: AttributeError: 'Completion' object has no attribute 'txt'",
    ),
    ("return [[g.evidence['nope'] for c in g] for g in groups]", "FILE:7: KeyError: 'nope'"),
    ("return [1.0 for g in groups]", "at FILE:6 returned 1.0 for the group of sample q1: return a list of lists"),
    ("return 1.0", "at FILE:6 returned 1.0: return a list with one row for each group"),
    ("return 'no'", "at FILE:6 returned 'no': return a list with one row for each group"),
    ("return None", "at FILE:6 returned None: return a list with one row for each group"),
    ("return []", "at FILE:6 returned 0 rows for 1 groups"),
    (
        "return [[1.0] for g in groups]",
        "at FILE:6 returned 1 numbers for the 2 completions of sample q1: return",
    ),
    ("return [['yes', 'no'] for g in groups]", "at FILE:6 returned 'yes', no number, for a completion of sample q1"),
    ("return [[float('nan')] * 2 for g in groups]", "at FILE:6 returned nan for a completion of sample q1"),
    ("return [[g['speed']] for g in groups]", "FILE:7: KeyError: 'speed'"),
    ("return [helper(c) for g in groups for c in g]", "FILE:7: NameError: name 'helper' is not defined"),
]

# Bodies of `def each_mine(completion, prompt)` under @each, which starts on line 4.
EACH_BODIES = [
    ("return 1 / 0", "FILE:6: ZeroDivisionError: division by zero, in `return 1 / 0`"),
    ("return 'good'", "FILE:4: each_mine returned 'good' for a completion: return a number, or None"),
    ("return '1'", "FILE:4: each_mine returned '1' for a completion: return a number, or None"),
    ("return [1.0]", "FILE:4: each_mine returned [1.0] for a completion"),
    ("return len(completion.thought)", "FILE:6: TypeError: object of type 'NoneType' has no len()"),
]

# Bodies of a class `Mine(GRPO)`; its first line is line 5.
ALGORITHM_BODIES = [
    ("def advantages(self, rewards): return rewards / zero", "FILE:7: NameError: name 'zero' is not defined"),
    ("def advantages(self, rewards): return [1.0]", "shape (2, 4), prompts times completions, not list (FILE:5)"),
    ("def advantages(self, rewards): return rewards.mean(-1)", "prompts times completions, not (2,) (FILE:5)"),
    ("def advantages(self, rewards): return rewards.T", "prompts times completions, not (4, 2) (FILE:5)"),
    ("def advantages(self, rewards): return rewards * float('nan')", "advantages are not finite, though the rewards"),
    ("def rewards(self, step): return step.batch.mask[:3, 0]", "at step 1: The size of tensor a (3) must match"),
    ("def labels(self, step): return ['A']", "labels must be a letter or None for each of 2 prompts, not 1 (FILE:5)"),
    (
        "def surrogate(self, logps, batch): return logps",
        "in its loss: surrogate must return a pair",
    ),
    ("def surrogate(self, logps, batch): return logps.sum(), {}", "a pair: an objective of shape (8, 1), and"),
    ("def surrogate(self, logps, batch): return logps, {'a': 1.0}", "quantity 'a' to log must be a tensor of shape"),
    ("def observe(self, step): step.memory['x'] = step.batch.mask", "step.memory['x'] is a Tensor, which a checkpoint"),
    ("def observe(self, step): step.memory['x'] = [{1: 2}]", "step.memory['x'][0] has the key 1, which a checkpoint"),
    ("def observe(self, step): step.memory = {}", "observe replaced step.memory, and nothing would be kept"),
    (
        "def check_rewards(self, weights): raise ValueError('a bad mix')",
        "algorithm 'Mine': a bad mix",
    ),
    (
        "def advantages(self, rewards): return rewards.meen()",
        "FILE:7: AttributeError: 'Tensor' object has no attribute",
    ),
    ("def weights(self, mask): return mask.sum()", "weights must be a tensor of shape (8, 1), not ()"),
    ("def weights(self, mask): return 1.0", "weights must be a tensor of shape (8, 1), not float"),
    ("def rewards(self, step): return step.columns['nope']", "FILE:7: KeyError: 'nope'"),
    ("def observe(self, step): step.memory['x'] /= 0", "FILE:7: KeyError: 'x'"),
    ("def credit(self, step): return step", "credit must return a Batch, not Step (FILE:5)"),
]

# Grid scripts, by their text.
GRID_OF = "from rlvid.grids import Grid\nGRID = Grid('x', '?', "
SCRIPTS = [
    ("x = 1", "an experiment defines GRID = Grid(...), and this file has none"),
    ("GRID = 3", "an experiment defines GRID = Grid(...), and it is int"),
    ("import nothing_here", "no module 'nothing_here'"),
    ("def f(:", "FILE:1: SyntaxError"),
    ("\n1 / 0", "FILE:2: ZeroDivisionError: division by zero, in `1 / 0`"),
    ("from rlvid.study.grid import Grid", "no module 'rlvid.study.grid'; it is called rlvid.grids"),
    ("from rlvid.grids import Grid\nGRID = Grid(name='x')", "FILE:2: TypeError"),
    (
        "from rlvid.grids import Grid\nGRID = Grid('x', '?', (0,), 'a', arms={'a': {}}, within=1)",
        "has no field 'within'; it is called equivalence_margin",
    ),
    ("from rlvid.grids import Grid\nGRID = Grid('x', '?', (0,), 'b', arms={'a': {}})", "has no arm 'b'"),
    (
        "from rlvid.grids import Grid\nGRID = Grid('x', '?', (0,), 'a', arms={'a': {'train.stps': 1}})",
        "override 'train.stps=1': unknown key 'stps'",
    ),
    (GRID_OF + "3, 'a', arms={'a': {}})", "seeds= needs whole numbers, such as (0, 1, 2), not 3"),
    (GRID_OF + "('0',), 'a', arms={'a': {}})", "seeds= needs whole numbers, such as (0, 1, 2), not ('0',)"),
    (GRID_OF + "(), 'a', arms={'a': {}})", "seeds= is empty: name one seed or more"),
    (GRID_OF + "(0,), 'a', arms={'a': 'x'})", "arm 'a' needs a dictionary of settings, not 'x'"),
    (GRID_OF + "(0,), 'a', arms={'a': {}}, unseeded='a')", "unseeded= needs a tuple of arms, ('a',), not 'a'"),
    (
        GRID_OF + "(0,), 'a', arms={'a': {}, 'b': {}}, positive_controls=('b', 'a'))",
        "needs pairs, (('a', 'other arm')",
    ),
    (
        GRID_OF + "(0,), 'a', arms={'a': {}}, effect_at_stake='5')",
        "must be a share such as 0.03, not '5'",
    ),
    (
        GRID_OF + "(0,), 'a', arms={'a': {'train.max_steps': 0}})",
        "arm 'a' takes no training step, so",
    ),
    (
        GRID_OF + "(0,), 'a', arms={'a': {}}, endpoint='consistency_rule')",
        "arm 'a' does not measure the endpoint",
    ),
    (
        "from rlvid.grids import Grid\nGRID = Grid('x', '?', (0,), 'a', axes={'k': {'a': lambda v: v['no']}})",
        "FILE:2: KeyError: 'no'",
    ),
]

# Command lines; DIR is an empty folder, READONLY a path that cannot be written.
COMMANDS = [
    (["trian", "nano"], "no command 'trian'. Did you mean 'train'?"),
    (["grid"], "rlvid: grid: the following arguments are required: script. See rlvid grid --help"),
    (["attend", "run"], "no command 'attend'; it is called attention"),
    (["train", "nanno"], "Did you mean 'nano'?"),
    (["train", "DIR/none.toml"], "no preset"),
    (["train", "nano", "model=/no/such/model"], "model '/no/such/model': no such folder"),
    (["train", "nano", "model=DIR"], "the folder holds no config.json, so it is no Hugging Face model"),
    (["train", "nano", "model=LLAMA"], "is a llama, and rlvid trains Qwen2-VL (qwen2_vl), Qwen2.5-VL"),
    (["train", "nano", "model=no-org/no-model"], "HF_HUB_OFFLINE is set: give the folder of a model"),
    (["train", "nano", "data=/no/such/folder"], "/no/such/folder: no such folder"),
    (["train", "nano", "data=DIR"], "holds neither annotations/ in SEED-Bench-R1's layout nor lvb_val.json"),
    (["train", "nano", "data=DIR/none.toml"], "none.toml"),
    (["train", "nano", "algorithm=grppo"], "no algorithm 'grppo'. Did you mean 'grpo'?"),
    (["train", "nano", "rewards.acuracy=1"], "no reward 'acuracy'. Did you mean 'accuracy'?"),
    (["train", "nano", "train.num_generations=1"], "train.num_generations must be 2 or more, not 1"),
    (["eval", "/no/such/model"], "no run, checkpoint or model folder '/no/such/model'"),
    (["eval", "LLAMA"], "is a llama, and rlvid trains Qwen2-VL (qwen2_vl), Qwen2.5-VL"),
    (["eval", "no-org/no-model", "--data", "kitchen"], "HF_HUB_OFFLINE is set"),
    (["export", "/no/such/run", "DIR/out"], "no run, checkpoint or model folder '/no/such/run'"),
    (["grid", "DIR/none.py"], "no experiment script"),
    (["report", "/no/such/runs"], "no folder /no/such/runs"),
    (["report", "DIR"], "no runs in"),
    (["list", "config", "trian"], "no section 'trian' in a config. Did you mean 'train'?"),
    (["list", "views", "train"], "no 'train'. Known: blank"),
    (["data", "get", "seedbench", "DIR"], "no data set 'seedbench'. Did you mean 'seed_bench_r1'?"),
    (["data", "check", "/no/such/folder"], "/no/such/folder: no such folder"),
    (["data", "kitchen", "READONLY/out"], "READONLY"),
    (["config", "nano", "--out", "DIR"], "--out"),
]

# Lines of a benchmark that a TOML file maps; the record that is wrong, and the line of `rlvid data check`.
DATA = [
    ([], "empty file: FILE: holds no record"),
    ([{"q": "Which?"}], "malformed record: FILE:1: o: missing; the record has q"),
    ([{"q": " ", "o": ["up", "down"], "a": "A"}], "malformed record: FILE:1: q: is blank"),
    ([{"q": "Which?", "o": ["up", "up"], "a": "A"}], "option collision: FILE:1"),
    ([{"q": "Is it up?", "o": ["up", "down"], "a": "A"}], "answer leak: FILE:1: the question holds the right option"),
    ([{"q": "Which?", "o": ["up", "down"], "a": "C"}], "malformed record: FILE:1: a"),
    (
        [{"q": "Which?", "o": ["up", "down"], "a": "A", "l": "Train"}],
        "level name: level 'Train' is not the training level",
    ),
    (
        [{"q": "Which?", "o": ["up", "down"], "a": "A", "l": "train"}],
        "missing level: every question is of the level 'train'",
    ),
    (
        [{"q": f"Which {i}?", "o": ["up", "down"], "a": "B", "l": "val"} for i in range(30)],
        "answer imbalance: level val: 30 of 30 right answers are B",
    ),
    (
        [{"q": "Which?", "o": ["up", "down"], "a": "A", "l": level} for level in ("train", "val")],
        "contamination: FILE:2: the question and its media are in training too: FILE:1",
    ),
]
