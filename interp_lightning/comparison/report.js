// Moves along paths, sorts tables and explains cells. The report is complete without it.
(() => {
  const all = (within, selector) => [...within.querySelectorAll(selector)];
  document.documentElement.classList.add("js");

  // Paths: a slider for each pair shows the same frame of every strip.

  async function walk(figure) {
    const frames = Number(figure.dataset.frames);
    const [slider, said] = [figure.querySelector("input"), figure.querySelector("output")];
    const paths = all(figure, ".path").map((path) => {
      const [image, canvas] = [path.querySelector("img"), document.createElement("canvas")];
      canvas.setAttribute("role", "img");
      path.prepend(canvas);
      return { image, canvas };
    });
    figure.style.setProperty("--frame", `${100 / frames}%`);
    await Promise.all(paths.map(({ image }) => image.decode()));

    function show() {
      const alpha = Number(slider.value);
      const frame = Math.round(alpha * (frames - 1));
      for (const { image, canvas } of paths) {
        const [width, height] = [image.naturalWidth / frames, image.naturalHeight];
        Object.assign(canvas, { width, height });
        canvas.getContext("2d").drawImage(image, frame * width, 0, width, height, 0, 0, width, height);
        canvas.setAttribute("aria-label", `${image.alt}, α = ${alpha.toFixed(2)}`);
      }
      said.value = alpha.toFixed(2);
      figure.style.setProperty("--at", `${(100 * frame) / frames}%`);
      figure.dataset.frame = frame;
    }

    function jump(event) {
      if (!event.buttons) return;
      const box = event.currentTarget.getBoundingClientRect();
      slider.value = Math.floor((frames * (event.clientX - box.left)) / box.width) / (frames - 1);
      show();
    }

    slider.addEventListener("input", show);
    for (const type of ["pointerdown", "pointermove"]) {
      all(figure, ".strip").forEach((strip) => strip.addEventListener(type, jump));
    }
    show();
  }

  // Tables: the rows of the first body are sorted; the second holds numbers to compare with.

  const compare = (a, b) =>
    isNaN(a) || isNaN(b) ? String(a).localeCompare(b, "en", { numeric: true }) : Number(a) - Number(b);

  function sort(head) {
    const table = head.closest("table");
    const other = { ascending: "descending", descending: "ascending" };
    const order = other[head.getAttribute("aria-sort")] ?? head.dataset.first;
    all(table, "th[aria-sort]").forEach((each) => each.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    const key = (row) => row.cells[head.cellIndex].dataset.key;
    const rows = [...table.tBodies[0].rows].sort((a, b) =>
      key(a) && key(b) ? sign * compare(key(a), key(b)) : !key(a) - !key(b),
    );
    table.tBodies[0].append(...rows);
  }

  function sortable(table) {
    for (const head of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.append(...head.childNodes);
      head.append(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => sort(head));
    }
    const cells = all(table, "td[title]");
    cells.forEach((cell, number) => (cell.tabIndex = number ? -1 : 0));
    table.addEventListener("keydown", (event) => step(event, table));
  }

  const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

  function step(event, table) {
    const cell = event.target.closest("td");
    if (!cell || !(event.key in STEPS)) return;
    const [down, right] = STEPS[event.key];
    const next = table.rows[cell.parentNode.rowIndex + down]?.cells[cell.cellIndex + right];
    if (!next?.hasAttribute("tabindex")) return;
    event.preventDefault();
    [cell.tabIndex, next.tabIndex] = [-1, 0];
    next.focus();
  }

  function pin(table) {
    const keys = all(table.tHead, ".key");
    const room = table.parentNode.clientWidth / 2;
    let left = 0;
    for (const head of keys) {
      const pinned = left + head.offsetWidth <= room;
      for (const row of [table.tHead.rows[0], ...table.tBodies[0].rows]) {
        const cell = row.cells[head.cellIndex];
        cell.classList.toggle("pinned", pinned);
        cell.style.left = `${left}px`;
      }
      left += head.offsetWidth;
    }
  }

  // Explanations: of the cell or heading below the pointer, or with the focus.

  const tip = document.createElement("div");
  Object.assign(tip, { id: "tip", hidden: true });
  tip.setAttribute("role", "tooltip");

  let current = null; // the cell or heading that is explained

  function explain(cell) {
    current = cell;
    tip.hidden = !cell;
    if (!cell) return;
    tip.textContent = cell.dataset.hint;
    const [box, margin] = [cell.getBoundingClientRect(), 8];
    const room = document.documentElement.clientWidth - tip.offsetWidth - margin;
    const below = box.bottom + tip.offsetHeight + margin < innerHeight;
    tip.style.left = `${Math.max(margin, Math.min(box.left, room))}px`;
    tip.style.top = `${below ? box.bottom + 4 : box.top - tip.offsetHeight - 4}px`;
  }

  function explained(element) {
    element.dataset.hint = element.title;
    element.removeAttribute("title");
    const focused = element.querySelector("button") ?? element;
    focused.setAttribute("aria-describedby", "tip");
    element.addEventListener("pointerenter", () => explain(element));
    element.addEventListener("pointerleave", () => explain(null));
    focused.addEventListener("focus", () => explain(element));
    focused.addEventListener("blur", () => explain(null));
  }

  // Boxes that scroll: their edges fade where there is more, and the keyboard reaches them.

  function edges(box) {
    const inner = box.firstElementChild;
    const rest = inner.scrollWidth - inner.clientWidth;
    box.classList.toggle("before", inner.scrollLeft > 1);
    box.classList.toggle("after", inner.scrollLeft < rest - 1);
    if (rest > 1) inner.tabIndex = 0;
    else inner.removeAttribute("tabindex");
  }

  document.body.append(tip);
  addEventListener("keydown", (event) => event.key === "Escape" && explain(null));
  addEventListener("scroll", () => explain(current), { capture: true, passive: true });
  all(document, "table.sortable").forEach(sortable);
  all(document, "table [title]").forEach(explained);
  all(document, "figure.walk").forEach(walk);
  const boxes = all(document, ".box");
  boxes.forEach((box) => box.firstElementChild.addEventListener("scroll", () => edges(box), { passive: true }));
  const resized = new ResizeObserver((entries) =>
    entries.forEach(({ target }) => {
      all(target, "table.sortable").forEach(pin);
      edges(target.parentNode);
    }),
  );
  boxes.forEach((box) => resized.observe(box.firstElementChild));
})();
