// Puts the page together.

function showHead() {
  $("title").textContent = DATA.title || "build";
  const outcome = { done: "done", failed: "failed", canceled: "canceled" }[BUILD.outcome] || "running";
  const from = BUILD.dockerfile ? ` from ${BUILD.dockerfile.name}` : "";
  fill($("about"), badge(outcome), ` Build ${BUILD.id}, ${when(BUILD.started_ms)}${from}, strategy ${BUILD.strategy}`);
  const sums = DATA.totals;
  const whole = sums ? sums.base + sums.made : 0;
  const image = BUILD.exports.find((output) => output.digest) || BUILD.exports[0];
  const steps = BUILD.steps.filter((step) => step.kind !== "scratch" && step.kind !== "context");
  const cached = steps.filter((step) => step.state === "cached").length;
  const ended = cached + steps.filter((step) => step.state === "done").length;
  const failed = BUILD.steps.find((step) => step.state === "failed");
  const reached = BUILD.stages.filter((stage) => stage.reached).length;
  const skipped = BUILD.stages.length - reached;
  const story = [];
  if (failed) story.push(`It failed at ${nameOf(failed)}.`);
  story.push(`${count(reached, "stage")} ${BUILD.outcome === "done" ? "ran" : reached === 1 ? "is needed" : "are needed"}${skipped ? `, ${skipped} ${skipped === 1 ? "was" : "were"} not needed` : ""}.`);
  const shipped = whole && BUILD.outcome === "done";
  if (shipped) story.push(`They held ${bytes(whole)} of files; ${bytes(sums.shipped)} are in the image and ${bytes(sums.left)} stayed behind.`);
  $("story").textContent = story.join(" ");
  const figures = [
    ["Time", seconds(BUILD.duration_ms), null],
    ["Steps cached", `${cached} of ${ended}`, null],
    ["Image", image ? bytes(image.size) : "none", image && image.unpacked ? `${bytes(image.unpacked)} unpacked` : null],
    ["Left behind", shipped ? bytes(sums.left) : "unknown", shipped ? `of ${bytes(whole)}` : null],
  ];
  fill($("figures"), figures.map(([term, value, more]) =>
    h("div", {}, h("dt", {}, term), h("dd", {}, value, more ? h("small", {}, more) : null))));
  $("foot").textContent = `Written by dbuild ${DATA.version} from its journal. This file needs nothing else.`;
}

function wirePlayer() {
  const slider = $("slider");
  slider.max = String(DATA.order.length - 1);
  slider.addEventListener("input", () => choose(DATA.order[Number(slider.value)]));
  const move = (by) => choose(DATA.order[Number(slider.value) + by]);
  $("walk").addEventListener("keydown", (event) => {
    if (event.key === "Escape" && !event.defaultPrevented) toBox();
  });
  $("back").addEventListener("click", () => move(-1));
  $("forward").addEventListener("click", () => move(1));
}

function showMessages() {
  const line = (message) => h("li", { class: message.warning ? "warn" : "" },
    h("p", {}, h("strong", {}, message.rule || (message.warning ? "Warning" : "Note")), message.line ? `, line ${message.line}` : ""),
    h("pre", { class: "code" }, message.text));
  fill($("messages"), BUILD.messages.length
    ? h("ul", { class: "messages" }, BUILD.messages.map(line))
    : h("p", { class: "soft" }, "No check found anything, and nothing else was said."));
}

const SOURCE = new Map();

function showSource() {
  if (!BUILD.dockerfile) return fill($("dockerfile"), h("p", { class: "soft" }, "The journal of this build does not have it."));
  const owner = new Map();
  for (const step of BUILD.steps) {
    if (step.lines && step.kind !== "context" && step.kind !== "scratch") for (let line = step.lines[0]; line <= step.lines[1]; line += 1) owner.set(line, step);
  }
  const lines = BUILD.dockerfile.text.replace(/\n$/, "").split("\n").map((text, index) => {
    const step = owner.get(index + 1);
    const sign = step ? SIGNS[step.state] : " ";
    const number = step && step.lines[0] === index + 1
      ? h("button", { type: "button", class: "plain number", tabindex: "-1", "data-step": step.id, "aria-label": `Line ${index + 1}: ${short(nameOf(step), 80)}, ${WORDS[step.state]}` }, String(index + 1))
      : h("span", { class: "number" }, String(index + 1));
    const line = h("span", { class: `source${step ? ` of ${step.state}` : ""}` },
      number, h("span", { class: "sign" }, sign), `${text}\n`);
    if (step) line.addEventListener("click", () => choose(step.id));
    SOURCE.set(index + 1, line);
    return line;
  });
  const pre = h("pre", { class: "code whole", tabindex: "0", role: "group", "aria-label": `${BUILD.dockerfile.name}; arrow keys go from instruction to instruction` }, lines);
  pre.addEventListener("keydown", walkSource);
  fill($("dockerfile"), pre);
}

/** One instruction can be reached by Tab, the others from there. */
function walkSource(event) {
  const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const buttons = [...document.querySelectorAll("#dockerfile button")];
  if (!by || !buttons.length || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  const at = buttons.indexOf(document.activeElement);
  const next = buttons[at < 0 ? Math.max(0, buttons.findIndex((button) => button.tabIndex === 0)) : at + by];
  if (!next) return;
  choose(Number(next.dataset.step), { still: true });
  next.focus();
}

function markSource(step) {
  for (const line of document.querySelectorAll(".source.selected")) line.classList.remove("selected");
  for (const button of document.querySelectorAll("#dockerfile button")) button.tabIndex = Number(button.dataset.step) === step.id ? 0 : -1;
  if (!step.lines) return;
  for (let line = step.lines[0]; line <= step.lines[1]; line += 1) if (SOURCE.has(line)) SOURCE.get(line).classList.add("selected");
}

/** Paper has no slider: all steps are written out, as many as a reader would turn pages for. */
function wirePrint() {
  const most = 200;
  const folded = [];
  window.addEventListener("beforeprint", () => {
    const steps = DATA.order.slice(0, most).map((id) => STEPS.get(id));
    fill($("all"), steps.map((step) => h("article", { class: "printed-step" }, about(step, { paths: 15, log: 25 }))),
      DATA.order.length > most ? h("p", {}, `and ${count(DATA.order.length - most, "more step")}.`) : null);
    $("printed").hidden = false;
    // A browser may say twice that it prints.
    for (const row of document.querySelectorAll("#stages .sub[hidden]")) {
      folded.push(row);
      row.hidden = false;
    }
  });
  window.addEventListener("afterprint", () => {
    for (const row of folded.splice(0)) row.hidden = true;
    fill($("all"));
    $("printed").hidden = true;
  });
}

showHead();
wireGraph();
wirePlayer();
wireFind();
showTime();
showCascade();
showStages();
showLargest();
showImage();
showMessages();
showSource();
wirePrint();
const failedStep = BUILD.steps.find((step) => step.state === "failed");
if (DATA.order.length) choose(failedStep ? failedStep.id : DATA.order[DATA.order.length - 1], { still: !failedStep });
document.documentElement.dataset.ready = "yes";
