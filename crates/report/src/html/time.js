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
  // What never began has no time.
  if (step.started_ms === null && step.state !== "cached") return element;
  if (step.queued_ms > total / 500) piece("queued", at - step.queued_ms, step.queued_ms);
  piece(`run ${step.state}${step.critical ? " critical" : ""}`, at, length);
  return element;
}

/** How long a step took, or why it has no time. */
function tookOf(step) {
  if (step.state === "cached") return "cached";
  if (step.started_ms === null && step.state !== "done") return step.state === "canceled" ? "never started" : WORDS[step.state];
  const time = seconds(step.duration_ms);
  return step.state === "done" ? time : `${WORDS[step.state]} after ${time}`;
}

const TIME_HEADS = [["Step"], ["Timeline", "lane-of"], ["Took", "num"], ["Waited for", "small soft by"]];

function timeRow(step, total) {
  const [last, held] = [step.waited_for, step.held_by].map((id) => STEPS.get(id));
  const waited = [last && last.kind !== "scratch" ? last.label : "", held ? held.label : ""].filter(Boolean).join(", then ");
  const name = h("button", { type: "button", class: "plain clamp", onclick: () => choose(step.id) },
    h("span", { class: `sign ${step.state}`, "aria-hidden": "true" }, SIGNS[step.state]), h("span", { class: "sr" }, `${WORDS[step.state]}: `),
    step.critical ? "◆ " : "", h("span", { class: "mono" }, step.label), " ", step.text);
  return tableRow(TIME_HEADS, [name, track(step, total), tookOf(step), waited], { "data-row": step.id });
}

function showTime() {
  const total = Math.max(1, BUILD.duration_ms, ...BUILD.steps.map((step) => step.ended_ms || 0));
  const timed = DATA.order.map((id) => STEPS.get(id)).filter((step) => step.ended_ms !== null || step.started_ms !== null);
  timed.sort((a, b) => (a.started_ms ?? a.ended_ms) - (b.started_ms ?? b.ended_ms) || a.id - b.id);
  const path = timed.filter((step) => step.critical);
  const spent = path.reduce((sum, step) => sum + step.duration_ms, 0);
  const longest = path.reduce((most, step) => (step.duration_ms > most.duration_ms ? step : most), { duration_ms: 0 });
  const work = timed.reduce((sum, step) => sum + step.duration_ms, 0);
  fill($("time-story"), path.length
    ? `The build took ${seconds(BUILD.duration_ms)} and did ${seconds(work)} of work. The critical path (◆) has ${count(path.length, "step")} that took ${seconds(spent)}` +
      (longest.duration_ms ? `, the longest of them ${short(nameOf(longest), 90)} with ${seconds(longest.duration_ms)}.` : ".")
    : "No step was timed.");
  const axis = h("div", { class: "axis", "aria-hidden": "true" }, ticks(total).map((at) => {
    const tick = h("span", {}, seconds(at));
    tick.style.left = `${(100 * at) / total}%`;
    return tick;
  }));
  const head = h("tr", {}, h("th", { scope: "col" }, "Step"), h("th", { scope: "col", class: "lane-of" }, h("span", { class: "sr" }, "Timeline"), axis),
    h("th", { scope: "col", class: "num" }, "Took"), h("th", { scope: "col", class: "small by" }, "Waited for"));
  const body = h("tbody", {});
  const show = (from, to) => body.append(...timed.slice(from, to).map((step) => timeRow(step, total)));
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
