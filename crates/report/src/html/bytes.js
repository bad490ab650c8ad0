// Where the bytes went: made → shipped → left behind, by stage, step and file; and what the image consists of.

const FIRST_STAGES = 60;
const STAGE_HEADS = [["Stage"], ["Shipped, left behind", "lane-of"], ["Base", "num"], ["Made", "num"], ["Shipped", "num"], ["Left behind", "num"]];

function showCascade() {
  const sums = DATA.totals;
  const whole = sums ? sums.base + sums.made : 0;
  if (BUILD.outcome !== "done") return fill($("cascade"), h("p", { class: "soft" }, "The build shipped nothing: it did not finish."));
  if (!whole) return fill($("cascade"), h("p", { class: "soft" }, "Not all layers of this build are known (any more), so a total cannot be given."));
  const share = (value) => `${((100 * value) / whole).toFixed(value && value < whole / 100 ? 2 : 0)} %`;
  const step = (name, style, value, offset) => [name, bar([[style, value]], whole, offset), bytes(value), share(value)];
  const rows = [
    step("Base images", "base", sums.base, 0),
    step("Made by steps", "made", sums.made, sums.base),
    step("Left behind", "left", sums.left, whole - sums.left),
    step("Shipped", "shipped", sums.shipped, 0),
  ];
  const element = table("Bytes of the whole build", [["What"], BARS, ["Bytes", "num"], ["Share", "num small"]], rows);
  element.classList.add("cascade");
  fill($("cascade"), h("p", { class: "soft small-note" }, "The whole build; content that is in several places is counted once."), element,
    h("p", { class: "soft small-note" }, "By stage; here every stage counts what it contains, so the same bytes can be counted in several."));
}

function stageRows(stage, most) {
  const steps = BUILD.steps.filter((step) => step.stage === stage.id && step.kind !== "scratch");
  const own = steps.map((step) => {
    const contents = DATA.contents[step.id];
    const parts = contents ? [["shipped", contents.shipped], ["left", contents.made - contents.shipped]] : [];
    const isBase = step.kind === "image";
    const made = contents ? bytes(contents.made) : step.layer_bytes ? bytes(step.layer_bytes) : "?";
    const name = h("button", { type: "button", class: "plain clamp", onclick: () => choose(step.id) }, step.text);
    const cells = [name, bar(parts, most), isBase ? made : "", isBase ? "" : made,
      contents ? bytes(contents.shipped) : "?", contents ? bytes(contents.made - contents.shipped) : "?"];
    return tableRow(STAGE_HEADS, cells, { class: "sub", hidden: true });
  });
  const toggle = h("button", { type: "button", class: "plain twist", "aria-expanded": "false", onclick: () => {
    const open = toggle.getAttribute("aria-expanded") !== "true";
    toggle.setAttribute("aria-expanded", String(open));
    for (const one of own) one.hidden = !open;
  } }, stage.name);
  const sum = stage.bytes;
  const parts = sum ? [["shipped", sum.shipped], ["left", sum.left]] : [];
  const name = own.length ? toggle : stage.name;
  const first = sum
    ? tableRow(STAGE_HEADS, [name, bar(parts, most), bytes(sum.base), bytes(sum.made), bytes(sum.shipped), bytes(sum.left)])
    : h("tr", {}, h("th", { scope: "row" }, name),
      h("td", { class: "soft", colspan: "5" }, stage.reached ? "not counted" : `- skipped: ${stage.skipped || "the target does not need it"}`));
  return [first, ...own];
}

function showStages() {
  const most = Math.max(1, ...BUILD.stages.map((stage) => (stage.bytes ? stage.bytes.base + stage.bytes.made : 0)));
  const element = table("Bytes by stage; a stage opens to its steps", STAGE_HEADS, []);
  const body = element.tBodies[0];
  const show = (from, to) => body.append(...BUILD.stages.slice(from, to).flatMap((stage) => stageRows(stage, most)));
  show(0, FIRST_STAGES);
  const rest = BUILD.stages.length - FIRST_STAGES;
  const more = rest > 0
    ? h("button", { type: "button", class: "more", onclick: () => { more.remove(); show(FIRST_STAGES, BUILD.stages.length); } }, `Show ${count(rest, "more stage")}`)
    : null;
  const key = h("p", { class: "key soft" }, h("i", { class: "shipped" }), " shipped ", h("i", { class: "left" }), " left behind");
  fill($("stages"), key, element, more);
}

function showLargest() {
  if (!DATA.largest.length) return fill($("largest"), h("p", { class: "soft" }, "No layer of this build is in the store any more."));
  const most = DATA.largest[0].size;
  const rows = DATA.largest.map((file) => {
    const step = STEPS.get(file.step);
    return [h("span", { class: "path" }, file.path), bar([[file.shipped ? "shipped" : "left", file.size]], most),
      bytes(file.size), file.shipped ? "shipped" : "left behind", step ? h("button", { type: "button", class: "plain", onclick: () => choose(step.id) }, step.label) : ""];
  });
  fill($("largest"), table("The largest files of all steps", [["File"], BARS, ["Size", "num"], ["Status", "small"], ["Made by", "small by"]], rows));
}

function showImage() {
  const about = BUILD.exports.map((output) => h("dl", { class: "facts-of" },
    [["Output", output.output], ["Names", output.names.join(", ")], ["Digest", output.digest || ""], ["Size", bytes(output.size)],
      ["Unpacked", output.unpacked ? bytes(output.unpacked) : ""]].filter(([, value]) => value)
      .flatMap(([term, value]) => [h("dt", {}, term), h("dd", { class: "break" }, value)])));
  fill($("exports"), about.length ? about : h("p", { class: "soft" }, "Nothing was written."));
  // As `dbuild check IMAGE` says it.
  const starts = BUILD.starts.map((start) => h("div", { class: `starts ${start.verdict}` }, h("p", {}, start.line),
    start.findings.length ? h("ul", {}, start.findings.map((finding) => h("li", {}, finding.text,
      (finding.help || []).map((text) => h("pre", { class: "code" }, text))))) : null));
  $("exports").append(...starts);
  const tables = BUILD.images.map((image) => {
    const whole = image.layers.reduce((sum, layer) => sum + layer.size, 0);
    const stage = STAGES.get(image.stage);
    const rows = image.layers.map((layer, index) => {
      const step = STEPS.get(layer.step);
      const made = step ? h("button", { type: "button", class: "plain clamp", onclick: () => choose(step.id) }, nameOf(step)) : "from the base image";
      return [String(index + 1), made, bar([[step ? "made" : "base", layer.size]], whole), bytes(layer.size),
        step && step.layer_bytes ? bytes(step.layer_bytes) : "", h("span", { class: "mono soft", title: layer.digest }, layer.digest.slice(7, 19))];
    });
    return table(`The layers of ${stage ? stage.name : "the image"}`,
      [["Layer"], ["Made by", "maker"], BARS, ["Packed", "num"], ["Unpacked", "num"], ["Digest", "small"]], rows);
  });
  fill($("layers"), tables);
}
