
"use strict";

/* A set contains the versions of one image. Zoom is in screen pixels per pixel of the largest
   version: 1 shows that version exactly, and smaller versions are enlarged to its size. */
(() => {
  const MAX_ZOOM = 16;
  const ZOOMS = [1 / 16, 1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8, 16];
  const STEP = 2; // per cent of the visible image per arrow key
  const FAR_STEP = 10;
  const PAN_STEP = 80; // CSS pixels
  const SIDES = ["left", "right"];

  const get = (id) => document.getElementById(id);
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
  const viewer = get("viewer");
  const slider = get("slider");
  const sets = [...get("sets").content.querySelectorAll("section")].map(readSet);

  const view = {
    set: 0,
    chosen: { left: 0, right: 1 }, // indices into the versions of a set
    split: 50, // position of the line in per cent of the visible image; 0 and 100 show one side
    previousSplit: 50, // position that Escape restores
    zoom: "fit", // "fit" or a number
    centre: { x: 0.5, y: 0.5 }, // point of the image in the middle of the viewer
    smooth: false,
  };

  function readSet(section) {
    const versions = [...section.querySelectorAll("img")].map((image) => ({
      label: image.alt,
      note: image.dataset.note,
      source: image.getAttribute("src"),
      width: Number(image.getAttribute("width")),
      height: Number(image.getAttribute("height")),
    }));
    const largest = versions.reduce((a, b) => (b.width * b.height > a.width * a.height ? b : a));
    return { name: section.dataset.name, versions, width: largest.width, height: largest.height };
  }

  const currentSet = () => sets[view.set];
  const version = (side) => currentSet().versions[view.chosen[side]];

  /* --- geometry -------------------------------------------------------------------------- */

  // Not clientWidth, which is rounded to CSS pixels.
  const viewport = () => viewer.getBoundingClientRect();

  /** Return the zoom that shows the whole image; small images are enlarged by a whole number. */
  function fitZoom() {
    const { width, height } = viewport();
    const zoom = devicePixelRatio * Math.min(width / currentSet().width, height / currentSet().height);
    return zoom < 1 ? zoom : Math.min(Math.floor(zoom), MAX_ZOOM);
  }

  const zoomNow = () => (view.zoom === "fit" ? fitZoom() : view.zoom);

  /** Return the position of the image in the viewer in CSS pixels. It starts on a whole screen
      pixel, so that 100 % shows the pixels unchanged. */
  function frame() {
    const { left, top, width: across, height: down } = viewport();
    const scale = zoomNow() / devicePixelRatio;
    const width = currentSet().width * scale;
    const height = currentSet().height * scale;
    return {
      left: onScreenPixel(start(across, width, view.centre.x), left),
      top: onScreenPixel(start(down, height, view.centre.y), top),
      width,
      height,
    };
  }

  const start = (space, size, centre) =>
    size <= space ? (space - size) / 2 : clamp(space / 2 - centre * size, space - size, 0);

  const onScreenPixel = (value, origin) =>
    Math.round((value + origin) * devicePixelRatio) / devicePixelRatio - origin;

  const isLarger = (box) => box.width > viewport().width + 0.5 || box.height > viewport().height + 0.5;

  /** Return the horizontal part of the viewer that shows the image. */
  function visibleSpan(box) {
    const left = Math.max(0, box.left);
    return { left, width: Math.max(1, Math.min(viewport().width, box.left + box.width) - left) };
  }

  /* --- showing --------------------------------------------------------------------------- */

  function layOut() {
    const box = frame();
    viewer.classList.toggle("larger", isLarger(box));
    for (const side of SIDES) {
      const image = get(side).firstElementChild;
      if (image) layOutImage(image, box);
    }
    layOutSplit(box);
    get("zoom").textContent = `${Math.round(zoomNow() * 100)} %`;
    for (const button of document.querySelectorAll("[data-zoom]")) {
      button.setAttribute("aria-pressed", String(button.dataset.zoom === String(view.zoom)));
    }
  }

  function layOutImage(image, box) {
    const own = image.version;
    const ratio = (box.width * devicePixelRatio) / own.width;
    const set = currentSet();
    const mismatch = Math.abs((own.height * set.width) / own.width - set.height);
    for (const name of ["left", "top", "width", "height"]) image.style[name] = `${box[name]}px`;
    image.style.imageRendering = ratio > 1.001 && !view.smooth ? "pixelated" : "auto";
    // Sizes of one image differ by rounding; other images keep their own aspect ratio.
    image.style.objectFit = mismatch > Math.max(1, set.width / own.width) ? "contain" : "fill";
  }

  function layOutSplit(box) {
    const span = visibleSpan(box);
    const line = onScreenPixel(span.left + (span.width * view.split) / 100, viewport().left);
    const beyond = viewport().width - line;
    // Both sides are clipped, because a transparent side would show the other one.
    get("left").style.clipPath = `inset(0 ${beyond}px 0 0)`;
    get("right").style.clipPath = `inset(0 0 0 ${line}px)`;
    get("left-label").classList.toggle("away", view.split === 0);
    get("right-label").classList.toggle("away", view.split === 100);
    slider.classList.toggle("at-edge", isAtEdge());
    slider.style.left = `${line}px`;
    slider.setAttribute("aria-valuenow", String(Math.round(view.split)));
    slider.setAttribute("aria-valuetext", `${Math.round(view.split)} % ${version("left").label}`);
  }

  /** Show a version on a side as soon as it is decoded; until then, keep the previous one. */
  async function load(side) {
    const requested = version(side);
    const image = new Image();
    image.version = requested;
    image.alt = requested.label;
    image.draggable = false;
    image.src = requested.source;
    await image.decode().catch(() => { image.failed = true; });
    if (version(side) !== requested) return;
    get(side).replaceChildren(image);
    const failed = SIDES.map((one) => get(one).firstElementChild).filter((one) => one?.failed);
    get("problem").textContent = failed.map((one) => `${one.alt}: this browser cannot display it`).join("; ");
    layOut();
  }

  let loading = 0;

  async function loadAll(sides) {
    loading += 1;
    viewer.setAttribute("aria-busy", "true");
    layOut();
    await Promise.all(sides.map(load));
    loading -= 1;
    viewer.setAttribute("aria-busy", String(loading > 0));
  }

  function describe() {
    const several = currentSet().versions.length > 2;
    for (const side of SIDES) {
      const label = get(`${side}-label`);
      const select = label.querySelector("select");
      const name = label.querySelector(".name");
      const { width, height, note } = version(side);
      select.hidden = !several;
      name.hidden = several;
      name.textContent = name.title = version(side).label;
      select.replaceChildren(...currentSet().versions.map((one, index) => new Option(one.label, index)));
      select.value = String(view.chosen[side]);
      label.querySelector(".facts").textContent = `${width} × ${height}${note ? ` · ${note}` : ""}`;
    }
    get("position").textContent = `${view.set + 1} / ${sets.length}`;
    get("previous").disabled = view.set === 0;
    get("next").disabled = view.set === sets.length - 1;
    get("keys").querySelector(".several").hidden = !several;
  }

  /* --- actions --------------------------------------------------------------------------- */

  const isAtEdge = () => view.split === 0 || view.split === 100;

  function split(perCent) {
    view.split = clamp(perCent, 0, 100);
    if (!isAtEdge()) view.previousSplit = view.split;
    layOut();
  }

  function splitAt(x) {
    const span = visibleSpan(frame());
    split(((x - span.left) / span.width) * 100);
  }

  /** Show only one side, then only the other, which makes differences visible. */
  function flip() {
    split(view.split === 100 ? 0 : 100);
    announce(version(view.split === 100 ? "left" : "right").label);
  }

  /** Zoom and keep the point of the image under `at` (CSS pixels in the viewer) in place. */
  function zoomTo(zoom, at = middle()) {
    const before = frame();
    const point = { x: (at.x - before.left) / before.width, y: (at.y - before.top) / before.height };
    view.zoom = zoom === "fit" ? zoom : clamp(zoom, Math.min(fitZoom(), 1), MAX_ZOOM);
    const after = frame();
    const { x, y } = middle();
    centreOn({ x: point.x + (x - at.x) / after.width, y: point.y + (y - at.y) / after.height });
  }

  const middle = () => ({ x: viewport().width / 2, y: viewport().height / 2 });

  function zoomStep(direction) {
    const now = zoomNow();
    const next = direction > 0 ? ZOOMS.find((zoom) => zoom > now * 1.01)
                               : ZOOMS.findLast((zoom) => zoom < now / 1.01);
    zoomTo(next ?? now);
  }

  function pan(x, y) {
    const box = frame();
    centreOn({ x: view.centre.x - x / box.width, y: view.centre.y - y / box.height });
  }

  /** Centre on a point of the image, limited so that the image still fills the viewer. */
  function centreOn(point) {
    const box = frame();
    const inside = (value, space, size) =>
      size <= space ? 0.5 : clamp(value, space / 2 / size, 1 - space / 2 / size);
    view.centre.x = inside(point.x, viewport().width, box.width);
    view.centre.y = inside(point.y, viewport().height, box.height);
    layOut();
  }

  function smooth() {
    view.smooth = !view.smooth;
    get("smooth").setAttribute("aria-pressed", String(view.smooth));
    layOut();
  }

  function choose(side, index) {
    view.chosen[side] = index;
    if (isAtEdge()) view.split = side === "left" ? 100 : 0;
    describe();
    loadAll([side]);
    announce(version(side).label);
  }

  function chooseNext(side) {
    choose(side, (view.chosen[side] + 1) % currentSet().versions.length);
  }

  function show(index) {
    if (index < 0 || index >= sets.length || index === view.set) return;
    view.set = index;
    const last = currentSet().versions.length - 1;
    for (const side of SIDES) view.chosen[side] = Math.min(view.chosen[side], last);
    if (view.chosen.left === view.chosen.right) view.chosen = { left: 0, right: 1 };
    view.centre = { x: 0.5, y: 0.5 };
    for (const side of SIDES) get(side).replaceChildren();
    describe();
    loadAll(SIDES);
    markThumbnail();
    announce(`${index + 1} of ${sets.length}: ${currentSet().name}`);
  }

  const announce = (text) => { get("status").textContent = text; };

  function toggleKeys() {
    const dialog = get("keys");
    if (dialog.open) dialog.close();
    else dialog.showModal();
  }

  /* --- keys ------------------------------------------------------------------------------ */

  const KEYS = {
    ArrowLeft: () => split(view.split - STEP),
    ArrowRight: () => split(view.split + STEP),
    PageDown: () => split(view.split - FAR_STEP),
    PageUp: () => split(view.split + FAR_STEP),
    Home: () => split(0),
    End: () => split(100),
    " ": flip,
    Escape: () => split(view.previousSplit),
    0: () => zoomTo("fit"),
    1: () => zoomTo(1),
    2: () => zoomTo(2),
    "+": () => zoomStep(1),
    "=": () => zoomStep(1),
    "-": () => zoomStep(-1),
    s: smooth,
    l: () => chooseNext("left"),
    r: () => chooseNext("right"),
    n: () => show(view.set + 1),
    j: () => show(view.set + 1),
    p: () => show(view.set - 1),
    k: () => show(view.set - 1),
    "?": toggleKeys,
  };
  const SHIFT_KEYS = {
    ArrowLeft: () => pan(PAN_STEP, 0),
    ArrowRight: () => pan(-PAN_STEP, 0),
    ArrowUp: () => pan(0, PAN_STEP),
    ArrowDown: () => pan(0, -PAN_STEP),
  };
  // The ARIA slider role includes these keys; elsewhere they scroll the page.
  const SLIDER_KEYS = { ArrowUp: KEYS.ArrowRight, ArrowDown: KEYS.ArrowLeft };

  function onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    if (get("keys").open && event.key !== "?") return;
    const target = event.target;
    if (target.matches?.("select")) return;
    if (event.key === " " && target.matches?.("button")) return;
    const keys = event.shiftKey && event.key in SHIFT_KEYS ? SHIFT_KEYS
               : target === slider && event.key in SLIDER_KEYS ? SLIDER_KEYS : KEYS;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    if (!Object.hasOwn(keys, key)) return;
    event.preventDefault();
    keys[key]();
  }

  /* --- pointers: mouse, touch and pen ---------------------------------------------------- */

  const pointers = new Map();
  let sliding = false;

  const inViewer = (event) => {
    const box = viewer.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  };

  function onPointerDown(event) {
    if (event.button !== 0) return;
    pointers.set(event.pointerId, inViewer(event));
    const onLine = slider.contains(event.target);
    sliding = pointers.size === 1 && (onLine || !isLarger(frame()));
    if (sliding && !onLine) splitAt(inViewer(event).x);
    viewer.classList.add("dragged");
  }

  /** One pointer moves the line or the image; two pointers also zoom. */
  function onPointerMove(event) {
    if (!pointers.has(event.pointerId)) return;
    const before = pressedPointers();
    pointers.set(event.pointerId, inViewer(event));
    const after = pressedPointers();
    if (sliding) {
      splitAt(after.x);
    } else {
      pan(after.x - before.x, after.y - before.y);
      if (pointers.size > 1) zoomTo((zoomNow() * after.distance) / before.distance, after);
    }
  }

  /** Return the midpoint of the pressed pointers and their distance. */
  function pressedPointers() {
    const [first, second = first] = pointers.values();
    return {
      x: (first.x + second.x) / 2,
      y: (first.y + second.y) / 2,
      distance: Math.max(1, Math.hypot(first.x - second.x, first.y - second.y)),
    };
  }

  function onPointerUp(event) {
    pointers.delete(event.pointerId);
    if (pointers.size > 0) return;
    sliding = false;
    viewer.classList.remove("dragged");
  }

  function onWheel(event) {
    event.preventDefault();
    const lines = event.deltaMode === WheelEvent.DOM_DELTA_LINE ? 16 : 1;
    const speed = event.ctrlKey ? 0.01 : 0.002; // a touchpad pinch arrives as small steps with Ctrl
    zoomTo(zoomNow() * Math.exp(-event.deltaY * lines * speed), inViewer(event));
  }

  /* --- gallery --------------------------------------------------------------------------- */

  function makeThumbnails() {
    const several = sets.length > 1;
    get("steps").hidden = get("gallery").hidden = !several;
    get("keys").querySelector(".gallery").hidden = !several;
    if (several) get("gallery").firstElementChild.append(...sets.map(makeThumbnail));
  }

  function makeThumbnail(set, index) {
    const item = document.createElement("li");
    const button = document.createElement("button");
    const image = new Image();
    const name = document.createElement("bdi");
    image.loading = "lazy";
    image.decoding = "async";
    image.alt = "";
    image.src = set.versions[0].source;
    name.textContent = button.title = set.name;
    button.type = "button";
    button.append(image, name);
    button.addEventListener("click", () => show(index));
    item.append(button);
    return item;
  }

  function markThumbnail() {
    const buttons = get("gallery").querySelectorAll("button");
    buttons.forEach((button, index) => {
      button.setAttribute("aria-current", String(index === view.set));
    });
    buttons[view.set]?.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /* --- focus ----------------------------------------------------------------------------- */

  let byPointer = false;

  /** After a click, focus the slider, so that keys control the image; keyboard users keep focus. */
  function focusSlider() {
    if (byPointer && !get("keys").open) slider.focus({ preventScroll: true });
  }

  /* --- start ----------------------------------------------------------------------------- */

  function listen() {
    document.addEventListener("keydown", onKey);
    viewer.addEventListener("pointerdown", onPointerDown);
    // On the window, so that a drag may leave the viewer.
    addEventListener("pointermove", onPointerMove);
    addEventListener("pointerup", onPointerUp);
    addEventListener("pointercancel", onPointerUp);
    viewer.addEventListener("wheel", onWheel, { passive: false });
    viewer.addEventListener("dblclick", (event) => zoomTo(view.zoom === "fit" ? 1 : "fit", inViewer(event)));
    for (const button of document.querySelectorAll("[data-zoom]")) {
      const { zoom } = button.dataset;
      button.addEventListener("click", () => zoomTo(zoom === "fit" ? zoom : Number(zoom)));
    }
    for (const [id, action] of Object.entries({
      previous: () => show(view.set - 1), next: () => show(view.set + 1), smooth, flip, help: toggleKeys,
    })) get(id).addEventListener("click", action);
    for (const side of SIDES) {
      const select = get(`${side}-label`).querySelector("select");
      select.addEventListener("change", () => {
        choose(side, Number(select.value));
        focusSlider();
      });
    }
    addEventListener("pointerdown", () => { byPointer = true; }, true);
    addEventListener("keydown", () => { byPointer = false; }, true);
    document.addEventListener("click", (event) => {
      if (!event.target.closest("select, dialog")) focusSlider();
    });
    new ResizeObserver(layOut).observe(viewer);
    addEventListener("resize", layOut);
  }

  makeThumbnails();
  listen();
  describe();
  markThumbnail();
  loadAll(SIDES);
})();
