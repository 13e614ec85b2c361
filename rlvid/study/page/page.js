"use strict";
const byId = id => document.getElementById(id);

async function unpack(name) {  // what Python packed: JSON, gzip, base64
  const packed = await fetch("data:application/gzip;base64," + byId("data-" + name).textContent);
  return new Response(packed.body.pipeThrough(new DecompressionStream("gzip"))).json();
}

function make(tag, attributes = {}, ...children) {  // children are nodes or text; text is never read as HTML
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name in node && name !== "style") node[name] = value; else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

const letter = place => String.fromCharCode(65 + place);
const choices = (select, names) => select.replaceChildren(...names.map((name, i) => make("option", {value: i}, name)));

// Theme: the system's, until somebody asks for the other one.
byId("theme").onclick = () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
};

// Where runs look: one frame at a time, every run beside the others.
async function looks() {
  const all = await unpack("looks");
  const [sample, slider, heat] = ["look-sample", "look-frame", "look-heat"].map(byId);
  choices(sample, all.map(look => `${look.level} ${look.id ?? look.sample}: ${look.of}`));
  const open = () => {
    const look = all[sample.value];
    slider.max = look.frames.length - 1;
    slider.value = 0;
    byId("look-question").textContent = `${look.question} (${look.options.map((o, i) => letter(i) + " " + o).join(", ")}; right: ${look.gold})`;
    byId("look-runs").replaceChildren(...look.runs.map(run => make("div", {className: "look"},
      make("div", {className: "frame"}, make("img", {alt: "a frame"}), make("canvas")),
      make("p", {}, make("b", {}, run.name), ` ${run.answer ?? "no answer"}, `, make("span", {className: run.correct ? "green" : "red"}, run.correct ? "right" : "wrong")),
      ...reply(look, run))));
    draw();
  };
  const draw = () => {
    const look = all[sample.value], at = Number(slider.value), image = look.image_is_last && at === look.frames.length - 1;
    byId("look-which").textContent = image ? "observation" : `${2 * at + 1}–${2 * at + 2}`;
    const most = Math.max(...look.runs.flatMap(run => run.maps.flat(2)).map(Number));
    byId("look-most").textContent = `${(100 * most).toPrecision(2)} % of a token's attention`;
    document.querySelectorAll("#look-runs .look").forEach((box, i) => {
      box.querySelector("img").src = look.frames[at];
      paint(box.querySelector("canvas"), look.runs[i].maps[at], most, heat.value / 100);
    });
  };
  sample.onchange = open;
  slider.oninput = heat.oninput = draw;
  open();
}

function reply(look, run) {  // its tokens, one of which is current: by a click, a touch or the arrow keys
  const told = make("output", {className: "dim"}, "\u00a0"), tokens = run.tokens.map((token, i) => said(run, token, i));
  let current = -1;
  const choose = i => {
    tokens[current]?.classList.remove("current");
    current = Math.max(0, Math.min(i, tokens.length - 1));
    tokens[current].classList.add("current");
    told.textContent = look.kinds.map((kind, k) => `${kind} ${(100 * run.shares[current][k]).toFixed(0)} %`).join(", ");
  };
  tokens.forEach((token, i) => { token.onclick = () => choose(i); });
  const step = {ArrowLeft: -1, ArrowRight: 1};
  const onkeydown = event => { if (event.key in step) { event.preventDefault(); choose(current + step[event.key]); } };
  const label = `what ${run.name} said: arrow keys choose a token`;
  return [make("p", {className: "tokens", tabIndex: 0, role: "group", ariaLabel: label, onkeydown}, ...tokens), make("p", {}, told)];
}

function said(run, token, i) {  // a token, as dark as its attention to pixels is large
  const pixels = run.shares[i].slice(0, 2).reduce((a, b) => a + b, 0);
  const style = `background: color-mix(in srgb, var(--link) ${(60 * pixels).toFixed(0)}%, transparent)`;
  return make("span", {className: "token" + (run.chosen.includes(i) ? " chosen" : ""), style}, token);
}

function paint(canvas, map, most, strength) {  // a cell for each visual token; null is a sink and stays clear
  [canvas.height, canvas.width] = [map.length, map[0].length];
  const context = canvas.getContext("2d");
  map.forEach((row, y) => row.forEach((value, x) => {
    const warm = (value ?? 0) / most;
    context.fillStyle = `hsl(${50 * warm} 100% ${35 + 20 * warm}% / ${strength * Math.sqrt(warm)})`;
    context.fillRect(x, y, 1, 1);
  }));
}

// Cases: questions by what two runs made of them; the replies of all runs when one is opened.
const PATTERNS = {
  "all": () => true,
  "A wrong, B right": (a, b) => a === "0" && b === "1",
  "A right, B wrong": (a, b) => a === "1" && b === "0",
  "both right": (a, b) => a === "1" && b === "1",
  "both wrong": (a, b) => a === "0" && b === "0",
  "same wrong answer": (a, b, x, y) => a === "0" && x === y && x !== "-",
  "B has no answer": (a, b, x, y) => y === "-",
  "B right, incoherent": (a, b, x, y, leads) => b === "1" && leads === "0",
  "B wrong, coherent": (a, b, x, y, leads) => b === "0" && leads === "1",
};
const SIGNS = {"<": (x, y) => x < y, "≤": (x, y) => x <= y, "=": (x, y) => x === y, "≥": (x, y) => x >= y, ">": (x, y) => x > y};
const PAGE = 40;

async function cases() {
  const index = await unpack("index"), clips = new Set(index.clips);
  const [a, b, pattern, level, domain, column, sign, value, text, clip] =
    ["a", "b", "pattern", "level", "domain", "column", "sign", "value", "text", "clip"].map(n => byId("case-" + n));
  const levels = ["all", ...new Set(index.questions.map(q => q.level))], domains = ["all", ...new Set(index.questions.map(q => q.domain))];
  for (const select of [a, b]) choices(select, index.runs.map(run => run.name));
  b.value = index.runs.length - 1;
  choices(pattern, Object.keys(PATTERNS));
  choices(column, ["anything", ...index.columns]);
  choices(sign, Object.keys(SIGNS));
  choices(level, levels);
  choices(domain, domains);
  clip.disabled = !clips.size;
  byId("case-why").textContent = index.why;
  let found = [], page = 0, turn = 0;
  const unpacked = {};

  const filter = async () => {
    const now = ++turn, name = "column-" + (column.value - 1), holds = Object.values(SIGNS)[sign.value];
    sign.disabled = value.disabled = column.value === "0";
    if (!sign.disabled) unpacked[name] ??= await unpack(name);
    if (now !== turn) return;  // somebody has asked for something else meanwhile
    const values = unpacked[name]?.[b.value];
    const one = index.runs[a.value], other = index.runs[b.value], words = text.value.toLowerCase();
    const asked = index.questions.map((q, i) => i).filter(i => one.right[i] !== " " && other.right[i] !== " "
      && (level.value === "0" || index.questions[i].level === levels[level.value])
      && (domain.value === "0" || index.questions[i].domain === domains[domain.value])
      && (sign.disabled || (values[i] !== null && holds(values[i], Number(value.value))))
      && (!clip.checked || clips.has(i))
      && `${index.questions[i].id} ${index.questions[i].question}`.toLowerCase().includes(words));
    const falls = (name, i) => PATTERNS[name](one.right[i], other.right[i], one.said[i], other.said[i], other.coherent[i]);
    const names = Object.keys(PATTERNS);
    names.forEach((name, n) => { pattern.options[n].textContent = `${name} (${asked.filter(i => falls(name, i)).length})`; });
    found = asked.filter(i => falls(names[pattern.value], i));
    byId("case-count").textContent = `${found.length} of ${index.questions.length} questions`;
    page = 0;
    list();
  };
  const list = () => {
    const shown = found.slice(page * PAGE, (page + 1) * PAGE), pages = Math.max(1, Math.ceil(found.length / PAGE));
    byId("case-page").textContent = `${page + 1} of ${pages}`;
    byId("case-back").disabled = page === 0;
    byId("case-on").disabled = page >= pages - 1;
    byId("case-list").replaceChildren(...shown.map(row));
  };
  const mark = (run, i) => make("span", {className: run.right[i] === "1" ? "green" : "red"}, `${run.said[i]} ${run.right[i] === "1" ? "✓" : "✗"}`);
  const row = i => {
    const q = index.questions[i];
    const button = make("button", {type: "button", className: "case", ariaExpanded: "false"},
      make("span", {className: "where" + (clips.has(i) ? " clip" : "")}, `${q.level} ${q.id}`), make("span", {className: "what"}, q.question),
      mark(index.runs[a.value], i), mark(index.runs[b.value], i));
    button.onclick = async () => {
      const open = button.ariaExpanded === "true";
      button.ariaExpanded = String(!open);
      if (open) button.nextSibling.remove(); else button.after(await opened(i));
    };
    return make("li", {}, button);
  };
  const opened = async i => {
    const q = index.questions[i], chunk = await unpack("texts-" + Math.floor(i / index.together)), {options, replies} = chunk[i % index.together];
    const order = [...new Set([Number(a.value), Number(b.value), ...replies.keys()])].filter(r => replies[r]);
    const said = r => [make("b", {}, `${index.runs[r].name}: `), mark(index.runs[r], i),
      make("p", {className: `reply ${index.runs[r].right[i] === "1" ? "right-answer" : "wrong-answer"}`}, replies[r].text),
      make("p", {className: "words dim"}, Object.entries(replies[r].rewards).map(([k, v]) => `${k} ${v}`).join("   "))];
    const rest = order.slice(2);
    const panel = make("div", {className: "open"}, make("div", {className: "said"},
      make("p", {}, q.question), make("ul", {}, ...options.map((o, n) => make("li", {className: letter(n) === q.gold ? "gold" : ""}, `${letter(n)} ${o}`))),
      ...order.slice(0, 2).flatMap(said),
      ...(rest.length ? [make("details", {}, make("summary", {}, `${rest.length} more runs`), ...rest.flatMap(said))] : [])));
    if (clips.has(i)) {
      const shown = await unpack("clip-" + i);
      panel.prepend(make("div", {className: "media"},
        ...(shown.video ? [make("video", {src: shown.video, controls: true, loop: true, muted: true, ariaLabel: "the clip, as the policy was shown it"})] : []),
        ...(shown.image ? [make("img", {src: shown.image, alt: "the observation"})] : [])));
    }
    return panel;
  };
  for (const control of [a, b, pattern, level, domain, column, sign, clip]) control.onchange = filter;
  text.oninput = value.oninput = filter;
  byId("case-back").onclick = () => { page -= 1; list(); };
  byId("case-on").onclick = () => { page += 1; list(); };
  filter();
}

Promise.all([byId("data-looks") && looks(), byId("data-index") && cases()]).then(() => { document.documentElement.dataset.ready = "yes"; });
