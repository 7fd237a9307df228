// Sorting, filtering and marking. The table itself holds all data: without this script the page is complete, in rank
// order. Marks are kept by the browser, under a key that names the model and the predictions.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const MARKS = { 1: "ok", 2: "bad", 3: "unsure", 0: "" };
  const table = $("table");
  const body = table.tBodies[0];
  const rows = [...body.rows]; // in rank order, whatever the table shows
  const headings = [...table.tHead.rows[0].cells];
  const columns = headings.map((heading) => heading.dataset.name);
  const SEARCHED = ["case", "folder", "worst_structure", "message"]; // numbers are not: "09" is meant to find a case, not a Dice
  const texts = new Map(
    rows.map((row) => {
      const cells = [...row.cells].filter((_, i) => SEARCHED.includes(columns[i]));
      return [row, cells.map((cell) => cell.textContent.toLowerCase()).join(" ")];
    }),
  );
  const value = (row, name) => row.cells[columns.indexOf(name)]?.dataset.value ?? "";

  // ---- marks ------------------------------------------------------------------------------------------------------

  const marks = new Map(); // case -> {mark, note}; a Map, since a case may be called __proto__
  const holders = new Map(rows.map((row) => [row.dataset.case, [row]]));
  for (const card of document.querySelectorAll(".card")) holders.get(card.dataset.case).push(card);

  function load() {
    const scores = new Map(rows.map((row) => [row.dataset.case, value(row, "anomaly_score")]));
    try {
      for (const [name, mark, note, score] of JSON.parse(localStorage.getItem(document.body.dataset.store) ?? "[]")) {
        // A mask that was made anew has another score: what was said of the old one does not hold for it.
        if (scores.get(name) === score) marks.set(name, { mark: String(mark), note: String(note) });
      }
    } catch (error) {
      console.warn("no marks could be read:", error);
    }
  }

  function save() {
    const entries = rows
      .filter((row) => marks.has(row.dataset.case))
      .map((row) => [row.dataset.case, marks.get(row.dataset.case), value(row, "anomaly_score")])
      .map(([name, { mark, note }, score]) => [name, mark, note, score]);
    let kept = true;
    try {
      localStorage.setItem(document.body.dataset.store, JSON.stringify(entries));
    } catch {
      kept = false;
    }
    const done = entries.filter((entry) => entry[1]).length;
    $("marked").textContent = `${done} of ${rows.length} marked` + (kept ? "" : " – export them: this browser keeps none");
  }

  function set(name, change) {
    const entry = { mark: "", note: "", ...marks.get(name), ...change };
    if (entry.mark || entry.note) marks.set(name, entry);
    else marks.delete(name);
    show(name);
    save();
  }

  function show(name) {
    const { mark, note } = marks.get(name) ?? { mark: "", note: "" };
    for (const holder of holders.get(name)) {
      holder.dataset.mark = mark;
      for (const button of holder.querySelectorAll("[data-mark]")) {
        button.setAttribute("aria-pressed", String(button.dataset.mark === mark));
      }
      const input = holder.querySelector(".note");
      if (input.value !== note) input.value = note;
    }
  }

  function addControls() {
    for (const cell of table.querySelectorAll("th[hidden], td[hidden]")) cell.hidden = false;
    for (const [name, places] of holders) {
      for (const place of places) {
        const [group, note] = document.importNode($("marking").content, true).children;
        group.setAttribute("aria-label", `Mark of ${name}`);
        note.setAttribute("aria-label", `Note on ${name}`);
        if (place.tagName === "TR") {
          place.querySelector(".mark-cell").append(group);
          place.querySelector(".note-cell").append(note);
        } else {
          place.tabIndex = 0;
          place.querySelector(".marking").append(group, note);
        }
      }
    }
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
    if (active) reach(active, 0);
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
  document.addEventListener("change", ({ target }) => {
    if (target.matches(".note")) set(target.closest("[data-case]").dataset.case, { note: target.value });
  });
  document.addEventListener("keydown", (event) => {
    const holder = event.target.closest("[data-case]");
    if (!holder || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.matches("input")) {
      if (event.key === "Enter" || event.key === "Escape") holder.focus(); // leaving the field stores the note
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
    headings.forEach((heading, i) => {
      if (i === index) heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
      else heading.removeAttribute("aria-sort");
    });
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

  function filter() {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const folder = $("folder")?.value ?? "*";
    const mark = $("mark-filter").value;
    let count = 0;
    for (const row of rows) {
      const { dataset } = row;
      row.hidden = !(
        words.every((word) => texts.get(row).includes(word)) &&
        (folder === "*" || folder === dataset.folder) &&
        (mark === "*" || mark === (dataset.mark ?? "")) &&
        (!$("only-flagged")?.checked || dataset.flag) &&
        (!$("only-failed")?.checked || dataset.status === "failed")
      );
      count += !row.hidden;
    }
    $("shown").textContent = `${count} of ${rows.length} shown`;
    if (!active || active.hidden) activate([...body.rows].find((row) => !row.hidden));
  }

  for (const id of ["search", "folder", "mark-filter", "only-flagged", "only-failed"]) {
    $(id)?.addEventListener("input", filter);
  }
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

  addControls();
  rows.forEach((row) => reach(row, -1));
  load();
  for (const name of marks.keys()) show(name);
  save();
  filter();
  for (const controls of document.querySelectorAll(".controls")) controls.hidden = false;
})();
