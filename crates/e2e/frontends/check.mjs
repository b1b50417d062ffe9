// Front ends as Serval serves them: node check.mjs BASE_URL WEBAPPS SCREENSHOTS
//
// Each file of each folder in WEBAPPS is asked for plainly, compressed, and with the tag of the answer; then a page of each is
// opened in a real browser. It ends with status 0 when all was as it should be, and otherwise says what was not. What a file's
// type should be is the word of another list than Serval's. The variable CHROMIUM names another browser than /usr/bin/chromium.

import assert from "node:assert/strict";
import { mkdir, readdir, readFile } from "node:fs/promises";
import http from "node:http";
import { extname, join, relative } from "node:path";
import { gunzipSync } from "node:zlib";
import mime from "mime-types";
import { chromium } from "playwright-core";

const [base, webapps, screenshots] = process.argv.slice(2);
assert.ok(screenshots, "usage: node check.mjs BASE_URL WEBAPPS SCREENSHOTS");

/** For everything that is waited for. */
const WITHIN = 30_000;
const AT_ONCE = 8;
/** What is shorter is sent as it is: the default of `bytes_min` in `[compression]`. */
const COMPRESSED_FROM = 2048;

/** Where Serval's type is another one than that of mime-db, and why. */
const TYPES = {
  cjs: "text/javascript", // application/node there, which no browser knows
  mts: "model/vnd.mts", // as registered; video/mp2t there
};

/** Text by its nature, so it becomes smaller. */
const isText = (type) => /^text\/|^application\/(javascript|json|manifest\+json|xml|wasm)$|^image\/svg\+xml$/.test(type);

// ---------------------------------------------------------------------------------------------------------------- files

/** As `assert.equal`, in one line. */
const same = (found, expected, what) => assert.ok(found === expected, `${what} is ${found}, not ${expected}`);

const agent = new http.Agent({ keepAlive: true, maxSockets: AT_ONCE });

function get(path, headers = {}) {
  return new Promise((resolve, reject) => {
    const request = http.get(base + path, { agent, headers, timeout: WITHIN }, (answer) => {
      const pieces = [];
      answer.on("data", (piece) => pieces.push(piece));
      answer.on("error", reject);
      answer.on("end", () => resolve({ status: answer.statusCode, headers: answer.headers, body: Buffer.concat(pieces) }));
    });
    request.on("timeout", () => request.destroy(new Error(`${path}: no answer`)));
    request.on("error", reject);
  });
}

async function checkFile(file) {
  const name = relative(webapps, file).replace(/^ROOT\//, "");
  const path = "/" + name.split("/").map(encodeURIComponent).join("/");
  const bytes = await readFile(file);
  const plain = await get(path);
  same(plain.status, 200, "the status");
  assert.ok(plain.body.equals(bytes), `${plain.body.length} bytes came, which are not the ${bytes.length} of the file`);
  same(plain.headers["content-encoding"], undefined, "the coding of a plain answer");

  const extension = extname(file).slice(1).toLowerCase();
  const expected = extension in TYPES ? TYPES[extension] : mime.lookup(extension) || undefined;
  const [type, charset] = (plain.headers["content-type"] ?? "").split("; ");
  same(type || undefined, expected, "the type");
  if (/^text\/(?!xml)/.test(type)) same(charset, "charset=utf-8", `the parameter of ${type}`);

  const smaller = isText(type) && bytes.length >= COMPRESSED_FROM;
  const packed = await get(path, { "accept-encoding": "gzip" });
  same(packed.status, 200, "the status when compressed");
  same(packed.headers["content-encoding"], smaller ? "gzip" : undefined, `the coding of ${type}`);
  const unpacked = smaller ? gunzipSync(packed.body) : packed.body;
  assert.ok(unpacked.equals(bytes), "what came compressed is not the file");
  same(packed.headers["content-type"], plain.headers["content-type"], "the type when compressed");
  if (smaller) {
    assert.ok(packed.body.length < bytes.length, "it did not become smaller");
    for (const { headers } of [plain, packed]) assert.match(headers.vary ?? "", /accept-encoding/i, "Vary");
  }
  for (const [answer, headers] of [[plain, {}], [packed, { "accept-encoding": "gzip" }]]) {
    const again = await get(path, { ...headers, "if-none-match": answer.headers.etag });
    same(again.status, 304, `the status with If-None-Match: ${answer.headers.etag}`);
    same(again.body.length, 0, "the length of a 304");
  }
  return { bytes: bytes.length, sent: packed.body.length };
}

async function checkFiles() {
  const entries = await readdir(webapps, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  const total = { bytes: 0, sent: 0 };
  const wrong = new Map(); // files, by what is wrong with them
  const left = [...files];
  const work = async () => {
    for (let file; (file = left.pop()); ) {
      try {
        const { bytes, sent } = await checkFile(file);
        total.bytes += bytes;
        total.sent += sent;
      } catch (error) {
        const others = wrong.get(error.message) ?? [];
        wrong.set(error.message, [...others, relative(webapps, file)]);
      }
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, work));
  agent.destroy();
  const mib = (bytes) => `${(bytes / 1024 / 1024).toFixed(1)} MiB`;
  console.log(`${files.length} files, ${mib(total.bytes)}, ${mib(total.sent)} when compressed`);
  for (const [message, [first, ...others]] of wrong) console.error(`  ${first} and ${others.length} more: ${message}`);
  return wrong.size === 0 && files.length > 0;
}

// ---------------------------------------------------------------------------------------------------------------- pages

/** What each page has to show, by its path. */
const pages = {
  async "/swagger-ui/"(page) {
    await page.locator(".opblock").nth(1).waitFor();
    assert.equal(await page.locator(".opblock").count(), 2);
    await page.locator("#operations-default-description").click();
    await page.getByRole("button", { name: "Try it out" }).click();
    await page.getByRole("button", { name: "Execute" }).click();
    const answer = page.locator(".live-responses-table .response");
    await answer.locator(".response-col_status", { hasText: "200" }).waitFor();
    await answer.locator("code", { hasText: "Two files of this site, as an API." }).waitFor();
  },

  async "/mathjax/"(page) {
    await page.waitForFunction(() => globalThis.MathJax?.startup?.promise);
    await page.evaluate(() => MathJax.startup.promise);
    for (const id of ["plain", "fraktur"]) {
      const box = await page.locator(`#${id} mjx-container mjx-math`).boundingBox();
      assert.ok(box.width > 60 && box.height > 15, `#${id} is ${box.width} px by ${box.height} px`);
    }
    const fonts = await fontsOf(page);
    assert.ok(fonts.filter((font) => font.startsWith("MJX")).length >= 2, `only these fonts are loaded: ${fonts}`);
  },

  async "/reveal.js/"(page) {
    const shown = (text) => page.locator("section.present", { hasText: text }).waitFor();
    await shown("Slide 1");
    await page.keyboard.press("ArrowRight");
    await shown("Slide 2");
    await page.waitForURL("**/#/1");
    const fonts = await fontsOf(page);
    assert.ok(fonts.includes("Source Sans Pro"), `only these fonts are loaded: ${fonts}`);
  },

  async "/monaco-editor/"(page) {
    await page.waitForFunction(() => globalThis.monaco?.editor.getModelMarkers({}).length >= 2);
    const found = await page.evaluate(() => monaco.editor.getModelMarkers({}).map(({ owner, message }) => [owner, message]));
    const messages = Object.fromEntries(found);
    assert.match(messages.json, /Value expected/);
    assert.equal(messages.typescript, "Type 'number' is not assignable to type 'string'.");
    assert.ok(page.workers().length >= 2, `${page.workers().length} workers run`);
    assert.ok((await page.locator("#typescript .mtk6").count()) > 0, "keywords have a colour");
    assert.ok((await fontsOf(page)).includes("codicon"), "the icons' font is loaded");
  },
};

const fontsOf = (page) =>
  page.evaluate(async () => {
    await document.fonts.ready;
    const loaded = [...document.fonts].filter((font) => font.status === "loaded");
    return loaded.map((font) => font.family.replaceAll('"', ""));
  });

async function checkPage(browser, path, check) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 800 } });
  context.setDefaultTimeout(WITHIN);
  const page = await context.newPage();
  const wrong = [];
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) wrong.push(`the console: ${message.text()}`);
  });
  page.on("pageerror", (error) => wrong.push(`${error}`));
  context.on("requestfailed", (request) => wrong.push(`${request.url()}: ${request.failure()?.errorText}`));
  context.on("response", (answer) => answer.status() >= 400 && wrong.push(`${answer.url()}: ${answer.status()}`));
  context.on("request", (request) => {
    const inside = [base, "data:", "blob:"].some((start) => request.url().startsWith(start));
    if (!inside) wrong.push(`it asks elsewhere: ${request.url()}`);
  });
  try {
    await page.goto(base + path);
    await check(page);
    assert.deepEqual(wrong, []);
    console.log(`${path}: rendered, without an error`);
    return true;
  } catch (error) {
    console.error(`${path}: ${error.message}`);
    wrong.forEach((line) => console.error(`  ${line}`));
    return false;
  } finally {
    const name = path.replaceAll("/", "");
    await page.screenshot({ path: join(screenshots, `front-end-${name}.png`) }).catch(() => {});
    await context.close();
  }
}

async function checkPages() {
  await mkdir(screenshots, { recursive: true });
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox"],
  });
  let right = true;
  for (const [path, check] of Object.entries(pages)) right = (await checkPage(browser, path, check)) && right;
  await browser.close();
  return right;
}

const right = [await checkFiles(), await checkPages()];
process.exitCode = right.every(Boolean) ? 0 : 1;
