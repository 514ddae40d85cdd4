// Every page in every state: what axe-core finds, whether it fits, and a picture of each in
// target/screenshots. A few windows in tests/run.sh; all of them in tests/all.sh.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { done, fill, fits, launch, LONG, openSignUp, plain, sentence, sumOf, textsOf, violations } from "./support/browser.mjs";
import { Demo, REPOSITORY } from "./support/demo.mjs";

const PICTURES = join(REPOSITORY, "target/screenshots");
const PHONE = { width: 360, height: 640 };
const DESKTOP = { width: 1280, height: 800 };

const FEW = [["en", PHONE, "light"], ["en", DESKTOP, "dark"], ["ar", PHONE, "dark"], ["de", DESKTOP, "light"]];
const ALL = ["en", "ar", "de"].flatMap((tag) => [PHONE, DESKTOP].flatMap((size) => ["light", "dark"].map((scheme) => [tag, size, scheme])));

let browser;
const demos = {};

before(async () => {
  await mkdir(PICTURES, { recursive: true });
  browser = await launch();
  for (const activation of ["get", "click"]) {
    demos[activation] = await Demo.start("--set", "signups_per_hour = 100", "--set", `activation = "${activation}"`);
  }
});
after(async () => {
  await browser.close();
  for (const demo of Object.values(demos)) await demo.stop();
});

/** Looks at the page as it is: a picture, axe-core, the width. */
async function look(page, name) {
  await page.evaluate(() => document.fonts.ready);
  await page.screenshot({ path: join(PICTURES, `${page.named}-${name}.png`), fullPage: true });
  assert.deepEqual(await violations(page), [], name);
  assert.ok(await fits(page), `${name} is wider than the window`);
}

/** From the empty form to a refused link, every text in the page's language. */
async function wholeWay(demo, activation, tag, viewport, colorScheme) {
  const page = await openSignUp(browser, demo.url("signup.html"), { viewport, colorScheme, locale: tag, reducedMotion: "reduce" });
  page.named = `${tag}-${viewport.width}-${colorScheme}-${activation}`;
  const texts = textsOf(tag);
  const user = page.named.replace(/-/g, ".");
  await sumOf(page);
  assert.equal(await page.textContent("h1"), texts.heading);
  await look(page, "1-empty");

  await page.fill("#user", "Alice Müller");
  await page.fill("#email", "alice@gmial.con");
  await page.fill("#password", "password12");
  await page.click("#submit");
  await page.waitForFunction(() => document.getElementById("summary").textContent);
  assert.equal(plain(await page.textContent("#summary")), sentence(tag, "check", { count: 4 }));
  await look(page, "2-errors");

  await fill(page, { user });
  await page.click("#reveal");
  assert.equal(await page.getAttribute("#password", "type"), "text");
  await page.click("#submit");
  await done(page);
  await page.waitForFunction(() => document.getElementById("resend-wait").textContent);
  assert.equal(plain(await page.textContent("#done-where")), sentence(tag, "done_where", { email: `${user}@example.org` }));
  await look(page, "3-done");
  await page.click("#wrong");
  await page.waitForSelector('#user[aria-invalid="true"]');
  await sumOf(page);
  await look(page, "3-wrong-address");

  const { link } = await demo.mailTo(`${user}@example.org`);
  await page.goto(link);
  if (activation === "click") {
    assert.equal(await page.textContent("h1"), texts.page_click_title);
    await look(page, "4-click");
    await page.click("button");
  }
  assert.equal(await page.textContent("h1"), texts.page_active_title);
  await look(page, "5-active");
  await page.waitForURL(demo.url("login.html"));
  await page.waitForFunction((lang) => document.documentElement.lang === lang, tag);
  assert.equal(await page.textContent("h1:visible"), texts.login_title);
  await look(page, "6-sign-in");

  const again = await page.goto(link);
  assert.equal(again.status(), 400);
  assert.equal(await page.textContent("h1"), texts.page_refused_title);
  await look(page, "7-refused");
  await page.click("a[href$='#resend']");
  await page.waitForURL(/signup\.html/);
  await sumOf(page);
  await page.waitForFunction((heading) => document.querySelector("h1").textContent === heading, texts.resend_heading);
  await look(page, "8-resend");
  assert.deepEqual(page.faults, []);
  await page.context().close();
}

(LONG ? ALL : FEW).forEach(([tag, viewport, scheme], at) => {
  // The way of an activation is the same in every window: one of the two each, but both in every language.
  const activations = LONG ? ["get", "click"] : [["click", "get"][at % 2]];
  for (const activation of activations) {
    test(`the whole way in ${tag} at ${viewport.width} x ${viewport.height}, ${scheme}, activation by ${activation}`, () =>
      wholeWay(demos[activation], activation, tag, viewport, scheme));
  }
});

test("the pages beside the form and the page without JavaScript pass axe-core, too", async () => {
  for (const colorScheme of ["light", "dark"]) {
    const page = await openSignUp(browser, demos.get.url("privacy.html"), { colorScheme, viewport: PHONE });
    page.named = `en-${PHONE.width}-${colorScheme}`;
    await look(page, "privacy");
    for (const [path, name] of [["login.html", "sign-in-here"], ["not/there", "not-found"]]) {
      await page.goto(demos.get.url(path));
      await page.waitForFunction(() => document.title.includes("–"));
      await look(page, name);
    }
    await page.context().close();
    const bare = await openSignUp(browser, demos.get.url("signup.html"), { colorScheme, viewport: PHONE, javaScriptEnabled: false });
    await bare.screenshot({ path: join(PICTURES, `${page.named}-no-script.png`), fullPage: true });
    assert.ok(await fits(bare));
    await bare.context().close();
  }
});

test("forced colours and reduced motion keep the page usable", async () => {
  const page = await openSignUp(browser, demos.get.url("signup.html"), { forcedColors: "active", reducedMotion: "reduce", viewport: PHONE });
  page.named = `en-${PHONE.width}-forced`;
  await sumOf(page);
  await page.click("#submit");
  await page.waitForSelector('#user[aria-invalid="true"]');
  await look(page, "errors");
  assert.equal(await page.evaluate(() => getComputedStyle(document.getElementById("submit")).transitionDuration), "0s");
  await page.context().close();
});
