// What the page weighs and asks for, and what it is without its script.

import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import assert from "node:assert/strict";
import { fits, LONG, openSignUp, siteForAll, sumOf, TAGS } from "./support/browser.mjs";
import { REPOSITORY } from "./support/demo.mjs";

const HTML = join(REPOSITORY, "nginx/html");
const site = siteForAll();

for (const locale of TAGS) {
  test(`the first paint in ${locale} takes at most 4 requests beside the captcha, 40 KB, and nothing from elsewhere`, async () => {
    const page = await openSignUp(site.browser, "about:blank", { locale });
    const asked = [];
    page.on("response", (response) => asked.push(response));
    await page.goto(site.demo.url("signup.html"));
    await sumOf(page);
    await page.waitForLoadState("networkidle");
    const sizes = await Promise.all(asked.map(async (response) => (await response.body()).length));
    const urls = asked.map((response) => response.url()).filter((url) => !url.startsWith("data:"));
    assert.ok(urls.every((url) => url.startsWith(site.demo.url(""))), urls.join(" "));
    assert.equal(urls.filter((url) => url.endsWith("/captcha.ashx")).length, 1);
    assert.ok(urls.length <= 5, urls.join(" "));
    assert.ok(sizes.reduce((a, b) => a + b, 0) <= 40_000, `${sizes}, not compressed`);
    assert.deepEqual(page.faults, []);
    await page.context().close();
  });
}

test("no page has an inline script or style, or refers to another site", async () => {
  for (const name of await readdir(HTML)) {
    if (!(await stat(join(HTML, name))).isFile()) continue;
    const text = await readFile(join(HTML, name), "utf8");
    assert.doesNotMatch(text, /<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)|javascript:/i, name);
    assert.doesNotMatch(text, /(?:src|href|action)="(?:https?:)?\/\//i, name);
  }
});

test("the pages come with a policy that allows nothing inline", async () => {
  const policy = (await fetch(site.demo.url("signup.html"))).headers.get("Content-Security-Policy");
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe-inline/);
});

test("the password inputs have no name, so no browser ever sends them", async () => {
  const page = await openSignUp(site.browser, site.demo.url("signup.html"));
  await page.fill("#password", "correct horse");
  assert.deepEqual(await page.evaluate(() => [...new FormData(document.getElementById("form")).keys()].sort()),
    ["captcha_answer", "email", "name", "user"]);
  await page.context().close();
});

test("without JavaScript the form is not there, and the page says what to do in words, in every language", async () => {
  const page = await openSignUp(site.browser, site.demo.url("signup.html"), { javaScriptEnabled: false });
  assert.ok(!(await page.isVisible("#form")));
  assert.ok(!(await page.isVisible("#language")));
  const said = await page.innerText("noscript");
  assert.match(said, /Open the settings of your browser.*allow it for this site/);
  assert.match(said, /must not leave your device/);
  assert.doesNotMatch(said, /curl|terminal|\$/);
  const tags = await page.$$eval("noscript [lang]", (all) => all.filter((one) => /JavaScript/.test(one.textContent)).map((one) => one.lang));
  assert.deepEqual(["en", ...tags].sort(), TAGS);
  await page.context().close();
});

test("a password manager can tell the fields, and every field takes what is pasted", async () => {
  const page = await openSignUp(site.browser, site.demo.url("signup.html"));
  const autocomplete = (field) => page.getAttribute(`#${field}`, "autocomplete");
  assert.deepEqual(await Promise.all(["user", "name", "email", "password"].map(autocomplete)), ["username", "name", "email", "new-password"]);
  for (const field of ["user", "name", "email", "password", "answer"]) {
    const long = "x".repeat(300);
    await page.focus(`#${field}`);
    await page.keyboard.insertText(long);
    assert.equal(await page.inputValue(`#${field}`), long, `${field} is not cut`);
    assert.equal(await page.evaluate((id) => document.getElementById(id).dispatchEvent(new ClipboardEvent("paste", { cancelable: true, bubbles: true })), field), true);
  }
  await page.context().close();
});

// 320 x 256 is what is left of 1280 x 1024 at a zoom of 400 % (WCAG 2.2, 1.4.10), 640 x 400 of 1280 x 800 at
// 200 %.
for (const [width, height] of [[320, 256], [320, 568], [360, 640], [640, 400], [1280, 800], [2560, 1440]]) {
  for (const locale of LONG ? TAGS : width === 320 && height === 256 ? ["en", "ar", "de"] : ["en"]) {
    test(`nothing is cut off at ${width} x ${height} in ${locale}`, async () => {
      const page = await openSignUp(site.browser, site.demo.url("signup.html"), { viewport: { width, height }, locale });
      await sumOf(page);
      assert.ok(await fits(page), "empty");
      await page.fill("#user", "W".repeat(64));
      await page.fill("#password", "W".repeat(40));
      await page.click("#submit");
      await page.waitForSelector("#suggestion:not([hidden])");
      assert.ok(await fits(page), "with errors");
      const [text, button] = await page.evaluate(() => {
        const [input, reveal] = ["password", "reveal"].map((id) => document.getElementById(id));
        const side = document.documentElement.dir === "rtl" ? "paddingLeft" : "paddingRight";
        return [parseFloat(getComputedStyle(input)[side]), reveal.getBoundingClientRect().width];
      });
      assert.ok(text >= button, "a long password runs below the button that shows it");
      await page.context().close();
    });
  }
}
