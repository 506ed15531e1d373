// The gallery: filters and orders the index, shows a page of it, loads the chunks for that page.
// Texts from the index are inserted as text, never as markup. What is chosen stands in the address,
// behind "#gallery&", so that a link or a reload shows the same.
const gallery = (() => {
  "use strict";
  const PAGE = 12, KEPT = 64;
  const home = document.getElementById("gallery");
  const view = document.getElementById("gallery-view");
  const status = document.getElementById("gallery-status");
  const chunks = new Map(), waiting = new Map();
  const fields = {}, usual = {};
  let data = null, shown = [], page = 0;

  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  function script(name, failed) {
    const made = element("script", { src: home.dataset.folder + "/" + name, onerror: failed });
    made.onload = () => made.remove();
    document.head.append(made);
  }

  // A chunk's pictures of a seed, loaded once and kept while it is among the last KEPT.
  function chunk(number, seed) {
    const name = "chunk-" + String(number).padStart(5, "0") + (seed > 0 ? "-seed-" + data.seeds[seed] : "");
    if (!chunks.has(name)) {
      chunks.set(name, new Promise((resolve, reject) => {
        waiting.set(name, resolve);
        script(name + ".js", () => {
          chunks.delete(name);
          reject(new Error(name));
        });
      }));
      for (const old of chunks.keys()) if (chunks.size > KEPT && !waiting.has(old)) chunks.delete(old);
    }
    return chunks.get(name);
  }

  // The seed that filters and orders, as an index into data.seeds.
  const chosenSeed = () => fields.seed ? Math.max(0, data.seeds.indexOf(Number(fields.seed.value))) : 0;
  const chosenRow = () => Math.max(0, data.rows.indexOf(fields.row.value));
  const values = (item, seed) => seed === 0 ? item[2] : item[4][seed - 1];

  // The gain of a row over its base: by accuracy, then CLIP score, or by the chosen metric.
  function gain(item, row, metric, seed) {
    if (data.bases[row] === null) return null;
    const ours = values(item, seed)[row], theirs = values(item, seed)[data.bases[row]];
    const weights = metric === "all" ? data.ranking
      : [[data.metrics.findIndex((one) => one.label === metric), 1]];
    let total = 0;
    for (const [index, weight] of weights) {
      if (ours[index] === null || theirs[index] === null) return null;
      total += weight * (ours[index] - theirs[index]) * (data.metrics[index].higher ? 1 : -1);
    }
    return total;
  }

  const found = (item, row, seed) => data.hit < 0 ? null : values(item, seed)[row][data.hit];

  const verdicts = {
    any: () => true,
    won: (item, seed, row, base) =>
      base !== null && found(item, row, seed) === 100 && found(item, base, seed) === 0,
    lost: (item, seed, row, base) =>
      base !== null && found(item, row, seed) === 0 && found(item, base, seed) === 100,
    all: (item, seed) => data.rows.every((_, row) => found(item, row, seed) === 100),
    none: (item, seed) => data.rows.every((_, row) => found(item, row, seed) === 0),
  };

  // The fields' values to and from the address; values as at first are left out.
  const valueOf = (field) => field.type === "checkbox" ? (field.checked ? "yes" : "no") : field.value;
  const inAddress = () => Object.keys(usual);

  function write() {
    const kept = new URLSearchParams();
    for (const name of inAddress()) if (valueOf(fields[name]) !== usual[name]) kept.set(name, valueOf(fields[name]));
    if (page > 0) kept.set("page", page + 1);
    const text = String(kept);
    if (text === "" && !location.hash.startsWith("#gallery&")) return;
    history.replaceState(null, "", "#gallery" + (text && "&" + text));
  }

  // Fields that the address does not name, or gives a value that there is not, are as at first.
  function read() {
    const kept = new URLSearchParams(location.hash.slice("#gallery&".length));
    for (const name of inAddress()) {
      const field = fields[name], value = kept.has(name) ? kept.get(name) : usual[name];
      if (field.type === "checkbox") field.checked = value === "yes";
      else field.value = value;
      if (field.selectedIndex === -1) field.value = usual[name];
    }
    choose(Math.max(0, (parseInt(kept.get("page"), 10) || 1) - 1));
    home.scrollIntoView();
  }

  function choose(first = 0) {
    const row = chosenRow(), metric = fields.metric.value, seed = chosenSeed();
    const text = fields.text.value.trim().toLowerCase();
    const verdict = fields.verdict ? verdicts[fields.verdict.value] : verdicts.any;
    shown = data.items.filter((item) =>
      (fields.category.value === "" || item[1] === fields.category.value) &&
      (!fields.failed.checked || item[3].length > 0) &&
      (text === "" || item[0].toLowerCase().includes(text) || item[1].toLowerCase().includes(text)) &&
      verdict(item, seed, row, data.bases[row]));
    const order = fields.order.value;
    if (order !== "given") {
      const sign = order === "gain" ? -1 : 1;
      const ranked = shown.map((item) => [gain(item, row, metric, seed), item]);
      // Items without a gain come last.
      ranked.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : sign * (a - b));
      shown = ranked.map(([, item]) => item);
    }
    page = Math.min(first, Math.max(0, Math.ceil(shown.length / PAGE) - 1));
    draw();
  }

  function figure(title, source, item, row, seed) {
    const made = element("figure");
    if (source) {
      made.append(element("button", { type: "button", className: "zoom", title: "enlarge" },
        element("img", { src: source, alt: title + ": " + item[1] })));
    } else {
      made.append(element("div", { className: "blank", textContent: "no picture" }));
    }
    const caption = element("figcaption", {}, title);
    if (row !== null) {
      const hit = found(item, row, seed);
      if (hit !== null) {
        made.className = hit > 50 ? "hit" : "miss";
        caption.append(" ", element("span", {
          className: hit > 50 ? "up" : "down", textContent: hit > 50 ? "✓ found" : "✗ not found",
        }));
      }
      const numbers = element("span", { className: "scores" });
      data.metrics.forEach((metric, index) => {
        const value = values(item, seed)[row][index];
        if (metric.hit || value === null) return;
        numbers.append(numbers.childNodes.length ? " " : "",
          element("span", { textContent: metric.label + " " + value.toFixed(metric.decimals) }));
      });
      caption.append(numbers);
    }
    made.append(caption);
    return made;
  }

  function card(item) {
    const pictures = element("div", { className: "pictures" });
    const made = element("article", { className: "exhibit" },
      element("h3", {}, "“" + item[1] + "” ", element("span", { className: "quiet", textContent: item[0] })),
      pictures);
    for (const failure of item[3]) {
      made.append(element("p", { className: "failed", textContent: failure }));
    }
    const [number, place] = [Math.floor(item.place / data.chunk), item.place % data.chunk];
    const every = fields.every && fields.every.checked;
    const seeds = every ? data.seeds.map((_, index) => index) : [chosenSeed()];
    // The first seed's chunk has the input too.
    Promise.all([chunk(number, 0), ...seeds.map((seed) => chunk(number, seed))]).then(([first, ...loaded]) => {
      seeds.forEach((seed, index) => {
        const outputs = seed === 0 ? first[place][1] : loaded[index][place];
        const strip = index === 0 ? pictures : element("div", { className: "pictures" });
        // Each line of pictures begins with the input, so that all lines have the same columns.
        strip.append(figure("input, mask", first[place][0], item, null));
        data.rows.forEach((title, row) => strip.append(
          figure(every ? title + ", seed " + data.seeds[seed] : title, outputs[row], item, row, seed)));
        if (index > 0) made.insertBefore(strip, made.querySelector(".failed"));
      });
    }).catch(() => pictures.append("the pictures cannot be loaded"));
    return made;
  }

  function draw() {
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    const first = page * PAGE;
    write();
    fields.count.textContent = shown.length + " of " + data.items.length + " triplets";
    fields.cards.replaceChildren(...shown.slice(first, first + PAGE).map(card));
    for (const pager of fields.pagers) {
      const turn = (by) => () => { page += by; draw(); home.scrollIntoView(); };
      pager.replaceChildren(
        element("button", { textContent: "‹ previous", disabled: page === 0, onclick: turn(-1) }),
        "page " + (page + 1) + " of " + pages,
        element("button", { textContent: "next ›", disabled: page + 1 >= pages, onclick: turn(1) }));
    }
  }

  function select(title, options, value) {
    const made = element("select", { onchange: () => choose() },
      ...options.map(([key, text]) => element("option", { value: key, textContent: text })));
    made.value = value;
    return [made, element("label", {}, title, made)];
  }

  function build() {
    const labels = [], add = (name, [made, label]) => { fields[name] = made; labels.push(label); };
    const compared = data.rows.filter((_, row) => data.bases[row] !== null).map((title) => [title, title]);
    const given = [["given", "as sampled"]];
    const comparable = compared.length > 0;
    add("order", select("order", comparable ? [["gain", "largest gains over base"],
      ["loss", "largest losses to base"], ...given] : given, comparable ? "gain" : "given"));
    const method = data.rows[data.method];
    if (!comparable) compared.push([method, method]);
    const first = compared.find(([row]) => row === method) || compared[0];
    add("row", select("of", compared, first[0]));
    add("metric", select("by", [["all", "accuracy, then CLIP score"],
      ...data.metrics.map((metric) => [metric.label, metric.label])], "all"));
    if (data.seeds.length > 1) {
      add("seed", select("seed", data.seeds.map((seed) => [String(seed), String(seed)]), String(data.seeds[0])));
    }
    if (data.hit >= 0 && comparable) {
      add("verdict", select("the detector finds", [["any", "anything"], ["won", "it, but not in base"],
        ["lost", "it in base alone"], ["all", "it in all rows"], ["none", "it in no row"]], "any"));
    }
    const counts = new Map();
    for (const item of data.items) counts.set(item[1], (counts.get(item[1]) || 0) + 1);
    add("category", select("category", [["", "all"], ...[...counts].sort()
      .map(([name, count]) => [name, name + " (" + count + ")"])], ""));
    fields.text = element("input", { type: "search", placeholder: "prompt or id", oninput: () => choose() });
    fields.failed = element("input", { type: "checkbox", onchange: () => choose() });
    const failures = data.items.filter((item) => item[3].length).length;
    labels.push(element("label", {}, "search", fields.text),
      element("label", { className: "check" }, fields.failed, "quarantined (" + failures + ")"));
    if (data.seeds.length > 1) {
      fields.every = element("input", { type: "checkbox", onchange: () => choose(page) });
      labels.push(element("label", { className: "check" }, fields.every,
        "show all " + data.seeds.length + " seeds"));
    }
    for (const [name, field] of Object.entries(fields)) usual[name] = valueOf(field);
    fields.count = element("span", { className: "quiet" });
    fields.cards = element("div");
    fields.pagers = [element("div", { className: "pager" }), element("div", { className: "pager" })];
    view.replaceChildren(element("div", { className: "filters" }, ...labels), fields.count,
      fields.pagers[0], fields.cards, fields.pagers[1]);
    const follow = () => { if (location.hash.startsWith("#gallery&")) read(); else write(); };
    addEventListener("hashchange", follow);
    if (location.hash.startsWith("#gallery&")) read(); else choose();
  }

  script("index.js", () => {
    status.textContent = "The folder " + home.dataset.folder +
      "/ is missing: copy it to the folder of this page.";
  });

  return {
    index(loaded) {
      data = loaded;
      data.items.forEach((item, place) => { item.place = place; });
      data.hit = data.metrics.findIndex((metric) => metric.hit);
      build();
    },
    chunk(name, pictures) {
      waiting.get(name)(pictures);
      waiting.delete(name);
    },
  };
})();
