// `serval dev` in a real browser: node dev.mjs URL SOURCE
//
// URL is a page that the servlet in SOURCE answers with its VERSION. It is edited as somebody would who develops; the page is never
// reloaded by hand. It ends with status 0 when all was as it should be, and otherwise says what was not.

import assert from "node:assert/strict";
import { readFile, rename, writeFile } from "node:fs/promises";
import { chromium } from "playwright-core";

const [url, source] = process.argv.slice(2);
assert.ok(source, "usage: node dev.mjs URL SOURCE");
/** For everything that is waited for; a build is the longest. */
const WITHIN = 60_000;

const good = await readFile(source, "utf8");
async function edit(text) {
  await writeFile(`${source}.tmp`, text);
  await rename(`${source}.tmp`, source);
}
const version = (number) => edit(good.replace('"version 1"', `"version ${number}"`));

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});
const wrong = [];
try {
  const page = await browser.newPage();
  page.setDefaultTimeout(WITHIN);
  page.on("pageerror", (error) => wrong.push(String(error)));
  page.on("console", (message) => {
    // The page before the first build is a 503, and there is no icon.
    if (message.type() === "error" && !/status of (404|503)/.test(message.text())) wrong.push(message.text());
  });
  const shows = (number) => page.waitForSelector(`h1:text-is("version ${number}")`);
  const panel = page.locator("#serval-dev");

  // It may still be built for the first time.
  await page.goto(url);
  await shows(1);
  await version(2);
  await shows(2);
  assert.equal(await panel.count(), 0, "nothing is wrong");

  await edit(good.replace("static sv_status init", "static sv_status init oops"));
  await panel.filter({ hasText: "the build failed" }).waitFor();
  const said = await panel.textContent();
  assert.match(said, /page\.c:\d+:\d+: error: .*oops/s, "the compiler's words, with the place");
  assert.equal(await page.locator("h1").textContent(), "version 2", "the page is beneath");
  await page.reload();
  await panel.filter({ hasText: "the build failed" }).waitFor();
  await panel.getByRole("button", { name: "Close" }).click();
  assert.equal(await panel.count(), 0);

  await edit(good.replace("return SV_OK; /* of init */", "return SV_E_FAILED;"));
  await panel.filter({ hasText: "the new generation is refused" }).waitFor();
  assert.match(await panel.textContent(), /init failed/);
  await version(3);
  await shows(3);
  assert.equal(await panel.count(), 0, "it is mended");
  assert.deepEqual(wrong, [], "the page had errors");
} catch (error) {
  console.error(`not ok: ${error.message}`);
  for (const line of wrong) console.error(`  ${line}`);
  process.exitCode = 1;
}
await browser.close();
