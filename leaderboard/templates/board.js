"use strict";
for (const board of document.querySelectorAll("section[data-board]")) {
  const body = board.querySelector("tbody");
  const rows = [...body.rows];
  const heads = [...board.querySelectorAll("thead th")];
  const field = (name) => board.querySelector(`[data-filter=${name}]`);
  const state = board.querySelector("output");

  function filter() {
    const words = field("text").value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const row of rows) {
      const fits = words.every((w) => row.dataset.text.includes(w))
        && (!field("family").value || row.dataset.family === field("family").value)
        && (!field("verified").checked || row.dataset.verified === "verified")
        && (field("canaries").checked || row.dataset.family !== "canary");
      row.hidden = !fits;
      shown += fits;
    }
    state.textContent = `${shown} of ${rows.length} entries shown`;
  }

  function sort(head) {
    const column = heads.indexOf(head);
    const falling = head.getAttribute("aria-sort") === "none"
      ? head.dataset.first === "descending" : head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) if (other.hasAttribute("aria-sort")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", falling ? "descending" : "ascending");
    const value = (row) => row.cells[column].dataset.value;
    const words = head.classList.contains("word");
    const compare = (a, b) => words ? value(a).localeCompare(value(b)) : value(a) - value(b);
    const empty = (row) => value(row) === "";
    // What is undefined stays below, whichever way the rest is sorted; equal rows keep the order of the ranking.
    const sorted = [...rows].sort((a, b) => empty(a) - empty(b) || (empty(a) ? 0 : compare(a, b) * (falling ? -1 : 1)));
    body.append(...sorted);
  }

  for (const head of heads) {
    const button = head.querySelector("button");
    if (button) button.addEventListener("click", () => sort(head));
  }
  for (const input of board.querySelectorAll("[data-filter]")) input.addEventListener("input", filter);
  board.querySelector(".tools").hidden = false;
  filter();
}
