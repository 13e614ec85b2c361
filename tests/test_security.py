"""Models and checkpoints are data: loading them runs no code of theirs.

Other input is tested elsewhere: replies of judges in judges/test_endpoint.py, media in video/test_hostile_media.py,
paths that leave a benchmark's folder in data/test_seed_bench_r1.py and data/test_records.py, the page in
study/test_page.py.
"""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rlvid import api
from rlvid.errors import UserError
from rlvid.judges.encoder import load_encoder
from rlvid.registry import NANO_CHECKPOINT
from rlvid.utils.files import write_checksums
from tests.helpers.policies import load_policy
from tests.helpers.processes import SMALL

pytestmark = pytest.mark.usefixtures("quick_runs")

ROOT = Path(__file__).parents[1]


class TouchOnUnpickling:
    """Creates the file `mark` when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path):
    """A file that exists only if code of a model or a checkpoint has run."""
    return tmp_path / "code was run"


@pytest.fixture
def model(tmp_path):
    """A copy of the embedded model, to be altered."""
    return shutil.copytree(NANO_CHECKPOINT, tmp_path / "model")


def assert_refused(model):
    """Loading the model raises a UserError of one line that names its folder."""
    with pytest.raises(UserError) as caught:
        load_policy(f"model={model}")
    assert "\n" not in str(caught.value) and str(model) in str(caught.value)


def test_unpickling_creates_the_mark(mark):
    """Otherwise the tests below would show nothing."""
    pickle.loads(pickle.dumps(TouchOnUnpickling(mark)))
    assert mark.exists()


def test_code_in_a_model_folder_is_not_run(model, mark):
    (model / "custom.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")
    names = ("AutoConfig", "AutoModel", "AutoModelForImageTextToText", "AutoTokenizer")
    for file in ("config.json", "tokenizer_config.json"):
        settings = json.loads((model / file).read_text())
        settings["auto_map"] = dict.fromkeys(names, "custom.Custom")
        (model / file).write_text(json.dumps(settings))
    load_policy(f"model={model}")
    assert not mark.exists()


def test_a_tokenizer_that_needs_its_own_code_is_refused(model, mark):
    (model / "custom.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")
    settings = {"tokenizer_class": "Custom", "auto_map": {"AutoTokenizer": ["custom.Custom", None]}}
    (model / "tokenizer_config.json").write_text(json.dumps(settings))
    (model / "tokenizer.json").unlink()
    assert_refused(model)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_pickled_weights_are_refused_under_any_file_name(model, mark, name):
    (model / "model.safetensors").unlink()
    (model / name).write_bytes(pickle.dumps(TouchOnUnpickling(mark)))
    assert_refused(model)
    assert not mark.exists()


def test_a_checkpoint_contains_no_pickle_and_a_pickle_put_into_it_is_not_loaded(kitchen, tmp_path, mark):
    api.train("nano", [*SMALL, "train.max_steps=2", "train.save_steps=1"], tmp_path / "run")
    checkpoint = tmp_path / "run/checkpoints/step-000002"
    files = [path for path in checkpoint.iterdir() if path.is_file()]
    assert {path.suffix for path in files} <= {".safetensors", ".json", ".jinja", ""}
    assert not [path for path in files if path.read_bytes()[:2] in (b"\x80\x04", b"\x80\x05", b"PK")]
    status = json.loads((tmp_path / "run/status.json").read_text())
    for file in files:
        if file.name == "SHA256SUMS":
            continue
        run = shutil.copytree(tmp_path / "run", tmp_path / f"run {file.name}")
        (run / "status.json").write_text(json.dumps(status | {"state": "interrupted"}))
        altered = run / "checkpoints/step-000002"
        (altered / file.name).write_bytes(pickle.dumps(TouchOnUnpickling(mark)))
        (altered / "SHA256SUMS").unlink()
        write_checksums(altered)
        try:
            api.train("nano", [*SMALL, "train.max_steps=2", "train.save_steps=1"], run, resume=True)
        except UserError as error:
            assert "\n" not in str(error) and str(altered) in str(error)
    assert not mark.exists()


def test_code_in_an_encoder_folder_is_not_run(tmp_path, mark):
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "custom.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nclass Custom: pass\n")
    modules = [{"idx": 0, "name": "0", "path": "", "type": "custom.Custom"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UserError):
        load_encoder(str(folder))
    assert not mark.exists()


def test_requirements_are_pinned_and_compatible():
    pins = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line[0] != "#"]
    assert pins and all("==" in pin for pin in pins)
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
