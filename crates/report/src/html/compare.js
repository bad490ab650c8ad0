// Two builds side by side.

const { a: A, b: B } = DATA;

function figureRows() {
  const change = (a, b) => (a > 0 && b !== a ? `${b > a ? "+" : "−"}${Math.round((100 * Math.abs(b - a)) / a)} %` : a === b ? "same" : "");
  const rows = [
    ["Result", A.outcome, B.outcome, ""],
    ["Began", when(A.started_ms), when(B.started_ms), ""],
    ["Time", seconds(A.duration_ms), seconds(B.duration_ms), change(A.duration_ms, B.duration_ms)],
    ["Steps cached", `${A.cached} of ${A.steps}`, `${B.cached} of ${B.steps}`, ""],
  ];
  // A build that did not come to its end has no image, and nobody has added up its bytes.
  const none = (side) => (side.image_bytes ? null : "none");
  const unknown = (side) => (side.outcome === "done" ? null : "unknown");
  const sizes = [["Image", "image_bytes", none], ["Unpacked", "unpacked_bytes", none],
    ["Base images and steps", "made_bytes", unknown], ["Left behind", "left_bytes", unknown]];
  for (const [name, key, missing] of sizes) {
    rows.push([name, missing(A) || bytes(A[key]), missing(B) || bytes(B[key]), missing(A) || missing(B) ? "" : change(A[key], B[key])]);
  }
  if (A.inventory && B.inventory) {
    const add = (name, of) => rows.push([name, of(A.inventory).toLocaleString("en"), of(B.inventory).toLocaleString("en"), change(of(A.inventory), of(B.inventory))]);
    add("Files", (all) => all.files);
    for (const kind of ["dpkg", "apk", "pip", "npm"]) {
      if (A.inventory.packages[kind] + B.inventory.packages[kind]) add(`Packages (${kind})`, (all) => all.packages[kind]);
    }
    for (const [name, key] of [["Setuid programs", "setuid"], ["Shells", "shells"], ["Compilers", "compilers"]]) {
      const named = (all) => (all[key].length ? `${all[key].length}: ${all[key].slice(0, 6).join(" ")}${all[key].length > 6 ? " …" : ""}` : "none");
      rows.push([name, named(A.inventory), named(B.inventory), change(A.inventory[key].length, B.inventory[key].length)]);
    }
  }
  return rows;
}

function how(step) {
  if (!step) return h("span", { class: "soft" }, "not there");
  const facts = [step.state === "done" || step.state === "failed" ? seconds(step.duration_ms) : "", step.layer_bytes ? bytes(step.layer_bytes) : ""];
  return h("span", {}, badge(step.state), ` ${facts.filter(Boolean).join(", ")}`);
}

function differs(pair) {
  return !pair.a || !pair.b || pair.a.text !== pair.b.text || pair.a.state !== pair.b.state || pair.a.layer_bytes !== pair.b.layer_bytes ||
    (pair.files && pair.files.only_a + pair.files.only_b + pair.files.differ > 0);
}

const PAIR_HEADS = [["Step"], [A.id, "small"], [B.id, "small"], ["Files that differ"]];

function pairRow(pair) {
  const step = pair.b || pair.a;
  const edited = pair.a && pair.b && pair.a.text !== pair.b.text;
  const files = pair.files;
  const total = files ? files.only_a + files.only_b + files.differ : 0;
  const paths = !files ? "" : !total ? "same" : h("details", {}, h("summary", {}, count(total, "path")),
    h("pre", { class: "code" }, files.examples.join("\n") + (total > files.examples.length ? `\n… ${total - files.examples.length} more` : "")));
  const reasons = pair.b ? pair.b.reasons : [];
  const name = h("div", {}, h("span", { class: "mono soft" }, step.label), " ", h("span", { class: "mono break" }, step.text),
    edited ? h("div", { class: "mono soft break" }, `was: ${pair.a.text}`) : null,
    reasons.length ? h("ul", { class: "reasons soft" }, reasons.map((reason) => h("li", {}, reason))) : null);
  return tableRow(PAIR_HEADS, [name, how(pair.a), how(pair.b), paths], { class: differs(pair) ? "differs" : "alike" });
}

$("title").textContent = A.title === B.title ? A.title : `${A.title} and ${B.title}`;
$("about").textContent = `Build ${A.id} against build ${B.id}`;
fill($("numbers"), table("Figures of both builds", [["What"], [A.id], [B.id], ["Change", "num"]], figureRows()));
const rowsOf = DATA.steps.map(pairRow);
fill($("pairs"), table("Steps of both builds", PAIR_HEADS, rowsOf));
$("only").addEventListener("change", (event) => {
  for (const element of rowsOf) element.hidden = event.target.checked && element.classList.contains("alike");
});
document.documentElement.dataset.ready = "yes";
