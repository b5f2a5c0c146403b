// Draws the figures of a report from the tables embedded in the page, and keeps all of it in step with the filters.
"use strict";
(() => {
  const report = JSON.parse(document.getElementById("report-data").textContent);
  const narrowest = 320; // pixels of a panel; narrower, and panels go below one another
  const narrowestOnPaper = 220;
  let paper = 0; // pixels of a printed line; 0 on a screen
  const vegaErrors = 1; // its warnings are of panels without bands, which are meant
  const margin = 75; // of a panel, for its axis
  const mostPanels = () => (innerWidth < 700 ? 2 : 12); // of a figure at a time

  // Tables come as columns; text as codes of a list.
  const column = (c) => (Array.isArray(c) ? c : c.codes.map((code) => (code < 0 ? null : c.values[code])));
  const rowsOf = (columns) => {
    const names = Object.keys(columns);
    const values = names.map((name) => column(columns[name]));
    return Array.from(values[0] || [], (_, i) => Object.fromEntries(names.map((name, n) => [name, values[n][i]])));
  };
  const runs = rowsOf(report.tables.runs);
  const ofRun = runs.map((run) => Object.fromEntries(report.of_run.map((key) => [key, run[key]])));
  const tables = { runs };
  const table = (name) =>
    (tables[name] ??= rowsOf(report.tables[name]).map((row) => Object.assign(row, ofRun[row.run])));

  // What is chosen: by filter the values that are shown.
  const boxes = [...document.querySelectorAll("#filters input[type=checkbox]")];
  const chosen = () => {
    const values = {};
    for (const box of boxes) {
      values[box.name] ??= new Set();
      if (box.checked) values[box.name].add(box.value);
    }
    return values;
  };
  const setting = document.getElementById("setting");
  const fits = (run, values) =>
    (!setting?.value || run.setting === setting.value) &&
    Object.entries(values).every(([key, set]) => set.has(String(run[key])));
  let shown = new Set(runs.map((run) => run.run));

  const select = document.getElementById("one-run");
  const options = select ? [...select.options] : [];

  const page = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const paint = (theme) => (page.dataset.theme = theme);
  const dark = () => page.dataset.theme === "dark";
  paint(system.matches ? "dark" : "light");

  // One figure: its specification with this width, theme and data.
  const fitted = (figure, rows, panels, room, excess) => {
    const spec = structuredClone(figure.spec);
    const inner = spec.spec || spec;
    let [width, height] = figure.size; // of a panel, or of a cell
    if (figure.cells) {
      const [across, down] = figure.cells.map((key) => rows.reduce((most, row) => Math.max(most, row[key]), 0) + 1);
      width = Math.max(60, Math.min(width * across, room - 10));
      height = (width / across) * down;
    }
    const most = Math.max(1, Math.min(figure.columns, panels, Math.floor(room / Math.min(paper ? narrowestOnPaper : narrowest, width + margin))));
    const wide = Math.max(60, Math.min(width * 2.1, (room - excess) / most - margin));
    Object.assign(inner, { width: wide, height: width === height ? wide : height });
    if (figure.cells) Object.assign(inner, { width, height });
    if (spec.spec) spec.columns = most;
    spec.datasets = { [figure.data]: rows };
    spec.config = structuredClone(report.themes[paper ? "light" : page.dataset.theme]);
    spec.config.header.labelLimit = wide + margin / 2;
    const labels = rows.flatMap((row) => [row.method, row.asked]);
    const longest = labels.reduce((most, label) => Math.max(most, String(label ?? "").length), 8);
    spec.config.legend.columns = Math.max(1, Math.floor(room / (32 + 6 * Math.min(longest, 65))));
    spec.config.legend.labelLimit = Math.min(spec.config.legend.labelLimit, room - 60);
    keepLegend(spec, new Set(rows.map((row) => row.method)));
    return spec;
  };

  // Legends of methods list those in sight; colors stay with their methods.
  const keepLegend = (node, methods) => {
    if (!node || typeof node !== "object") return;
    if (node.field === "method" && node.scale?.domain && !("sort" in node) && node.legend !== null)
      node.legend = { ...node.legend, values: node.scale.domain.filter((name) => methods.has(name)) };
    for (const key of Object.keys(node)) if (key !== "datasets") keepLegend(node[key], methods);
  };

  const embedding = (figure) => ({
    renderer: "svg",
    actions: { export: true, source: false, compiled: false, editor: false },
    downloadFileName: figure.name,
    tooltip: { theme: page.dataset.theme },
    logLevel: vegaErrors,
  });

  // Of many panels some are shown, chosen above the figure.
  const withPanels = (figure, place, rows) => {
    place.choice ??= Object.assign(document.createElement("select"), { className: "panels", autocomplete: "off" });
    const order = new Map(rows.map((row) => [row[figure.panel], row[`${figure.panel}_order`]]));
    const names = [...order.keys()].sort((a, b) => order.get(a) - order.get(b));
    const most = mostPanels();
    if (!figure.panel || names.length <= most) {
      place.choice.remove();
      return rows;
    }
    const starts = Array.from({ length: Math.ceil(names.length / most) }, (_, i) => i * most);
    const texts = starts.map((start) => {
      const end = Math.min(start + most, names.length);
      return `${start + 1} to ${end} of ${names.length}: ${names[start]} … ${names[end - 1]}`;
    });
    const before = Math.max(0, place.choice.selectedIndex);
    place.choice.replaceChildren(...texts.map((text) => new Option(text)));
    place.choice.selectedIndex = Math.min(before, starts.length - 1);
    place.choice.setAttribute("aria-label", `Panels shown of: ${figure.title}`);
    place.choice.onchange = () => drawAll([figure]);
    if (!place.choice.isConnected) place.before(place.choice);
    const first = starts[place.choice.selectedIndex];
    const chosen = new Set(names.slice(first, first + most));
    return rows.filter((row) => chosen.has(row[figure.panel]));
  };

  const draw = async (figure) => {
    const place = document.getElementById(`chart-${figure.name}`);
    const one = select && select.value !== "" ? Number(select.value) : -1;
    const all = table(figure.data).filter((row) => (figure.of_run ? row.run === one : shown.has(row.run)));
    const rows = withPanels(figure, place, all);
    place.parentElement.hidden = figure.of_run && !rows.length;
    place.drawn?.finalize();
    delete place.drawn;
    if (!rows.length) {
      place.replaceChildren(Object.assign(document.createElement("p"), {
        className: "nothing",
        textContent: "Nothing to show for this choice.",
      }));
    } else {
      const panels = figure.panel ? new Set(rows.map((row) => row[figure.panel])).size : 1;
      place.parentElement.classList.toggle("wide", panels > 1 || figure.size[0] > 600 || figure.name === "kernels");
      const room = paper || place.clientWidth || 700;
      // Axes may need more than their margin: then once more, with narrower panels.
      for (let excess = 0, attempt = 0; attempt < 2; attempt++) {
        place.drawn?.finalize();
        place.drawn = await vegaEmbed(place, fitted(figure, rows, panels, room, excess), embedding(figure));
        excess = place.querySelector("svg.marks").viewBox.baseVal.width - room;
        if (excess < 8) break;
      }
      const svg = place.querySelector("svg.marks");
      svg.setAttribute("role", "img");
      svg.setAttribute("aria-label", figure.title);
    }
  };

  // Figures in sight are drawn first, the others when there is time.
  let turn = 0;
  let busy = Promise.resolve();
  const drawAll = async (figures = report.figures) => {
    const mine = ++turn;
    document.body.dataset.drawing = "yes";
    const distance = (figure) => {
      const box = document.getElementById(`chart-${figure.name}`).getBoundingClientRect();
      return box.bottom < 0 ? -box.bottom : Math.max(0, box.top - innerHeight);
    };
    for (const figure of [...figures].sort((a, b) => distance(a) - distance(b))) {
      await busy.catch(() => {}); // never two drawings in one place
      if (mine !== turn) return;
      try {
        await (busy = draw(figure));
      } catch (error) {
        console.error(figure.name, error);
      }
      await new Promise((resolve) => setTimeout(resolve));
    }
    arrange();
    document.body.dataset.drawing = "no";
  };

  // A figure that would be alone in a row of two has its caption beside it.
  const arrange = () => {
    for (const charts of document.querySelectorAll(".charts")) {
      let half = null;
      for (const chart of charts.children) {
        chart.classList.remove("alone");
        if (chart.hidden) continue;
        if (chart.classList.contains("wide")) {
          half?.classList.add("alone");
          half = null;
        } else half = half ? null : chart;
      }
      half?.classList.add("alone");
    }
  };

  // Tables that are wider than the screen say so.
  const hint = () => {
    for (const scroll of document.querySelectorAll(".table .scroll"))
      scroll.previousElementSibling.hidden = scroll.scrollWidth <= scroll.clientWidth + 1;
  };
  for (const section of document.querySelectorAll("details.more")) section.addEventListener("toggle", hint);

  const wanted = document.getElementById("find-run");
  const listRuns = () => {
    const words = (wanted?.value ?? "").toLowerCase().split(/\s+/);
    for (const row of document.querySelectorAll("[data-run]"))
      row.hidden =
        !shown.has(Number(row.dataset.run)) ||
        (row.closest(".runs") && !words.every((word) => row.querySelector("summary").textContent.toLowerCase().includes(word)));
  };
  wanted?.addEventListener("input", listRuns);

  const filter = () => {
    const values = chosen();
    shown = new Set(runs.filter((run) => fits(run, values)).map((run) => run.run));
    listRuns();
    for (const row of document.querySelectorAll("tr[data-methods]"))
      row.hidden = !JSON.parse(row.dataset.methods).every((method) => !values.method || values.method.has(method));
    // A table is there while it is about what was chosen and has a row left.
    for (const table of document.querySelectorAll("figure.table"))
      table.hidden =
        !["data", "model"].every(
          (key) => !(key in table.dataset) || !values[key] || values[key].has(table.dataset[key]),
        ) ||
        (setting?.value && table.dataset.data && setting.value !== `${table.dataset.model} on ${table.dataset.data}`) ||
        !table.querySelector("tbody tr:not([hidden])");
    for (const section of document.querySelectorAll("details.more"))
      section.hidden = !section.querySelector("figure.table:not([hidden])");
    if (select) {
      const kept = options.filter((option) => shown.has(Number(option.value)));
      const before = select.value;
      select.replaceChildren(...kept);
      select.value = kept.some((option) => option.value === before) ? before : kept.length ? kept[0].value : "";
    }
    hint();
    document.getElementById("count").textContent = `${shown.size} of ${runs.length} runs`;
    return drawAll();
  };
  boxes.forEach((box) => box.addEventListener("change", filter));
  setting?.addEventListener("change", filter);
  for (const button of document.querySelectorAll("#filters button[data-all]"))
    button.addEventListener("click", () => {
      boxes.filter((box) => box.name === button.dataset.all).forEach((box) => (box.checked = true));
      filter();
    });
  if (select) select.addEventListener("change", () => drawAll(report.figures.filter((figure) => figure.of_run)));

  document.getElementById("theme").addEventListener("click", () => {
    paint(dark() ? "light" : "dark");
    drawAll();
  });
  system.addEventListener("change", () => {
    paint(system.matches ? "dark" : "light");
    drawAll();
  });

  // Paper is narrower, and white. Drawing waits for nothing but promises, so that it is done when printing begins.

  addEventListener("beforeprint", async () => {
    turn += 1;
    paper = 690;
    await Promise.all(report.figures.map(draw));
    document.body.dataset.paper = "yes";
  });
  addEventListener("afterprint", () => {
    paper = 0;
    delete document.body.dataset.paper;
    drawAll();
  });

  let width = innerWidth;
  addEventListener("resize", () => {
    if (innerWidth === width) return; // on a phone the height changes while scrolling
    width = innerWidth;
    hint();
    document.body.dataset.drawing = "yes"; // from now on, though drawing begins later
    clearTimeout(resize.timer);
    resize.timer = setTimeout(() => drawAll(), 150);
  });
  const resize = {};

  for (const button of document.querySelectorAll("button.copy"))
    button.addEventListener("click", async () => {
      const text = document.getElementById(button.dataset.copies).textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "copied";
      } catch {
        getSelection().selectAllChildren(document.getElementById(button.dataset.copies));
        button.textContent = "selected";
      }
    });

  if (innerWidth < 900) document.getElementById("filters").open = false;
  filter();
})();
