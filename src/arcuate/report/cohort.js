"use strict";
// The table of all scans: found by name, sorted by a column, at most 200 rows at once.
const data = JSON.parse(document.getElementById("data").textContent);
const table = document.getElementById("scans");
const find = document.getElementById("find");
const onlyFar = document.getElementById("only-far");
const MOST = 200;
let sorted = { column: 0, up: true };

function cell(row, column) {
  return column === 0 ? row[0] : row[column + 1]; // the address stands second
}

function compare(a, b) {
  const [x, y] = [cell(data.rows[a], sorted.column), cell(data.rows[b], sorted.column)];
  if (x === null || y === null) return (x === null) - (y === null);
  const order = typeof x === "number" ? x - y : x < y ? -1 : x > y ? 1 : 0;
  return sorted.up ? order : -order;
}

function show() {
  const word = find.value.trim().toLowerCase();
  const chosen = [];
  data.rows.forEach((row, i) => {
    if (row[0].toLowerCase().includes(word) && (!onlyFar.checked || data.far[i].length)) chosen.push(i);
  });
  chosen.sort(compare);
  const body = document.createElement("tbody");
  for (const i of chosen.slice(0, MOST)) {
    const line = body.insertRow();
    const [name, link, ...values] = data.rows[i];
    const first = line.insertCell();
    if (link) {
      const anchor = document.createElement("a");
      anchor.href = link;
      anchor.textContent = name;
      first.append(anchor);
    } else first.textContent = name;
    values.forEach((value, k) => {
      const place = line.insertCell();
      place.className = data.far[i].includes(k) ? "number far" : "number";
      place.textContent = value === null ? "" : value;
    });
  }
  table.tBodies[0].replaceWith(body);
  const shown = Math.min(MOST, chosen.length);
  document.getElementById("count").textContent = `${shown} of ${chosen.length} shown`;
}

const head = table.tHead.insertRow();
data.columns.forEach((title, column) => {
  const place = document.createElement("th");
  place.scope = "col";
  const button = document.createElement("button");
  button.textContent = title;
  button.addEventListener("click", () => {
    sorted = { column, up: sorted.column === column ? !sorted.up : true };
    head.querySelectorAll("th").forEach((th, k) => {
      if (k === column) th.setAttribute("aria-sort", sorted.up ? "ascending" : "descending");
      else th.removeAttribute("aria-sort");
    });
    show();
  });
  place.append(button);
  head.append(place);
});
find.addEventListener("input", show);
onlyFar.addEventListener("change", show);
show();
