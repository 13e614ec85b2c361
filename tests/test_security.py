"""What others wrote is data: models and checkpoints run nothing. Judges: test_judge.py; media: test_hostile.py.

Paths that would leave a benchmark's folder: test_seed_bench_r1.py, test_records.py. Pages: test_page.py.
"""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rlvid import api
from rlvid.config import load
from rlvid.errors import UserError
from rlvid.judges.encoder import encoder
from rlvid.nano.model import BASE
from rlvid.policy.model import Policy
from rlvid.utils.files import write_checksums
from tests.helpers.processes import SMALL

ROOT = Path(__file__).parent.parent


class Bomb:
    """Leaves a mark where it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path):
    return tmp_path / "somebody was here"


@pytest.fixture
def model(tmp_path):
    return shutil.copytree(BASE, tmp_path / "model")


def refused(model):
    with pytest.raises(UserError) as caught:
        Policy.load(load("nano", [f"model={model}"]))
    assert "\n" not in str(caught.value) and str(model) in str(caught.value)


def test_a_bomb_goes_off(mark):
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists(), "or the tests below would show nothing"


def test_a_models_own_code_is_not_run(model, mark):
    (model / "theirs.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")
    names = ("AutoConfig", "AutoModel", "AutoModelForImageTextToText", "AutoTokenizer")
    for file in ("config.json", "tokenizer_config.json"):
        about = json.loads((model / file).read_text())
        (model / file).write_text(json.dumps(about | {"auto_map": dict.fromkeys(names, "theirs.Theirs")}))
    Policy.load(load("nano", [f"model={model}"]))
    assert not mark.exists()


def test_a_tokenizer_that_is_nothing_but_code_is_refused(model, mark):
    (model / "theirs.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n")
    about = {"tokenizer_class": "Theirs", "auto_map": {"AutoTokenizer": ["theirs.Theirs", None]}}
    (model / "tokenizer_config.json").write_text(json.dumps(about))
    (model / "tokenizer.json").unlink()
    refused(model)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.safetensors"])
def test_pickled_weights_are_refused_under_any_name(model, mark, name):
    (model / "model.safetensors").unlink()
    (model / name).write_bytes(pickle.dumps(Bomb(mark)))
    refused(model)
    assert not mark.exists()


def test_a_checkpoint_holds_nothing_pickled_and_a_pickle_in_it_is_not_run(kitchen, tmp_path, mark):
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
        spoilt = run / "checkpoints/step-000002"
        (spoilt / file.name).write_bytes(pickle.dumps(Bomb(mark)))
        (spoilt / "SHA256SUMS").unlink()
        write_checksums(spoilt)
        try:
            api.train("nano", [*SMALL, "train.max_steps=2", "train.save_steps=1"], run, resume=True)
        except UserError as error:
            assert "\n" not in str(error) and str(spoilt) in str(error)
    assert not mark.exists()


def test_an_encoders_own_code_is_not_run(tmp_path, mark):
    folder = tmp_path / "encoder"
    folder.mkdir()
    (folder / "theirs.py").write_text(f"import pathlib\npathlib.Path({str(mark)!r}).touch()\nclass Theirs: pass\n")
    modules = [{"idx": 0, "name": "0", "path": "", "type": "theirs.Theirs"}]
    (folder / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(UserError):
        encoder(str(folder))
    assert not mark.exists()


def test_what_is_installed_is_pinned_and_fits_together():
    pins = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if line and line[0] != "#"]
    assert pins and all("==" in pin for pin in pins)
    checked = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout
