// The chosen step: what it is, why it ran, what it wrote, what it changed.

const LOG_LINES = 400;
const LISTED = 60;

const nameOf = (step) => `${step.label} ${step.text}`;
const short = (text, most) => (text.length > most ? `${text.slice(0, most)}…` : text);

function linesOf(step) {
  if (!step.lines || !BUILD.dockerfile) return null;
  const lines = BUILD.dockerfile.text.split("\n").slice(step.lines[0] - 1, step.lines[1]);
  return h("pre", { class: "code" }, lines.map((text, index) =>
    h("span", { class: "source" }, h("span", { class: "number" }, String(step.lines[0] + index)), `${text}\n`)));
}

function reasonOf(step) {
  if (step.reasons.length) return h("ul", { class: "reasons" }, step.reasons.map((reason) => h("li", {}, reason)));
  if (step.state === "cached") return h("p", {}, "Its inputs are the same as in an earlier build, so its result was taken from the cache.");
  if (step.kind === "context") return h("p", {}, "The context is read in every build.");
  if (step.state === "done") return h("p", {}, "It was executed; this journal does not say what was different.");
  if (step.state === "canceled") return h("p", {}, "It was stopped, or never started, because the build ended.");
  return null;
}

function factsOf(step, contents) {
  const facts = [];
  if (step.started_ms !== null) facts.push(["Started", `${seconds(step.started_ms)} after the build started`]);
  if (step.duration_ms || step.state === "done") facts.push(["Took", seconds(step.duration_ms)]);
  const last = STEPS.get(step.waited_for);
  if (last && last.kind !== "scratch") facts.push(["Waited for", link(last)]);
  const held = STEPS.get(step.held_by);
  if (held && step.state === "cached") facts.push(["Executed by", link(held)]);
  else if (held && step.kind === "image") facts.push(["Needed after", link(held)]);
  else if (held) facts.push(["Then, for a free slot", [`${seconds(step.queued_ms)}, until this step ended: `, link(held)]]);
  if (step.layer_bytes || (contents && contents.made)) facts.push(["Layer", bytes(step.layer_bytes || contents.made)]);
  if (contents && step.stage !== null) facts.push(["Shipped", `${bytes(contents.shipped)} of it`]);
  if (contents && contents.hidden) facts.push(["Hidden in layers below", bytes(contents.hidden)]);
  if (step.image) facts.push(["Image", step.image.reference], ["Digest", step.image.digest]);
  return h("dl", { class: "facts-of" }, facts.flatMap(([term, value]) => [h("dt", {}, term), h("dd", {}, value)]));
}

/** A reference to another step that can be followed. */
function link(step) {
  return h("a", { href: "#walk", onclick: (event) => { event.preventDefault(); choose(step.id); } }, nameOf(step));
}

function logOf(step, limit) {
  if (!step.log.length) return null;
  const left = DATA.left_out[step.id];
  const began = step.started_ms ?? 0;
  const line = (one) => h("span", { class: one.stderr ? "err" : null },
    h("span", { class: "at" }, ((one.at_ms - began) / 1000).toFixed(2).padStart(7)), ` ${one.text}\n`);
  const lines = step.log.map(line);
  if (left) lines.splice(left[0], 0, h("span", { class: "soft" }, `        … ${count(left[1], "line")} left out: dbuild logs ${BUILD.id} ${step.id}\n`));
  const shown = lines.slice(-limit);
  const first = lines.slice(0, lines.length - shown.length);
  const pre = h("pre", { class: "log", tabindex: "0", role: "group", "aria-label": "Output of the step" }, shown);
  const more = first.length
    ? h("button", { type: "button", class: "more", onclick: () => { more.remove(); pre.prepend(...first); } }, `Show ${count(first.length, "earlier line")}`)
    : null;
  return [h("h4", {}, "Output"), more, pre];
}

function changesList(contents, limit) {
  const [added, changed, removed] = contents.counts;
  const words = [[added, "added"], [changed, "changed"], [removed, "removed"]].filter(([number]) => number)
    .map(([number, word]) => `${number.toLocaleString("en")} ${word}`);
  const head = h("h4", {}, `Paths: ${words.join(", ") || "none"}`);
  if (!words.length) return [head];
  const all = contents.rows.map(row);
  // Directories that came with their files say nothing, unless there is nothing else.
  const files = all.filter((entry) => entry.kind !== "dir" || entry.op !== "+");
  const rows = (files.length ? files : all).sort((a, b) => b.size - a.size);
  const show = (from) => rows.slice(from, from + limit).map((entry) => [
    h("span", { class: "path" }, h("span", { class: `op ${OPERATIONS[entry.op][0]}` }, OPERATIONS[entry.op][1]), " ",
      entry.kind === "sum" ? `${entry.path.slice(0, -1)} ${count(entry.count, "more path")}` : entry.path),
    OPERATIONS[entry.op][0],
    entry.kind === "sum" ? "" : mode(entry),
    (entry.before !== null && entry.op === "~" ? `${bytes(entry.before)} → ` : "") + bytes(entry.size),
  ]);
  const heads = [["Path"], ["What", "small"], ["Mode", "small mono"], ["Size", "num"]];
  const rest = rows.length - limit;
  return [head, h("div", { class: "wide" }, table("Paths that the step changed, the largest first", heads, show(0))),
    rest > 0 ? h("p", { class: "soft" }, `and ${count(rest, "row")} more; the tree has them.`) : null];
}

/** All about a step, as elements. */
function about(step, limits) {
  const contents = DATA.contents[step.id];
  const changes = contents && step.kind !== "image" ? changesList(contents, limits.paths) : null;
  return [
    h("h3", {}, badge(step.state), " ", h("span", { class: "mono" }, step.label)),
    step.critical ? h("p", { class: "on-path" }, "◆ on the critical path") : null,
    linesOf(step) || h("pre", { class: "code" }, step.text),
    step.error ? h("p", { class: "error", role: "note" }, step.error) : null,
    reasonOf(step),
    factsOf(step, contents),
    changes,
    logOf(step, limits.log),
  ];
}

/** Says to a screen reader in one sentence what was chosen: all of the step would be too much. */
function tell(step, at) {
  const contents = DATA.contents[step.id];
  const counts = contents ? contents.counts : [0, 0, 0];
  const changes = counts.map((number, index) => (number ? `${number} ${["added", "changed", "removed"][index]}` : "")).filter(Boolean);
  $("told").textContent = [`Step ${at + 1} of ${DATA.order.length}: ${short(nameOf(step), 120)}`, WORDS[step.state], ...changes].join(", ");
}

let chosen = null;

/** Chooses a step everywhere on the page. */
function choose(id, options) {
  const step = STEPS.get(id);
  if (!step) return;
  chosen = id;
  const at = DATA.order.indexOf(id);
  $("slider").value = String(at);
  $("slider").setAttribute("aria-valuetext", `${at + 1} of ${DATA.order.length}, ${step.label}`);
  $("position").textContent = `${at + 1} of ${DATA.order.length}`;
  $("back").disabled = at <= 0;
  $("forward").disabled = at + 1 >= DATA.order.length;
  fill($("detail"), about(step, { paths: LISTED, log: LOG_LINES }));
  showTree(step);
  tell(step, at);
  markGraph(id, options);
  markSource(step);
  markTime(id);
}
