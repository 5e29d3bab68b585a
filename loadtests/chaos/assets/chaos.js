"use strict";
// The chaos page: asks how the run stands, draws what is new, and sends what the buttons say. All text is set as text.
(() => {
  const at = (id) => document.getElementById(id);
  const token = document.querySelector('meta[name="seawall-page"]').content;
  const PROVIDERS = ["gemini", "claude", "openai", "local"];
  const toxic = (type, attributes = {}) => ({ toxic: { type, attributes } });
  const FAULTS = {
    provider: {
      "No connection": toxic("down"),
      "Silence: bytes stop, connections stay open": toxic("timeout", { timeout: 0 }),
      "Every answer 600 ms late": toxic("latency", { latency: 600 }),
      "Connections reset": toxic("reset_peer", { timeout: 0 }),
      "Few bytes a second": toxic("bandwidth", { rate: 1 }),
      "Answers end after 500 bytes": toxic("limit_data", { bytes: 500 }),
      "Status 500": { respond: { status: 500 } },
      "Status 429 with Retry-After": { respond: { status: 429, retry_after: "5s" } },
      "First token after 3 s": { respond: { first_token: "3s" } },
      "Takes requests and never answers": { respond: { hang: true } },
      "Streams cut after 3 tokens": { respond: { cut_after_chunks: 3 } },
      "An HTML page with 200": { respond: { html: true } },
      "Empty answers": { respond: { empty: true } },
      "Broken JSON": { respond: { malformed: true } },
      "An error inside a good stream": { respond: { error_event: true } },
    },
    gateway: { "Stopped, and let go on": { process: "stop" }, "Killed, and started again": { process: "kill" }, "Restarted": { process: "restart" } },
    redis: { "No connection": toxic("down"), "Every answer 300 ms late": toxic("latency", { latency: 300 }), "Killed, and started again": { process: "kill" } },
    toxiproxy: { "Stopped, and let go on": { process: "stop" } },
    budget: { "Only 0.001 USD left": { remaining: "0.001 USD" } },
  };
  const TARGETS = [...PROVIDERS, "gateway", "redis", "toxiproxy", "budget"];
  const kinds = () => FAULTS[at("target").value] || FAULTS.provider;
  const fill = (select, names) => select.replaceChildren(...names.map((name) => new Option(name, name)));
  let edited = false;

  const words = () => {
    const seconds = at("duration").value.trim();
    const duration = /^[0-9.]+$/.test(seconds) ? `${seconds}s` : seconds;
    return { target: at("target").value, duration, ...kinds()[at("what").value] };
  };
  const show = () => { edited = false; at("words").value = JSON.stringify(words(), null, 1); };
  fill(at("target"), TARGETS);
  fill(at("what"), Object.keys(kinds()));
  at("target").addEventListener("change", () => { fill(at("what"), Object.keys(kinds())); show(); });
  at("what").addEventListener("change", show);
  at("duration").addEventListener("input", show);
  at("words").addEventListener("input", () => { edited = true; });
  show();

  const say = (text, bad = false) => { at("said").textContent = text; at("said").classList.toggle("bad", bad); };
  const ask = async (path, body) => {
    const options = body === undefined ? {} : { method: "POST", headers: { "content-type": "application/json", "X-Seawall-Page": token }, body };
    const answer = await fetch(path, { ...options, redirect: "error" });
    const told = await answer.json();
    if (told.errors) throw new Error(told.errors.map((flaw) => [flaw.field + ": " + flaw.message, flaw.fix].filter(Boolean).join("; ")).join("\n"));
    return told;
  };
  const send = async (path, body, done) => {
    try { const told = await ask(path, body); say(done(told)); await refresh(); } catch (error) { say(error.message, true); }
  };
  at("form").addEventListener("submit", (event) => {
    event.preventDefault();
    send("faults", edited ? at("words").value : JSON.stringify(words()), (fault) => `${fault.id}: ${fault.description} at ${fault.target}, for ${fault.duration_s} s`);
  });
  at("abort").addEventListener("click", () => send("abort", "{}", () => "aborting: every fault is taken back, and the report is written"));

  // What is drawn.
  const NS = "http://www.w3.org/2000/svg";
  const draw = (name, attributes, text) => {
    const element = document.createElementNS(NS, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const LEFT = 64, WIDTH = 900, PLOT = WIDTH - LEFT - 12, WINDOW = 120;
  let run = null, next = 0, seconds = [], marks = [], state = null;

  const frame = (height, top, unit) => {
    const svg = draw("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${height + 24}`, role: "img" });
    svg.append(draw("rect", { class: "plot", x: LEFT, y: 4, width: PLOT, height: height - 4 }));
    for (const share of unit === null ? [] : [0, 0.5, 1]) {
      const y = height - share * (height - 4);
      svg.append(draw("line", { class: "grid", x1: LEFT, x2: LEFT + PLOT, y1: y, y2: y }));
      svg.append(draw("text", { x: LEFT - 6, y: y + (share === 1 ? 10 : 0), "text-anchor": "end" }, `${+(top * share).toPrecision(2)}${unit}`));
    }
    return svg;
  };
  const figure = (heading, keys, svg) => {
    const box = document.createElement("figure"), caption = document.createElement("figcaption"), title = document.createElement("h3"), list = document.createElement("ul");
    title.textContent = heading;
    list.className = "keys";
    for (const [label, css, shape] of keys) {
      const item = document.createElement("li"), swatch = draw("svg", { viewBox: "0 0 20 12", "aria-hidden": "true" });
      swatch.append(shape === "line" ? draw("path", { class: css, d: "M1 6h18" }) : draw("rect", { class: css, x: 1, y: 1, width: 18, height: 10 }));
      item.append(swatch, label);
      list.append(item);
    }
    svg.setAttribute("aria-label", heading);
    caption.append(title, list);
    box.append(caption, svg);
    return box;
  };
  const charts = () => {
    const now = state ? state.now_s : 0, from = Math.max(0, now - WINDOW), span = Math.max(30, now - from);
    const x = (second) => LEFT + Math.min(Math.max((second - from) / span, 0), 1) * PLOT;
    const shown = seconds.filter((entry) => entry.at_s + 1 >= from);
    const bands = state ? state.faults.map((fault) => {
      const of = (phase) => marks.find((mark) => mark.kind === "fault" && mark.id === fault.id && mark.phase === phase);
      const start = of("active") || of("injecting"), end = of("healed") || of("undo_verified");
      return start && { fault, from: start.at_s, to: end ? end.at_s : now };
    }).filter((band) => band && band.to >= from) : [];
    const finish = (svg, height) => {
      for (const band of bands) {
        svg.append(draw("rect", { class: "shade", x: x(band.from), y: 4, width: Math.max(x(band.to) - x(band.from), 1), height: height - 4 }));
        svg.append(draw("line", { class: "shade-edge", x1: x(band.from), x2: x(band.from), y1: 4, y2: height }));
        svg.append(draw("text", { x: x(band.from) + 4, y: 16, class: "name" }, band.fault.id));
      }
      for (let n = 0; n <= 4; n += 1) svg.append(draw("text", { x: LEFT + (n / 4) * PLOT, y: height + 18, "text-anchor": n === 4 ? "end" : n ? "middle" : "start" }, `${Math.round(from + (n / 4) * span)} s`));
      return svg;
    };
    const width = PLOT / span;
    const sum = (entry) => entry.whole + entry.refused + entry.failed;
    const top = Math.max(1, ...shown.map(sum)), rates = frame(150, top, "/s");
    for (const entry of shown) {
      let y = 150;
      const bar = (count, css) => {
        const height = (count / top) * 146;
        if (count > 0) rates.append(draw("rect", { class: css, x: x(entry.at_s), y: y - height, width: Math.max(width - 1, 1), height }));
        y -= height;
      };
      for (const name of PROVIDERS) bar(entry.served[name] || 0, `c-${name}`);
      bar(entry.refused, "c-refused");
      bar(entry.failed, "c-failed");
    }
    const slow = Math.max(10, ...shown.map((entry) => entry.p95_ms || 0)), times = frame(130, slow, " ms");
    const path = (key, css) => {
      let d = "", pen = "M";
      for (const entry of shown) {
        if (entry[key] === null) { pen = "M"; continue; }
        d += `${pen}${x(entry.at_s + 0.5).toFixed(1)} ${(130 - (entry[key] / slow) * 126).toFixed(1)}`;
        pen = "L";
      }
      if (d) times.append(draw("path", { class: `line ${css}`, d }));
    };
    path("p50_ms", "p50"); path("p95_ms", "p95"); path("first_token_ms", "first");
    const strips = frame(104, 1, null);
    PROVIDERS.forEach((name, row) => {
      const y = 6 + row * 25;
      strips.append(draw("text", { x: LEFT - 6, y: y + 14, "text-anchor": "end", class: "name" }, name));
      let since = from, is = "closed";
      const piece = (end) => { if (end > since) strips.append(draw("rect", { class: `b-${is}`, x: x(since), y, width: Math.max(x(end) - x(since), 1), height: 19 })); };
      for (const mark of marks.filter((entry) => entry.kind === "breaker" && entry.provider === name)) {
        if (mark.at_s > since) { piece(mark.at_s); since = mark.at_s; }
        is = mark.to;
      }
      piece(Math.max(now, from));
    });
    at("charts").replaceChildren(
      figure("Who answered", [...PROVIDERS.map((name) => [name, `c-${name}`]), ["refused", "c-refused"], ["failed", "c-failed"]], finish(rates, 150)),
      figure("How long it took", [["median", "line p50", "line"], ["95th percentile", "line p95", "line"], ["first token", "line first", "line"]], finish(times, 130)),
      figure("Breakers", [["closed", "b-closed"], ["open", "b-open"], ["half-open", "b-half_open"]], finish(strips, 104)),
    );
  };

  const row = (...cells) => {
    const line = document.createElement("tr");
    for (const cell of cells) {
      const box = document.createElement("td");
      box.append(cell);
      line.append(box);
    }
    return line;
  };
  const tables = () => {
    const on = state.phase === "loading";
    const key = JSON.stringify([state.faults, on]);
    if (at("faults").dataset.key !== key) {
      at("faults").dataset.key = key;
      at("faults").replaceChildren(...state.faults.map((fault) => {
        const heal = document.createElement("button");
        heal.type = "button";
        heal.className = "small";
        heal.textContent = "Heal";
        heal.setAttribute("aria-label", `Heal ${fault.id}`);
        heal.disabled = !on || ["healing", "healed", "undo_verified"].includes(fault.phase);
        heal.addEventListener("click", () => { heal.disabled = true; send(`faults/${fault.id}/heal`, "{}", () => `healing ${fault.id}`); });
        const line = row(fault.id, fault.target, fault.description, fault.phase.replace("_", " "), `${Math.round(fault.planned_at_s + fault.duration_s)} s`, heal);
        line.children[2].className = "text";
        if (fault.error) {
          const problem = document.createElement("span");
          problem.className = "problem";
          problem.textContent = fault.error;
          line.children[2].append(problem);
        }
        return line;
      }));
      if (!state.faults.length) at("faults").replaceChildren(row("none yet"));
    }
    at("providers").replaceChildren(...state.providers.map((provider) => {
      const breaker = document.createElement("span"), mark = document.createElement("span");
      mark.className = `mark ${provider.breaker}`;
      breaker.append(mark, provider.breaker.replace("_", "-"));
      return row(provider.provider, breaker, String(provider.served), String(provider.attempts), String(provider.failed), provider.p50_ms === null ? "–" : provider.p50_ms.toFixed(0), provider.spend_usd.toFixed(6));
    }));
    const told = marks.filter((mark) => mark.kind !== "process" && !(mark.kind === "fault" && mark.phase === "planned")).slice(-40).reverse();
    at("log").replaceChildren(...told.map((mark) => {
      const item = document.createElement("li"), when = document.createElement("b"), said = document.createElement("span");
      when.textContent = mark.at_s === null ? "–" : `${mark.at_s.toFixed(1)} s`;
      said.textContent = mark.kind === "fault" ? `fault ${mark.id}: ${mark.phase.replace("_", " ")}${mark.error ? `: ${mark.error}` : ""}` : mark.kind === "breaker" ? `breaker of ${mark.provider}: ${mark.to.replace("_", "-")}` : mark.text;
      if (mark.error || mark.level === "error") said.className = "bad";
      item.append(when, said);
      return item;
    }));
  };
  const head = () => {
    const on = state.phase === "loading", over = state.phase === "ended";
    at("scenario").textContent = state.scenario;
    at("title").textContent = state.title;
    at("phase").textContent = over && state.verdict ? state.verdict : state.phase;
    document.querySelector(".strip").className = `strip ${over && state.verdict ? `v-${["pass", "safe", "partial"].includes(state.verdict) ? "pass" : "fail"}` : ""}`;
    at("clock").textContent = over ? "the run has ended" : `${Math.round(state.now_s)} s of load`;
    at("detail").textContent = over ? state.why || state.detail || "" : on ? `Requests go to ${state.base_url}.` : "Wait a moment.";
    at("abort").disabled = !["starting", "ready", "loading"].includes(state.phase);
    at("inject").disabled = !on;
    at("t-requests").textContent = String(state.requests);
    at("t-rate").textContent = state.success_rate === null ? "–" : `${(state.success_rate * 100).toFixed(1)} %`;
    at("t-cut").textContent = String(state.cut);
    at("t-spend").textContent = state.limit_usd === null ? "–" : `${state.spend_usd.toFixed(4)} of ${state.limit_usd} USD`;
  };

  const refresh = async () => {
    try { state = await ask("state"); } catch (error) { if (run !== null) at("detail").textContent = error.message; return; }
    if (state.run !== run) { run = state.run; next = 0; seconds = []; marks = []; }
    const told = await ask(`events?since=${next}`);
    next = told.next;
    for (const entry of told.entries) (entry.kind === "second" ? seconds : marks).push(entry);
    head(); tables(); charts();
  };
  const loop = async () => {
    try { await refresh(); } catch { /* the next look may be luckier */ }
    setTimeout(loop, 1000);
  };
  loop();
})();
