// Every text that is to be seen, with the contrast between it and what is behind it, as WCAG counts it.
(() => {
  const parse = (color) => {
    const numbers = color.match(/[\d.]+/g).map(Number);
    return { rgb: numbers.slice(0, 3), alpha: numbers.length > 3 ? numbers[3] : 1 };
  };
  const over = (top, alpha, below) => below.map((value, at) => top[at] * alpha + value * (1 - alpha));
  const luminance = (rgb) => {
    const [r, g, b] = rgb.map((value) => value / 255).map((value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ratio = (a, b) => {
    const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (light + 0.05) / (dark + 0.05);
  };
  const page = parse(getComputedStyle(document.body).backgroundColor).rgb;
  const ground = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const color = parse(getComputedStyle(at).backgroundColor);
      if (color.alpha) layers.push(color);
    }
    return layers.reverse().reduce((below, layer) => over(layer.rgb, layer.alpha, below), page);
  };
  // In the graph: what the text stands in; of a hatched box the lines count too.
  const grounds = (text) => {
    const below = ground(text.closest("svg").parentElement);
    const box = text.classList.contains("what") || text.classList.contains("how") ? text.parentElement.querySelector(".box") : null;
    // The name of a lane has a halo in the colour of its ground.
    if (!box) return [parse(getComputedStyle(text).stroke).rgb];
    const fill = getComputedStyle(box).fill;
    if (!fill.startsWith("url")) return [over(parse(fill).rgb, parse(fill).alpha, below)];
    const plain = parse(getComputedStyle(document.querySelector(".graph .unhatched")).fill).rgb;
    const hatch = getComputedStyle(document.querySelector(".graph .hatch"));
    return [plain, over(parse(hatch.stroke).rgb, Number(hatch.opacity), plain)];
  };
  const bad = [];
  let looked = 0;
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node = walker.nextNode(); node; node = walker.nextNode()) {
    const element = node.parentElement;
    if (!node.data.trim() || element.closest("script, style, template, title, .sr, :disabled") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const inGraph = element.closest("svg");
    const text = inGraph ? element.closest("text") : element;
    const behind = inGraph ? grounds(text) : [ground(element)];
    const color = parse(inGraph ? style.fill : style.color);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    for (const one of behind) {
      const value = ratio(over(color.rgb, color.alpha, one), one);
      looked += 1;
      if (value < (large ? 3 : 4.5)) bad.push(`${value.toFixed(2)} ${element.tagName}.${element.getAttribute("class")} "${node.data.trim().slice(0, 40)}"`);
    }
  }
  // The bar at the left of a box is not text, and must be seen too.
  for (const mark of document.querySelectorAll(".graph .mark")) {
    const value = ratio(parse(getComputedStyle(mark).fill).rgb, parse(getComputedStyle(document.querySelector(".graph .unhatched")).fill).rgb);
    if (value < 3) bad.push(`${value.toFixed(2)} mark of ${mark.parentElement.getAttribute("class")}`);
  }
  return { looked, bad: [...new Set(bad)] };
})()
