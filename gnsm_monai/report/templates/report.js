// Sorting, filtering and marking. The table itself holds all data: without this script the page is complete, in rank
// order. The browser keeps the marks under a key of these results, each with the score of the mask it was given to.
const $ = (id) => document.getElementById(id);
const MARKS = { 1: "ok", 2: "bad", 3: "unsure", 0: "" };
const SLICE = 8; // milliseconds of work at a time: longer ones would be felt
const table = $("table");
const body = table.tBodies[0];
const rows = [...body.rows]; // in rank order, whatever the table shows
const headings = [...table.tHead.rows[0].cells];
const columns = headings.map((heading) => heading.dataset.name);
const value = (row, name) => row.cells[columns.indexOf(name)]?.dataset.value ?? "";

// ---- marks ------------------------------------------------------------------------------------------------------

const { store, formerStore } = document.body.dataset;
const marks = new Map(); // case -> {mark, note}; a Map, since a case may be called __proto__
const holders = new Map(rows.map((row) => [row.dataset.case, [row]]));
for (const card of document.querySelectorAll(".card")) holders.get(card.dataset.case).push(card);

const scoreOf = (name) => value(holders.get(name)[0], "anomaly_score");
const keyOf = ([name, , , score]) => JSON.stringify([name, score]);
const stored = (key) => new Map(JSON.parse(localStorage.getItem(key) ?? "[]").map((entry) => [keyOf(entry), entry]));

// Writes nothing. What an earlier version kept is under another key, and gives way to what stands under this one.
function load() {
  let readable = true;
  for (const { dataset } of rows) {
    if (dataset.givenMark === undefined || marks.has(dataset.case)) continue; // marks of an earlier report
    marks.set(dataset.case, { mark: dataset.givenMark, note: dataset.givenNote });
  }
  for (const key of [formerStore, store]) {
    try {
      for (const [name, mark, note, score] of stored(key).values()) {
        // A mask that was made anew has another score: what was said of the old one does not hold for it.
        if (!holders.has(name) || scoreOf(name) !== score) continue;
        marks.set(name, { mark: String(mark), note: String(note) });
      }
    } catch (error) {
      readable = key !== store;
      console.warn("no marks could be read:", error);
    }
  }
  for (const name of marks.keys()) show(name);
  count(readable);
}

// Changes one entry of what is there now: another tab may have written since, and entries of other masks stay.
function save(name) {
  let kept = true;
  try {
    const entries = stored(store);
    for (const [other, { mark, note }] of marks) {
      const entry = [other, mark, note, scoreOf(other)];
      if (other === name || !entries.has(keyOf(entry))) entries.set(keyOf(entry), entry);
    }
    localStorage.setItem(store, JSON.stringify([...entries.values()]));
  } catch {
    kept = false;
  }
  count(kept);
}

function count(kept) {
  const done = [...marks.values()].filter(({ mark }) => mark).length;
  $("marked").textContent = `${done} of ${rows.length} marked` + (kept ? "" : " – export them: this browser keeps none");
}

function set(name, change) {
  // An entry that was emptied stays, or an earlier version's would come back.
  marks.set(name, { mark: "", note: "", ...marks.get(name), ...change });
  show(name);
  save(name);
}

function show(name) {
  const { mark, note } = marks.get(name);
  for (const holder of holders.get(name)) {
    equip(holder);
    holder.dataset.mark = mark;
    for (const button of holder.querySelectorAll("[data-mark]")) {
      button.setAttribute("aria-pressed", String(button.dataset.mark === mark));
    }
    const input = holder.querySelector(".note");
    if (input.value !== note) input.value = note;
  }
}

function equip(holder) {
  if (holder.querySelector(".note")) return;
  const [group, note] = document.importNode($("marking").content, true).children;
  group.setAttribute("aria-label", `Mark of ${holder.dataset.case}`);
  note.setAttribute("aria-label", `Note on ${holder.dataset.case}`);
  if (holder.tagName === "TR") {
    const place = columns.indexOf("case") + 1;
    holder.cells[place].append(group);
    holder.cells[place + 1].append(note);
    reach(holder, holder === active ? 0 : -1);
  } else {
    holder.tabIndex = 0;
    holder.querySelector(".marking").append(group, note);
  }
}

function equipRows(next) {
  const end = performance.now() + SLICE;
  while (next < rows.length && performance.now() < end) equip(rows[next++]);
  if (next < rows.length) setTimeout(equipRows, 0, next);
}

// ---- keys and clicks --------------------------------------------------------------------------------------------

let active = null; // the one row that the tab key reaches, so that it is not a long way past a thousand rows
const reach = (row, index) => {
  row.tabIndex = index;
  for (const control of row.querySelectorAll("button, input, a")) control.tabIndex = index;
};
function activate(row) {
  if (row === active) return;
  if (active) reach(active, -1);
  active = row ?? null;
  if (!active) return;
  equip(active);
  reach(active, 0);
}

function neighbour(row, step) {
  do row = step > 0 ? row.nextElementSibling : row.previousElementSibling;
  while (row?.hidden);
  return row;
}

document.addEventListener("focusin", ({ target }) => {
  const row = target.closest("#table tbody tr");
  if (row) activate(row);
});
document.addEventListener("click", ({ target }) => {
  const button = target.closest("button[data-mark]");
  const holder = target.closest("[data-case]");
  if (button) {
    const isSet = button.getAttribute("aria-pressed") === "true";
    set(holder.dataset.case, { mark: isSet ? "" : button.dataset.mark });
  } else if (holder && !target.closest("a, input")) holder.focus({ preventScroll: true });
});
document.addEventListener("input", ({ target }) => {
  if (target.matches(".note")) set(target.closest("[data-case]").dataset.case, { note: target.value });
});
document.addEventListener("keydown", (event) => {
  const holder = event.target.closest("[data-case]");
  if (!holder || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.matches("input")) {
    if (event.key === "Enter" || event.key === "Escape") holder.focus();
    return;
  }
  const isRow = holder.tagName === "TR";
  if (event.key in MARKS) set(holder.dataset.case, { mark: MARKS[event.key] });
  else if (event.key.toLowerCase() === "n") holder.querySelector(".note").focus();
  else if (isRow && event.key === "ArrowDown") neighbour(holder, 1)?.focus();
  else if (isRow && event.key === "ArrowUp") neighbour(holder, -1)?.focus();
  else return;
  event.preventDefault();
});

// ---- sorting and filtering --------------------------------------------------------------------------------------

const collator = new Intl.Collator(undefined, { numeric: true });

function sortBy(index, falling) {
  const cell = (row) => row.cells[index].dataset.value ?? row.cells[index].textContent;
  const isNumber = rows.some((row) => row.cells[index].dataset.value !== undefined);
  const order = isNumber ? (a, b) => a - b : collator.compare;
  const keyed = rows.map((row) => [cell(row), row]); // in rank order, which equals keep
  const filled = keyed.filter(([key]) => key !== "").sort(([a], [b]) => (falling ? order(b, a) : order(a, b)));
  const empty = keyed.filter(([key]) => key === ""); // last, whichever way the others go
  body.append(...[...filled, ...empty].map(([, row]) => row));
  for (const heading of headings) heading.removeAttribute("aria-sort");
  headings[index].setAttribute("aria-sort", falling ? "descending" : "ascending");
}

headings.forEach((heading, index) => {
  if (!heading.dataset.first) return;
  const button = document.createElement("button");
  button.type = "button";
  button.append(...heading.childNodes);
  heading.append(button);
  button.addEventListener("click", () => {
    const now = heading.getAttribute("aria-sort");
    sortBy(index, now ? now === "ascending" : heading.dataset.first === "descending");
  });
});

// Numbers are not searched: "09" is meant to find a case, not a Dice.
const searched = ["case", "folder", "worst_structure", "earlier_note", "message"].map((name) => columns.indexOf(name));
const textOf = (row) => searched.map((i) => row.cells[i]?.textContent.toLowerCase() ?? "").join(" ");

function filter() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const folder = $("folder")?.value ?? "*";
  const mark = $("mark-filter").value;
  const earlier = $("earlier-filter")?.value ?? "*";
  const flagged = $("only-flagged")?.checked;
  const failed = $("only-failed")?.checked;
  let shown = 0;
  for (const row of rows) {
    const { dataset } = row;
    const text = words.length ? textOf(row) : "";
    const hidden = !(
      words.every((word) => text.includes(word)) &&
      (folder === "*" || folder === dataset.folder) &&
      (mark === "*" || mark === (dataset.mark ?? "")) &&
      (earlier === "*" || earlier === (dataset.earlier ?? "")) &&
      (!flagged || dataset.flag) &&
      (!failed || dataset.status === "failed")
    );
    if (row.hidden !== hidden) row.hidden = hidden;
    shown += !hidden;
  }
  $("shown").textContent = `${shown} of ${rows.length} shown`;
  if (!active || active.hidden) activate([...body.rows].find((row) => !row.hidden));
}

document.querySelector(".filters").addEventListener("input", filter);
for (const layer of ["heat", "outlines"]) {
  $(`show-${layer}`)?.addEventListener("input", ({ target }) => {
    document.body.classList.toggle(`no-${layer}`, !target.checked);
  });
}

// ---- export -----------------------------------------------------------------------------------------------------

function field(text, isNumber = false) {
  text = text.replace(/\r\n?/g, "\n");
  if (!isNumber && /^[=+\-@\t\n]/.test(text)) text = `'${text}`; // a spreadsheet would run it as a formula
  return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

$("export").addEventListener("click", () => {
  const lines = rows.map((row) => {
    const { mark, note } = marks.get(row.dataset.case) ?? { mark: "", note: "" };
    const numbers = [value(row, "rank"), value(row, "anomaly_score")].map((text) => field(text, true));
    return [field(row.dataset.case), ...numbers, field(mark), field(note)].join(",");
  });
  const text = ["case,rank,anomaly_score,mark,note", ...lines, ""].join("\n");
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  link.download = "marks.csv";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60000);
});

window.addEventListener("storage", ({ key }) => key === store && load()); // another tab has marked
load();
for (const card of document.querySelectorAll(".card")) equip(card);
filter();
for (const controls of document.querySelectorAll(".controls")) controls.hidden = false;
table.classList.add("live");
equipRows(0);
