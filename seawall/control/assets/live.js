"use strict";
// The live strip: asks how the run stands, and loads the report so far behind the one that is shown.
(() => {
  const at = (id) => document.getElementById(id);
  let last = false, over = false;
  const load = () => {
    if (document.querySelector("iframe.next")) return;
    const frame = document.createElement("iframe");
    frame.className = "next";
    frame.title = "Report so far";
    frame.src = `page?${Date.now()}`;
    frame.addEventListener("load", () => {
      const old = document.querySelector("iframe:not(.next)");
      if (frame.contentDocument && frame.contentDocument.contentType !== "text/html") { frame.remove(); return; }
      const top = old ? old.contentWindow.scrollY : 0;
      frame.contentWindow.scrollTo(0, top);
      frame.className = "";
      if (old) old.remove();
      at("wait").hidden = true;
    });
    at("frames").append(frame);
  };
  const show = (state) => {
    over = state.phase === "ended";
    at("phase").textContent = over ? state.verdict || "ended" : state.phase;
    const rate = state.success_rate === null ? "" : `, ${(state.success_rate * 100).toFixed(1)} % whole in the last 10 s`;
    const planned = state.load_s === null ? "" : ` of ${Math.round(state.load_s)}`;
    at("clock").textContent = over ? state.why || state.detail || "" : `${Math.min(Math.round(state.now_s), Math.round(state.load_s || 1e9))}${planned} s, ${state.requests} requests${rate}`;
    const acting = state.faults.filter((fault) => ["injecting", "active", "healing"].includes(fault.phase));
    at("faults").textContent = acting.map((fault) => `· ${fault.id} at ${fault.target}: ${fault.phase}`).join(" ");
    at("abort").disabled = !["starting", "ready", "loading"].includes(state.phase);
    document.title = `${at("phase").textContent}: ${state.title}`;
  };
  at("abort").addEventListener("click", async () => {
    at("abort").disabled = true;
    await fetch("v1/abort", { method: "POST", headers: { "content-type": "application/json" }, body: "{}" });
  });
  let looks = 0;
  const loop = async () => {
    try {
      const answer = await fetch("v1/state");
      if (answer.ok) {
        const state = await answer.json();
        show(state);
        if (over && !last) { last = true; document.querySelectorAll("iframe.next").forEach((frame) => frame.remove()); load(); return; }
        if (state.phase === "loading" && looks % 4 === 0) load();
      }
    } catch {
      at("phase").textContent = "ended";
      at("clock").textContent = "the run is over; its report is in the folder that the command printed";
      at("abort").disabled = true;
      return;
    }
    looks += 1;
    setTimeout(loop, 1000);
  };
  loop();
})();
