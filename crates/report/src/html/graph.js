// The graph was drawn before; here its boxes become selectable. Only the visible part of a large graph is kept in the
// page: its boxes, and the edges that end there.

const LARGE_GRAPH = $("whole-graph");
const DRAWING = (LARGE_GRAPH ? LARGE_GRAPH.content : document).querySelector(".graph");
const BOXES = new Map([...DRAWING.querySelectorAll(".step")].map((box) => [Number(box.dataset.step), box]));
const places = new Map([...BOXES].map(([id, box]) => {
  const frame = box.querySelector(".box");
  return [id, [Number(frame.getAttribute("x")), Number(frame.getAttribute("y"))]];
}));

let marked = null;

function markGraph(id, options) {
  const old = marked;
  marked = BOXES.get(id) || null;
  if (old) {
    old.classList.remove("selected");
    old.removeAttribute("aria-current");
    old.setAttribute("tabindex", "-1");
  }
  const box = BOXES.get(id);
  if (!box) return;
  box.classList.add("selected");
  box.setAttribute("aria-current", "step");
  box.setAttribute("tabindex", "0");
  if (options && options.still) return;
  const pane = $("graph-scroll");
  const [x, y] = places.get(id);
  const near = (from, at, room) => (at < from + 20 || at > from + room - 220 ? Math.max(0, at - room / 3) : from);
  pane.scrollLeft = near(pane.scrollLeft, x, pane.clientWidth);
  pane.scrollTop = near(pane.scrollTop, y, pane.clientHeight + 140);
  if (LARGE_GRAPH) showPart();
  if (options && options.focus) box.focus({ preventScroll: true });
}

/** The box that is nearest in a direction. */
function neighbour(id, dx, dy) {
  const [x, y] = places.get(id);
  let best = null;
  let least = Infinity;
  for (const [other, [ox, oy]] of places) {
    const along = dx ? (ox - x) * dx : (oy - y) * dy;
    const aside = dx ? Math.abs(oy - y) * 4 : Math.abs(ox - x);
    if (other !== id && along > 0 && along + aside < least) {
      least = along + aside;
      best = other;
    }
  }
  return best;
}

/** From a box to the details of its step, and back. */
function toStep() {
  $("walk").scrollIntoView();
  $("detail").focus({ preventScroll: true });
}

function toBox() {
  if (marked === null) return;
  $("graph").scrollIntoView();
  markGraph(chosen, { focus: true });
}

function wireGraph() {
  const pane = $("graph-scroll");
  // The names of the lanes stay in sight.
  if (LARGE_GRAPH) wirePart(pane);
  pane.addEventListener("scroll", () => {
    DRAWING.style.setProperty("--scrolled", `${pane.scrollLeft}px`);
    if (LARGE_GRAPH) showPart();
  }, { passive: true });
  pane.addEventListener("click", (event) => {
    const box = event.target.closest(".step");
    if (box) choose(Number(box.dataset.step), { focus: true });
  });
  const arrows = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
  pane.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      toStep();
      return;
    }
    const way = arrows[event.key];
    if (!way || chosen === null || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    const next = places.has(chosen) ? neighbour(chosen, way[0], way[1]) : null;
    if (next !== null) choose(next, { focus: true });
  });
  const states = ["done", "cached", "failed", "canceled", "running", "waiting", "skipped"].filter((state) => BUILD.steps.some((step) => step.state === state && step.kind !== "scratch"));
  fill($("legend"), states.map((state) => h("li", {}, badge(state))), h("li", { class: "soft" }, "━ critical path"),
    BUILD.stages.some((stage) => !stage.reached) ? h("li", { class: "soft" }, "┄ stage that the target does not need") : null);
}


/** What a large graph consists of, by kind, and the edges that end at each box. */
const PARTS = { lanes: [], edges: new Map(), groups: [] };
/** More edges than this at once show nothing. */
const MOST_EDGES = 250;

function wirePart(pane) {
  DRAWING.classList.add("large");
  // Grounds and names of lanes, in the same order.
  const lanes = [...DRAWING.querySelectorAll(":scope > .lane")];
  const grounds = lanes.filter((lane) => lane.querySelector("rect"));
  const names = lanes.filter((lane) => !lane.querySelector("rect"));
  grounds.forEach((ground, at) => {
    const rect = ground.querySelector("rect");
    PARTS.lanes.push([Number(rect.getAttribute("y")), Number(rect.getAttribute("height")), ground, names[at]]);
  });
  for (const way of DRAWING.querySelectorAll(":scope > .way")) {
    const end = Number(way.dataset.to);
    if (!PARTS.edges.has(end)) PARTS.edges.set(end, []);
    PARTS.edges.get(end).push(way);
  }
  PARTS.groups = ["lanes", "edges", "names", "boxes"].map(() => document.createElementNS("http://www.w3.org/2000/svg", "g"));
  DRAWING.replaceChildren(DRAWING.querySelector("defs"), ...PARTS.groups);
  pane.append(DRAWING);
  showPart();
}

function showPart() {
  const pane = $("graph-scroll");
  const [left, top] = [pane.scrollLeft - 300, pane.scrollTop - 200];
  const [right, bottom] = [left + pane.clientWidth + 600, top + pane.clientHeight + 400];
  const lanes = PARTS.lanes.filter(([y, height]) => y < bottom && y + height > top);
  const boxes = [];
  const edges = new Set();
  for (const [id, [x, y]] of places) {
    if (x < right && x > left - 200 && y < bottom && y > top - 60) {
      boxes.push(BOXES.get(id));
      for (const way of PARTS.edges.get(id) || []) if (edges.size < MOST_EDGES) edges.add(way);
    }
  }
  PARTS.groups[0].replaceChildren(...lanes.map((lane) => lane[2]));
  PARTS.groups[1].replaceChildren(...edges);
  PARTS.groups[2].replaceChildren(...lanes.map((lane) => lane[3]));
  PARTS.groups[3].replaceChildren(...boxes);
}
