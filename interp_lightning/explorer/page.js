// Picks frames of decoded paths and grids. All of them are in the page, so that nothing is asked of the program.
(() => {
  const sections = new Map(); // of paths and grids: their content, and the image with all frames

  const slider = () => document.querySelector("#alpha input[type=range]");
  const paint = (canvas, at, frame) => {
    const { width, height } = canvas;
    canvas.getContext("2d").drawImage(at.image, 0, frame * height, width, height, 0, 0, width, height);
  };

  function show(section, frame) {
    const at = sections.get(section);
    paint(section.querySelector(".now"), at, frame);
    section.dataset.frame = frame;
    Object.values(at.facts).forEach((texts, row) => (section.querySelectorAll("dd")[row].textContent = texts[frame]));
    const buttons = [...section.querySelectorAll(".strip button")];
    const near = (button) => Math.abs(button.dataset.frame - frame);
    const nearest = Math.min(...buttons.map(near));
    let marked = false;
    for (const button of buttons) {
      const current = !marked && near(button) === nearest;
      button.classList.toggle("current", current);
      marked ||= current;
    }
  }

  const showAlpha = (section) =>
    show(section, Math.round((slider() ? Number(slider().value) : 0.5) * (sections.get(section).frames - 1)));

  function drawMap(map, at, frame) {
    const context = map.getContext("2d");
    const [width, height] = [map.width / at.side, map.height / at.side];
    for (let cell = 0; cell < at.frames; cell++) {
      const [row, column] = [Math.floor(cell / at.side), cell % at.side];
      context.drawImage(at.image, 0, cell * height, width, height, column * width, row * height, width, height);
    }
    context.strokeStyle = getComputedStyle(map).getPropertyValue("--color-accent");
    context.lineWidth = 2;
    context.strokeRect((frame % at.side) * width + 1, Math.floor(frame / at.side) * height + 1, width - 2, height - 2);
  }

  function showCell(section, frame) {
    drawMap(section.querySelector(".map"), sections.get(section), frame);
    show(section, frame);
  }

  function pointAt(map, at, event) {
    const box = map.getBoundingClientRect();
    const cell = (share) => Math.min(at.side - 1, Math.max(0, Math.floor(share * at.side)));
    const row = cell((event.clientY - box.top) / box.height);
    showCell(map.closest("section"), row * at.side + cell((event.clientX - box.left) / box.width));
  }

  async function prepare(section) {
    section.classList.add("known");
    const content = JSON.parse(section.dataset.content);
    const image = new Image();
    image.src = content.sprite;
    await image.decode();
    const at = { ...content, image };
    sections.set(section, at);
    section.querySelectorAll(".strip button").forEach((each) => paint(each.firstChild, at, each.dataset.frame));
    const map = section.querySelector(".map");
    if (map) {
      map.addEventListener("pointermove", (event) => pointAt(map, at, event));
      map.addEventListener("pointerdown", (event) => pointAt(map, at, event));
      showCell(section, Math.floor(at.frames / 2));
    } else {
      showAlpha(section);
    }
  }

  function pad(canvas) {
    canvas.classList.add("known");
    const context = canvas.getContext("2d");
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = 22;
    context.strokeStyle = "white";
    context.fillRect(0, 0, canvas.width, canvas.height);
    const place = (event) => {
      const box = canvas.getBoundingClientRect();
      const scale = canvas.width / box.width;
      return [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
    };
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      context.beginPath();
      context.moveTo(...place(event));
    });
    canvas.addEventListener("pointermove", (event) => {
      if (event.buttons) {
        context.lineTo(...place(event));
        context.stroke();
      }
    });
  }

  const canvasOf = (name) => document.querySelector(`#end-${name} .pad canvas`);

  window.explorer = { // called by events of the page
    drawn: (name) => canvasOf(name).toDataURL("image/png"),
    clear: (name) => canvasOf(name).getContext("2d").fillRect(0, 0, canvasOf(name).width, canvasOf(name).height),
    download(text) {
      if (!text) return;
      const link = document.createElement("a");
      [link.download, link.href] = JSON.parse(text);
      link.click();
    },
  };

  function put(input, value) {
    input.value = value;
    input.dispatchEvent(new Event("input", { bubbles: true }));
  }

  new MutationObserver(() => {
    for (const section of sections.keys()) if (!section.isConnected) sections.delete(section);
    document.querySelectorAll(".seen:not(.known)").forEach(prepare);
    document.querySelectorAll(".pad canvas:not(.known)").forEach(pad);
  }).observe(document, { childList: true, subtree: true });

  document.addEventListener("input", (event) => {
    if (event.target.closest?.("#alpha"))
      for (const section of sections.keys()) if (section.matches(".path")) showAlpha(section);
  });
  document.addEventListener("click", (event) => {
    const frame = event.target.closest?.(".strip button");
    if (frame) put(slider(), frame.dataset.frame / (sections.get(frame.closest("section")).frames - 1));
    const example = event.target.closest?.(".gallery button");
    if (example) put(example.closest("[id^=end-]").querySelector(".number input"), example.dataset.number);
  });
})();
