// When each step ran: bars in a table, so that what is drawn can also be read.

const FIRST_ROWS = 120;

function ticks(total) {
  const steps = [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 20000, 30000, 60000, 120000, 300000, 600000, 1800000, 3600000, 7200000];
  const step = steps.find((one) => total / one <= 6) || total;
  const all = [];
  for (let at = 0; at <= total; at += step) all.push(at);
  return all;
}

function track(step, total) {
  const at = step.started_ms ?? step.ended_ms ?? 0;
  const length = step.duration_ms || Math.max(0, (step.ended_ms ?? at) - at);
  const element = h("div", { class: "track", "aria-hidden": "true" });
  const piece = (style, from, width) => {
    const part = h("i", { class: style });
    part.style.left = `${(100 * from) / total}%`;
    part.style.width = `${(100 * width) / total}%`;
    element.append(part);
  };
  if (step.queued_ms > total / 500) piece("queued", at - step.queued_ms, step.queued_ms);
  piece(`run ${step.state}${step.critical ? " critical" : ""}`, at, length);
  return element;
}

function showTime() {
  const total = Math.max(1, BUILD.duration_ms, ...BUILD.steps.map((step) => step.ended_ms || 0));
  const timed = DATA.order.map((id) => STEPS.get(id)).filter((step) => step.ended_ms !== null || step.started_ms !== null);
  timed.sort((a, b) => (a.started_ms ?? a.ended_ms) - (b.started_ms ?? b.ended_ms) || a.id - b.id);
  const way = timed.filter((step) => step.critical);
  const spent = way.reduce((sum, step) => sum + step.duration_ms, 0);
  const longest = way.reduce((most, step) => (step.duration_ms > most.duration_ms ? step : most), { duration_ms: 0 });
  const work = timed.reduce((sum, step) => sum + step.duration_ms, 0);
  fill($("time-story"), way.length
    ? `The build took ${seconds(BUILD.duration_ms)} and did ${seconds(work)} of work. The longest way (◆) has ${count(way.length, "step")} that took ${seconds(spent)}` +
      (longest.duration_ms ? `, most of it ${nameOf(longest)} with ${seconds(longest.duration_ms)}.` : ".")
    : "No step was timed.");
  const axis = h("div", { class: "axis", "aria-hidden": "true" }, ticks(total).map((at) => {
    const tick = h("span", {}, seconds(at));
    tick.style.left = `${(100 * at) / total}%`;
    return tick;
  }));
  const line = (step) => {
    const last = STEPS.get(step.waited_for);
    const waited = last && last.kind !== "scratch" ? last.label : "";
    return h("tr", { "data-row": step.id },
      h("th", { scope: "row" }, h("button", { type: "button", class: "plain", onclick: () => choose(step.id) }, step.critical ? "◆ " : "", h("span", { class: "mono" }, step.label), " ", step.text)),
      h("td", { class: "lane-of" }, track(step, total)),
      h("td", { class: "num" }, step.state === "cached" ? "cached" : seconds(step.duration_ms)),
      h("td", { class: "small soft" }, waited));
  };
  const head = h("tr", {}, h("th", { scope: "col" }, "Step"), h("th", { scope: "col", class: "lane-of" }, h("span", { class: "sr" }, "Timeline"), axis),
    h("th", { scope: "col", class: "num" }, "Took"), h("th", { scope: "col", class: "small" }, "Waited for"));
  const body = h("tbody", {});
  const show = (from, to) => body.append(...timed.slice(from, to).map(line));
  show(0, FIRST_ROWS);
  const rest = timed.length - FIRST_ROWS;
  const more = rest > 0
    ? h("button", { type: "button", class: "more", onclick: () => { more.remove(); show(FIRST_ROWS, timed.length); } }, `Show ${count(rest, "more step")}`)
    : null;
  fill($("timeline"), h("table", { class: "times" }, h("caption", { class: "sr" }, "When each step ran, how long it took, and which input it waited for"), h("thead", {}, head), body), more);
}

function markTime(id) {
  const old = document.querySelector("tr.selected");
  if (old) old.classList.remove("selected");
  const now = document.querySelector(`tr[data-row="${id}"]`);
  if (now) now.classList.add("selected");
}
