// Steps and paths by a part of their names.

/** Maximum number of results of each kind. */
const FOUND = 30;
let index = null;

/** Every step and every changed path with what is looked through; made when it is first asked for. */
function indexed() {
  if (index) return index;
  const steps = DATA.order.map((id) => STEPS.get(id));
  const paths = steps.filter((step) => step.kind !== "image" && DATA.contents[step.id]).flatMap((step) =>
    DATA.contents[step.id].rows.filter((entry) => entry[2] !== "sum").map((entry) => ({ step, path: entry[0], op: entry[1], words: entry[0].toLowerCase() })));
  index = { steps: steps.map((step) => ({ step, words: nameOf(step).toLowerCase() })), paths };
  return index;
}

function find(text) {
  const words = text.trim().toLowerCase();
  if (!words) return { steps: [], paths: [] };
  const has = (one) => one.words.includes(words);
  return { steps: indexed().steps.filter(has), paths: indexed().paths.filter(has) };
}

function showFound() {
  const { steps, paths } = find($("find").value);
  const item = (step, ...words) => h("li", {}, h("button", { type: "button", class: "plain clamp", onclick: () => choose(step.id) }, words));
  fill($("found"),
    steps.slice(0, FOUND).map(({ step }) => item(step, h("span", { class: "sign" }, SIGNS[step.state]), h("span", { class: "mono" }, step.label), " ", step.text)),
    paths.slice(0, FOUND).map(({ step, path, op }) => item(step, h("span", { class: "path" }, `${OPERATIONS[op][1]} ${path}`), ` ${OPERATIONS[op][0]} by ${step.label}`)));
  const rest = Math.max(0, steps.length - FOUND) + Math.max(0, paths.length - FOUND);
  $("found-about").textContent = !$("find").value.trim() ? ""
    : `${count(steps.length, "step")}, ${count(paths.length, "path")}${rest ? `; the first ${FOUND} of each are listed` : ""}`;
}

function wireFind() {
  $("find").addEventListener("input", showFound);
  $("find").addEventListener("keydown", (event) => {
    if (event.key === "Escape" && $("find").value) {
      event.preventDefault();
      $("find").value = "";
      showFound();
    }
    const first = event.key === "Enter" && $("found").querySelector("button");
    if (first) first.click();
  });
}
