// The parts of the painter's page that Gradio has no component for, as custom elements:
// <profi-canvas> holds the picture and draws the mask in the picture's own size,
// <profi-results> wipes between before and after.

const COLOUR = "#ff00b0";
const FORMATS = "image/png,image/jpeg,image/webp";
const KEYS =
  "Keys: arrows move the brush (with Shift by one pixel), Space puts the pen down and lifts it, " +
  "B brush, E eraser, R rectangle, [ and ] size, Z undo, Y redo, I invert, plus and minus zoom.";

const make = (tag, attributes = {}, ...children) => {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
};

const surface = (width, height) => Object.assign(document.createElement("canvas"), { width, height });

async function send(path, body) {
  const response = await fetch(path, { method: "POST", body });
  if (response.ok) return response.json();
  const text = await response.text();
  let reason = text;
  try {
    reason = JSON.parse(text).error;
  } catch {
    // The guard's own answers are plain text.
  }
  throw new Error(reason || `The server answered ${response.status}.`);
}

const loaded = (url) =>
  new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = () => reject(new Error("The picture cannot be shown."));
    image.src = url;
  });

class ProfiCanvas extends HTMLElement {
  connectedCallback() {
    if (this.stage) return;
    this.steps = []; // what was drawn, in order: undo draws all but the last one again
    this.undone = [];
    this.tool = "brush";
    this.zoom = 1;
    this.cursor = null;
    this.corner = null; // the first corner of a rectangle
    this.build();
    this.listen();
    this.examples();
  }

  build() {
    const tool = (name, label, key) =>
      make("button", { type: "button", "data-tool": name, "aria-pressed": name === this.tool, title: `${label} (${key})`,
        onclick: () => this.choose(name) }, label);
    const action = (name, label, key, run) =>
      make("button", { type: "button", "data-action": name, title: key ? `${label} (${key})` : label, onclick: run }, label);
    const file = (id, label, open) => {
      const input = make("input", { type: "file", id, accept: FORMATS });
      input.addEventListener("change", () => {
        if (input.files.length) open(input.files[0]);
        input.value = "";
      });
      return make("label", { class: "pc-file", for: id }, label, input);
    };
    this.size = make("input", { type: "range", min: 1, max: 200, value: 24, id: "pc-size" });
    this.size.addEventListener("input", () => this.showCursor());
    this.status = make("p", { class: "pc-status", role: "status" }, "Open, paste or drop a picture, or pick an example.");
    this.image = make("img", { alt: "", hidden: "" });
    this.canvas = make("canvas", { width: 0, height: 0, tabindex: 0, role: "img", "aria-describedby": "pc-keys",
      "aria-label": "Mask over the picture: what is painted pink will be painted anew" });
    this.ring = make("div", { class: "pc-ring", "aria-hidden": "true", hidden: "" });
    this.layers = make("div", { class: "pc-layers" }, this.image, this.canvas, this.ring);
    this.stage = make("div", { class: "pc-stage", tabindex: 0, role: "region", "aria-label": "Picture and mask" }, this.layers);
    this.shelf = make("div", { class: "pc-examples", role: "group", "aria-label": "Examples" });
    this.append(
      make("div", { class: "pc-bar" },
        file("pc-open", "Open a picture", (one) => this.open(one)),
        file("pc-mask", "Mask from a file", (one) => this.openMask(one)),
        action("smaller", "Zoom out", "-", () => this.enlarge(1 / 1.5)),
        action("larger", "Zoom in", "+", () => this.enlarge(1.5))),
      make("div", { class: "pc-bar", role: "toolbar", "aria-label": "Mask" },
        tool("brush", "Brush", "B"), tool("eraser", "Eraser", "E"), tool("rectangle", "Rectangle", "R"),
        make("label", { class: "pc-size", for: "pc-size" }, "Size", this.size),
        action("undo", "Undo", "Z", () => this.undo()), action("redo", "Redo", "Y", () => this.redo()),
        action("invert", "Invert", "I", () => this.draw({ kind: "invert" })),
        action("clear", "Clear", "", () => this.draw({ kind: "clear" }))),
      this.stage, this.status,
      make("details", { class: "pc-keys" }, make("summary", {}, "Keyboard"), make("p", { id: "pc-keys" }, KEYS)),
      this.shelf);
  }

  listen() {
    const canvas = this.canvas;
    canvas.addEventListener("pointerdown", (event) => this.down(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, () => this.up());
    canvas.addEventListener("pointerleave", () => (this.ring.hidden = document.activeElement !== canvas));
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => {
      this.up();
      this.ring.hidden = true;
    });
    this.addEventListener("dragover", (event) => event.preventDefault());
    this.addEventListener("drop", (event) => {
      event.preventDefault();
      if (event.dataTransfer.files.length) this.open(event.dataTransfer.files[0]);
    });
    document.addEventListener("paste", (event) => {
      const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
      if (file) this.open(file);
    });
    new ResizeObserver(() => this.layout()).observe(this.stage);
  }

  say(text, wrong = false) {
    this.status.textContent = text;
    this.status.classList.toggle("wrong", wrong);
  }

  // The picture -------------------------------------------------------------------------------

  async open(file) {
    await this.take(() => {
      const limit = Number(this.dataset.limit);
      if (file.size > limit) throw new Error(`This file is too large: at most ${limit >> 20} MiB are allowed.`);
      return send("/pictures", file);
    });
  }

  async take(get) {
    this.say("Opening the picture …");
    try {
      const answer = await get();
      const image = await loaded(`/pictures/${answer.picture}`);
      const mask = answer.mask ? await loaded(`/pictures/${answer.mask}`) : null;
      this.image.src = image.src;
      this.image.hidden = false;
      Object.assign(this.canvas, { width: answer.width, height: answer.height });
      this.picture = answer.picture;
      this.steps = mask ? [{ kind: "image", image: mask }] : [];
      this.undone = [];
      this.zoom = 1;
      this.cursor = null;
      this.size.max = Math.max(8, Math.round(Math.max(answer.width, answer.height) / 3));
      this.size.value = Math.max(2, Math.round(Math.max(answer.width, answer.height) / 12));
      this.layout();
      this.redraw();
      const note = answer.note ? ` ${answer.note}` : "";
      this.say(`${answer.width} × ${answer.height} pixels. Paint over what is to change.${note}`);
      this.dispatchEvent(new CustomEvent("profi-picture", { bubbles: true, detail: { picture: answer.picture, prompt: answer.prompt ?? null } }));
    } catch (error) {
      this.say(error.message, true);
    }
  }

  async openMask(file) {
    try {
      if (!this.picture) throw new Error("Open the picture first.");
      const answer = await send("/masks", file);
      if (answer.width !== this.canvas.width || answer.height !== this.canvas.height)
        throw new Error(
          `The mask is ${answer.width} × ${answer.height} and the picture ` +
            `${this.canvas.width} × ${this.canvas.height} pixels: both need the same size.`);
      this.draw({ kind: "image", image: await loaded(`/pictures/${answer.picture}`) });
      this.say("The mask is there.");
    } catch (error) {
      this.say(error.message, true);
    }
  }

  async examples() {
    const found = await (await fetch("/examples")).json();
    this.shelf.append(
      ...found.map((one) =>
        make("button", { type: "button", title: one.prompt, onclick: () => this.take(() => send(`/examples/${one.number}`, "")) },
          make("img", { src: `/examples/${one.number}`, alt: `Example: paint “${one.prompt}”`, width: 56, height: 56 }))));
  }

  // The names of the picture and of the mask, which is sent if it has changed.
  async order() {
    if (!this.picture) return { picture: "", mask: "", problem: "open a picture first, or pick an example" };
    try {
      // What is drawn or opened while the mask is sent belongs to the next order.
      const { picture, version } = this;
      let mask = this.sent;
      if (!mask) {
        const { width, height } = this.canvas;
        const flat = surface(width, height);
        const pen = flat.getContext("2d");
        pen.drawImage(this.canvas, 0, 0);
        pen.globalCompositeOperation = "source-in";
        pen.fillStyle = "#fff";
        pen.fillRect(0, 0, width, height);
        pen.globalCompositeOperation = "destination-over";
        pen.fillStyle = "#000";
        pen.fillRect(0, 0, width, height);
        const png = await new Promise((resolve) => flat.toBlob(resolve, "image/png"));
        mask = (await send("/masks", png)).picture;
        if (version === this.version) this.sent = mask;
      }
      return { picture, mask, problem: "" };
    } catch (error) {
      return { picture: "", mask: "", problem: error.message };
    }
  }

  // Drawing -----------------------------------------------------------------------------------

  get pen() {
    const pen = this.canvas.getContext("2d");
    pen.globalCompositeOperation = "source-over";
    pen.fillStyle = pen.strokeStyle = COLOUR;
    pen.lineCap = pen.lineJoin = "round";
    return pen;
  }

  apply(step) {
    const { width, height } = this.canvas;
    const pen = this.pen;
    if (step.kind === "clear") pen.clearRect(0, 0, width, height);
    if (step.kind === "invert") {
      pen.globalCompositeOperation = "source-out";
      pen.fillRect(0, 0, width, height);
    }
    if (step.kind === "image") {
      // White becomes the mask's colour, black becomes clear.
      const layer = surface(width, height);
      const other = layer.getContext("2d");
      other.drawImage(step.image, 0, 0);
      const pixels = other.getImageData(0, 0, width, height);
      for (let i = 0; i < pixels.data.length; i += 4) {
        const white = pixels.data[i] > 127;
        pixels.data.set([0xff, 0x00, 0xb0, white ? 255 : 0], i);
      }
      pen.putImageData(pixels, 0, 0);
    }
    if (step.kind === "rectangle") {
      const [[x0, y0], [x1, y1]] = step.corners;
      const box = [Math.round(Math.min(x0, x1)), Math.round(Math.min(y0, y1)), Math.round(Math.abs(x1 - x0)), Math.round(Math.abs(y1 - y0))];
      pen.fillRect(...box);
    }
    if (step.kind === "stroke") this.line(step.points, step.size, step.erase);
  }

  line(points, size, erase) {
    const pen = this.pen;
    if (erase) pen.globalCompositeOperation = "destination-out";
    pen.lineWidth = size;
    pen.beginPath();
    pen.moveTo(...points[0]);
    for (const point of points) pen.lineTo(...point);
    pen.stroke();
  }

  draw(step) {
    if (!this.picture) return this.say("Open a picture first, or pick an example.", true);
    this.steps.push(step);
    this.undone = [];
    this.apply(step);
    this.changed();
  }

  redraw() {
    this.pen.clearRect(0, 0, this.canvas.width, this.canvas.height);
    for (const step of this.steps) this.apply(step);
    this.changed();
  }

  changed() {
    this.sent = null;
    this.version = (this.version ?? 0) + 1;
    this.querySelector("[data-action=undo]").disabled = !this.steps.length;
    this.querySelector("[data-action=redo]").disabled = !this.undone.length;
  }

  undo() {
    if (!this.steps.length) return;
    this.undone.push(this.steps.pop());
    this.redraw();
  }

  redo() {
    if (!this.undone.length) return;
    this.steps.push(this.undone.pop());
    this.redraw();
  }

  choose(tool) {
    this.tool = tool;
    this.corner = null;
    for (const button of this.querySelectorAll("[data-tool]"))
      button.setAttribute("aria-pressed", String(button.dataset.tool === tool));
    this.showCursor();
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * this.canvas.width, ((event.clientY - box.top) / box.height) * this.canvas.height];
  }

  down(event) {
    if (!this.picture || event.button !== 0) return;
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    try {
      this.canvas.setPointerCapture(event.pointerId);
    } catch {
      // A pointer that has gone already.
    }
    this.start(this.at(event));
  }

  start(point) {
    this.cursor = point;
    this.current =
      this.tool === "rectangle"
        ? { kind: "rectangle", corners: [point, point] }
        : { kind: "stroke", erase: this.tool === "eraser", size: Number(this.size.value), points: [point] };
    if (this.current.kind === "stroke") this.line([point], this.current.size, this.current.erase);
  }

  move(event) {
    const points = (event.getCoalescedEvents?.() ?? []).concat(event).map((one) => this.at(one));
    for (const point of points) this.go(point);
  }

  go(point) {
    const before = this.cursor;
    this.cursor = point;
    this.showCursor();
    if (!this.current) return;
    if (this.current.kind === "stroke") {
      this.current.points.push(point);
      this.line([before, point], this.current.size, this.current.erase);
    } else {
      this.current.corners[1] = point;
      this.redraw();
      this.apply(this.current);
    }
  }

  up() {
    if (!this.current) return;
    this.steps.push(this.current);
    this.undone = [];
    this.current = null;
    this.redraw();
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || !this.picture) {
      if ((event.ctrlKey || event.metaKey) && event.key === "z") (event.preventDefault(), this.undo());
      return;
    }
    const { width, height } = this.canvas;
    const far = event.shiftKey ? 1 : Math.max(1, Number(this.size.value) / 3);
    const by = { ArrowLeft: [-far, 0], ArrowRight: [far, 0], ArrowUp: [0, -far], ArrowDown: [0, far] }[event.key];
    const run = {
      b: () => this.choose("brush"), e: () => this.choose("eraser"), r: () => this.choose("rectangle"),
      z: () => this.undo(), y: () => this.redo(), i: () => this.draw({ kind: "invert" }),
      "[": () => this.resize(-1), "]": () => this.resize(1), "+": () => this.enlarge(1.5), "=": () => this.enlarge(1.5),
      "-": () => this.enlarge(1 / 1.5), Escape: () => this.up(),
      " ": () => (this.current ? this.up() : this.start(this.cursor ?? [width / 2, height / 2])),
    }[event.key];
    if (!by && !run) return;
    event.preventDefault();
    if (run) run();
    else {
      const [x, y] = this.cursor ?? [width / 2, height / 2];
      this.go([Math.min(width, Math.max(0, x + by[0])), Math.min(height, Math.max(0, y + by[1]))]);
    }
  }

  resize(sign) {
    this.size.value = Number(this.size.value) + sign * Math.max(1, Math.round(this.size.value / 8));
    this.showCursor();
  }

  // Size on the screen ------------------------------------------------------------------------

  enlarge(factor) {
    this.zoom = Math.min(16, Math.max(1, this.zoom * factor));
    this.layout();
  }

  layout() {
    const { width, height } = this.canvas;
    if (!width) return;
    const room = this.stage.clientWidth;
    const scale = Math.min(room / width, 380 / height) * this.zoom;
    this.layers.style.width = `${Math.floor(width * scale)}px`;
    this.layers.style.height = `${Math.floor(height * scale)}px`;
    this.showCursor();
  }

  showCursor() {
    const { width } = this.canvas;
    this.ring.hidden = !this.cursor;
    if (!this.cursor) return;
    const scale = this.layers.clientWidth / width;
    const size = this.tool === "rectangle" ? 9 : Number(this.size.value) * scale;
    Object.assign(this.ring.style, {
      width: `${size}px`, height: `${size}px`, left: `${this.cursor[0] * scale}px`, top: `${this.cursor[1] * scale}px`,
    });
    this.ring.classList.toggle("square", this.tool === "rectangle");
  }
}

class ProfiResults extends HTMLElement {
  connectedCallback() {
    this.addEventListener("input", (event) => {
      if (event.target.name === "pr-picture") this.show(event.target);
      if (event.target.type === "range") this.style.setProperty("--wipe", `${event.target.value}%`);
    });
  }

  show(chosen) {
    const after = this.querySelector(".pr-after");
    Object.assign(after, { src: `/pictures/${chosen.value}`, alt: `After: ${chosen.dataset.label}` });
    const link = this.querySelector("a[download]");
    link.href = `/pictures/${chosen.value}`;
    link.download = chosen.dataset.file;
    link.textContent = `Download ${chosen.dataset.label}`;
  }

  get chosen() {
    return this.querySelector("input[name=pr-picture]:checked")?.value ?? "";
  }
}

customElements.define("profi-canvas", ProfiCanvas);
customElements.define("profi-results", ProfiResults);

// What Gradio's buttons call before they call the server.
window.profiOrder = async (...values) => {
  const { picture, mask, problem } = await document.querySelector("profi-canvas").order();
  return [picture, mask, problem, ...values.slice(3)];
};
window.profiChosen = () => [document.querySelector("profi-results")?.chosen ?? ""];
