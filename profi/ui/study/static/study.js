"use strict";
// Every click is stored at once; without this script the form stores both answers with "Next".

const form = document.querySelector("form[data-step]");
const step = Number(form.dataset.step);
const steps = Number(form.dataset.steps);
const saved = document.getElementById("saved");
const problem = document.getElementById("problem");
const QUESTIONS = { prompt: "follow the text", quality: "have the best overall quality" };
const RETRY_MS = 1500;

const boxes = (question) => [...form.querySelectorAll(`input[name=${question}]`)];
const box = (question, value) => form.querySelector(`input[name=${question}][value="${value}"]`);

// Answers that are not stored yet, in the order of the clicks; the first one is being sent.
const queue = [];
let number = 0;
let sending = null;

function record(question) {
  const chosen = boxes(question).filter((item) => item.checked).map((item) => item.value);
  const none = chosen.includes("none");
  queue.push({
    question,
    chosen: chosen.length === 0 ? null : none ? [] : chosen.map(Number),
    page: form.dataset.page,
    number: ++number,
  });
  saved.textContent = "Saving…";
  sending ??= send().finally(() => { sending = null; });
}

async function send() {
  while (queue.length > 0) {
    let response = null;
    try {
      response = await fetch(`/vote/${step}`, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(queue[0]),
        keepalive: true,
      });
    } catch {
      // The server cannot be reached; try again below.
    }
    if (response !== null && response.ok) {
      queue.shift();
    } else if (response !== null && response.status < 500) {
      const answer = await response.json().catch(() => ({ error: "This was refused." }));
      queue.length = 0;
      problem.textContent = answer.error;
      saved.textContent = "Not saved";
      saved.classList.add("waiting");
      return;
    } else {
      saved.textContent = "Not saved yet: trying again…";
      saved.classList.add("waiting");
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
  }
  saved.classList.remove("waiting");
  saved.textContent = "Saved";
}

form.addEventListener("change", (event) => {
  const changed = event.target;
  if (!(changed.name in QUESTIONS)) return;
  if (changed.checked) {
    // "None" and results exclude each other.
    for (const other of boxes(changed.name)) {
      if ((other.value === "none") !== (changed.value === "none")) other.checked = false;
    }
  }
  problem.textContent = "";
  record(changed.name);
});

async function go(address) {
  if (sending !== null) await sending;
  if (queue.length === 0 && !saved.classList.contains("waiting")) location.assign(address);
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  for (const [question, text] of Object.entries(QUESTIONS)) {
    if (!boxes(question).some((item) => item.checked)) {
      problem.textContent = `Please choose the results that ${text}, or none of them.`;
      boxes(question)[0].focus();
      return;
    }
  }
  go(step < steps ? `/step/${step + 1}` : "/");
});

const back = document.getElementById("back");
back?.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  go(back.href);
});

window.addEventListener("beforeunload", (event) => {
  if (queue.length > 0) event.preventDefault();
});
window.addEventListener("pagehide", () => {
  for (const answer of queue) {
    const body = new Blob([JSON.stringify(answer)], { type: "application/json" });
    navigator.sendBeacon(`/vote/${step}`, body);
  }
});
// A page that the browser kept may show older answers than another tab gave.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) location.reload();
});

// So may a tab to which one returns.
document.addEventListener("visibilitychange", async () => {
  if (document.visibilityState !== "visible" || queue.length > 0) return;
  const before = number;
  const response = await fetch(`/step/${step}`, { redirect: "error" }).catch(() => null);
  if (response === null || !response.ok) return;
  const stored = new DOMParser().parseFromString(await response.text(), "text/html");
  if (number !== before) return;
  const there = stored.querySelector("form[data-session]");
  // Somebody else has started in this browser: this page is not theirs.
  if (there?.dataset.session !== form.dataset.session) return location.assign("/");
  for (const question of Object.keys(QUESTIONS)) {
    for (const item of boxes(question)) {
      const same = `form input[name=${question}][value="${item.value}"]`;
      item.checked = stored.querySelector(same).checked;
    }
  }
});

// The enlarged pictures.
const viewer = document.getElementById("viewer");
const stage = viewer.querySelector(".stage");
const image = stage.querySelector("img");
const pictures = [...document.querySelectorAll("button.zoom")];
let shown = 0;
let scale = 1;

function fit() {
  const ratio = image.naturalWidth / image.naturalHeight || 1;
  const width = Math.min(stage.clientWidth, stage.clientHeight * ratio);
  image.style.width = `${Math.floor(width * scale)}px`;
}

function show(place) {
  shown = (place + pictures.length) % pictures.length;
  const source = pictures[shown].querySelector("img");
  const label = pictures[shown].dataset.label;
  document.getElementById("shown").textContent = label === "Input" ? label : `Result ${label}`;
  image.src = source.src;
  image.alt = source.alt;
  fit();
}

function open(place) {
  scale = 1;
  viewer.showModal();
  show(place);
}

function resize(factor) {
  scale = Math.min(8, Math.max(1, scale * factor));
  fit();
}

const acts = {
  previous: () => show(shown - 1),
  following: () => show(shown + 1),
  smaller: () => resize(1 / 2),
  larger: () => resize(2),
  close: () => viewer.close(),
};
image.addEventListener("load", fit);
window.addEventListener("resize", fit);
pictures.forEach((item, place) => item.addEventListener("click", () => open(place)));
image.addEventListener("click", () => (scale < 8 ? resize(2) : resize(1 / 8)));
viewer.addEventListener("close", () => pictures[shown].focus());
for (const button of viewer.querySelectorAll("button")) {
  button.addEventListener("click", acts[button.dataset.act]);
}

// The keys. Whoever needs single letters for something else can turn them off.
const shortcuts = document.getElementById("shortcuts");
const STORED = "study-shortcuts";
shortcuts.checked = localStorage.getItem(STORED) !== "off";
shortcuts.addEventListener("change", () => {
  localStorage.setItem(STORED, shortcuts.checked ? "on" : "off");
});

const VIEWER_KEYS = {
  ArrowLeft: acts.previous,
  ArrowRight: acts.following,
  "+": acts.larger,
  "=": acts.larger,
  "-": acts.smaller,
  z: acts.close,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (viewer.open) {
    // Enlarged, the arrows scroll.
    const scrolls = scale > 1 && event.key.startsWith("Arrow") && document.activeElement === stage;
    if (event.key in VIEWER_KEYS && !scrolls) {
      event.preventDefault();
      VIEWER_KEYS[event.key]();
    }
    return;
  }
  if (!shortcuts.checked || event.repeat) return;
  const key = event.key.toLowerCase();
  const question = event.shiftKey ? "quality" : "prompt";
  const place = pictures.findIndex((item) => item.dataset.label.toLowerCase() === key);
  if (key === "x" || place > 0) {
    event.preventDefault();
    box(question, key === "x" ? "none" : String(place - 1)).click();
  } else if (key === "z") {
    const focused = pictures.indexOf(document.activeElement);
    open(focused >= 0 ? focused : 0);
  } else if (event.key === "ArrowRight") {
    form.requestSubmit();
  } else if (event.key === "ArrowLeft") {
    back?.click();
  }
});
