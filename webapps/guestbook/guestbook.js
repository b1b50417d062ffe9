// The guestbook's page. It asks for who one is and for the newest entries, and then listens for what happens.
// All addresses are relative, so it works wherever the webapp is mounted. All texts are put in as text, never as HTML.

const PICTURE_BYTES_MAX = 2 * 1024 * 1024; // as the server has them
const MESSAGE_LEN_MAX = 2000;
const PICTURE_TYPES = ["image/png", "image/gif", "image/webp"]; // and JPEG, which is drawn anew
const PICTURE_SIDE_MAX = 1600; // pixels; more would not be seen
const RETRY_FIRST = 500; // milliseconds
const RETRY_LAST = 10_000;

const at = (id) => document.getElementById(id);
const form = at("form"), nameField = at("name"), messageField = at("message"), list = at("entries");

// ---------------------------------------------------------------------------------------------- the list

let count = 0;
let change = 0; // the last one that is in the list
const gone = new Set(); // what was deleted while this page is open

function show(entry, fresh) {
  const there = at(`entry-${entry.id}`);
  if (there) {
    // The answer to one's own entry and its event come in any order; the event may not know yet whose it is.
    if (entry.own) there.dataset.own = "";
    return;
  }
  const item = at("entry").content.firstElementChild.cloneNode(true);
  const find = (selector) => item.querySelector(selector);
  item.id = `entry-${entry.id}`;
  item.dataset.id = entry.id;
  if (entry.own) item.dataset.own = "";
  if (fresh) item.classList.add("fresh");
  find("h3").textContent = entry.name;
  find(".message").textContent = entry.message;
  find(".initial").textContent = initial(entry.name);
  find(".initial").style.setProperty("--hue", hue(entry.name));
  const written = new Date(entry.written);
  const time = find("time");
  time.dateTime = written.toISOString();
  time.title = written.toLocaleString();
  time.textContent = ago(written);
  if (entry.picture) {
    const { url, width, height } = entry.picture;
    const image = find(".picture img");
    Object.assign(image, { width, height, alt: `Picture by ${entry.name}`, src: url });
    find(".picture").classList.toggle("small", width < 600);
    find(".picture").setAttribute("aria-label", `Enlarge the picture by ${entry.name}`);
  } else {
    find(".picture").remove();
  }
  find(".delete").setAttribute("aria-label", `Delete your entry: ${entry.message.slice(0, 40)}`);
  // Newest first, whatever order they come in.
  const next = [...list.children].find((other) => Number(other.dataset.id) < entry.id);
  list.insertBefore(item, next ?? null);
}

function hide(id) {
  const item = at(`entry-${id}`);
  gone.add(id);
  if (!item) return;
  if (item.contains(document.activeElement)) at("book-title").focus();
  item.removeAttribute("id");
  item.classList.add("leaving");
  setTimeout(() => item.remove(), 200);
}

function oldest() {
  return Math.min(...[...list.children].map((item) => Number(item.dataset.id)));
}

function tell() {
  at("book-title").textContent = count === 0 ? "Entries" : count === 1 ? "1 entry" : `${count} entries`;
  at("empty").hidden = count > 0;
}

const UNITS = Object.entries({ year: 31_536_000, month: 2_592_000, week: 604_800, day: 86_400, hour: 3600, minute: 60 });
const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });

function ago(date) {
  const seconds = (Date.now() - date) / 1000;
  const unit = UNITS.find(([, length]) => seconds >= length);
  return unit ? words.format(-Math.floor(seconds / unit[1]), unit[0]) : "just now";
}

setInterval(() => {
  for (const time of list.querySelectorAll("time")) time.textContent = ago(new Date(time.dateTime));
}, 30_000);

const initial = (name) => [...name][0].toUpperCase();
const hue = (name) => [...name].reduce((sum, char) => (sum * 31 + char.codePointAt(0)) % 360, 7);

// ---------------------------------------------------------------------------------------------- asking the server

const UNREACHED = "The guestbook cannot be reached just now. Please try again.";

/** Returns the answer's JSON, or throws an Error with what to tell. */
async function ask(address, options) {
  const answer = await fetch(address, options).catch(() => { throw new Error(UNREACHED); });
  const text = await answer.text().catch(() => { throw new Error(UNREACHED); });
  if (answer.status === 204) return null;
  const value = parse(text);
  if (answer.ok && value) return value;
  throw Object.assign(new Error(value?.error ?? UNREACHED), { status: answer.status });
}

/** The error page of a server that cannot answer is not JSON. */
function parse(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Reads the list anew. */
async function begin() {
  const page = await ask("api/entries");
  list.replaceChildren();
  ({ count, change } = page);
  for (const entry of page.entries) show(entry, false);
  at("older").hidden = !page.more;
  list.setAttribute("aria-busy", "false");
  at("list-error").textContent = "";
  tell();
}

at("older").addEventListener("click", async () => {
  try {
    const page = await ask(`api/entries?before=${oldest()}`);
    for (const entry of page.entries) show(entry, false);
    at("older").hidden = !page.more;
    at("list-error").textContent = "";
  } catch (wrong) {
    at("list-error").textContent = wrong.message;
  }
});

// ---------------------------------------------------------------------------------------------- live

let stream = null;
let retry = RETRY_FIRST;
let timer = 0;

function state(name, text) {
  const live = at("live");
  if (live.dataset.state === name) return;
  live.dataset.state = name;
  live.textContent = text;
}

function listen() {
  clearTimeout(timer);
  stream?.close();
  stream = new EventSource(`api/events?after=${change}`);
  stream.onopen = () => {
    retry = RETRY_FIRST;
    state("live", "Live");
  };
  stream.onerror = () => {
    state("reconnecting", "Reconnecting…");
    // When a stream ends, the browser connects again by itself. Not so when the server says no, as while it builds.
    if (stream.readyState === EventSource.CLOSED) again(listen);
  };
  stream.addEventListener("entry", (event) => {
    change = Number(event.lastEventId);
    const entry = JSON.parse(event.data);
    if (at(`entry-${entry.id}`) === null) {
      count += 1;
      at("news").textContent = entry.own ? "" : `New entry by ${entry.name}: ${entry.message}`;
    }
    show(entry, true);
    tell();
  });
  stream.addEventListener("deleted", (event) => {
    change = Number(event.lastEventId);
    const id = Number(event.data);
    // One that was never shown here was written and deleted while we were away.
    if (!gone.has(id) && (at(`entry-${id}`) || id < oldest())) count -= 1;
    hide(id);
    tell();
  });
  stream.addEventListener("reset", open);
}

function again(what) {
  clearTimeout(timer);
  timer = setTimeout(what, retry);
  retry = Math.min(retry * 2, RETRY_LAST);
}

async function open() {
  stream?.close();
  try {
    // Before the rest: it begins the session, without which nobody knows which entries are one's own.
    const me = await ask("api/me");
    nameField.value ||= me.name;
    await begin();
    listen();
  } catch (wrong) {
    state("reconnecting", "Reconnecting…");
    at("list-error").textContent = wrong.message;
    again(open);
  }
}

// A browser has few connections for each server, and a page that nobody sees needs none.
document.addEventListener("visibilitychange", () => {
  if (stream === null || list.getAttribute("aria-busy") === "true") return;
  if (document.hidden) {
    stream.close();
    clearTimeout(timer);
    state("paused", "Paused");
  } else if (stream.readyState === EventSource.CLOSED) {
    listen();
  }
});

// ---------------------------------------------------------------------------------------------- the form

let picture = null;

function wrong(field, text) {
  at(`${field}-error`).textContent = text;
  at(field).setAttribute("aria-invalid", text ? "true" : "false");
}

const length = (text) => [...text.replaceAll("\r\n", "\n").trim()].length;

function checkName() {
  wrong("name", length(nameField.value) > 0 ? "" : "Please say who you are.");
}

function checkMessage() {
  const over = length(messageField.value) - MESSAGE_LEN_MAX;
  wrong("message", over > 0 ? `That is ${over} too many.` : over > -MESSAGE_LEN_MAX ? "" : "Please write a few words.");
}

function tellLength() {
  const written = length(messageField.value);
  at("message-count").textContent = `${written} of ${MESSAGE_LEN_MAX}`;
  at("message-count").classList.toggle("over", written > MESSAGE_LEN_MAX);
}

// What is wrong is said when it is sent, and taken back as soon as it is right.
nameField.addEventListener("input", () => nameField.ariaInvalid === "true" && checkName());
messageField.addEventListener("input", () => {
  tellLength();
  if (messageField.ariaInvalid === "true") checkMessage();
});
messageField.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) form.requestSubmit();
});

at("picture").addEventListener("change", (event) => choose(event.target.files[0]));
messageField.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find(({ type }) => type.startsWith("image/"));
  if (file) {
    event.preventDefault();
    choose(file);
  }
});
form.addEventListener("dragover", (event) => {
  if (!event.dataTransfer.types.includes("Files")) return;
  event.preventDefault();
  form.classList.add("over");
});
form.addEventListener("dragleave", () => form.classList.remove("over"));
form.addEventListener("drop", (event) => {
  form.classList.remove("over");
  if (event.dataTransfer.files.length === 0) return;
  event.preventDefault();
  choose(event.dataTransfer.files[0]);
});
at("picture-remove").addEventListener("click", () => {
  drop();
  at("picture").focus();
});

async function choose(file) {
  if (!file) return;
  drop();
  const chosen = await fit(file);
  if (!chosen) {
    wrong("picture", "This file cannot be shown as a picture, so it was not added.");
    return;
  }
  if (chosen.size > PICTURE_BYTES_MAX) {
    const [is, limit] = [size(chosen.size), size(PICTURE_BYTES_MAX)];
    wrong("picture", `This picture is too large (${is}), so it was not added. It may have at most ${limit}.`);
    return;
  }
  picture = chosen;
  at("preview-image").src = URL.createObjectURL(chosen);
  at("preview-name").textContent = file.name;
  at("preview-size").textContent = size(chosen.size);
  at("preview").hidden = false;
  at("picture-label").hidden = true;
}

function drop() {
  if (picture) URL.revokeObjectURL(at("preview-image").src);
  picture = null;
  at("picture").value = "";
  at("preview").hidden = true;
  at("picture-label").hidden = false;
  wrong("picture", "");
}

/**
 * Draws a photo anew, no larger than it is looked at: a camera's file is too large to be sent, and it tells where it
 * was taken; the new one does not. What is small stays as it is, and so do GIFs, since they may move. null: it is no
 * picture.
 */
async function fit(file) {
  const image = await createImageBitmap(file).catch(() => null);
  if (!image) return null;
  const scale = Math.min(1, PICTURE_SIDE_MAX / Math.max(image.width, image.height));
  const small = scale === 1 && file.size <= PICTURE_BYTES_MAX;
  if (file.type === "image/gif" || (small && PICTURE_TYPES.includes(file.type))) return file;
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.width * scale));
  canvas.height = Math.max(1, Math.round(image.height * scale));
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff"; // what is transparent would be black
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  image.close();
  return new Promise((done) => canvas.toBlob(done, "image/jpeg", 0.86));
}

function size(bytes) {
  const kib = bytes / 1024;
  return kib < 1024 ? `${Math.ceil(kib)} KB` : `${(kib / 1024).toFixed(kib % 1024 ? 1 : 0)} MB`;
}

/** As `ask`, but tells how far it is, which fetch cannot. */
function send(data) {
  return new Promise((done, fail) => {
    const request = new XMLHttpRequest();
    request.open("POST", "api/entries");
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => { at("progress").value = total ? loaded / total : 0; };
    request.onload = () => {
      if (request.status === 201 && request.response) done(request.response);
      else fail(new Error(request.response?.error ?? UNREACHED));
    };
    request.onerror = () => fail(new Error(UNREACHED));
    request.send(data);
  });
}

let sending = false;

form.addEventListener("submit", async (event) => {
  event.preventDefault();
  if (sending) return;
  checkName();
  checkMessage();
  at("form-error").textContent = "";
  const first = form.querySelector('[aria-invalid="true"]:not([type="file"])');
  if (first) {
    first.focus();
    return;
  }
  const data = new FormData();
  data.append("name", nameField.value);
  data.append("message", messageField.value);
  if (picture) data.append("picture", picture, "picture");
  sending = true;
  at("send").setAttribute("aria-disabled", "true");
  at("send").textContent = "Sending…";
  at("progress").hidden = !picture;
  at("progress").value = 0;
  try {
    const entry = await send(data);
    if (at(`entry-${entry.id}`) === null) count += 1;
    show(entry, true);
    tell();
    messageField.value = "";
    tellLength();
    drop();
    at("news").textContent = "Your entry is in the guestbook.";
  } catch (failed) {
    at("form-error").textContent = failed.message;
  }
  sending = false;
  at("send").removeAttribute("aria-disabled");
  at("send").textContent = "Sign the guestbook";
  at("progress").hidden = true;
});

// ---------------------------------------------------------------------------------------------- on entries

const viewer = at("viewer");
let sure = 0;

list.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const item = button.closest(".entry");
  if (button.classList.contains("picture")) {
    const { src, alt } = button.querySelector("img");
    Object.assign(at("viewer-image"), { src, alt });
    viewer.showModal();
    return;
  }
  // Deleting asks once: the button itself.
  if (!button.classList.contains("sure")) {
    button.classList.add("sure");
    button.textContent = "Really delete?";
    button.dataset.label = button.ariaLabel;
    button.ariaLabel = "Really delete?";
    clearTimeout(sure);
    sure = setTimeout(() => calm(button), 5000);
    return;
  }
  calm(button);
  try {
    await ask(`api/entries/${item.dataset.id}`, { method: "DELETE" });
  } catch (failed) {
    if (failed.status !== 404) {
      at("list-error").textContent = failed.message;
      return;
    }
  }
  const id = Number(item.dataset.id);
  if (!gone.has(id)) {
    count -= 1;
    hide(id);
    tell();
  }
});

list.addEventListener("focusout", ({ target }) => target.classList.contains("sure") && calm(target));

function calm(button) {
  clearTimeout(sure);
  if (!button.classList.contains("sure")) return;
  button.classList.remove("sure");
  button.textContent = "Delete";
  button.ariaLabel = button.dataset.label;
}

viewer.addEventListener("click", () => viewer.close());

tellLength();
open();
