// Sorts tables by a heading and filters their rows. Without it all rows are there, and details open by a click.
const { compare } = new Intl.Collator("en", { numeric: true });

function sort(table, head) {
  const descending = head.getAttribute("aria-sort") === "ascending", rows = [...table.tBodies[0].rows];
  const keys = new Map(rows.map((row) => {
    const cell = row.cells[head.cellIndex], text = cell.textContent.trim();
    return [row, "n" in cell.dataset ? parseFloat(cell.dataset.n) : text === "—" ? NaN : text];
  }));
  const known = rows.filter((row) => !Number.isNaN(keys.get(row)));
  known.sort((a, b) => head.matches(".number") ? keys.get(a) - keys.get(b) : compare(keys.get(a), keys.get(b)));
  table.tBodies[0].prepend(...(descending ? known.reverse() : known));  // what has no value stays last
  for (const other of head.parentElement.cells) other.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", descending ? "descending" : "ascending");
}

function makeSortable(table) {
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    button.onclick = () => sort(table, head);
    head.append(button);
  }
}

function makeFilterable(table) {
  const rows = [...table.tBodies[0].rows], bar = document.createElement("form");
  bar.className = "filters";
  bar.innerHTML = '<input type="search" placeholder="Filter by text" aria-label="Filter by text"><output></output>';
  for (const name of ["family", "verdict"]) {
    const values = [...new Set(rows.map((row) => row.dataset[name] ?? ""))], select = document.createElement("select");
    select.name = select.title = name;
    select.append(new Option(`every ${name}`, ""), ...values.filter(Boolean).map((value) => new Option(value)));
    if (values.length > 1) bar.lastChild.before(select);
  }
  bar.oninput = () => {
    const words = bar.firstChild.value.trim().toLowerCase(), selects = [...bar.querySelectorAll("select")];
    for (const row of rows) {
      const chosen = selects.every(({ name, value }) => !value || row.dataset[name] === value);
      row.hidden = !chosen || !row.textContent.toLowerCase().includes(words);
    }
    bar.lastChild.value = `${rows.filter((row) => !row.hidden).length} of ${rows.length} rows`;
  };
  bar.onsubmit = () => false;
  table.parentElement.before(bar);
  bar.oninput();
}

const openTarget = () => document.getElementById(location.hash.slice(1))?.setAttribute("open", "");
for (const table of document.querySelectorAll("table.sortable")) {
  const folded = table.closest("details");  // made sortable when it is first seen
  folded ? folded.addEventListener("toggle", () => makeSortable(table), { once: true }) : makeSortable(table);
}
document.querySelectorAll("table[data-filtered]").forEach(makeFilterable);
addEventListener("hashchange", openTarget);
openTarget();
