// The gallery: filters and orders the index, shows a page of it, loads the chunks for that page.
// Texts from the index are inserted as text, never as markup.
const gallery = (() => {
  "use strict";
  const PAGE = 12, KEPT = 64;
  const home = document.getElementById("gallery");
  const view = document.getElementById("gallery-view");
  const status = document.getElementById("gallery-status");
  const chunks = new Map(), waiting = new Map();
  let data = null, shown = [], page = 0, fields = {};

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

  // A chunk's pictures, loaded once and kept while it is among the last KEPT.
  function chunk(number) {
    if (!chunks.has(number)) {
      chunks.set(number, new Promise((resolve, reject) => {
        waiting.set(number, resolve);
        script("chunk-" + String(number).padStart(5, "0") + ".js", () => {
          chunks.delete(number);
          reject(new Error("chunk " + number));
        });
      }));
      for (const old of chunks.keys()) if (chunks.size > KEPT && !waiting.has(old)) chunks.delete(old);
    }
    return chunks.get(number);
  }

  // The gain of a row over its base: by accuracy, then CLIP score, or by the chosen metric.
  function gain(item, row, metric) {
    if (data.bases[row] === null) return null;
    const ours = item[2][row], theirs = item[2][data.bases[row]];
    const weights = metric === "all" ? data.ranking : [[Number(metric), 1]];
    let total = 0;
    for (const [index, weight] of weights) {
      if (ours[index] === null || theirs[index] === null) return null;
      total += weight * (ours[index] - theirs[index]) * (data.metrics[index].higher ? 1 : -1);
    }
    return total;
  }

  const found = (item, row) => data.hit < 0 ? null : item[2][row][data.hit];

  const verdicts = {
    any: () => true,
    won: (item, row, base) => base !== null && found(item, row) === 100 && found(item, base) === 0,
    lost: (item, row, base) => base !== null && found(item, row) === 0 && found(item, base) === 100,
    all: (item) => data.rows.every((_, row) => found(item, row) === 100),
    none: (item) => data.rows.every((_, row) => found(item, row) === 0),
  };

  function choose() {
    const row = Number(fields.row.value), metric = fields.metric.value;
    const text = fields.text.value.trim().toLowerCase();
    const verdict = fields.verdict ? verdicts[fields.verdict.value] : verdicts.any;
    shown = data.items.filter((item) =>
      (fields.category.value === "" || item[1] === fields.category.value) &&
      (!fields.failed.checked || item[3].length > 0) &&
      (text === "" || item[0].toLowerCase().includes(text) || item[1].toLowerCase().includes(text)) &&
      verdict(item, row, data.bases[row]));
    const order = fields.order.value;
    if (order !== "given") {
      const sign = order === "gain" ? -1 : 1;
      const ranked = shown.map((item) => [gain(item, row, metric), item]);
      // Items without a gain come last.
      ranked.sort(([a], [b]) => a === null || b === null ? (a === null) - (b === null) : sign * (a - b));
      shown = ranked.map(([, item]) => item);
    }
    page = 0;
    draw();
  }

  function figure(title, source, item, row) {
    const made = element("figure");
    if (source) {
      made.append(element("img", { src: source, alt: title + ": " + item[1] }));
    } else {
      made.append(element("div", { className: "blank", textContent: "no picture" }));
    }
    const caption = element("figcaption", {}, title);
    if (row !== null) {
      const hit = found(item, row);
      if (hit !== null) {
        made.className = hit > 50 ? "hit" : "miss";
        caption.append(" ", element("span", {
          className: hit > 50 ? "up" : "down", textContent: hit > 50 ? "✓ found" : "✗ not found",
        }));
      }
      const numbers = data.metrics
        .map((metric, index) => [metric, item[2][row][index]])
        .filter(([metric, value]) => !metric.hit && value !== null)
        .map(([metric, value]) => metric.label + " " + value.toFixed(metric.decimals));
      caption.append(element("span", { className: "scores", textContent: numbers.join(" · ") }));
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
    chunk(number).then((loaded) => {
      const [masked, outputs] = loaded[place];
      pictures.append(figure("input, mask", masked, item, null));
      data.rows.forEach((title, row) => pictures.append(figure(title, outputs[row], item, row)));
    }).catch(() => pictures.append("the pictures cannot be loaded"));
    return made;
  }

  function draw() {
    const pages = Math.max(1, Math.ceil(shown.length / PAGE));
    const first = page * PAGE;
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
    const made = element("select", { onchange: choose },
      ...options.map(([key, text]) => element("option", { value: key, textContent: text })));
    made.value = value;
    return [made, element("label", {}, title, made)];
  }

  function build() {
    const labels = [], add = (name, [made, label]) => { fields[name] = made; labels.push(label); };
    const compared = data.rows.map((title, row) => [row, title]).filter(([row]) => data.bases[row] !== null);
    const given = [["given", "as sampled"]];
    const comparable = compared.length > 0;
    add("order", select("order", comparable ? [["gain", "largest gains over base"],
      ["loss", "largest losses to base"], ...given] : given, comparable ? "gain" : "given"));
    if (!comparable) compared.push([data.method, data.rows[data.method]]);
    const first = compared.find(([row]) => row === data.method) || compared[0];
    add("row", select("of", compared, String(first[0])));
    add("metric", select("by", [["all", "accuracy, then CLIP score"],
      ...data.metrics.map((metric, index) => [index, metric.label])], "all"));
    if (data.hit >= 0 && comparable) {
      add("verdict", select("the detector finds", [["any", "anything"], ["won", "it, but not in base"],
        ["lost", "it in base alone"], ["all", "it in all rows"], ["none", "it in no row"]], "any"));
    }
    const counts = new Map();
    for (const item of data.items) counts.set(item[1], (counts.get(item[1]) || 0) + 1);
    add("category", select("category", [["", "all"], ...[...counts].sort()
      .map(([name, count]) => [name, name + " (" + count + ")"])], ""));
    fields.text = element("input", { type: "search", placeholder: "prompt or id", oninput: choose });
    fields.failed = element("input", { type: "checkbox", onchange: choose });
    const failures = data.items.filter((item) => item[3].length).length;
    labels.push(element("label", {}, "search", fields.text),
      element("label", { className: "check" }, fields.failed, "quarantined (" + failures + ")"));
    fields.count = element("span", { className: "quiet" });
    fields.cards = element("div");
    fields.pagers = [element("div", { className: "pager" }), element("div", { className: "pager" })];
    view.replaceChildren(element("div", { className: "filters" }, ...labels), fields.count,
      fields.pagers[0], fields.cards, fields.pagers[1]);
    choose();
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
    chunk(number, pictures) {
      waiting.get(number)(pictures);
      waiting.delete(number);
    },
  };
})();
