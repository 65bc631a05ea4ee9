"use strict";
(() => {
  const root = document.documentElement;
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();

  // The data of the page: CSV as RFC 4180 has it, by columns, numbers where a column holds nothing else.
  const rowsOf = (text) => {
    const rows = [[]];
    for (const match of text.matchAll(/("(?:[^"]|"")*"|[^,\n]*)(,|\n|$)/g)) {
      const field = match[1];
      if (match[0] === "" && rows[rows.length - 1].length === 0) break;
      rows[rows.length - 1].push(field.startsWith('"') ? field.slice(1, -1).replaceAll('""', '"') : field);
      if (match[2] === "\n") rows.push([]);
      if (match[2] === "") break;
    }
    if (rows[rows.length - 1].length === 0) rows.pop();
    return rows;
  };
  const columnsOf = (name) => {
    const [head, ...rows] = rowsOf(document.getElementById("csv-" + name).textContent);
    const columns = {};
    head.forEach((column, i) => {
      const values = rows.map((row) => row[i]);
      const numeric = i > 0 && values.every((v) => v === "" || Number.isFinite(Number(v)));
      columns[column] = values.map((v) => (v === "" ? null : numeric ? Number(v) : v));
    });
    return { columns, count: rows.length };
  };

  // Figures: {$column: name} stands for a column in the rows that "where" names, {$style: name} for a colour.
  // plotly reads some HTML in texts, so what others named is escaped.
  const escaped = (text) => text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
  const filled = (value, data, rows) => {
    if (Array.isArray(value)) return value.map((each) => filled(each, data, rows));
    if (value === null || typeof value !== "object") return value;
    if ("$column" in value) {
      const column = data.columns[value.$column];
      return rows.map((row) => (typeof column[row] === "string" ? escaped(column[row]) : column[row]));
    }
    if ("$style" in value) return colour(value.$style);
    const found = {};
    for (const [key, each] of Object.entries(value)) if (key !== "where") found[key] = filled(each, data, rows);
    return found;
  };
  const chosen = (where, data) => {
    const rows = [...Array(data.count).keys()];
    return Object.entries(where || {}).reduce(
      (left, [column, wanted]) => left.filter((row) => String(data.columns[column][row]) === String(wanted)),
      rows,
    );
  };
  const template = () => {
    const axis = {
      gridcolor: colour("--rule"), linecolor: colour("--soft"), zerolinecolor: colour("--rule"),
      automargin: true, title: { standoff: 8, font: { size: 13 } },
    };
    return {
      layout: {
        font: { family: getComputedStyle(document.body).fontFamily, size: 13, color: colour("--ink") },
        paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)",
        colorway: [0, 1, 2, 3, 4, 5, 6, 7].map((i) => colour("--series-" + i)),
        xaxis: axis, yaxis: axis,
        hoverlabel: { bgcolor: colour("--field"), bordercolor: colour("--rule"), font: { color: colour("--ink") } },
        legend: { orientation: "h", y: 1.02, yanchor: "bottom", x: 0, bgcolor: "rgba(0,0,0,0)" },
        margin: { l: 56, r: 18, t: 28, b: 48 },
      },
    };
  };
  // Panels side by side move below one another where there is no room for them.
  const PANEL = 230;
  const stack = (layout, node) => {
    const { rows, columns } = layout.grid;
    const fitting = Math.max(1, Math.min(columns, Math.floor(node.offsetWidth / PANEL)));
    if (fitting === columns) return;
    layout.grid = { ...layout.grid, columns: fitting, rows: Math.ceil((rows * columns) / fitting) };
    layout.grid.ygap = 0.4;
    layout.height = (layout.height / rows) * layout.grid.rows;
  };
  const drawn = new Map();
  const draw = (figure) => {
    const node = figure.querySelector(".plot");
    const spec = JSON.parse(figure.querySelector(".spec").textContent);
    const data = columnsOf(figure.id);
    const traces = spec.traces.map((trace) => filled(trace, data, chosen(trace.where, data)));
    const layout = { ...filled(spec.layout, data, []), template: template(), autosize: true };
    layout.height = Number(node.dataset.height);
    if (layout.grid) stack(layout, node);
    node.style.height = `${layout.height}px`;
    Plotly.react(node, traces, layout, { responsive: true, displaylogo: false, displayModeBar: false });
    drawn.set(figure, node);
  };
  const figures = [...document.querySelectorAll("figure")].filter((figure) => figure.querySelector(".spec"));
  const nearby = new IntersectionObserver(
    (entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        nearby.unobserve(entry.target);
        draw(entry.target);
      }
    },
    { rootMargin: "800px 0px" },
  );
  if (typeof Plotly === "undefined") figures.forEach((figure) => (figure.querySelector(".plot").hidden = true));
  else figures.forEach((figure) => nearby.observe(figure));
  const again = () => [...drawn.keys()].forEach(draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", again);
  addEventListener("beforeprint", () => {
    root.classList.add("printing");
    if (typeof Plotly !== "undefined") figures.forEach(draw);
  });
  addEventListener("afterprint", () => {
    root.classList.remove("printing");
    again();
  });

  // Tables sorted by a column, each block by itself; what has no number comes last.
  for (const table of document.querySelectorAll("table.sortable")) {
    const heads = [...table.tHead.rows[0].cells].filter((head) => !head.classList.contains("spans"));
    heads.forEach((head) => {
      const i = head.cellIndex;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const up = head.getAttribute("aria-sort") !== "ascending";
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", up ? "ascending" : "descending");
        const key = (row) => {
          const cell = row.cells[i];
          return cell.dataset.value ?? (cell.textContent.trim() === "–" ? "" : cell.textContent.trim());
        };
        for (const body of table.tBodies) {
          const rows = [...body.rows].map((row) => [key(row), row]);
          const numeric = rows.every(([value]) => value === "" || Number.isFinite(Number(value)));
          rows.sort(([a], [b]) => {
            if (a === "" || b === "") return (a === "") - (b === "");
            const order = numeric ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
            return up ? order : -order;
          });
          body.append(...rows.map(([, row]) => row));
        }
      });
    });
  }

  // Parallel coordinates: a range on each axis; lines that lie in all of them stand out.
  for (const figure of document.querySelectorAll("figure.parallel")) {
    const svg = figure.querySelector("svg");
    const lines = [...figure.querySelectorAll(".lines path")].map((path) => [
      path,
      path.dataset.places.split(" ").map((place) => (place === "" ? null : Number(place))),
    ]);
    const ranges = new Map();
    const said = figure.querySelector("output");
    const show = () => {
      let kept = 0;
      for (const [path, places] of lines) {
        const inside = [...ranges].every(([i, [low, high]]) => places[i] !== null && places[i] >= low && places[i] <= high);
        path.classList.toggle("out", !inside);
        kept += inside;
      }
      said.textContent = ranges.size ? `${kept} of ${lines.length} lines in the chosen ranges.` : "";
    };
    for (const axis of figure.querySelectorAll(".axis")) {
      const i = Number(axis.dataset.axis);
      const height = Number(axis.querySelector("line").getAttribute("y2"));
      const brush = axis.querySelector(".brush");
      const handle = axis.querySelector(".handle");
      const place = (event) => {
        const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(svg.getScreenCTM().inverse()).y;
        return Math.min(1, Math.max(0, 1 - at / height));
      };
      const set = (range) => {
        if (range) ranges.set(i, range);
        else ranges.delete(i);
        brush.setAttribute("y", range ? height * (1 - range[1]) : 0);
        brush.setAttribute("height", range ? height * (range[1] - range[0]) : 0);
        show();
      };
      let from = null;
      handle.addEventListener("pointerdown", (event) => {
        from = place(event);
        handle.setPointerCapture(event.pointerId);
      });
      handle.addEventListener("pointermove", (event) => {
        if (from === null) return;
        const to = place(event);
        if (Math.abs(to - from) > 0.01) set([Math.min(from, to), Math.max(from, to)]);
      });
      handle.addEventListener("pointerup", (event) => {
        if (from !== null && Math.abs(place(event) - from) <= 0.01) set(null);
        from = null;
      });
      handle.addEventListener("keydown", (event) => {
        if (event.key === "Escape") set(null);
        if (event.key === "ArrowUp") set([Math.min(0.9, (ranges.get(i) || [0, 1])[0] + 0.1), 1]);
        if (event.key === "ArrowDown") set([0, Math.max(0.1, (ranges.get(i) || [0, 1])[1] - 0.1)]);
      });
    }
  }

  // Data as files, where scripts run.
  for (const data of document.querySelectorAll("pre.csv")) {
    const link = document.createElement("a");
    link.textContent = "download " + data.dataset.name;
    link.download = data.dataset.name;
    link.href = "#";
    link.addEventListener("click", () => {
      link.href = URL.createObjectURL(new Blob([data.textContent], { type: "text/csv" }));
    });
    data.before(link);
  }
})();
