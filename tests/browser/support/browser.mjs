// Starts the distribution's Chromium, and drives the sign-up page in it.

import { existsSync } from "node:fs";
import { chromium } from "playwright-core";

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
