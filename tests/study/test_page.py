"""The page of a folder of runs, in a real browser: nothing fails, filters filter, the slider moves, all is escaped."""

import json
import random
import re
import shutil
from pathlib import Path

import pytest

from rlvid.api import attention, train
from rlvid.policy.attention import TOKEN_KINDS
from rlvid.study.page import save
from rlvid.utils.files import read_jsonl, write_jsonl
from tests.helpers.reports import write_run

selenium = pytest.importorskip("selenium.webdriver")
Keys = selenium.Keys
DRIVER = shutil.which("chromedriver")
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
HOSTILE = '</script><script>window.broken=1</script><img src=x onerror="window.broken=1">{{ 7*7 }} & "quotes"'
SHOTS = Path(__file__).parents[1] / "artefacts"
WIDTHS = {"phone": 390, "desk": 1280}

browsed = pytest.mark.skipif(
    not (DRIVER and BROWSER), reason="no chromium and chromedriver; apt install chromium-driver"
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Of two real evaluations of eight questions a level, which differ in their answers, one of them hostile."""
    runs = tmp_path_factory.mktemp("page") / "runs"
    for seed in (0, 1):
        train(
            "nano",
            [
                "train.max_steps=0",
                "eval.limit=8",
                "eval.transfer=[]",
                f"seed={seed}",
                f"eval.temperature={float(seed)}",
            ],
            runs / f"s{seed}",
        )
    attention([runs / "s0", runs / "s1"], "L2/" + read_jsonl(runs / "s0" / "eval" / "L2.jsonl")[0]["id"], "reply")
    for seed in (0, 1):
        rows = read_jsonl(runs / f"s{seed}" / "eval" / "L1.jsonl")
        for i, row in enumerate(rows):
            row |= {"rewards/consistency_nli": None if i == 7 else i / 8}
        rows[0] |= {"completion": HOSTILE, "question": HOSTILE, "domain": HOSTILE}
        rows[1] |= {"answer": None, "correct": False} if seed else {"answer": rows[1]["gold"], "correct": True}
        write_jsonl(runs / f"s{seed}" / "eval" / "L1.jsonl", rows)
    alarm = {"step": 3, "kind": "collapse", "says": "alike", "sample": "q"}
    write_jsonl(runs / "s0" / "alarms.jsonl", [alarm])
    write_jsonl(runs / "s0" / "samples" / "step-000003.jsonl", [{"id": "q", "completions": ["said so", HOSTILE]}])
    return save(runs, runs / "page.html")


@pytest.fixture(scope="module")
def browser():
    options = selenium.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with selenium.Chrome(options=options, service=selenium.ChromeService(DRIVER)) as driver:
        driver.set_script_timeout(60)
        yield driver


def visit(browser, page, width=1280, dark=False):
    """Open a page, wait until its script is through; returns how many seconds that took by the browser's clock."""
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": scheme})
    browser.get(page.as_uri())
    return browser.execute_async_script("""
        const done = arguments[0], look = () => document.documentElement.dataset.ready
          ? done(performance.now() / 1000) : setTimeout(look, 5);
        look();""")


def js(browser, code, *given):
    return browser.execute_script("return " + code, *given)


def choose(browser, id, value):
    """Set a control as a person would, and tell the page."""
    code = """
        const control = document.getElementById(arguments[0]), key = control.type === 'checkbox' ? 'checked' : 'value';
        control[key] = arguments[1];
        for (const event of ['input', 'change']) control.dispatchEvent(new Event(event));"""
    browser.execute_script(code, id, value)


def eventually(browser, code):
    """What an expression comes to be, once it is something."""
    return browser.execute_async_script(f"""
        const done = arguments[0], look = () => {{ const found = {code}; found ? done(found) : setTimeout(look, 10); }};
        look();""")


def answers(run):
    return {(f.stem, row["id"]): row for f in sorted((run / "eval").glob("*.jsonl")) for row in read_jsonl(f)}


def count(browser):
    return int(js(browser, "document.getElementById('case-count').textContent").split()[0])


def shot(browser, name):
    SHOTS.mkdir(exist_ok=True)
    browser.save_screenshot(str(SHOTS / f"{name}.png"))


def test_a_page_needs_nothing_from_anywhere(page):
    text = page.read_text()
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", text) and "@import" not in text
    assert not re.findall(r"url\((?!#)", text), "clip paths of its own pictures, and nothing else"
    assert HOSTILE not in text and "window.broken=1</script>" not in text


@browsed
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
def test_a_page_loads_without_a_word_in_the_console_and_fits_its_window(browser, page, width, dark):
    visit(browser, page, width, dark)
    assert browser.get_log("browser") == []
    assert js(browser, "document.documentElement.scrollWidth") <= width
    ink, paper = js(browser, "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
    assert (sum(map(int, re.findall(r"\d+", ink)[:3])) > sum(map(int, re.findall(r"\d+", paper)[:3]))) == dark
    words = js(browser, "[...document.querySelectorAll('figure svg text')].map(e => getComputedStyle(e).fill)")
    assert words and set(words) == {ink}, "what stands in a picture can be read"
    js(browser, "void document.getElementById('theme').click()")
    assert js(browser, "getComputedStyle(document.body).color") != ink
    js(browser, "void document.getElementById('theme').click()")
    js(browser, "void document.querySelector('.case').click()")
    eventually(browser, "document.querySelector('.open')")
    js(browser, "void document.getElementById('looks').scrollIntoView()")
    shot(browser, f"page-{width}-{'dark' if dark else 'light'}")


@browsed
def test_filters_filter(browser, page):
    visit(browser, page)
    rows = [answers(page.parent / seed) for seed in ("s0", "s1")]
    assert count(browser) == 24
    mended = [key for key in rows[0] if not rows[0][key]["correct"] and rows[1][key]["correct"]]
    broken = [key for key in rows[0] if rows[0][key]["correct"] and not rows[1][key]["correct"]]
    for pattern, expected in (("1", mended), ("2", broken)):
        choose(browser, "case-pattern", pattern)
        assert count(browser) == len(expected)
        shown = js(browser, "[...document.querySelectorAll('.case .where')].map(e => e.textContent)")
        assert shown == [f"{level} {id}" for level, id in expected]
    choose(browser, "case-pattern", "0")
    choose(browser, "case-level", "2")
    assert count(browser) == 8 and js(browser, "document.querySelector('.case .where').textContent").startswith("L2")
    choose(browser, "case-level", "0")
    choose(browser, "case-text", "onerror")
    assert count(browser) == 1
    choose(browser, "case-text", "")
    choose(browser, "case-clip", True)
    assert count(browser) == len(mended) + len(broken), "clips are of the questions on which runs disagree"


@browsed
def test_cases_are_found_by_what_a_reward_says_and_by_coherence(browser, page):
    visit(browser, page)
    second = answers(page.parent / "s1")
    told = {key: row["rewards/consistency_nli"] for key, row in second.items() if key[0] == "L1"}
    patterns = js(browser, "[...document.getElementById('case-pattern').options].map(o => o.textContent)")
    for name, right, leads in (("B right, incoherent", True, False), ("B wrong, coherent", False, True)):
        held = [k for k, v in told.items() if v is not None and second[k]["correct"] == right and (v >= 0.5) == leads]
        assert f"{name} ({len(held)})" in patterns, "as rlvid cases counts them"
    columns = js(browser, "[...document.getElementById('case-column').options].map(o => o.textContent)")
    choose(browser, "case-column", str(columns.index("consistency_nli")))
    for sign, value, expected in (("0", 0.25, 2), ("2", 0.25, 1), ("4", 0.25, 4), ("3", 0.25, 5), ("1", 9, 7)):
        choose(browser, "case-sign", sign)
        choose(browser, "case-value", str(value))
        assert count(browser) == expected, "one has no such reward; on L2 and L3 nobody has"
    choose(browser, "case-column", "0")
    assert count(browser) == 24


@browsed
def test_a_case_opens_by_key_with_its_clip_and_what_was_said(browser, page):
    visit(browser, page)
    choose(browser, "case-clip", True)
    js(browser, "void document.querySelector('.case').focus()")
    browser.switch_to.active_element.send_keys("\n")
    assert eventually(browser, "document.querySelectorAll('.open .reply').length") == 2
    film = "(v => v && v.readyState && [v.videoWidth, v.duration])(document.querySelector('.open video'))"
    assert eventually(browser, film) == [56, 4.0], "eight frames at two a second, as the policy was shown them"
    assert js(browser, "document.activeElement.getAttribute('aria-expanded')") == "true"
    browser.switch_to.active_element.send_keys("\n")
    assert not js(browser, "document.querySelector('.open')")


@browsed
def test_what_a_run_wrote_stays_text(browser, page):
    visit(browser, page)
    choose(browser, "case-text", "onerror")
    js(browser, "void document.querySelector('.case').click()")
    assert eventually(browser, "document.querySelector('.open .reply')?.textContent") == HOSTILE
    said = js(browser, "[...document.querySelectorAll('#runs .reply')].map(e => e.textContent)")
    assert said == ["said so", HOSTILE], "what alarmed"
    assert js(browser, "window.broken") is None


@browsed
def test_the_slider_moves_through_the_frames(browser, page):
    visit(browser, page)
    look = json.loads(next(page.parent.glob("s0/attention/**/attention.json")).read_text())
    seen = []
    for at in range(len(look["frames"])):
        choose(browser, "look-frame", str(at))
        frame, heat = (f"document.querySelector('#look-runs {tag}')" for tag in ("img", "canvas"))
        seen.append(js(browser, f"[{frame}.src, {heat}.toDataURL()]"))
    assert len({frame for frame, _ in seen}) == len({heat for _, heat in seen}) == len(look["frames"]) == 5
    assert js(browser, "document.getElementById('look-which').textContent") == "observation"
    assert js(browser, "document.querySelectorAll('.look').length") == 2
    assert js(browser, "document.querySelector('.look .tokens').textContent") == "".join(look["runs"][0]["tokens"])


@browsed
def test_shares_of_a_token_are_told_by_key_and_by_click(browser, page):
    visit(browser, page)
    [run, *_] = json.loads(next(page.parent.glob("s0/attention/**/attention.json")).read_text())["runs"]
    told = "document.querySelector('.look output').textContent"
    parts = [
        ", ".join(f"{kind} {100 * share:.0f} %" for kind, share in zip(TOKEN_KINDS, row, strict=True))
        for row in run["shares"][:3]
    ]
    js(browser, "void document.querySelector('.look .tokens').focus()")
    for expected in parts[:2]:
        browser.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
        assert js(browser, told) == expected
    js(browser, "void document.querySelectorAll('.look .token')[2].click()")
    assert js(browser, told) == parts[2]
    most = max(v for run in json.loads(next(page.parent.glob("s0/attention/**/attention.json")).read_text())["runs"]
               for heat in run["maps"] for row in heat for v in row if v is not None)  # fmt: skip
    assert abs(float(js(browser, "document.getElementById('look-most').textContent").split()[0]) - 100 * most) < 0.5


@browsed
def test_a_phone_shows_an_open_case_a_verdict_and_pictures_that_can_be_read(browser, page):
    visit(browser, page, 390)
    choose(browser, "case-clip", True)
    js(browser, "void document.querySelector('.case').click()")
    assert eventually(browser, "document.querySelectorAll('.open .reply').length") == 2
    over = "[...document.querySelectorAll('.open, .open *')].filter(e => e.getBoundingClientRect().right > 390).length"
    assert js(browser, over) == 0 and js(browser, "document.documentElement.scrollWidth") <= 390
    right = "[...document.querySelectorAll('td.verdict')].map(e => e.getBoundingClientRect().right)"
    assert js(browser, right) and max(js(browser, right)) <= 390
    pictures = "[...document.querySelectorAll('figure svg')]"
    small = f"Math.min(...{pictures}.flatMap(s => [...s.querySelectorAll('text')].map("
    small += (
        "t => parseFloat(getComputedStyle(t).fontSize) * s.getBoundingClientRect().width / s.viewBox.baseVal.width)))"
    )
    assert js(browser, small) > 7, "pixels"
    assert js(browser, f"{pictures}.every(s => s.getAttribute('role') === 'img' && s.getAttribute('aria-label'))")
    strips = "[...document.querySelectorAll('.strip')].map(s => s.getAttribute('aria-label'))"
    points = "[...document.querySelectorAll('#comparisons tbody tr')].filter(r => r.querySelector('svg'))"
    points += ".map(r => r.children[1].textContent)"
    assert [label.split()[0] for label in js(browser, strips)] == js(browser, points)


@browsed
def test_ten_thousand_questions_and_twenty_runs_open_at_once(browser, tmp_path):
    luck, words = random.Random(0), [f"word{i}" for i in range(500)]
    for seed in range(20):
        write_run(tmp_path / f"s{seed}", f"seed={seed}", right=("10" * 5000,))
        path = tmp_path / f"s{seed}" / "eval" / "L1.jsonl"
        rows = [row | {"question": f"What is next in {row['id']}?"} for row in read_jsonl(path)]
        write_jsonl(path, (row | {"completion": " ".join(luck.choices(words, k=30))} for row in rows))
    page = save(tmp_path, tmp_path / "big.html")
    seconds = min(visit(browser, page) for _ in range(3))
    print(f"{page.stat().st_size / 1e6:.0f} MB opened in {seconds:.2f} s")
    assert seconds < 2 and count(browser) == 10_000
    choose(browser, "case-column", "1")
    choose(browser, "case-sign", "2")
    assert eventually(browser, "document.getElementById('case-count').textContent.startsWith('9000 ')"), "the format's"
