"use strict";
// Sorting, filtering, pointing at methods, tooltips, copying, the theme and the problem browser.
// All text reaches the page as text nodes.
(() => {
  const $ = (id) => document.getElementById(id);

  function element(tag, text, className) {
    const made = document.createElement(tag);
    if (text !== undefined) made.textContent = text;
    if (className) made.className = className;
    return made;
  }

  // --- theme: follows the system until the reader chooses ---
  const root = document.documentElement;
  const theme = $("theme");
  theme.hidden = false;
  theme.addEventListener("click", () => {
    const dark = root.dataset.theme
      ? root.dataset.theme === "dark"
      : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });

  // --- tables: a click on a head sorts, a second click turns the order ---
  for (const table of document.querySelectorAll("table.data")) {
    const body = table.tBodies[0];
    [...table.tHead.rows[0].cells].forEach((head, place) => {
      const button = element("button", head.textContent);
      button.type = "button";
      head.replaceChildren(button);
      button.addEventListener("click", () => sort(table, body, head, place));
    });
  }

  function sort(table, body, head, place) {
    const numeric = head.classList.contains("n");
    const before = head.getAttribute("aria-sort");
    const first = numeric ? "descending" : "ascending";
    const second = numeric ? "ascending" : "descending";
    const order = before === first ? second : first;
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const key = (row) => row.cells[place].dataset.sort;
    const rows = [...body.rows].sort((a, b) => {
      const [x, y] = [key(a), key(b)];
      if (x === "" || y === "") return (x === "") - (y === ""); // holes stay at the end
      return sign * (numeric ? Number(x) - Number(y) : x.localeCompare(y));
    });
    body.append(...rows);
  }

  // --- tables: a field above a longer one keeps the rows that hold its words ---
  const chosen = new Set();
  const shown = (row, words) => {
    const own = (row.dataset.methods ?? "").split(" ");
    if (chosen.size && own[0] !== "" && !own.some((method) => chosen.has(method))) return false;
    const text = words.length ? row.textContent.toLowerCase() : "";
    return words.every((word) => text.includes(word));
  };
  const filters = [];
  for (const table of document.querySelectorAll("table.data")) {
    const rows = [...table.tBodies[0].rows];
    let words = [];
    const status = element("span");
    status.setAttribute("role", "status");
    const apply = () => {
      let n = 0;
      for (const row of rows) {
        row.hidden = !shown(row, words);
        n += !row.hidden;
      }
      status.textContent = n < rows.length ? `${n} of ${rows.length} rows` : "";
    };
    filters.push(apply);
    if (rows.length < 8) continue;
    const tools = element("p", undefined, "tools");
    const label = element("label", "Filter rows");
    const field = element("input");
    field.type = "search";
    field.autocomplete = "off";
    field.setAttribute("aria-controls", table.id);
    label.append(field);
    tools.append(label, status);
    table.parentElement.before(tools);
    field.addEventListener("input", () => {
      words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      apply();
    });
  }

  // --- methods: those pressed in the legend stand out in all figures and are kept in all tables ---
  const legend = $("legend");
  legend.hidden = false;
  const buttons = [...legend.querySelectorAll("button[data-method]")];
  const point = () => {
    for (const button of buttons)
      button.setAttribute("aria-pressed", String(chosen.has(button.dataset.method)));
    $("every").hidden = chosen.size === 0;
    for (const part of document.querySelectorAll(".plot [data-m]"))
      part.classList.toggle("dim", chosen.size > 0 && !chosen.has(part.dataset.m));
    for (const apply of filters) apply();
  };
  for (const button of buttons)
    button.addEventListener("click", () => {
      const method = button.dataset.method;
      if (!chosen.delete(method)) chosen.add(method);
      point();
    });
  $("every").addEventListener("click", () => {
    chosen.clear();
    point();
    buttons[0].focus();
  });

  // --- figures: what a mark says, by pointer and by arrow keys ---
  const tip = $("tip");
  let told = null;
  const unmark = () => {
    told?.classList.remove("at");
    told = null;
    tip.hidden = true;
  };
  const place = () => {
    const box = told.getBoundingClientRect();
    const left = Math.min(box.right + 8, innerWidth - tip.offsetWidth - 8);
    const above = box.top - tip.offsetHeight - 8;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${above > 8 ? above : box.bottom + 8}px`;
  };
  const say = (part) => {
    unmark();
    told = part;
    part.classList.add("at");
    tip.textContent = part.dataset.tip;
    tip.hidden = false;
    place();
  };
  for (const drawing of document.querySelectorAll(".plot svg[role='img']")) {
    const parts = [...drawing.querySelectorAll("g[id*='tip-']")].filter((part) => {
      const title = part.querySelector("title");
      if (!title) return false;
      part.dataset.tip = title.textContent;
      title.remove(); // or the browser's own slow tooltip would follow ours
      return true;
    });
    if (!parts.length) continue;
    drawing.setAttribute("tabindex", "0");
    drawing.setAttribute("aria-description", "Arrow keys read one mark after the other.");
    let at = -1;
    for (const part of parts) {
      part.addEventListener("pointerenter", () => say(part));
      part.addEventListener("pointerleave", unmark);
    }
    drawing.addEventListener("blur", unmark);
    drawing.addEventListener("keydown", (event) => {
      const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
      if (event.key === "Escape") unmark();
      if (!(event.key in steps)) return;
      event.preventDefault();
      at = (at + steps[event.key] + parts.length + (at < 0 && steps[event.key] < 0)) % parts.length;
      say(parts[at]);
    });
  }
  addEventListener("scroll", () => told && place(), { passive: true });

  // --- copying ---
  async function copy(text) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      const field = element("textarea", text); // where a page from a file may not use the clipboard
      document.body.append(field);
      field.select();
      document.execCommand("copy");
      field.remove();
    }
  }
  for (const button of document.querySelectorAll("[data-copy]")) {
    const before = button.textContent;
    button.hidden = false;
    button.addEventListener("click", async () => {
      await copy($(button.dataset.copy).textContent);
      button.textContent = "Copied";
      setTimeout(() => (button.textContent = before), 1500);
    });
  }

  // --- navigation: which section is being read ---
  const links = new Map(
    [...document.querySelectorAll(".rail nav a")].map((link) => [link.hash.slice(1), link]),
  );
  const sections = [...links.keys()].map($).filter(Boolean);
  const locate = () => {
    const passed = sections.filter((part) => part.getBoundingClientRect().top < innerHeight / 3);
    const current = passed.at(-1) ?? sections[0];
    for (const [id, link] of links)
      if (current && id === current.id) link.setAttribute("aria-current", "location");
      else link.removeAttribute("aria-current");
  };
  addEventListener("scroll", locate, { passive: true });
  locate();

  // --- paper: folded tables are printed open, but for the longest ---
  addEventListener("beforeprint", () => {
    for (const folded of document.querySelectorAll("details:not([open]):not(.long):not(.paste)")) {
      folded.open = true;
      folded.dataset.printed = "";
    }
  });
  addEventListener("afterprint", () => {
    for (const folded of document.querySelectorAll("details[data-printed]")) {
      folded.open = false;
      delete folded.dataset.printed;
    }
  });

  // --- problems ---
  const source = $("browser-data");
  if (!source) return;
  const { tasks, arms, texts, open, problems } = JSON.parse(source.textContent);
  const GOOD = new Set(["passed", "safe"]);
  const state = { shown: [], at: 0 };
  const fields = ["task", "part", "filter", "find", "left", "right"].map($);
  const [task, part, filter, find, left, right] = fields;

  const option = (select, value, text) => select.append(new Option(text, value));
  tasks.forEach((name, number) => option(task, number, name));
  arms.forEach((arm, number) => {
    option(left, number, arm.title);
    option(right, number, arm.title);
  });
  [left.value, right.value] = open;

  const sides = [
    ["all", "all problems"],
    ["left", "left passes, right fails"],
    ["right", "right passes, left fails"],
    ["both", "both pass"],
    ["none", "neither passes"],
  ];
  sides.forEach(([value, text]) => option(filter, value, text));
  const outcomes = new Set();
  for (const problem of problems)
    for (const cell of problem.cells) for (const sample of cell ?? []) outcomes.add(sample[0]);
  for (const outcome of [...outcomes].sort())
    for (const side of ["left", "right"])
      option(filter, `${side}:${outcome}`, `${side} ${outcome.replaceAll("_", " ")}`);

  // An arm that was not judged on the task at hand cannot be chosen, nor a part of another task.
  let offered = -1;
  function offer() {
    const own = problems.filter((problem) => problem.task === Number(task.value));
    if (offered !== task.value) {
      offered = task.value;
      const parts = [...new Set(own.map((problem) => problem.slice))].sort();
      part.replaceChildren(new Option("all parts", "all"));
      for (const name of parts) option(part, `part:${name}`, name || "no part");
      $("part-label").hidden = parts.length < 2;
    }
    const judged = arms.map((_, arm) => own.some((problem) => problem.cells[arm]));
    for (const select of [left, right]) {
      [...select.options].forEach((item, arm) => (item.disabled = !judged[arm]));
      if (!judged[Number(select.value)]) select.value = Math.max(0, judged.indexOf(true));
    }
  }

  const cellOf = (problem, select) => problem.cells[Number(select.value)];
  const passes = (cell) => Boolean(cell) && cell.some((sample) => GOOD.has(sample[0]));

  function matches(problem) {
    if (problem.task !== Number(task.value)) return false;
    if (part.value !== "all" && part.value !== `part:${problem.slice}`) return false;
    const [a, b] = [cellOf(problem, left), cellOf(problem, right)];
    const wanted = filter.value;
    if (wanted === "left" && !(passes(a) && !passes(b))) return false;
    if (wanted === "right" && !(passes(b) && !passes(a))) return false;
    if (wanted === "both" && !(passes(a) && passes(b))) return false;
    if (wanted === "none" && (passes(a) || passes(b))) return false;
    if (wanted.includes(":")) {
      const [side, outcome] = wanted.split(":");
      const cell = side === "left" ? a : b;
      if (!(cell ?? []).some((sample) => sample[0] === outcome)) return false;
    }
    const sought = find.value.trim().toLowerCase();
    if (!sought) return true;
    const spoken = [a, b].flatMap((cell) => (cell ?? []).map((sample) => texts[sample[2]]));
    const all = [problem.id, problem.title, problem.slice, texts[problem.prompt], ...spoken];
    return all.some((text) => text.toLowerCase().includes(sought));
  }

  const sign = (cell) => (cell ? (passes(cell) ? "✓" : "✗") : "–");

  function refresh(keep) {
    offer();
    state.shown = problems.filter(matches);
    const place = state.shown.indexOf(keep);
    state.at = Math.max(0, place);
    $("count").textContent = `${state.shown.length} of ${
      problems.filter((problem) => problem.task === Number(task.value)).length
    } problems`;
    $("list").replaceChildren(
      ...state.shown.map((problem, number) => {
        const item = element("li");
        item.id = `problem-${number}`;
        item.setAttribute("role", "option");
        const pair = `${sign(cellOf(problem, left))}${sign(cellOf(problem, right))}`;
        item.append(element("span", problem.id), element("span", pair, "pair"));
        item.addEventListener("click", () => show(number));
        return item;
      }),
    );
    show(state.at);
  }

  function show(number) {
    $("detail").hidden = state.shown.length === 0;
    if (state.shown.length === 0) return;
    state.at = Math.min(Math.max(number, 0), state.shown.length - 1);
    const problem = state.shown[state.at];
    [...$("list").children].forEach((item, place) => {
      item.setAttribute("aria-selected", place === state.at);
      if (place === state.at) keepInView(item);
    });
    $("list").setAttribute("aria-activedescendant", `problem-${state.at}`);
    const parts = [problem.id, problem.title, problem.slice && `part ${problem.slice}`];
    $("problem-title").textContent = parts.filter(Boolean).join(" · ");
    $("prompt").textContent = texts[problem.prompt] || "(the prompt is not in the run folder)";
    $("reference").textContent = texts[problem.reference];
    $("tests").textContent = texts[problem.tests];
    $("reference-box").hidden = !texts[problem.reference] && !texts[problem.tests];
    fill($("left-cell"), cellOf(problem, left));
    fill($("right-cell"), cellOf(problem, right));
    $("previous").disabled = state.at === 0;
    $("next").disabled = state.at === state.shown.length - 1;
  }

  function keepInView(item) {
    const list = $("list");
    const [top, bottom] = [item.offsetTop - list.offsetTop, item.offsetTop - list.offsetTop + item.offsetHeight];
    if (top < list.scrollTop) list.scrollTop = top;
    else if (bottom > list.scrollTop + list.clientHeight) list.scrollTop = bottom - list.clientHeight;
  }

  function fill(place, cell) {
    place.replaceChildren();
    if (!cell) {
      place.append(element("p", "Not judged.", "verdict"));
      return;
    }
    for (const [outcome, detail, completion, finish] of cell) {
      const verdict = element("p", undefined, "verdict");
      const kind = GOOD.has(outcome) || outcome === "fault" ? outcome : "other";
      const symbol = GOOD.has(outcome) ? "✓" : outcome === "fault" ? "!" : "✗";
      verdict.append(element("span", `${symbol} ${outcome.replaceAll("_", " ")}`, `badge ${kind}`));
      if (texts[detail]) verdict.append(` – ${texts[detail]}`);
      if (finish === "length") verdict.append(" (cut at the token limit)");
      place.append(verdict, element("pre", texts[completion] || "(empty)"));
    }
  }

  $("controls").addEventListener("submit", (event) => event.preventDefault());
  for (const field of fields)
    field.addEventListener("input", () => refresh(state.shown[state.at]));
  $("previous").addEventListener("click", () => show(state.at - 1));
  $("next").addEventListener("click", () => show(state.at + 1));
  $("list").addEventListener("keydown", (event) => {
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -1e9, End: 1e9 };
    if (!(event.key in steps)) return;
    event.preventDefault();
    show(state.at + steps[event.key]);
  });
  $("browser").hidden = false;
  refresh();
})();
