// Starts the distribution's Chromium, and drives the sign-up page in it.

import { existsSync, readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import axe from "axe-core";
import { chromium } from "playwright-core";
import { Demo, REPOSITORY } from "./demo.mjs";

const LANG = join(REPOSITORY, "nginx/html/lang");

/** The tags of all languages. */
export const TAGS = readdirSync(LANG).filter((file) => file.endsWith(".json")).map((file) => file.replace(".json", "")).sort();

// Where the texts of a language are: the pages' own, and those of mails and activation pages.
const FOLDERS = [LANG, join(LANG, "form"), join(LANG, "privacy"), join(REPOSITORY, "src/templates/lang")];

/** One language's texts. */
export const textsOf = (tag) => Object.assign({}, ...FOLDERS.map((folder) => JSON.parse(readFileSync(join(folder, `${tag}.json`), "utf8"))));

/** A text of a language, as a page shows it: in the form that fits `values.count`, filled in, and without
    the marks of direction. */
export function sentence(tag, key, values = {}) {
  const forms = textsOf(tag)[key];
  const text = typeof forms === "string" ? forms : forms[new Intl.PluralRules(tag).select(values.count)];
  return text.replace(/\{(\w+)\}/g, (hole, name) => values[name] ?? hole);
}

/** What the demo calls itself. */
export const SITE = "Example Users";

/** What is on the screen, without the marks of direction. */
export const plain = (text) => text.replace(/[\u2066-\u2069]/g, "");

/** Whether the tests that take long are wanted (tests/all.sh). */
export const LONG = Boolean(process.env.CODEB_SIGNUP_ALL);

const PLACES = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

const FLAGS = [
  "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
  "--disable-component-update", "--disable-sync",
  // A host that no tenant names, and that still reaches the demo.
  "--host-resolver-rules=MAP unknown.example 127.0.0.1",
];

/** A browser; the caller closes it. */
export function launch() {
  const executablePath = PLACES.find((place) => place && existsSync(place));
  if (!executablePath) throw new Error("no Chromium: install the distribution's, or name one in CHROMIUM");
  return chromium.launch({ executablePath, args: FLAGS });
}

/** A sign-up page whose captcha has come. Script errors and CSP refusals end up in `page.faults`. */
export async function openSignUp(browser, url, options = {}) {
  const context = await browser.newContext(options);
  const page = await context.newPage();
  page.faults = [];
  page.on("pageerror", (error) => page.faults.push(String(error)));
  page.on("console", (message) => {
    if (/Content Security Policy/.test(message.text())) page.faults.push(message.text());
  });
  await page.goto(url);
  return page;
}

/** A browser and a demo for all tests of a file, both stopped after them; `site.browser` and `site.demo`
    are there once the tests run. */
export function siteForAll(...flags) {
  const site = {};
  before(async () => {
    site.browser = await launch();
    site.demo = await Demo.start(...flags);
  });
  after(async () => {
    await site.browser?.close();
    await site.demo?.stop();
  });
  return site;
}

/** A test with a page of its own; no script error and no CSP refusal may come. */
export function onPage(site, name, body) {
  test(name, async () => {
    const page = await openSignUp(site.browser, site.demo.url("signup.html"));
    await body(page);
    assert.deepEqual(page.faults, []);
    await page.context().close();
  });
}

/** A demo of a test's own, stopped after it whatever comes. */
export async function startFor(t, ...flags) {
  const own = await Demo.start(...flags);
  t.after(() => own.stop());
  return own;
}

/** Waits for the question and gives its sum. */
export async function sumOf(page) {
  await page.waitForFunction(() => /\d/.test(document.getElementById("question").textContent));
  const [left, right] = (await page.textContent("#question")).match(/\d+/g).map(Number);
  return left + right;
}

/** Types a whole form, the right sum included unless `answer` says otherwise. */
export async function fill(page, { user, name = "Alice Doe", email = `${user}@example.org`, password = "correct horse", answer }) {
  await page.fill("#user", user);
  await page.fill("#name", name);
  await page.fill("#email", email);
  await page.fill("#password", password);
  await page.fill("#answer", String(answer ?? (await sumOf(page))));
}

/** What a person sees of one field's error, and whether the field is announced as invalid. */
export async function errorAt(page, field) {
  await page.waitForSelector(`#${field}[aria-invalid="true"]`, { timeout: 10_000 });
  return page.textContent(`#${field}-error`);
}

/** The text above the form, once there is one. */
export async function summary(page) {
  await page.waitForFunction(() => document.getElementById("summary").textContent !== "", null, { timeout: 10_000 });
  return page.textContent("#summary");
}

/** The id of the element that has the focus. */
export const focused = (page) => page.evaluate(() => document.activeElement.id);

/** What axe-core finds wrong with the page as it is now, one line a finding. */
export async function violations(page) {
  await page.evaluate(axe.source);
  const { violations: found } = await page.evaluate(() => axe.run(document));
  return found.flatMap(({ id, nodes }) => nodes.map((node) => `${id}: ${node.target} ${node.failureSummary}`));
}

/** Whether everything fits the width of the window. */
export const fits = (page) => page.evaluate(() => document.documentElement.scrollWidth <= innerWidth);

/** Counts the requests of one path from now on: `counted.posts`. */
export function countPosts(page, path) {
  const counted = { posts: 0 };
  page.on("request", (request) => { counted.posts += request.method() === "POST" && request.url().includes(path); });
  return counted;
}

export const done = (page) => page.waitForSelector("#done:not([hidden])", { timeout: 20_000 });
