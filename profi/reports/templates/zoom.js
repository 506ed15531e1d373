// A click on a picture, or Enter on it, enlarges it; the arrows go to its neighbours, Esc closes.
(() => {
  "use strict";
  const dialog = document.getElementById("zoom");
  const image = dialog.querySelector("img"), caption = dialog.querySelector("figcaption");
  let group = [], place = 0;

  function show(next) {
    place = (next + group.length) % group.length;
    const source = group[place].querySelector("img"), text = group[place].parentElement.querySelector("figcaption");
    image.src = source.src;
    image.alt = source.alt;
    const name = document.createElement("strong");
    name.textContent = source.alt;
    // The picture's own words follow its name: whether it was found, and its scores.
    caption.replaceChildren(name, ...[...text.children].flatMap((part) => [" ", part.cloneNode(true)]));
    dialog.className = group[place].parentElement.className;
  }

  document.addEventListener("click", (event) => {
    const clicked = event.target.closest("button.zoom");
    if (clicked) {
      // All pictures of one triplet, all seeds.
      group = [...clicked.closest(".exhibit").querySelectorAll("button.zoom")];
      show(group.indexOf(clicked));
      dialog.showModal();
    }
  });
  dialog.addEventListener("click", (event) => {
    const step = event.target.closest("[data-step]");
    if (step) show(place + Number(step.dataset.step));
    else {
      dialog.close();
      // Its event, which Esc has too, comes only with the next frame.
      back();
    }
  });
  dialog.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (step) { show(place + step); event.preventDefault(); }
  });
  function back() {
    // The gallery may have been drawn again in the meantime.
    const same = (button) => button.querySelector("img").src === image.src;
    const drawn = [...document.querySelectorAll("button.zoom")];
    (group[place].isConnected ? group[place] : drawn.find(same))?.focus();
  }
  dialog.addEventListener("close", back);
})();
