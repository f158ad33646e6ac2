// Sorts and filters the rows of every table. Without it the page is whole; only these two comforts are missing.
"use strict";
(() => {
  const NEXT = { none: "ascending", ascending: "descending", descending: "none" };

  // What a cell is sorted by: the number behind it, or its text.
  const key = (row, at) => {
    const cell = row.cells[at];
    return cell ? cell.dataset.value ?? cell.textContent.trim() : "";
  };

  // Numbers by size, names as people order them, nothing last.
  const compare = (a, b) => {
    if (a === "" || b === "") return (a === "") - (b === "");
    const [x, y] = [Number(a.replace("−", "-")), Number(b.replace("−", "-"))];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en", { numeric: true }) : x - y;
  };

  const sortable = (table) => {
    const heads = [...table.tHead.rows[0].cells];
    // Rows are sorted within their group; a floor never stands between two learners.
    const groups = [...table.tBodies].map((body) => [body, [...body.rows]]);
    heads.forEach((head, at) => {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const order = NEXT[head.getAttribute("aria-sort") ?? "none"];
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (order !== "none") head.setAttribute("aria-sort", order);
        for (const [body, rows] of groups) {
          const sorted = [...rows];
          if (order !== "none") {
            const sign = order === "ascending" ? 1 : -1;
            sorted.sort((a, b) => {
              const [x, y] = [key(a, at), key(b, at)];
              return x === "" || y === "" ? compare(x, y) : sign * compare(x, y);
            });
          }
          body.append(...sorted);
        }
      });
    });
  };

  const tables = [...document.querySelectorAll("table")];
  tables.forEach(sortable);

  // A row is shown if every word stands in it or in its table's caption.
  const rows = tables.flatMap((table) => {
    const caption = table.caption ? table.caption.textContent : "";
    return [...table.tBodies].flatMap((body) =>
      [...body.rows].map((row) => [row, `${caption} ${row.textContent}`.toLowerCase()]));
  });
  const input = document.getElementById("filter");
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    let left = 0;
    for (const [row, text] of rows) {
      row.hidden = !words.every((word) => text.includes(word));
      left += !row.hidden;
    }
    const found = words.length ? `${left.toLocaleString("en")} of ${rows.length.toLocaleString("en")} rows` : "";
    document.getElementById("found").textContent = found;
  });
  document.querySelector(".tools").hidden = false;

  // Paper has no summary to open. Lists of runs stay closed: they are hundreds of pages.
  let closed = [];
  addEventListener("beforeprint", () => {
    closed = [...document.querySelectorAll("details:not([open]):not(.runs)")];
    closed.forEach((part) => { part.open = true; });
  });
  addEventListener("afterprint", () => closed.forEach((part) => { part.open = false; }));
})();
