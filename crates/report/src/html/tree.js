// File systems. The tree after a step is that of the step below with some nodes replaced; everything else is shared, so
// all trees of a build are kept at once and going back costs nothing.

const BUILD = DATA.build;
const STEPS = new Map(BUILD.steps.map((step) => [step.id, step]));
const STAGES = new Map(BUILD.stages.map((stage) => [stage.id, stage]));
const OPERATIONS = { "+": ["added", "+"], "~": ["changed", "~"], "-": ["removed", "−"] };
/** Entries of a directory that are shown at once. */
const PAGE_OF_ENTRIES = 200;
/** Maximum number of rows that are open at first. */
const OPENED = 40;

const row = (list) => ({
  path: list[0], op: list[1], kind: list[2], mode: list[3], uid: list[4], gid: list[5],
  size: list[6], before: list[7], shipped: list[8], count: list[9],
});

const emptyTree = () => ({ entry: null, kids: new Map(), size: 0, count: 0 });
const trees = new Map();

/** The step that a step's file system stands on. */
function parentOf(step) {
  const stands = step.kind === "copy" || step.kind === "run" || step.kind === "workdir";
  return stands && step.inputs.length ? STEPS.get(step.inputs[0]) : null;
}

/** The tree after a step; null where a layer of it is gone. */
function treeAfter(step) {
  if (trees.has(step.id)) return trees.get(step.id);
  const chain = [];
  let below = step;
  while (below && !trees.has(below.id) && chain.length <= BUILD.steps.length) {
    chain.push(below);
    below = parentOf(below);
  }
  let tree = below ? trees.get(below.id) : emptyTree();
  for (const next of chain.reverse()) {
    const contents = DATA.contents[next.id];
    tree = tree && (contents || next.kind === "scratch") ? apply(tree, contents ? contents.rows : []) : null;
    trees.set(next.id, tree);
  }
  return tree;
}

/** A tree with the rows of one step applied. Nodes on the way to a change are copied once, all others are shared. */
function apply(tree, rows) {
  const own = new Set();
  const copy = (node) => {
    if (own.has(node)) return node;
    const made = { entry: node.entry, kids: node.kids && new Map(node.kids), size: node.size, count: node.count };
    own.add(made);
    return made;
  };
  const root = copy(tree);
  for (const list of rows) {
    const entry = row(list);
    const names = entry.path.split("/").filter(Boolean);
    const way = [root];
    for (const name of names.slice(0, -1)) {
      const parent = way[way.length - 1];
      parent.kids ||= new Map();
      const node = copy(parent.kids.get(name) || emptyTree());
      parent.kids.set(name, node);
      way.push(node);
    }
    const name = names[names.length - 1];
    if (name !== undefined) put(way, name, entry, copy);
  }
  return root;
}

function put(way, name, entry, copy) {
  const parent = way[way.length - 1];
  parent.kids ||= new Map();
  // One row for many paths of a directory: those of several steps stand side by side.
  const key = entry.kind === "sum" ? `${name}${parent.kids.size}` : name;
  const old = parent.kids.get(key);
  const gone = entry.op === "-";
  if (gone && entry.kind === "sum") return;
  const before = [old ? old.size : 0, old ? old.count : 0];
  let after = [0, 0];
  if (gone) {
    parent.kids.delete(key);
  } else {
    const stays = entry.kind === "dir" && old && old.kids ? copy(old) : emptyTree();
    if (!stays.kids && entry.kind === "dir") stays.kids = new Map();
    stays.entry = entry;
    if (entry.kind !== "dir") {
      stays.kids = null;
      stays.size = entry.size;
      stays.count = entry.count;
    }
    after = [stays.size, stays.count];
    parent.kids.set(key, stays);
  }
  for (const node of way) {
    node.size += after[0] - before[0];
    node.count += after[1] - before[1];
  }
}

/** What a step changed, by directory, for marking and for showing what is gone. */
function changesOf(step) {
  const root = { entry: null, kids: new Map() };
  const contents = DATA.contents[step.id];
  // What an image brings is not news.
  if (!contents || step.kind === "image") return root;
  for (const list of contents.rows) {
    const entry = row(list);
    let node = root;
    for (const name of entry.path.split("/").filter(Boolean)) {
      if (!node.kids.has(name)) node.kids.set(name, { entry: null, kids: new Map() });
      node = node.kids.get(name);
    }
    node.entry = entry;
  }
  return root;
}

const MODES = ["---", "--x", "-w-", "-wx", "r--", "r-x", "rw-", "rwx"];
function mode(entry) {
  const kind = { dir: "d", link: "l" }[entry.kind] || "-";
  const special = (entry.mode & 0o4000 ? " setuid" : "") + (entry.mode & 0o2000 ? " setgid" : "");
  return kind + MODES[(entry.mode >> 6) & 7] + MODES[(entry.mode >> 3) & 7] + MODES[entry.mode & 7] + special;
}

function mark(change) {
  if (!change || !change.entry) return h("span", { class: "op" }, change && change.kids.size ? "·" : "");
  const [word, sign] = OPERATIONS[change.entry.op];
  return h("span", { class: `op ${word}`, title: word }, sign, h("span", { class: "sr" }, ` ${word} `));
}

function facts(node, entry, isDir) {
  const known = node || { size: entry ? entry.size : 0, count: 1 };
  const text = [];
  if (isDir && known.count) text.push(count(known.count, "path"));
  if (entry && entry.kind !== "sum") text.push(mode(entry));
  if (entry && (entry.uid || entry.gid)) text.push(`${entry.uid}:${entry.gid}`);
  const grown = entry && entry.op === "~" && entry.before !== null ? `${bytes(entry.before)} → ` : "";
  if (known.size || !isDir) text.push(grown + bytes(known.size));
  return h("span", { class: "facts" }, text.join("  "));
}

/** The list of a directory. `budget` says how many more rows may be opened without being asked. */
function list(node, change, budget) {
  const names = new Set([...(node && node.kids ? node.kids.keys() : []), ...(change ? change.kids.keys() : [])]);
  const sorted = [...names].sort((a, b) => {
    const changed = (name) => (change && change.kids.has(name) ? 0 : 1);
    return changed(a) - changed(b) || (a < b ? -1 : 1);
  });
  const element = h("ul", {});
  const show = (from) => {
    for (const name of sorted.slice(from, from + PAGE_OF_ENTRIES)) {
      element.append(item(name, node && node.kids && node.kids.get(name), change && change.kids.get(name), budget));
    }
    const rest = sorted.length - from - PAGE_OF_ENTRIES;
    if (rest > 0) {
      const more = h("button", { type: "button", class: "more", onclick: () => { place.remove(); show(from + PAGE_OF_ENTRIES); } },
        `Show more (${count(rest, "entry", "entries")})`);
      const place = h("li", {}, more);
      element.append(place);
    }
  };
  show(0);
  return element;
}

function item(name, node, change, budget) {
  const entry = (change && change.entry) || (node && node.entry);
  const kids = (node && node.kids && node.kids.size) || (change && change.kids.size);
  const gone = change && change.entry && change.entry.op === "-";
  const isDir = Boolean(kids) || (entry && entry.kind === "dir");
  const label = entry && entry.kind === "sum" ? `… ${count(entry.count, "more path")}` : name + (isDir ? "/" : "");
  const words = [mark(change), h("span", { class: gone ? "name gone" : "name" }, label), facts(node, entry, isDir)];
  budget.rows -= 1;
  if (!kids) return h("li", { class: "leaf" }, h("span", { class: "line" }, words));
  const details = h("details", {}, h("summary", { class: "line" }, words));
  const open = () => {
    if (details.childElementCount < 2) details.append(list(node, change, budget));
  };
  details.addEventListener("toggle", () => details.open && open());
  if (change && change.kids.size && budget.rows > 0) {
    open();
    details.open = true;
  }
  return h("li", {}, details);
}

function showTree(step) {
  const tree = treeAfter(step);
  const stage = STAGES.get(step.stage);
  $("tree-title").textContent = stage ? `Files of ${stage.name} after this step` : "Files";
  if (!tree) {
    const why = step.kind === "context" ? "The files of a build context are not kept; the steps that copy from it show what they took."
      : step.state === "cached" || step.state === "done"
        ? "The store does not have this layer any more (or one below it), so its files cannot be shown. A new build makes it again."
        : "The step did not come to an end, so there are no files.";
    $("tree-about").textContent = why;
    fill($("tree"));
    return;
  }
  const summed = DATA.contents[step.id] && DATA.contents[step.id].summed;
  $("tree-about").textContent = `${count(tree.count, "path")}, ${bytes(tree.size)}.` +
    (summed ? " Very many: below some directories they are summed up." : "");
  fill($("tree"), list(tree, changesOf(step), { rows: OPENED }));
}
