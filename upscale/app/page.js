"use strict";

/* Texts that come from files or from the server are only ever set as textContent. */
(() => {
  const get = (id) => document.getElementById(id);
  const BUSY_MS = 500;
  const IDLE_MS = 4000;
  const MOST_THUMBS = 60;
  const UPLOADS_AT_A_TIME = 3;
  const ACTIVE = ["queued", "running"];
  const SHOWN_BY_BROWSERS = /^image\/(png|jpeg|webp|gif|avif|bmp)$/;

  const staged = new Map(); // uploads by id: { id, name, size, is_video, file, place }
  const views = new Map(); // elements of the tasks by id
  let config = null;
  let uploading = 0;
  let places = 0; // files stay in the order in which they were dropped, not in that of arrival
  let lastStates = new Map();

  /* --- server ---------------------------------------------------------------------------- */

  async function call(method, address, body) {
    const options = { method, headers: {} };
    if (body !== undefined) {
      options.body = JSON.stringify(body);
      options.headers["Content-Type"] = "application/json";
    }
    let answer;
    try {
      answer = await fetch(address, options);
    } catch {
      throw new Error("The server does not answer. Is `upscale app` still running?");
    }
    const isJson = (answer.headers.get("content-type") ?? "").startsWith("application/json");
    const content = isJson ? await answer.json() : await answer.text();
    if (!answer.ok) throw new Error(isJson ? content.error : content || answer.statusText);
    return content;
  }

  const say = (text) => { get("status").textContent = text; };
  const fail = (error) => { get("form-error").textContent = error.message ?? String(error); };

  /* --- small things ---------------------------------------------------------------------- */

  function element(tag, properties = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  }

  function setText(target, text) {
    if (target.textContent !== text) target.textContent = text;
  }

  function bytes(size) {
    const units = ["bytes", "kB", "MB", "GB"];
    let step = 0;
    while (size >= 1000 && step < units.length - 1) { size /= 1000; step += 1; }
    return `${step ? size.toFixed(1) : size} ${units[step]}`;
  }

  function time(seconds) {
    const whole = Math.max(0, Math.round(seconds));
    if (whole < 60) return `${whole} s`;
    const minutes = Math.floor(whole / 60);
    return minutes < 60 ? `${minutes} min ${whole % 60} s`
      : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  }

  const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

  /* --- settings -------------------------------------------------------------------------- */

  function settings() {
    const values = {};
    const form = get("form");
    for (const name of ["model", "format", "container", "seamless", "existing"]) {
      values[name] = form.elements[name].value;
    }
    const format = config.formats.find((each) => each.name === values.format);
    if (!format || format.is_lossy) values.quality = get("quality").value;
    const kind = get("size-kind").value;
    if (kind) values[kind] = get("size-value").value;
    if (usesFidelity()) values.fidelity = get("fidelity").value;
    if (get("face").checked) {
      values.face = true;
      values.face_model = get("face_model").value;
      values.face_strength = get("face_strength").value;
    }
    for (const box of get("more").querySelectorAll("input:checked")) values[box.name] = true;
    values.folder = get("folder").value.trim();
    if (values.model === config.default_model) delete values.model;
    return values;
  }

  const usesFidelity = () => get("model").value === "auto" && !get("fidelity-auto").checked;

  function showSettings() {
    const model = config.models.find((each) => each.name === get("model").value);
    setText(get("purpose"), model ? model.purpose : "");
    get("fidelity-field").hidden = get("model").value !== "auto";
    get("fidelity").disabled = get("fidelity-auto").checked;
    setText(get("fidelity-value"), usesFidelity() ? get("fidelity").value : "");
    const kind = get("size-kind");
    get("size-field").hidden = !kind.value;
    setText(get("size-label"), kind.selectedOptions[0].textContent);
    const format = config.formats.find((each) => each.name === get("format").value);
    get("quality-field").hidden = Boolean(format) && !format.is_lossy;
    get("face-fields").hidden = !get("face").checked;
  }

  function fill(select, options) {
    for (const [value, label] of options) select.append(element("option", { value, textContent: label }));
  }

  function offer() {
    setText(get("version"), config.version);
    fill(get("model"), config.models.map(({ name, is_absent }) => [name, name + (is_absent ? " (download)" : "")]));
    get("model").value = config.default_model;
    fill(get("format"), config.formats.map(({ name, label }) => [name, label]));
    fill(get("container"), config.containers.map((name) => [name, name]));
    fill(get("face_model"), config.face_models.map((name) => [name, name]));
    get("face").disabled = !config.face_models.length;
    get("no-faces").hidden = Boolean(config.face_models.length);
    for (const { name, is_absent } of config.models) {
      const box = element("input", { type: "checkbox", value: name });
      const label = element("span", { textContent: name + (is_absent ? " (download)" : "") });
      get("compared").append(element("label", { className: "check" }, box, label));
    }
    get("folder").value = config.save_folder;
    if (!config.any_folder) {
      get("folder-field").hidden = !config.save_folder;
      get("folder").readOnly = true;
      setText(get("folder-hint"), "The folder that this server was started with.");
      get("results-section").hidden = !config.save_folder;
    } else {
      get("folder").placeholder = `empty: download; or ${config.home}`;
    }
  }

  /* --- command line ---------------------------------------------------------------------- */

  let commandTimer = 0;
  let commandNumber = 0;

  function changed() {
    showSettings();
    showStaged();
    clearTimeout(commandTimer);
    commandTimer = setTimeout(showCommand, 150);
  }

  async function showCommand() {
    const number = (commandNumber += 1);
    const uploads = ids();
    get("command-field").hidden = !uploads.length;
    if (!uploads.length) return;
    try {
      const { commands } = await call("POST", "/api/command", { settings: settings(), uploads });
      if (number !== commandNumber) return;
      setText(get("command"), commands.join("\n"));
      get("form-error").textContent = "";
    } catch (error) {
      if (number === commandNumber) fail(error);
    }
  }

  async function copy() {
    const text = get("command").textContent;
    try {
      await navigator.clipboard.writeText(text);
      say("The command is copied.");
    } catch {
      getSelection().selectAllChildren(get("command"));
      say("The command is selected: press Ctrl+C to copy it.");
    }
  }

  /* --- files ----------------------------------------------------------------------------- */

  /** Return the files of a drop with their paths, also those in folders. */
  async function dropped(transfer) {
    const entries = [...transfer.items].filter((item) => item.kind === "file")
      .map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile());
    const found = [];
    for (const entry of entries) await walk(entry, "", found);
    return found;
  }

  async function walk(entry, folder, found) {
    if (!entry) return;
    if (entry instanceof File) { found.push([entry, entry.name]); return; }
    if (entry.isFile) {
      const file = await new Promise((done, failed) => entry.file(done, failed));
      found.push([file, folder + entry.name]);
      return;
    }
    const reader = entry.createReader();
    for (;;) {
      const batch = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!batch.length) return;
      for (const each of batch) await walk(each, `${folder}${entry.name}/`, found);
    }
  }

  async function upload(files) {
    get("form-error").textContent = "";
    const sorted = [...files].sort(([, a], [, b]) => a.localeCompare(b, undefined, { numeric: true }));
    const waiting = sorted.map((file) => [...file, (places += 1)]);
    uploading += waiting.length;
    changed();
    const errors = [];
    const work = async () => {
      while (waiting.length) {
        const [file, name, place] = waiting.shift();
        try {
          await uploadOne(file, name, place);
        } catch (error) {
          errors.push(`${name}: ${error.message}`);
        }
        uploading -= 1;
        changed();
      }
    };
    await Promise.all(Array.from({ length: UPLOADS_AT_A_TIME }, work));
    if (errors.length) fail(errors.slice(0, 3).join(" — "));
    say(`${count(staged.size, "file")} ready.`);
  }

  async function uploadOne(file, name, place) {
    if (file.size > config.max_file_bytes) throw new Error("is larger than the server accepts");
    const safe = name.toWellFormed ? name.toWellFormed() : name;
    let answer;
    try {
      answer = await fetch(`/api/uploads?name=${encodeURIComponent(safe)}`, { method: "POST", body: file });
    } catch {
      throw new Error("the upload broke off: it may be too large, or the server has stopped");
    }
    const record = await answer.json().catch(() => ({ error: answer.statusText }));
    if (!answer.ok) throw new Error(record.error);
    staged.set(record.id, { ...record, file, place });
  }

  const inOrder = () => [...staged.values()].sort((a, b) => a.place - b.place);
  const ids = () => inOrder().map((each) => each.id);

  const rows = new Map();

  function showStaged() {
    for (const [id, row] of rows) {
      if (staged.has(id)) continue;
      if (row.address) URL.revokeObjectURL(row.address);
      row.item.remove();
      rows.delete(id);
    }
    inOrder().forEach((each, place) => {
      if (!rows.has(each.id)) rows.set(each.id, stagedRow(each));
      const { item } = rows.get(each.id);
      const list = get("staged");
      if (list.children[place] !== item) list.insertBefore(item, list.children[place] ?? null);
    });
    const left = uploading ? `, ${uploading} uploading…` : "";
    setText(get("staged-count"), `${count(staged.size, "file")}${left}`);
    get("staged-bar").hidden = !staged.size && !uploading;
    const start = get("start");
    start.disabled = !staged.size || uploading > 0;
    setText(start, staged.size ? `Upscale ${count(staged.size, "file")}` : "Upscale");
    get("preview").disabled = start.disabled;
  }

  function stagedRow(each) {
    const thumb = element("span", { className: "thumb", ariaHidden: "true" });
    let address = null;
    if (each.file && SHOWN_BY_BROWSERS.test(each.file.type) && rows.size < MOST_THUMBS) {
      address = URL.createObjectURL(each.file);
      const image = element("img", { src: address, alt: "", decoding: "async", loading: "lazy" });
      image.addEventListener("error", () => { thumb.textContent = "image"; });
      thumb.append(image);
    } else {
      thumb.textContent = each.is_video ? "video" : "image";
    }
    const remove = element("button", { type: "button", className: "quiet", textContent: "Remove" });
    remove.setAttribute("aria-label", `Remove ${each.name}`);
    remove.addEventListener("click", () => removeStaged([each.id]));
    const name = element("bdi", { className: "name", textContent: each.name });
    const size = element("span", { className: "size", textContent: bytes(each.size) });
    return { item: element("li", {}, thumb, name, size, remove), address };
  }

  async function removeStaged(removed) {
    get("form-error").textContent = "";
    for (const id of removed) {
      try {
        await call("DELETE", `/api/uploads/${id}`);
        staged.delete(id);
      } catch (error) {
        fail(error);
        break;
      }
    }
    changed();
    get("choose-files").focus();
  }

  /* --- tasks ----------------------------------------------------------------------------- */

  async function start(event) {
    event.preventDefault();
    get("start").disabled = true;
    try {
      expect(await call("POST", "/api/tasks", { settings: settings(), uploads: ids() }));
      staged.clear();
      get("form-error").textContent = "";
      say("The task is queued.");
      get("queue").focus();
    } catch (error) {
      fail(error);
    }
    changed();
    await poll();
  }

  async function preview() {
    const models = [...get("compared").querySelectorAll("input:checked")].map((box) => box.value);
    try {
      const body = { settings: { ...settings(), models }, uploads: ids() };
      expect(await call("POST", "/api/previews", body));
      get("form-error").textContent = "";
      say("The comparison is queued.");
    } catch (error) {
      fail(error);
    }
    await poll();
  }

  function title(task) {
    const names = task.files.map((file) => file.name);
    const rest = names.length > 1 ? ` and ${names.length - 1} more` : "";
    return `${task.kind === "preview" ? "Comparison: " : ""}${names[0]}${rest}`;
  }

  function button(text, action) {
    const made = element("button", { type: "button", className: "quiet", textContent: text });
    made.addEventListener("click", async () => {
      try { await action(); } catch (error) { fail(error); }
      await poll();
    });
    return made;
  }

  function taskView(task) {
    const act = (name) => () => call("POST", `/api/tasks/${task.id}/${name}`);
    const view = {
      item: element("li", { className: "task" }),
      heading: element("h3", {}, element("bdi", { textContent: title(task) })),
      state: element("span", { className: "state" }),
      progress: element("progress", { max: 1 }),
      facts: element("p", { className: "facts" }),
      error: element("p", { className: "error" }),
      notes: element("p", { className: "notes" }),
      files: element("ul"),
      rows: new Map(),
      cancel: button("Cancel", act("cancel")),
      resume: button("Resume", act("resume")),
      remove: button("Remove", () => removeTask(task)),
      archive: element("a", { className: "button quiet", textContent: "Download all", href: `/tasks/${task.id}/archive.zip` }),
      compare: button("Compare networks", () => show(title(task), `/tasks/${task.id}/comparison.html`)),
      copy: button("Copy command", async () => {
        await navigator.clipboard.writeText(task.command);
        say("The command is copied.");
      }),
    };
    view.progress.setAttribute("aria-label", `Progress of ${title(task)}`);
    for (const name of ["cancel", "resume", "remove", "copy", "compare"]) {
      view[name].setAttribute("aria-label", `${view[name].textContent}: ${title(task)}`);
    }
    view.item.append(
      element("div", { className: "row spread" }, view.heading, view.state),
      view.progress, view.facts, view.error, view.notes,
      element("div", { className: "row actions" }, view.cancel, view.resume, view.compare, view.archive, view.copy, view.remove),
      view.files,
    );
    return view;
  }

  async function removeTask(task) {
    await call("DELETE", `/api/tasks/${task.id}`);
    get("queue").focus();
  }

  function facts(task) {
    const { fraction, rate, remaining, unit, seconds } = task.progress;
    const finished = task.files.filter((file) => ["done", "skipped"].includes(file.state)).length;
    const parts = [];
    if (task.files.length > 1) parts.push(`${finished} of ${count(task.files.length, "file")}`);
    if (task.state === "running") {
      parts.push(`${Math.floor(fraction * 100)} %`);
      if (task.detail) parts.push(task.detail);
    }
    if (rate) parts.push(`${rate.toPrecision(3)} ${unit}/s`);
    if (task.state === "running" && remaining !== null) parts.push(`${time(remaining)} left`);
    if (!ACTIVE.includes(task.state) && seconds) parts.push(`in ${time(seconds)}`);
    if (task.folder) parts.push(`saved to ${task.folder}`);
    return parts.join(", ");
  }

  function updateTask(view, task) {
    const isActive = ACTIVE.includes(task.state);
    const failed = task.state.includes("failed");
    setText(view.state, task.is_cancelling && isActive ? "cancelling…" : task.state);
    view.state.className = `state ${failed ? "failed" : task.state === "done" ? "done" : ""}`;
    view.progress.value = task.state === "done" ? 1 : task.progress.fraction;
    view.progress.hidden = !isActive;
    setText(view.facts, facts(task));
    setText(view.error, task.error);
    setText(view.notes, task.notes.join("\n"));
    const hadFocus = view.item.contains(document.activeElement) ? document.activeElement : null;
    view.cancel.hidden = !isActive;
    view.cancel.disabled = task.is_cancelling;
    view.resume.hidden = isActive || task.state === "done";
    setText(view.resume, task.state === "cancelled" ? "Resume" : "Try again");
    view.resume.setAttribute("aria-label", `${view.resume.textContent}: ${title(task)}`);
    view.remove.hidden = task.state === "running";
    view.compare.hidden = !task.has_page;
    view.copy.hidden = !navigator.clipboard || !task.command;
    view.archive.hidden = isActive || task.files.filter((file) => file.output).length < 2;
    if (hadFocus && hadFocus.offsetParent === null) {
      [view.resume, view.compare, view.remove, view.cancel].find((each) => !each.hidden && !each.disabled)?.focus();
    }
    if (task.kind !== "preview") for (const file of task.files) updateFile(view, file);
  }

  function fileView(file) {
    const view = {
      item: element("li"),
      state: element("span", { className: "state" }),
      message: element("p", { className: "notes" }),
      notes: element("p", { className: "notes" }),
      compare: button("Compare", () => show(file.name, `/files/${file.id}/comparison.html`)),
      download: element("a", { className: "button quiet", textContent: "Download", href: `/files/${file.id}`, download: "" }),
    };
    view.compare.setAttribute("aria-label", `Compare before and after: ${file.name}`);
    view.download.setAttribute("aria-label", `Download ${file.name}`);
    view.item.append(
      element("div", { className: "row" }, element("bdi", { className: "name", textContent: file.name }),
              view.state, view.compare, view.download),
      view.message, view.notes,
    );
    return view;
  }

  function updateFile(task, file) {
    if (!task.rows.has(file.id)) {
      const made = fileView(file);
      task.rows.set(file.id, made);
      task.files.append(made.item);
    }
    const view = task.rows.get(file.id);
    setText(view.state, file.state);
    view.state.className = `state ${file.state}`;
    setText(view.message, file.message);
    view.message.className = file.state === "failed" ? "notes error" : "notes";
    setText(view.notes, file.notes.join("\n"));
    view.download.hidden = !file.output;
    if (file.output) view.download.download = file.output;
    view.compare.hidden = !file.output;
  }

  function announce(tasks) {
    for (const task of tasks) {
      const before = lastStates.get(task.id);
      if (before && before !== task.state && !ACTIVE.includes(task.state)) {
        say(`${title(task)}: ${task.state}`);
        if (task.has_page && task.kind === "preview") show(title(task), `/tasks/${task.id}/comparison.html`);
      }
    }
    lastStates = new Map(tasks.map((task) => [task.id, task.state]));
  }

  /** Remember new tasks, whose end is announced even if it comes before the next poll. */
  function expect(tasks) {
    for (const task of tasks) lastStates.set(task.id, "queued");
  }

  let pollTimer = 0;
  let pollNumber = 0;

  async function poll() {
    clearTimeout(pollTimer);
    const number = (pollNumber += 1);
    let isBusy = false;
    try {
      const tasks = (await call("GET", "/api/tasks")).reverse();
      if (number !== pollNumber) return; // a later poll is on its way
      isBusy = tasks.some((task) => ACTIVE.includes(task.state));
      showTasks(tasks);
      announce(tasks);
    } catch (error) {
      fail(error);
    }
    clearTimeout(pollTimer);
    pollTimer = setTimeout(poll, isBusy ? BUSY_MS : IDLE_MS);
  }

  function showTasks(tasks) {
    const list = get("tasks");
    const ids = new Set(tasks.map((task) => task.id));
    for (const [id, view] of views) {
      if (!ids.has(id)) { view.item.remove(); views.delete(id); }
    }
    get("empty").hidden = tasks.length > 0;
    tasks.forEach((task, place) => {
      if (!views.has(task.id)) views.set(task.id, taskView(task));
      const view = views.get(task.id);
      if (list.children[place] !== view.item) list.insertBefore(view.item, list.children[place] ?? null);
      updateTask(view, task);
    });
  }

  /* --- comparisons ----------------------------------------------------------------------- */

  function show(name, address) {
    const viewer = get("viewer");
    viewer.querySelector("iframe")?.remove();
    setText(get("viewer-title"), name);
    get("viewer-link").href = address;
    const frame = element("iframe", { src: address, title: `Comparison: ${name}` });
    frame.setAttribute("sandbox", "allow-scripts");
    viewer.append(frame);
    if (!viewer.open) viewer.showModal();
  }

  get("viewer").addEventListener("close", () => get("viewer").querySelector("iframe")?.remove());
  get("viewer-close").addEventListener("click", () => get("viewer").close());

  /* --- events ---------------------------------------------------------------------------- */

  function listen() {
    const drop = get("drop");
    get("choose-files").addEventListener("click", () => get("file-input").click());
    get("choose-folder").addEventListener("click", () => get("folder-input").click());
    for (const id of ["file-input", "folder-input"]) {
      get(id).addEventListener("change", async (event) => {
        const input = event.target;
        const files = [...input.files].map((file) => [file, file.webkitRelativePath || file.name]);
        input.value = "";
        await upload(files);
      });
    }
    addEventListener("dragover", (event) => { event.preventDefault(); drop.classList.add("over"); });
    addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
    addEventListener("drop", async (event) => {
      event.preventDefault();
      drop.classList.remove("over");
      try { await upload(await dropped(event.dataTransfer)); } catch (error) { fail(error); }
    });
    addEventListener("paste", (event) => {
      const files = [...(event.clipboardData?.files ?? [])];
      if (files.length) upload(files.map((file) => [file, file.name]));
    });
    get("form").addEventListener("input", changed);
    get("form").addEventListener("submit", start);
    get("preview").addEventListener("click", preview);
    get("remove-all").addEventListener("click", () => removeStaged(ids()));
    get("copy").addEventListener("click", copy);
  }

  (async () => {
    if (location.search) history.replaceState(null, "", "/"); // the token, which is a cookie by now
    try {
      config = await call("GET", "/api/config");
      for (const each of await call("GET", "/api/uploads")) staged.set(each.id, { ...each, place: (places += 1) });
    } catch (error) {
      fail(error);
      return;
    }
    offer();
    listen();
    changed();
    await poll();
    document.body.dataset.ready = "";
  })();
})();
