"""The page's section on the settings of runs."""

from types import SimpleNamespace

from rlvid.study.page.run_details import settings
from rlvid.study.settings import SettingRow


def test_an_arm_that_is_compared_with_two_others_is_one_arm():
    rows = [SettingRow("a", other, "train.max_steps", "3", "2", named=True) for other in ("b", "c")]
    shown = settings(SimpleNamespace(runs=[]), SimpleNamespace(settings=rows, changed_plugins=[]))
    assert shown["summary"].startswith("1 settings of 1 arms;") and len(shown["table"]["rows"]) == 2
