"use strict";
const byId = id => document.getElementById(id);

async function unpack(name) {  // the data that Python's `pack` wrote: JSON, gzip, base64
  const packed = await fetch("data:application/gzip;base64," + byId("data-" + name).textContent);
  return new Response(packed.body.pipeThrough(new DecompressionStream("gzip"))).json();
}

function make(tag, attributes = {}, ...children) {  // children are nodes or text; text is never parsed as HTML
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in node && name !== "style") node[name] = value; else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const letterOf = index => String.fromCharCode(65 + index);  // 0 -> A
const setOptions = (select, names) => select.replaceChildren(...names.map((name, i) => make("option", {value: i}, name)));

// Theme: that of the system, until the button is used.
byId("theme").onclick = () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
};

// A phone shows the filters of the cases folded.
if (matchMedia("(max-width: 36rem)").matches && byId("case-filters")) byId("case-filters").open = false;

// Rows of single levels, in a long table of comparisons.
for (const button of document.querySelectorAll(".unfold")) {
  button.onclick = () => {
    const folded = button.nextElementSibling.classList.toggle("folded");
    button.ariaPressed = String(!folded);
  };
}

// What is folded is printed too.
let foldedDetails = [];
addEventListener("beforeprint", () => {
  foldedDetails = [...document.querySelectorAll("details:not([open])")];
  for (const details of foldedDetails) details.open = true;
});
addEventListener("afterprint", () => { for (const details of foldedDetails) details.open = false; });

// A picture is enlarged by a click or Enter, and closed by Escape, the button or a click.
for (const svg of document.querySelectorAll(".panel svg")) {
  const enlarge = () => { byId("enlarged").lastElementChild.replaceChildren(svg.cloneNode(true)); byId("enlarged").showModal(); };
  const panel = svg.parentElement;
  Object.assign(panel, {tabIndex: 0, role: "button", title: "enlarge"});
  svg.onclick = enlarge;
  panel.onkeydown = event => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();  // else the same key presses the button that now has the focus
    enlarge();
  };
}
byId("enlarged-close").onclick = byId("enlarged").lastElementChild.onclick = () => byId("enlarged").close();

// Attention: one frame at a time, for all runs side by side.
async function showAttention() {
  const recorded = await unpack("attention");
  const [question, frame, opacity] = ["attention-question", "attention-frame", "attention-opacity"].map(byId);
  setOptions(question, recorded.map(entry => `${entry.level} ${entry.id ?? entry.sample}: ${entry.of}`));
  const showQuestion = () => {
    const entry = recorded[question.value];
    frame.max = entry.frames.length - 1;
    frame.value = 0;
    const options = entry.options.map((option, i) => letterOf(i) + " " + option).join(", ");
    byId("attention-text").textContent = `${entry.question} (${options}; right: ${entry.gold})`;
    byId("attention-runs").replaceChildren(...entry.runs.map(run => make("div", {className: "attention-run"},
      make("div", {className: "frame"}, make("img", {alt: "a frame"}), make("canvas")),
      make("p", {}, make("b", {}, run.name), ` ${run.answer ?? "no answer"}, `,
        make("span", {className: run.correct ? "green" : "red"}, run.correct ? "right" : "wrong")),
      ...completion(entry, run))));
    drawFrame();
  };
  const drawFrame = () => {
    const entry = recorded[question.value], index = Number(frame.value);
    const isImage = entry.image_is_last && index === entry.frames.length - 1;
    byId("attention-frame-name").textContent = isImage ? "observation" : `${2 * index + 1}–${2 * index + 2}`;
    const max = Math.max(...entry.runs.flatMap(run => run.maps.flat(2)).map(Number));
    byId("attention-max").textContent = `${(100 * max).toPrecision(2)} % of a token's attention`;
    document.querySelectorAll("#attention-runs .attention-run").forEach((box, i) => {
      box.querySelector("img").src = entry.frames[index];
      drawHeat(box.querySelector("canvas"), entry.runs[i].maps[index], max, opacity.value / 100);
    });
  };
  question.onchange = showQuestion;
  frame.oninput = opacity.oninput = drawFrame;
  showQuestion();
}

function completion(entry, run) {  // the tokens, one of which can be chosen by click, touch or arrow keys, and its shares
  const shares = make("output", {className: "dim"}, "\u00a0");
  const tokens = run.tokens.map((token, i) => tokenNode(run, token, i));
  let current = -1;
  const choose = i => {
    tokens[current]?.classList.remove("current");
    current = Math.max(0, Math.min(i, tokens.length - 1));
    tokens[current].classList.add("current");
    const percent = kind => `${(100 * run.shares[current][kind]).toFixed(0)} %`;
    shares.textContent = entry.kinds.map((name, kind) => `${name} ${percent(kind)}`).join(", ");
  };
  tokens.forEach((token, i) => { token.onclick = () => choose(i); });
  const steps = {ArrowLeft: -1, ArrowRight: 1};
  const onkeydown = event => {
    if (!(event.key in steps)) return;
    event.preventDefault();
    choose(current + steps[event.key]);
  };
  const label = `completion of ${run.name}: choose a token with the arrow keys`;
  const paragraph = make("p", {className: "tokens", tabIndex: 0, role: "group", ariaLabel: label, onkeydown}, ...tokens);
  return [paragraph, make("p", {}, shares)];
}

function tokenNode(run, token, i) {  // the more a token attends to video and image, the stronger its colour
  const visual = run.shares[i].slice(0, 2).reduce((a, b) => a + b, 0);
  const style = `background: color-mix(in srgb, var(--link) ${(60 * visual).toFixed(0)}%, transparent)`;
  return make("span", {className: "token" + (run.chosen.includes(i) ? " chosen" : ""), style}, token);
}

function drawHeat(canvas, map, max, opacity) {  // one pixel per visual token; null is a sink and stays transparent
  [canvas.height, canvas.width] = [map.length, map[0].length];
  const context = canvas.getContext("2d");
  map.forEach((row, y) => row.forEach((value, x) => {
    const heat = (value ?? 0) / max;
    context.fillStyle = `hsl(${50 * heat} 100% ${35 + 20 * heat}% / ${opacity * Math.sqrt(heat)})`;
    context.fillRect(x, y, 1, 1);
  }));
}

// Cases: filter questions by the answers of two runs, and open one to read the completions of all runs.
// Marks are characters of the index: " " is missing, "-" is no answer, "1" is yes, "0" is no.
const PATTERNS = {
  "all": () => true,
  "A wrong, B right": (a, b) => a.correct === "0" && b.correct === "1",
  "A right, B wrong": (a, b) => a.correct === "1" && b.correct === "0",
  "both right": (a, b) => a.correct === "1" && b.correct === "1",
  "both wrong": (a, b) => a.correct === "0" && b.correct === "0",
  "same wrong answer": (a, b) => a.correct === "0" && a.answer === b.answer && a.answer !== "-",
  "B has no answer": (a, b) => b.answer === "-",
  "B right, incoherent": (a, b) => b.correct === "1" && b.coherent === "0",
  "B wrong, coherent": (a, b) => b.correct === "0" && b.coherent === "1",
};
const OPERATORS = {"<": (x, y) => x < y, "≤": (x, y) => x <= y, "=": (x, y) => x === y, "≥": (x, y) => x >= y, ">": (x, y) => x > y};
const QUESTIONS_PER_PAGE = 40;

async function showCases() {
  const index = await unpack("index"), hasClip = new Set(index.clips);
  const [a, b, pattern, level, domain, column, operator, value, text, clip] =
    ["a", "b", "pattern", "level", "domain", "column", "operator", "value", "text", "clip"].map(name => byId("case-" + name));
  const levels = ["all", ...new Set(index.questions.map(question => question.level))];
  const domains = ["all", ...new Set(index.questions.map(question => question.domain))];
  for (const select of [a, b]) setOptions(select, index.runs.map(run => run.name));
  b.value = index.runs.length - 1;
  setOptions(pattern, Object.keys(PATTERNS));
  setOptions(column, ["(no condition)", ...index.columns]);
  setOptions(operator, Object.keys(OPERATORS));
  setOptions(level, levels);
  setOptions(domain, domains);
  clip.disabled = !hasClip.size;
  byId("case-clip-problem").textContent = index.clip_problem;
  let found = [], page = 0, lastCall = 0;
  const columns = {};  // name -> unpacked values

  const marks = (run, i) => ({answer: run.answers[i], correct: run.correct[i], coherent: run.coherent[i]});

  const filter = async () => {
    const call = ++lastCall, columnName = "column-" + (column.value - 1);
    operator.disabled = value.disabled = column.value === "0";
    if (!operator.disabled) columns[columnName] ??= await unpack(columnName);
    if (call !== lastCall) return;  // a control has changed in the meantime
    const runA = index.runs[a.value], runB = index.runs[b.value];
    const values = columns[columnName]?.[b.value], compare = Object.values(OPERATORS)[operator.value];
    const words = text.value.toLowerCase();
    const meetsFilters = i => {
      const question = index.questions[i];
      return runA.correct[i] !== " " && runB.correct[i] !== " "
        && (level.value === "0" || question.level === levels[level.value])
        && (domain.value === "0" || question.domain === domains[domain.value])
        && (operator.disabled || (values[i] !== null && compare(values[i], Number(value.value))))
        && (!clip.checked || hasClip.has(i))
        && `${question.id} ${question.question}`.toLowerCase().includes(words);
    };
    const candidates = [...index.questions.keys()].filter(meetsFilters);
    const matching = name => candidates.filter(i => PATTERNS[name](marks(runA, i), marks(runB, i)));
    const names = Object.keys(PATTERNS);
    names.forEach((name, n) => { pattern.options[n].textContent = `${name} (${matching(name).length})`; });
    found = matching(names[pattern.value]);
    byId("case-count").textContent = `${found.length} of ${index.questions.length} questions`;
    page = 0;
    showPage();
  };
  const showPage = () => {
    const shown = found.slice(page * QUESTIONS_PER_PAGE, (page + 1) * QUESTIONS_PER_PAGE);
    const pages = Math.max(1, Math.ceil(found.length / QUESTIONS_PER_PAGE));
    byId("case-page").textContent = `${page + 1} of ${pages}`;
    byId("case-previous").disabled = page === 0;
    byId("case-next").disabled = page >= pages - 1;
    byId("case-list").replaceChildren(...shown.map(listItem));
  };
  const answerMark = (run, i) => {
    const right = run.correct[i] === "1";
    return make("span", {className: right ? "green" : "red"}, `${run.answers[i]} ${right ? "✓" : "✗"}`);
  };
  const shortQuestion = question => (question.cut ? "… " : "") + question.question.slice(question.cut);
  byId("case-stems").textContent = index.stems.length ? `… stands for ${index.stems.map(stem => `“${stem.trim()}”`).join(" or ")}` : "";
  const listItem = i => {
    const question = index.questions[i];
    const button = make("button", {type: "button", className: "case", ariaExpanded: "false"},
      make("span", {className: "where" + (hasClip.has(i) ? " clip" : "")}, `${question.level} ${question.id}`),
      make("span", {className: "what", title: question.question}, shortQuestion(question)),
      answerMark(index.runs[a.value], i), answerMark(index.runs[b.value], i));
    button.onclick = async () => {
      const open = button.ariaExpanded === "true";
      button.ariaExpanded = String(!open);
      if (open) button.nextSibling.remove(); else button.after(await openCase(i));
    };
    return make("li", {}, button);
  };
  const openCase = async i => {
    const question = index.questions[i];
    const chunk = await unpack("texts-" + Math.floor(i / index.questions_per_chunk));
    const {options, completions} = chunk[i % index.questions_per_chunk];
    const chosenFirst = [...new Set([Number(a.value), Number(b.value), ...completions.keys()])];
    const [first, second, ...others] = chosenFirst.filter(run => completions[run]);
    const completionNodes = run => [make("b", {}, `${index.runs[run].name}: `), answerMark(index.runs[run], i),
      make("p", {className: `reply ${index.runs[run].correct[i] === "1" ? "right-answer" : "wrong-answer"}`}, completions[run].text),
      make("p", {className: "words dim"}, Object.entries(completions[run].rewards).map(([name, reward]) => `${name} ${reward}`).join(" · "))];
    const optionItems = options.map((option, n) => make("li", {className: letterOf(n) === question.gold ? "gold" : ""}, `${letterOf(n)} ${option}`));
    const more = make("details", {}, make("summary", {}, `${others.length} more runs`), ...others.flatMap(completionNodes));
    const panel = make("div", {className: "open"}, make("div", {className: "texts"},
      make("p", {}, question.question), make("ul", {}, ...optionItems),
      ...[first, second].filter(run => run !== undefined).flatMap(completionNodes),
      ...(others.length ? [more] : [])));
    if (hasClip.has(i)) panel.prepend(media(await unpack("clip-" + i)));
    return panel;
  };
  for (const control of [a, b, pattern, level, domain, column, operator, clip]) control.onchange = filter;
  text.oninput = value.oninput = filter;
  byId("case-previous").onclick = () => { page -= 1; showPage(); };
  byId("case-next").onclick = () => { page += 1; showPage(); };
  filter();
}

function media(clip) {  // the video and the image of a question
  const video = {controls: true, loop: true, muted: true, ariaLabel: "the video as the model sees it"};
  return make("div", {className: "media"},
    ...(clip.video ? [make("video", {src: clip.video, ...video})] : []),
    ...(clip.image ? [make("img", {src: clip.image, alt: "the observation"})] : []));
}

Promise.all([byId("data-attention") && showAttention(), byId("data-index") && showCases()])
  .then(() => { document.documentElement.dataset.ready = "yes"; });
