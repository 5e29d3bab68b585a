"use strict";
// Everything is readable without this. It adds: the theme, filters and search, and one cursor and one zoom for all charts.
(() => {
  const all = (what, within = document) => [...within.querySelectorAll(what)];
  const one = (what, within = document) => within.querySelector(what);
  const made = (name, css, parent) => {
    const mark = document.createElementNS("http://www.w3.org/2000/svg", name);
    mark.setAttribute("class", css);
    parent.append(mark);
    return mark;
  };
  const put = (mark, values) => {
    for (const key in values) mark.setAttribute(key, values[key]);
  };

  // Theme: the media query of the dark colours is rewritten, so that there is one copy of them.
  const button = one("#theme");
  const dark = all("style").flatMap((each) => [...each.sheet.cssRules]).find((rule) => rule.media && /dark/.test(rule.media.mediaText));
  if (button && dark) {
    const system = dark.media.mediaText;
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    let isDark = scheme.matches;
    const paint = () => {
      dark.media.mediaText = isDark === scheme.matches ? system : isDark ? "screen" : "not all";
      document.documentElement.style.colorScheme = isDark ? "dark" : "light";
      button.textContent = isDark ? "Light theme" : "Dark theme";
    };
    button.addEventListener("click", () => {
      isDark = !isDark;
      paint();
    });
    scheme.addEventListener("change", () => {
      isDark = scheme.matches;
      paint();
    });
    paint();
    button.hidden = false;
  }

  // Filters: each stands above what it filters, and names it; a select looks into data, the search into all words.
  const filters = all(".filter");
  const shows = new Map();
  for (const filter of filters) {
    const rows = all(filter.dataset.of);
    const show = () => {
      let count = 0;
      for (const row of rows) {
        const fits = all("select", filter).every((s) => !s.value || row.dataset[s.dataset.key].split(" ").includes(s.value));
        const words = one("input", filter).value.toLowerCase().split(/\s+/);
        row.hidden = !fits || !words.every((word) => row.textContent.toLowerCase().includes(word));
        count += !row.hidden;
      }
      one("output", filter).textContent = count === rows.length ? "" : `${count} of ${rows.length} shown`;
    };
    filter.addEventListener("input", show);
    filter.addEventListener("change", show);
    one("button", filter).addEventListener("click", () => {
      for (const field of all("select, input", filter)) field.value = "";
      show();
      choose("");
    });
    shows.set(filter, show);
    filter.hidden = false;
  }

  const panels = one(".panels");
  const charts = panels ? all("svg.chart", panels) : [];
  let choose = () => {};
  if (!charts.length) return;

  // The axis of time: `from` and `to` are the seconds that the plots show, of `start` to `end`.
  const [start, end, step] = ["start", "end", "step"].map((key) => Number(panels.dataset[key]));
  const [left, width, wide] = [64, 852, 1000];
  let from = start;
  let to = end;
  let at = null;
  const place = (s) => left + ((s - from) / (to - from)) * width;
  const whole = (x) => start + ((x - left) / width) * (end - start);
  const text = (s) => String(Number(s.toFixed(3)));
  const readout = one("#readout");
  const marks = charts.map((chart) => ({
    chart,
    zoom: one(".zoom", chart),
    box: one(".zoom", chart).getAttribute("viewBox").split(" ").map(Number),
    moving: all(".at", chart).map((t) => [t, whole(Number(t.getAttribute("x")))]),
    shapes: all(".m-failed, .m-refused", chart).map((path) => [path, path.getAttribute("d")]),
    cursor: one(".cursor", chart),
    drag: made("rect", "drag", chart),
    base: Number(one(".base", chart).getAttribute("y1")),
  }));
  const rows = all(".panel", panels).flatMap((panel) => {
    const head = all("th", panel).map((cell) => cell.textContent);
    return head[0] === "from (s)" ? [[one("h3", panel).textContent, head, all("tbody tr", panel)]] : [];
  });

  const point = (s) => {
    at = s === null ? null : Math.min(Math.max(s, from), to);
    for (const { cursor } of marks) {
      cursor.classList.toggle("on", at !== null);
      if (at !== null) put(cursor, { x1: place(at), x2: place(at) });
    }
    if (at === null) {
      readout.textContent = "";
      return;
    }
    const n = Math.max(Math.floor((at - start) / step + 1e-9), 0);
    const bands = all(".band", panels).filter((b) => at >= b.dataset.from && at <= b.dataset.to);
    const said = rows.map(([name, head, lines]) => {
      const cells = lines[n] ? [...lines[n].cells] : [];
      return `${name}: ${head.slice(1).map((h, i) => `${h} ${cells[i + 1] ? cells[i + 1].textContent : "–"}`).join(", ")}`;
    });
    const faults = bands.length ? [`faults: ${bands.map((b) => b.dataset.fault).join(", ")}`] : [];
    readout.textContent = [`${at.toFixed(2)} s`, ...faults, ...said].join(" · ");
  };

  const zoom = (a, b) => {
    const span = Math.min(Math.max(b - a, (end - start) / 400), end - start);
    from = Math.min(Math.max((a + b - span) / 2, start), end - span);
    to = from + span;
    const k = (end - start) / span;
    panels.classList.toggle("zoomed", k > 1.001);
    const unit = 10 ** Math.floor(Math.log10(span / 16));
    const gap = [1, 2, 5, 10].map((m) => m * unit).find((g) => g >= span / 16 - 1e-12);
    const cross = `m${-3.5 / k}-3.5l${7 / k} 7m0-7l${-7 / k} 7`;
    const ring = `m${-3 / k} 0a${3 / k} 3 0 1 0 ${6 / k} 0a${3 / k} 3 0 1 0 ${-6 / k} 0`;
    for (const mark of marks) {
      const [, y, , height] = mark.box;
      put(mark.zoom, { viewBox: `${left + ((from - start) / (end - start)) * width} ${y} ${width / k} ${height}` });
      for (const [path, d] of mark.shapes) put(path, { d: d.replace(/(M[^m]*)m[^M]*/g, `$1${path.matches(".m-failed") ? cross : ring}`) });
      for (const [each, s] of mark.moving) {
        put(each, { x: place(s) });
        each.classList.toggle("off", place(s) < left - 1 || place(s) > left + width + 1);
      }
      for (const old of all(".notch, .time", mark.chart)) old.remove();
      for (let s = Math.ceil(from / gap - 1e-9) * gap; s <= to + 1e-9; s += gap) {
        put(made("line", "base notch", mark.chart), { x1: place(s), x2: place(s), y1: mark.base, y2: mark.base + 4 });
        const label = made("text", "tick time", mark.chart);
        put(label, { x: place(s), y: mark.base + 17, "text-anchor": "middle" });
        label.textContent = text(s);
      }
    }
    one("#span").textContent = k > 1.001 ? `${from.toFixed(2)} to ${to.toFixed(2)} s` : "the whole run";
    point(at);
  };
  const scale = (factor) => {
    const middle = at === null ? (from + to) / 2 : at;
    zoom(middle - (middle - from) * factor, middle + (to - middle) * factor);
  };
  const pan = (share) => {
    const by = Math.min(Math.max((to - from) * share, start - from), end - to);
    zoom(from + by, to + by);
  };
  const acts = {
    in: () => scale(0.5),
    out: () => scale(2),
    back: () => pan(-0.5),
    on: () => pan(0.5),
    all: () => {
      choose("");
      zoom(start, end);
    },
  };
  for (const each of all(".tools button")) each.addEventListener("click", () => acts[each.dataset.act]());

  // A fault: only its requests in the table, only its time in the charts. Chosen again, all is back.
  const requests = one('.filter[data-of^="#requests"]');
  choose = (id) => {
    let chosen = null;
    for (const band of all(".band", panels)) {
      const is = id !== "" && band.dataset.fault === id;
      band.classList.toggle("chosen", is);
      band.setAttribute("aria-current", is);
      if (is) chosen = band;
    }
    const select = requests && one('select[data-key="faults"]', requests);
    if (select) {
      select.value = id;
      shows.get(requests)();
    }
    one("#chosen").textContent = chosen ? `Only requests under way during ${id}.` : "";
    if (!chosen) return;
    const [a, b] = [Number(chosen.dataset.from), Number(chosen.dataset.to)];
    zoom(a - (b - a) * 0.25, b + (b - a) * 0.25);
  };
  for (const band of all(".band", panels)) {
    band.addEventListener("click", (event) => {
      event.preventDefault();
      if (band.classList.contains("chosen")) acts.all();
      else choose(band.dataset.fault);
    });
  }
  if (requests) {
    const select = one('select[data-key="faults"]', requests);
    if (select) select.addEventListener("change", () => (select.value ? choose(select.value) : acts.all()));
  }

  // Pointer: the line under it; a drag chooses a stretch. Keys do the same where the charts have the focus.
  const moment = (event) => {
    const chart = event.target.closest("svg.chart");
    if (!chart) return null;
    const box = chart.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * wide;
    return x < left || x > left + width ? null : from + ((x - left) / width) * (to - from);
  };
  let held = null;
  const drawn = (a, b) => {
    for (const { drag, base } of marks) put(drag, { x: Math.min(place(a), place(b)), y: 0, height: base, width: Math.abs(place(b) - place(a)) });
  };
  panels.addEventListener("pointerdown", (event) => {
    held = event.pointerType === "touch" || event.button || event.target.closest("summary, .scroll") ? null : moment(event);
  });
  panels.addEventListener("pointermove", (event) => {
    const s = moment(event);
    if (s === null) return;
    point(s);
    if (held !== null) drawn(held, s);
  });
  panels.addEventListener("pointerup", (event) => {
    const s = moment(event);
    if (held !== null && s !== null && Math.abs(place(s) - place(held)) > 8) zoom(Math.min(held, s), Math.max(held, s));
    held = null;
    drawn(from, from);
  });
  panels.addEventListener("pointerleave", () => {
    held = null;
    drawn(from, from);
    point(null);
  });
  panels.addEventListener("dblclick", (event) => moment(event) !== null && acts.all());
  panels.addEventListener("keydown", (event) => {
    if (event.target !== panels || event.ctrlKey || event.metaKey || event.altKey) return;
    const now = at === null ? from : at;
    const keys = {
      ArrowRight: () => (event.shiftKey ? pan(0.25) : point(now + step)),
      ArrowLeft: () => (event.shiftKey ? pan(-0.25) : point(now - step)),
      Home: () => point(from),
      End: () => point(to),
      "+": acts.in,
      "=": acts.in,
      "-": acts.out,
      0: acts.all,
      Escape: acts.all,
    };
    if (!keys[event.key]) return;
    event.preventDefault();
    keys[event.key]();
  });
  one(".tools").hidden = false;
})();
