// What the page weighs and asks for, and what it is without its script.

import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { launch, openSignUp, sumOf } from "./support/browser.mjs";
import { Demo, REPOSITORY } from "./support/demo.mjs";

const HTML = join(REPOSITORY, "nginx/html");
let browser;
let demo;

before(async () => {
  browser = await launch();
  demo = await Demo.start();
});
after(async () => {
  await browser.close();
  await demo.stop();
});

test("the first paint takes at most 4 requests beside the captcha, 40 KB, and nothing from elsewhere", async () => {
  const page = await openSignUp(browser, "about:blank");
  const asked = [];
  page.on("response", (response) => asked.push(response));
  await page.goto(demo.url("signup.html"));
  await sumOf(page);
  const sizes = await Promise.all(asked.map(async (response) => (await response.body()).length));
  const urls = asked.map((response) => response.url());
  assert.ok(urls.every((url) => url.startsWith(demo.url("")) || url.startsWith("data:")), urls.join(" "));
  assert.ok(urls.filter((url) => !url.includes("captcha.ashx") && !url.startsWith("data:")).length <= 4, urls.join(" "));
  assert.ok(sizes.reduce((a, b) => a + b, 0) <= 40_000);
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("no page has an inline script or style, or refers to another site", async () => {
  for (const name of await readdir(HTML)) {
    if (!(await stat(join(HTML, name))).isFile()) continue;
    const text = await readFile(join(HTML, name), "utf8");
    assert.doesNotMatch(text, /<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)|javascript:/i, name);
    assert.doesNotMatch(text, /(?:src|href|action)="(?:https?:)?\/\//i, name);
  }
});

test("the pages come with a policy that allows nothing inline", async () => {
  const policy = (await fetch(demo.url("signup.html"))).headers.get("Content-Security-Policy");
  assert.match(policy, /default-src 'none'/);
  assert.doesNotMatch(policy, /unsafe-inline/);
});

test("the password inputs have no name, so no browser ever sends them", async () => {
  const page = await openSignUp(browser, demo.url("signup.html"));
  await page.fill("#password", "correct horse");
  assert.deepEqual(await page.evaluate(() => [...new FormData(document.getElementById("form")).keys()].sort()),
    ["captcha_answer", "email", "name", "user"]);
  await page.context().close();
});

test("without JavaScript the form is not there, and the page says why and how to sign up", async () => {
  const page = await openSignUp(browser, demo.url("signup.html"), { javaScriptEnabled: false });
  assert.ok(!(await page.isVisible("#form")));
  const text = await page.innerText("main");
  assert.match(text, /must not leave your device/);
  assert.match(text, /curl .*captcha\.ashx/);
  await page.context().close();
});

for (const [width, height] of [[320, 568], [360, 640], [1280, 800]]) {
  test(`nothing is cut off at ${width} x ${height}`, async () => {
    const page = await openSignUp(browser, demo.url("signup.html"), { viewport: { width, height } });
    await sumOf(page);
    await page.click("#submit");
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth));
    await page.context().close();
  });
}
