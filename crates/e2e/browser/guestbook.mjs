// The guestbook in a real browser: node guestbook.mjs BASE_URL LIBRARY SCREENSHOTS
//
// Two visitors, each in a browser of their own, with a reload of the servlet library in between. It ends with status
// 0 when all was as it should be, and otherwise says what was not. LIBRARY is the .so that the server has loaded: it
// is replaced; `-`: somebody else replaces it again and again. SCREENSHOTS is a folder for pictures of the page. The
// variable CHROMIUM names another browser than /usr/bin/chromium.

import assert from "node:assert/strict";
import { appendFile, copyFile, mkdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { chromium } from "playwright-core";

const [base, library, screenshots] = process.argv.slice(2);
assert.ok(screenshots, "usage: node guestbook.mjs BASE_URL LIBRARY SCREENSHOTS");

/** For everything that is waited for; a reload is the longest. */
const WITHIN = 30_000;
const PHONE = { width: 360, height: 740 };
const DESK = { width: 1400, height: 900 };
/** One pixel. */
const GIF = Buffer.from("R0lGODlhAQABAIAAAP///wAAACH5BAEAAAAALAAAAAABAAEAAAICRAEAOw==", "base64");

const wrong = []; // what no page may say or do
let over = false; // then pages are closed, and what they were asking for is broken off

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});

async function visit(name, options) {
  const context = await browser.newContext({ viewport: DESK, ...options });
  context.setDefaultTimeout(WITHIN);
  const page = await context.newPage();
  page.on("console", (message) => {
    // A browser reports each refusal as an error; those that are asked for here are part of the test.
    const refusal = /status of (403|413|415|422)/.test(message.text());
    if (["error", "warning"].includes(message.type()) && !refusal) wrong.push(`${name}: ${message.text()}`);
  });
  page.on("pageerror", (error) => wrong.push(`${name}: ${error}`));
  page.on("requestfailed", (request) => {
    const why = request.failure()?.errorText;
    // A page that is left breaks its stream off; one that the server cuts has another error.
    const left = why === "net::ERR_ABORTED" && request.url().includes("/api/events");
    if (!over && !left) wrong.push(`${name}: ${request.method()} ${request.url()}: ${why}`);
  });
  page.on("dialog", (dialog) => {
    wrong.push(`${name}: a dialog says ${dialog.message()}`);
    dialog.dismiss();
  });
  await page.goto(base);
  await live(page);
  return page;
}

const live = (page) => page.waitForSelector('#live[data-state="live"]');
/** What is written now has the number of this run in it: the guestbook may have entries of others, and of former runs. */
const run = String(Date.now()).slice(-5);
const entry = (page, message) => page.locator(".entry", { hasText: message }).filter({ hasText: run });

async function sign(page, name, message) {
  await page.getByLabel("Your name").fill(name);
  await page.getByLabel("Your message").fill(message);
  await page.getByRole("button", { name: "Sign the guestbook" }).click();
}

/** A photo, which a camera would have made. */
async function photo(page) {
  const data = await page.evaluate(() => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 1800, height: 1200 });
    const context = canvas.getContext("2d");
    const sky = context.createLinearGradient(0, 0, 0, 1200);
    [[0, "#f6c177"], [0.55, "#c8553d"], [1, "#2d3047"]].forEach(([at, colour]) => sky.addColorStop(at, colour));
    context.fillStyle = sky;
    context.fillRect(0, 0, 1800, 1200);
    context.fillStyle = "#ffe8c2";
    context.arc(1250, 520, 130, 0, 7);
    context.fill();
    context.fillStyle = "#1b1a2e";
    context.fill(new Path2D("M0 900L520 560L980 960L1400 700L1800 940V1200H0z"));
    return canvas.toDataURL("image/jpeg").split(",")[1];
  });
  return { name: "sunset.jpg", mimeType: "image/jpeg", buffer: Buffer.from(data, "base64") };
}

/** A new version takes its place at once, as with mv; what follows the end of an ELF file is not looked at. */
async function replaceLibrary() {
  if (library === "-") return;
  const beside = `${library}.next`;
  await copyFile(library, beside);
  await appendFile(beside, `\n${Date.now()}`);
  await rename(beside, library);
}

async function shoot(page, name) {
  const width = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
  assert.equal(width, 0, `${name}: the page is ${width} px wider than its window`);
  await page.screenshot({ path: join(screenshots, `guestbook-${name}.png`), animations: "disabled" });
}

const steps = {
  async "an entry with a picture appears in the other browser"() {
    await ada.setInputFiles("#picture", await photo(ada));
    await ada.locator("#preview").waitFor();
    await sign(ada, "Ada", `Hello <b>everybody</b>, ${run}\n<img src=x onerror=alert(1)>`);
    await entry(bob, "Hello <b>everybody</b>").waitFor();
    const picture = entry(bob, "Hello").locator(".picture img");
    await picture.scrollIntoViewIfNeeded();
    await bob.waitForFunction((image) => image.complete && image.naturalWidth > 0, await picture.elementHandle());
    // Drawn anew by the page, no larger than it is looked at.
    assert.equal(await picture.evaluate((image) => image.naturalWidth), 1600);
    assert.equal(await bob.locator(".entry b").count(), 0, "a message is text");
  },

  async "the form is ready for the next entry, and the name stays"() {
    await ada.waitForFunction(() => document.getElementById("message").value === "");
    assert.equal(await ada.getByLabel("Your name").inputValue(), "Ada");
    assert.ok(await ada.locator("#preview").isHidden());
  },

  async "it is the own entry of who wrote it, and of nobody else"() {
    await entry(ada, "Hello").locator(".own").waitFor();
    assert.ok(await entry(bob, "Hello").locator(".own").isHidden());
    assert.ok(await entry(bob, "Hello").locator(".delete").isHidden());
    const id = await entry(bob, "Hello").getAttribute("data-id");
    const refusal = await bob.evaluate(async (id) => {
      const answer = await fetch(`api/entries/${id}`, { method: "DELETE" });
      return [answer.status, (await answer.json()).error];
    }, id);
    assert.deepEqual(refusal, [403, "This entry is somebody else's."]);
    assert.equal(await entry(bob, "Hello").count(), 1);
  },

  async "a picture is shown large, and closed by Escape"() {
    await entry(bob, "Hello").getByRole("button", { name: "Enlarge the picture by Ada" }).click();
    await bob.locator("dialog[open]").waitFor();
    await shoot(bob, "viewer");
    await bob.keyboard.press("Escape");
    await bob.locator("dialog").waitFor({ state: "hidden" });
  },

  async "what cannot be sent is said beside the field"() {
    await bob.getByRole("button", { name: "Sign the guestbook" }).click();
    assert.equal(await bob.locator("#name-error").textContent(), "Please say who you are.");
    const focused = await bob.evaluate(() => document.activeElement.id);
    assert.equal(focused, "name");
    const notes = Buffer.from("no picture");
    await bob.setInputFiles("#picture", { name: "notes.png", mimeType: "image/png", buffer: notes });
    await bob.locator("#picture-error", { hasText: "cannot be shown" }).waitFor();
    const huge = Buffer.concat([GIF, Buffer.alloc(3 * 1024 * 1024)]);
    await bob.setInputFiles("#picture", { name: "huge.gif", mimeType: "image/gif", buffer: huge });
    await bob.locator("#picture-error", { hasText: "too large (3.0 MB)" }).waitFor();
    await shoot(bob, "wrong");
  },

  async "what the server refuses is said in its words, and nothing is lost"() {
    await sign(bob, "Bob", "A bell \u0007 rings");
    await bob.locator("#form-error", { hasText: "characters that cannot be shown" }).waitFor();
    assert.equal(await bob.getByLabel("Your message").inputValue(), "A bell \u0007 rings");
    await bob.getByLabel("Your message").fill("");
    const refusals = await bob.evaluate(async () => {
      const send = async (picture) => {
        const form = new FormData();
        form.append("name", "Bob");
        form.append("message", "Look");
        form.append("picture", picture, "picture.png");
        const answer = await fetch("api/entries", { method: "POST", body: form });
        return [answer.status, (await answer.json()).error];
      };
      return [await send(new Blob(["no picture"])), await send(new Blob([new Uint8Array(2.5 * 1024 * 1024)]))];
    });
    assert.deepEqual(refusals, [
      [415, "This file is no picture that can be shown here: JPEG, PNG, GIF or WebP."],
      [413, "This picture is too large. It may have at most 2 MB."],
    ]);
  },

  async "streams end with their generation and connect again by themselves"() {
    const reconnecting = [ada, bob].map((page) => page.waitForSelector('#live[data-state="reconnecting"]'));
    await replaceLibrary();
    await Promise.all(reconnecting);
    await Promise.all([ada, bob].map(live));
  },

  async "after the reload an entry still appears, and it is still known who wrote what"() {
    await sign(ada, "Ada", `After the reload, ${run}`);
    await entry(bob, "After the reload").waitFor();
    await ada.reload();
    await live(ada);
    assert.equal(await ada.getByLabel("Your name").inputValue(), "Ada");
    const own = await ada.locator(".entry[data-own] h3").allTextContents();
    assert.deepEqual(own, ["Ada", "Ada"]);
  },

  async "an entry that is taken back disappears everywhere"() {
    const button = entry(ada, "After the reload").locator(".delete");
    await button.click();
    await button.click();
    await entry(bob, "After the reload").waitFor({ state: "detached" });
    await entry(ada, "After the reload").waitFor({ state: "detached" });
    assert.equal(await entry(ada, "Hello").count(), 1);
  },

  async "it fits a phone and a desk, by day and by night"() {
    const messages = ["What a lovely place", "Greetings from Köln,\n\nà bientôt", "supercalifragilistic".repeat(9)];
    for (const message of messages) {
      await sign(bob, "Bob", `${message} ${run}`);
      await entry(ada, message.slice(0, 9)).waitFor();
    }
    for (const colorScheme of ["light", "dark"]) {
      await ada.emulateMedia({ colorScheme });
      for (const [name, size] of Object.entries({ phone: PHONE, desk: DESK, narrow: { width: 320, height: 640 } })) {
        await ada.setViewportSize(size);
        await ada.evaluate(() => scrollTo(0, 0));
        await shoot(ada, `${name}-${colorScheme}`);
        await entry(ada, "Hello").scrollIntoViewIfNeeded();
        await shoot(ada, `${name}-${colorScheme}-entries`);
      }
    }
  },
};

await mkdir(screenshots, { recursive: true });
let ada, bob;
try {
  ada = await visit("Ada");
  await shoot(ada, "empty");
  bob = await visit("Bob", { hasTouch: true });
  for (const [name, step] of Object.entries(steps)) {
    await step().catch((error) => { throw new Error(`${name}: ${error.message}`, { cause: error }); });
    console.log(`ok: ${name}`);
  }
  assert.deepEqual(wrong, [], "the pages or their requests had errors");
  over = true;
} catch (error) {
  over = true;
  console.error(`not ok: ${error.message}`);
  for (const line of wrong) console.error(`  ${line}`);
  await ada?.screenshot({ path: join(screenshots, "guestbook-failed-ada.png") }).catch(() => {});
  await bob?.screenshot({ path: join(screenshots, "guestbook-failed-bob.png") }).catch(() => {});
  process.exitCode = 1;
}
await browser.close();
