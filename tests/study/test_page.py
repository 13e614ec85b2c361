"""The report page in a real browser: nothing fails, filters and sliders work, and what runs wrote is escaped."""

import base64
import json
import random
import re
import shutil
from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image

from rlvid.api import attention, train
from rlvid.data.prompts import held_out_prompts
from rlvid.policy.attention import TOKEN_KINDS
from rlvid.study.page import save_page
from rlvid.study.page.cases import _read_clips
from rlvid.study.study import read_study
from rlvid.utils.files import read_jsonl, write_jsonl
from tests.helpers.reports import edit_answers, write_grid, write_run

selenium = pytest.importorskip("selenium.webdriver")
DRIVER = shutil.which("chromedriver")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
HOSTILE = '</script><script>window.broken=1</script><img src=x onerror="window.broken=1">{{ 7*7 }} & "quotes"'
SCREENSHOTS = Path(__file__).parents[1] / "artefacts"
AXE = Path(__file__).parents[2] / ".venv" / "axe-core" / "axe.min.js"
A4_WIDTH = 718  # CSS pixels between the margins that browsers print with
WINDOW_WIDTHS = {"phone": 390, "tablet": 768, "desk": 1280}

needs_browser = pytest.mark.skipif(
    not (DRIVER and BROWSER), reason="no chromium and chromedriver; apt install chromium-driver"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The page of two real evaluations with eight questions a level; they differ in their answers, some are hostile."""
    runs = tmp_path_factory.mktemp("page") / "runs"
    for seed in (0, 1):
        settings = ["train.max_steps=0", "eval.limit=8", "eval.transfer=[]"]
        train("nano", [*settings, f"seed={seed}", f"eval.temperature={float(seed)}"], runs / f"s{seed}")
    sample = read_jsonl(runs / "s0" / "eval" / "L2.jsonl")[0]["id"]
    attention([runs / "s0", runs / "s1"], f"L2/{sample}", "reply")

    def edit(seed, index, row):
        row |= {"rewards/consistency_nli": None if index == 7 else index / 8}
        if index == 0:
            row |= {"completion": HOSTILE, "question": HOSTILE, "domain": HOSTILE}
        if index == 1:
            row |= {"answer": None, "correct": False} if seed else {"answer": row["gold"], "correct": True}
        return row

    for seed in (0, 1):
        edit_answers(runs / f"s{seed}" / "eval" / "L1.jsonl", lambda index, row, seed=seed: edit(seed, index, row))
    alarm = {"step": 3, "kind": "collapse", "says": "alike", "sample": "q"}
    write_jsonl(runs / "s0" / "alarms.jsonl", [alarm])
    write_jsonl(runs / "s0" / "samples" / "step-000003.jsonl", [{"id": "q", "completions": ["harmless", HOSTILE]}])
    return save_page(runs, runs / "page.html")


@pytest.fixture(scope="module")
def many_arms(tmp_path_factory):
    """The page of a grid of twelve arms, in two of which a setting differs that no arm names."""
    runs, cells = tmp_path_factory.mktemp("many") / "runs", []
    for arm in range(12):
        for seed in (0, 1):
            name, right = f"a{arm}-s{seed}", tuple(f"{mark:06b}" * 8 for mark in (21 + arm, 37 + arm, 42 + arm))
            id = write_run(runs / name, f"train.learning_rate={1 + arm}e-5", f"seed={seed}", right=right)
            cells.append((f"algorithm {arm}, 20 % wrong labels", seed, name, id))
    control, *others = dict.fromkeys(cell[0] for cell in cells)
    differences = [
        {"arm": arm, "other": control, "key": "train.learning_rate", "value": "1", "other_value": "2", "named": n > 1}
        for n, arm in enumerate(others)
    ]
    comparisons = [(arm, control) for arm in others]
    write_grid(runs, cells, comparisons, differences=differences, equivalence_margin=0.03)
    return save_page(runs, runs / "many.html")


@pytest.fixture(scope="module")
def browser():
    """Chromium without a window."""
    options = selenium.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER)) as driver:
        driver.set_script_timeout(60)
        yield driver


def open_page(browser, page, width=1280, dark=False):
    """Open a page and wait until its script has finished; returns the seconds that this took in the browser."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    browser.get(page.as_uri())
    return browser.execute_async_script("""
        const done = arguments[0], check = () => document.documentElement.dataset.ready
          ? done(performance.now() / 1000) : setTimeout(check, 5);
        check();""")


def js(browser, expression):
    """The value of a JavaScript expression."""
    return browser.execute_script(f"return {expression}")


def js_until_true(browser, expression):
    """The first value of a JavaScript expression that is not false."""
    return browser.execute_async_script(f"""
        const done = arguments[0];
        const check = () => {{ const value = {expression}; value ? done(value) : setTimeout(check, 10); }};
        check();""")


def click(browser, selector):
    browser.execute_script("document.querySelector(arguments[0]).click()", selector)


def set_control(browser, id, value):
    """Set a control and send the events that a user's change sends."""
    code = """
        const control = document.getElementById(arguments[0]), key = control.type === 'checkbox' ? 'checked' : 'value';
        control[key] = arguments[1];
        for (const event of ['input', 'change']) control.dispatchEvent(new Event(event));"""
    browser.execute_script(code, id, value)


def text_of(browser, id):
    return js(browser, f"document.getElementById('{id}').textContent")


def option_texts(browser, id):
    return js(browser, f"[...document.getElementById('{id}').options].map(option => option.textContent)")


def shown_count(browser):
    """The number of questions that meet the filters."""
    return int(text_of(browser, "case-count").split()[0])


def read_answers(run):
    """(level, id) -> row of a run folder's answers."""
    return {(path.stem, row["id"]): row for path in sorted((run / "eval").glob("*.jsonl")) for row in read_jsonl(path)}


def saved_attention(page):
    """The content of the attention.json that the page shows."""
    return json.loads(next(page.parent.glob("s0/attention/**/attention.json")).read_text())


def save_screenshot(browser, name):
    SCREENSHOTS.mkdir(exist_ok=True)
    browser.save_screenshot(str(SCREENSHOTS / f"{name}.png"))


def test_a_page_loads_nothing_from_outside_and_escapes_html(page):
    text = page.read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", text) and "@import" not in text
    assert not re.findall(r"url\((?!#)", text), "only clip paths of its own figures"
    assert HOSTILE not in text and "window.broken=1</script>" not in text


@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WINDOW_WIDTHS.values(), ids=WINDOW_WIDTHS)
def test_a_page_loads_without_console_messages_and_fits_the_window(browser, page, width, dark):
    open_page(browser, page, width, dark)
    assert browser.get_log("browser") == []
    assert js(browser, "document.documentElement.scrollWidth") <= width
    style = "getComputedStyle(document.body)"
    ink, paper = js(browser, f"[{style}.color, {style}.backgroundColor]")
    ink_brightness, paper_brightness = (sum(map(int, re.findall(r"\d+", color)[:3])) for color in (ink, paper))
    assert (ink_brightness > paper_brightness) == dark
    text_colors = js(browser, "[...document.querySelectorAll('figure svg text')].map(e => getComputedStyle(e).fill)")
    assert text_colors and set(text_colors) == {ink}, "the text of figures has the color of other text"
    click(browser, "#theme")
    assert js(browser, f"{style}.color") != ink
    click(browser, "#theme")
    click(browser, ".case")
    js_until_true(browser, "document.querySelector('.open')")
    js(browser, "void document.getElementById('attention').scrollIntoView()")
    save_screenshot(browser, f"page-{width}-{'dark' if dark else 'light'}")


@needs_browser
def test_questions_are_filtered_by_pattern_level_text_and_clip(browser, page):
    open_page(browser, page)
    first, second = (read_answers(page.parent / seed) for seed in ("s0", "s1"))
    assert shown_count(browser) == 24
    gained = [key for key in first if not first[key]["correct"] and second[key]["correct"]]
    lost = [key for key in first if first[key]["correct"] and not second[key]["correct"]]
    for pattern, expected in (("1", gained), ("2", lost)):
        set_control(browser, "case-pattern", pattern)
        assert shown_count(browser) == len(expected)
        names = js(browser, "[...document.querySelectorAll('.case .where')].map(e => e.textContent)")
        assert names == [f"{level} {id}" for level, id in expected]
    set_control(browser, "case-pattern", "0")
    set_control(browser, "case-level", "2")
    assert shown_count(browser) == 8
    assert js(browser, "document.querySelector('.case .where').textContent").startswith("L2")
    set_control(browser, "case-level", "0")
    set_control(browser, "case-text", "onerror")
    assert shown_count(browser) == 1
    set_control(browser, "case-text", "")
    set_control(browser, "case-clip", True)
    assert shown_count(browser) == len(gained) + len(lost), "questions on which the runs disagree have clips"


@needs_browser
def test_questions_are_filtered_by_coherence_and_by_a_reward(browser, page):
    open_page(browser, page)
    answers = read_answers(page.parent / "s1")
    scores = {key: row["rewards/consistency_nli"] for key, row in answers.items() if key[0] == "L1"}
    patterns = option_texts(browser, "case-pattern")
    coherent = {key: score >= 0.5 for key, score in scores.items() if score is not None}
    right_incoherent = [key for key in coherent if answers[key]["correct"] and not coherent[key]]
    wrong_coherent = [key for key in coherent if not answers[key]["correct"] and coherent[key]]
    assert f"B right, incoherent ({len(right_incoherent)})" in patterns, "as rlvid compare counts them"
    assert f"B wrong, coherent ({len(wrong_coherent)})" in patterns
    columns = option_texts(browser, "case-column")
    set_control(browser, "case-column", str(columns.index("consistency_nli")))
    for operator, value, expected in (("0", 0.25, 2), ("2", 0.25, 1), ("4", 0.25, 4), ("3", 0.25, 5), ("1", 9, 7)):
        set_control(browser, "case-operator", operator)
        set_control(browser, "case-value", str(value))
        assert shown_count(browser) == expected, "of the seven questions of L1 that have the reward"
    set_control(browser, "case-column", "0")
    assert shown_count(browser) == 24


@needs_browser
def test_a_case_opens_with_the_keyboard_and_shows_its_clip_and_completions(browser, page):
    open_page(browser, page)
    set_control(browser, "case-clip", True)
    js(browser, "void document.querySelector('.case').focus()")
    browser.switch_to.active_element.send_keys("\n")
    assert js_until_true(browser, "document.querySelectorAll('.open .reply').length") == 2
    video = "(v => v && v.readyState && [v.videoWidth, v.duration])(document.querySelector('.open video'))"
    assert js_until_true(browser, video) == [56, 4.0], "eight frames, two per second, as the model sees them"
    assert js(browser, "document.activeElement.getAttribute('aria-expanded')") == "true"
    browser.switch_to.active_element.send_keys("\n")
    assert not js(browser, "document.querySelector('.open')")


@needs_browser
def test_completions_are_shown_as_text(browser, page):
    open_page(browser, page)
    set_control(browser, "case-text", "onerror")
    click(browser, ".case")
    assert js_until_true(browser, "document.querySelector('.open .reply')?.textContent") == HOSTILE
    of_alarms = js(browser, "[...document.querySelectorAll('#runs .reply')].map(e => e.textContent)")
    assert of_alarms == ["harmless", HOSTILE]
    assert js(browser, "window.broken") is None


@needs_browser
def test_a_slider_goes_through_the_frames(browser, page):
    open_page(browser, page)
    saved = saved_attention(page)
    frames, heats = set(), set()
    for index in range(len(saved["frames"])):
        set_control(browser, "attention-frame", str(index))
        frames.add(js(browser, "document.querySelector('#attention-runs img').src"))
        heats.add(js(browser, "document.querySelector('#attention-runs canvas').toDataURL()"))
    assert len(frames) == len(heats) == len(saved["frames"]) == 5
    assert text_of(browser, "attention-frame-name") == "observation"
    assert js(browser, "document.querySelectorAll('.attention-run').length") == 2
    assert js(browser, "document.querySelector('.attention-run .tokens').textContent") == "".join(
        saved["runs"][0]["tokens"]
    )


@needs_browser
def test_shares_of_a_token_are_shown_by_arrow_key_and_by_click(browser, page):
    open_page(browser, page)
    runs = saved_attention(page)["runs"]
    expected = [
        ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in zip(TOKEN_KINDS, shares, strict=True))
        for shares in runs[0]["shares"][:3]
    ]
    shown = "document.querySelector('.attention-run output').textContent"
    js(browser, "void document.querySelector('.attention-run .tokens').focus()")
    for shares in expected[:2]:
        browser.switch_to.active_element.send_keys(selenium.Keys.ARROW_RIGHT)
        assert js(browser, shown) == shares
    js(browser, "void document.querySelectorAll('.attention-run .token')[2].click()")
    assert js(browser, shown) == expected[2]
    values = [value for run in runs for heat in run["maps"] for row in heat for value in row if value is not None]
    assert abs(float(text_of(browser, "attention-max").split()[0]) - 100 * max(values)) < 0.5


@needs_browser
def test_everything_is_readable_on_a_phone(browser, page):
    open_page(browser, page, 390)
    set_control(browser, "case-clip", True)
    click(browser, ".case")
    assert js_until_true(browser, "document.querySelectorAll('.open .reply').length") == 2
    open_nodes = "[...document.querySelectorAll('.open, .open *')]"
    assert js(browser, f"{open_nodes}.filter(e => e.getBoundingClientRect().right > 390).length") == 0
    assert js(browser, "document.documentElement.scrollWidth") <= 390
    no_overlap(browser, "#comparisons tbody tr")
    figures = "[...document.querySelectorAll('figure svg')]"
    scale = "svg.getBoundingClientRect().width / svg.viewBox.baseVal.width"
    sizes = f"[...svg.querySelectorAll('text')].map(t => parseFloat(getComputedStyle(t).fontSize) * {scale})"
    assert js(browser, f"Math.min(...{figures}.flatMap(svg => {sizes}))") > 7, "pixels"
    assert js(browser, f"{figures}.every(s => s.getAttribute('role') === 'img' && s.getAttribute('aria-label'))")
    labels = js(browser, "[...document.querySelectorAll('.strip')].map(s => s.getAttribute('aria-label'))")
    rows = "[...document.querySelectorAll('#comparisons tbody tr')].filter(r => r.querySelector('svg'))"
    differences = js(browser, f"{rows}.map(r => r.children[1].textContent)")
    assert [label.split()[0] for label in labels] == differences


def no_overlap(browser, rows):
    """Assert that in a row no cell covers another one, and that all are inside the window."""
    cells = """[...document.querySelectorAll(arguments[0])].map(row =>
        [...row.children].filter(cell => cell.textContent || cell.querySelector('svg')).map(cell => {
          const range = document.createRange(); range.selectNodeContents(cell);
          const box = range.getBoundingClientRect();
          return [box.left, box.top, box.right, box.bottom]; }))"""
    boxes_by_row = browser.execute_script(f"return {cells}", rows)
    assert boxes_by_row
    for boxes in boxes_by_row:
        assert all(left >= 0 and right <= 390 for left, _, right, _ in boxes), boxes
        for number, (left, top, right, bottom) in enumerate(boxes):
            for other_left, other_top, other_right, other_bottom in boxes[number + 1 :]:
                apart = right <= other_left + 1 or other_right <= left + 1
                assert apart or bottom <= other_top + 1 or other_bottom <= top + 1, boxes


@needs_browser
def test_on_a_phone_filters_are_folded_and_curves_are_whole(browser, page):
    open_page(browser, page, 390)
    assert not js(browser, "document.getElementById('case-filters').open")
    assert js(browser, "document.getElementById('case-pattern').getBoundingClientRect().height > 0")
    several = (
        "[...document.querySelectorAll('.panels')].filter(p => p.children.length > 1).flatMap(p => [...p.children])"
    )
    assert js(browser, f"{several}.length") and js(browser, f"{several}.every(p => p.scrollWidth <= p.clientWidth)")
    open_page(browser, page, 1280)
    assert js(browser, "document.getElementById('case-filters').open")


@needs_browser
def test_what_differs_and_comparisons_come_first_and_the_contents_stay(browser, page):
    for width in WINDOW_WIDTHS.values():
        open_page(browser, page, width)
        order = js(browser, "[...document.querySelectorAll('section')].map(section => section.id)")
        assert order[:3] == ["settings", "comparisons", "accuracy"]
        links = js(browser, "[...document.querySelectorAll('nav a')].map(link => link.textContent)")
        assert links[:3] == ["Settings", "Comparisons", "Accuracy"]
        js(browser, "void document.getElementById('runs').scrollIntoView()")
        assert js(browser, "document.querySelector('nav').getBoundingClientRect().top") == 0
        js(browser, "void window.scrollTo(0, 0)")
    weights = js(
        browser, "[...document.querySelectorAll('#accuracy td .bold')].map(e => getComputedStyle(e).fontWeight)"
    )
    assert weights and set(weights) == {"600"}, "means are bold"
    quiet = js(browser, "[...document.querySelectorAll('#accuracy td .dim')].map(e => getComputedStyle(e).color)")
    assert quiet and js(browser, "getComputedStyle(document.body).color") not in quiet, "intervals are not"


@needs_browser
def test_many_arms_are_folded_but_not_what_nobody_named(browser, many_arms):
    open_page(browser, many_arms)
    assert not js(browser, "document.querySelector('#settings details').open")
    alerts = js(browser, "[...document.querySelectorAll('#settings > .wide tbody tr')].map(row => row.textContent)")
    assert len(alerts) == 2 and all("train.learning_rate 1 (2), not named" in alert for alert in alerts)
    names = js(browser, "[...document.querySelectorAll('#comparisons tr.heading')].map(row => row.textContent.trim())")
    assert names[0] == "algorithm 1, 20 % wrong labels against algorithm 0, 20 % wrong labels" and len(names) == 11
    shown = (
        "[...document.querySelectorAll('#comparisons tbody tr:not(.heading)')].filter(r => r.offsetHeight).map(row =>"
        " row.firstElementChild.textContent.trim())"
    )
    assert js(browser, shown) == ["all levels"] * 11
    js(browser, "void document.querySelector('.unfold').focus()")
    browser.switch_to.active_element.send_keys("\n")
    assert js(browser, shown) == ["all levels", "L1", "L2", "L3"] * 11
    assert js(browser, "document.querySelector('.unfold').ariaPressed") == "true"
    verdicts = js(browser, "[...document.querySelectorAll('#comparisons td.verdict')].map(cell => cell.textContent)")
    said = js(browser, "document.querySelector('header').textContent").partition("On all levels together: ")[2]
    counts = {words.split(" ", 1)[1]: int(words.split()[0]) for words in said.partition("\n")[0].split(", ")}
    assert counts == {verdict: verdicts[::4].count(verdict) for verdict in set(verdicts[::4])}


@needs_browser
@pytest.mark.parametrize("width", WINDOW_WIDTHS.values(), ids=WINDOW_WIDTHS)
def test_the_pinned_column_hides_nothing(browser, many_arms, width):
    """Each table is scrolled to its end: the first column still stands there, and the last one beside it."""
    open_page(browser, many_arms, width)
    ends = js(
        browser,
        """[...document.querySelectorAll('.wide')].filter(wide => wide.offsetHeight).map(wide => {
          wide.scrollLeft = 1e6;
          const row = [...wide.querySelectorAll('tbody tr:not(.heading)')].find(row => row.offsetHeight);
          if (getComputedStyle(row).display === 'flex') return null;  // a card does not scroll
          const [first, last] = [row.cells[0], row.cells[row.cells.length - 1]].map(e => e.getBoundingClientRect());
          const frame = wide.getBoundingClientRect();
          return [first.left - frame.left, last.left - first.right, frame.right - last.right]; })""",
    )
    tables = [end for end in ends if end]
    assert tables
    for at_left, beside, inside in tables:
        assert abs(at_left) <= 1 and beside >= -1 and inside >= -1


@needs_browser
def test_nothing_is_cut_in_print_and_folded_parts_are_printed(browser, page, many_arms):
    for printed in (page, many_arms):
        open_page(browser, printed, A4_WIDTH)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
        js(browser, "void dispatchEvent(new Event('beforeprint'))")
        assert js(browser, "document.querySelectorAll('details:not([open])').length") == 0
        assert js(browser, "[...document.querySelectorAll('tr.detail')].every(row => row.offsetHeight)")
        parts = "[...document.querySelectorAll('td, th, .panel svg, p')]"
        assert js(browser, f"{parts}.filter(e => e.getBoundingClientRect().right > {A4_WIDTH} + 1).length") == 0
        js(browser, "void dispatchEvent(new Event('afterprint'))")
        assert js(browser, "document.querySelectorAll('details:not([open])').length") > 0
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@needs_browser
def test_everything_that_can_be_used_is_reached_by_tab(browser, page):
    open_page(browser, page)
    usable = "a[href], button:not(:disabled), select:not(:disabled), input:not(:disabled), summary, .panel, .tokens"
    js(browser, f"window.left = new Set([...document.querySelectorAll('{usable}')].filter(e => e.offsetHeight))")
    for _ in range(js(browser, "left.size") + 40):  # scrollable tables are reached too
        selenium.ActionChains(browser).send_keys(selenium.Keys.TAB).perform()
        js(browser, "left.delete(document.activeElement)")
    assert js(browser, "[...left].map(e => e.outerHTML.slice(0, 100))") == []


@needs_browser
def test_a_picture_is_enlarged_by_click_and_by_keyboard(browser, page):
    open_page(browser, page, 390)
    width = js(browser, "document.querySelector('.panel svg').getBoundingClientRect().width")
    js(browser, "void document.querySelector('.panel').focus()")
    browser.switch_to.active_element.send_keys("\n")
    assert js(browser, "document.querySelector('#enlarged').open")
    assert js(browser, "document.querySelector('#enlarged svg').getBoundingClientRect().width") > 1.5 * width
    browser.switch_to.active_element.send_keys(selenium.Keys.ESCAPE)
    assert not js(browser, "document.querySelector('#enlarged').open")
    js(browser, "document.querySelector('.panel svg').dispatchEvent(new Event('click'))")
    click(browser, "#enlarged-close")
    assert not js(browser, "document.querySelector('#enlarged').open")


@needs_browser
def test_the_common_stem_of_questions_is_said_once(browser, page):
    open_page(browser, page)
    stems = text_of(browser, "case-stems")
    assert stems.startswith("… stands for “Considering ")
    shown = js(browser, "[...document.querySelectorAll('.case .what')].map(e => [e.textContent, e.title])")
    assert sum(text.startswith("… ") for text, _ in shown) > len(shown) / 2
    for text, whole in shown:
        assert whole.endswith(text.removeprefix("… ")) and (
            text == whole or whole.removesuffix(text[2:]).strip() in stems
        )


@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WINDOW_WIDTHS.values(), ids=WINDOW_WIDTHS)
def test_a_page_meets_wcag_aa(browser, page, many_arms, width, dark):
    """By axe-core, with all parts unfolded, and a case and an enlarged picture open too."""
    if not AXE.is_file():
        pytest.skip("no axe-core")
    for each in (page, many_arms):
        open_page(browser, each, width, dark)
        js(browser, "void document.querySelectorAll('details').forEach(details => { details.open = true; })")
        click(browser, ".case")
        js_until_true(browser, "document.querySelector('.open')")
        browser.execute_script(AXE.read_text())
        for opened in (False, True):
            if opened:
                js(browser, "document.querySelector('.panel svg').dispatchEvent(new Event('click'))")
            violations = browser.execute_async_script("""
                const done = arguments[0], tags = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"];
                axe.run(document, {runOnly: tags}).then(found => done(found.violations.map(
                  violation => `${violation.id}: ${violation.nodes[0].html.slice(0, 200)}`)));""")
            assert violations == []


def test_clips_have_the_size_that_the_model_sees(cache, tmp_path):
    """Two visual tokens a side, which are 32 pixels wide for Qwen3-VL and 28 for the others."""
    settings = ["model=nano/qwen3_vl", "data=kitchen/small", "eval.transfer=[]"]
    ids = [prompt.id for prompt in held_out_prompts("kitchen/small", ("L1",), (), 2)["L1"]]
    write_run(tmp_path / "run", *settings, right=("10",))
    edit_answers(tmp_path / "run" / "eval" / "L1.jsonl", lambda index, row: row | {"id": ids[index]})
    study = read_study(tmp_path)
    clips, problem = _read_clips(study, study.runs[0], [0])
    image = Image.open(BytesIO(base64.b64decode(clips[0]["image"].partition(",")[2])))
    assert (image.size, problem) == ((64, 64), "")


@needs_browser
def test_ten_thousand_questions_and_twenty_runs_open_in_seconds(browser, tmp_path):
    rng, words = random.Random(0), [f"word{i}" for i in range(500)]
    for seed in range(20):
        write_run(tmp_path / f"s{seed}", f"seed={seed}", right=("10" * 5000,))

        def edit(index, row):
            return row | {"question": f"What is next in {row['id']}?", "completion": " ".join(rng.choices(words, k=30))}

        edit_answers(tmp_path / f"s{seed}" / "eval" / "L1.jsonl", edit)
    page = save_page(tmp_path, tmp_path / "big.html")
    seconds = min(open_page(browser, page) for _ in range(3))
    print(f"{page.stat().st_size / 1e6:.0f} MB opened in {seconds:.2f} s")
    assert seconds < 5 and shown_count(browser) == 10_000
    set_control(browser, "case-column", "1")  # the reward for the format, which nine answers in ten get
    set_control(browser, "case-operator", "2")
    assert js_until_true(browser, "document.getElementById('case-count').textContent.startsWith('9000 ')")
