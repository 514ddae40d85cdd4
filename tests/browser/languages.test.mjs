// The page in the visitor's language: which one, where its texts are, and what a change of it keeps.

import { cp, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import assert from "node:assert/strict";
import { done, fill, focused, openSignUp, plain, sentence, SITE, siteForAll, sumOf, TAGS, textsOf } from "./support/browser.mjs";
import { REPOSITORY } from "./support/demo.mjs";

const HTML = join(REPOSITORY, "nginx/html");
const site = siteForAll("--set", "signups_per_hour = 100");

/** The language and the heading of the page at `path`, for a browser of this locale. */
async function spoken(path, locale) {
  const page = await openSignUp(site.browser, site.demo.url(path), { locale });
  await sumOf(page);
  const found = await page.evaluate(() => [document.documentElement.lang, document.documentElement.dir, document.querySelector("h1").textContent]);
  assert.deepEqual(page.faults, []);
  await page.context().close();
  return found;
}

const expected = (tag) => [tag, textsOf(tag).dir, textsOf(tag).heading];

test("the English that stands in the pages is that of lang/en.json", async () => {
  const page = await site.browser.newPage();
  for (const file of ["signup.html", "login.html", "privacy.html", "404.html"]) {
    const html = await readFile(join(HTML, file), "utf8");
    const found = await page.evaluate((source) => {
      const parsed = new DOMParser().parseFromString(source, "text/html");
      const squeeze = (text) => text.trim().replace(/\s+/g, " ");
      return [
        ...[...parsed.querySelectorAll("[data-text]")].map((element) => [element.dataset.text, squeeze(element.textContent)]),
        ...[...parsed.querySelectorAll("[data-label]")].map((element) => [element.dataset.label, element.getAttribute("aria-label")]),
      ];
    }, html);
    assert.ok(found.length > 4);
    for (const [key, text] of found) assert.equal(text, sentence("en", key, { least: 10, log_days: "[14]", count: 14 }), `${file}: ${key}`);
  }
  await page.close();
});

test("every text that the page names is in the files, and every text of the files is named", async () => {
  const sources = await Promise.all(["signup.html", "login.html", "privacy.html", "404.html", "signup.js", "signup-rules.js", "signup-form.js"].map((file) => readFile(join(HTML, file), "utf8")));
  const all = sources.join("\n");
  const texts = textsOf("en");
  const named = (key) => new RegExp(`["]${key}["]`).test(all) || /^(user|name|email)_shape$|^password_hide_label$/.test(key);
  const ours = Object.keys(texts).filter((key) => (!/^(mail|page|date)_/.test(key) || key === "mail_subject") && key !== "language" && key !== "dir");
  assert.deepEqual(ours.filter((key) => !named(key)), [], "texts that nothing shows");
  const told = [...all.matchAll(/(?:say|tell|announce|refuse|refuseAt|mark)\((?:"[\w-]+", )?"([a-z]+_[a-z_]+)"/g)].map(([, key]) => key);
  assert.deepEqual(told.filter((key) => !(key in texts)), [], "texts that are not there");
});

test("the menu has every language by its own name", async () => {
  const page = await openSignUp(site.browser, site.demo.url("signup.html"));
  await sumOf(page);
  const options = await page.$$eval("#language option", (all) => all.map(({ value, text, lang }) => [value, text, lang]));
  assert.deepEqual(options.sort(), TAGS.map((tag) => [tag, textsOf(tag).language, tag]));
  await page.context().close();
});

test("a browser of each language gets the page in it", async () => {
  for (const tag of TAGS) assert.deepEqual(await spoken("signup.html", tag), expected(tag));
});

test("the address names the language before the browser does; a region falls back to its language; others get English", async () => {
  assert.deepEqual(await spoken("signup.html?lang=ar", "de-DE"), expected("ar"));
  assert.deepEqual(await spoken("signup.html?lang=PT-br", "de-DE"), expected("pt"));
  assert.deepEqual(await spoken("signup.html?lang=..%2Fetc", "fr-CA"), expected("fr"));
  assert.deepEqual(await spoken("signup.html?lang=tlh", "nl"), expected("nl"));
  assert.deepEqual(await spoken("signup.html", "sv-SE"), expected("en"));
});

test("a file more in lang/ is a language more", async () => {
  const texts = { ...textsOf("en"), language: "Svenska", heading: "Skapa ett konto" };
  await writeFile(join(site.demo.dir, "html/lang/sv.json"), JSON.stringify(texts));
  assert.deepEqual(await spoken("signup.html?lang=sv", "en"), ["sv", "ltr", "Skapa ett konto"]);
});

test("a change of the language keeps what was typed, and says what is wrong in the new one", async () => {
  const page = await openSignUp(site.browser, site.demo.url("signup.html"), { locale: "en" });
  await fill(page, { user: "Alice Smith", email: "nonsense" });
  await page.click("#submit");
  await page.selectOption("#language", "ar");
  await page.waitForFunction(() => document.documentElement.dir === "rtl");
  assert.equal(await page.inputValue("#name"), "Alice Doe");
  assert.equal(await page.inputValue("#password"), "correct horse");
  assert.equal(await page.textContent("#email-error"), sentence("ar", "email_shape"));
  assert.equal(plain(await page.textContent("#user-error")), sentence("ar", "user_suggest", { example: "alice.smith" }));
  assert.equal(plain(await page.textContent("#summary")), sentence("ar", "check", { count: 2 }));
  assert.match(page.url(), /\?lang=ar$/);
  assert.match(await page.getAttribute("footer a", "href"), /login\.html\?lang=ar$/);
  await page.reload();
  await sumOf(page);
  assert.equal(await page.textContent("h1"), textsOf("ar").heading);
  assert.equal(await page.isVisible("#done"), false);
  await page.context().close();
});

test("the mail comes in the language of the page, not in the browser's", async () => {
  const page = await openSignUp(site.browser, site.demo.url("signup.html?lang=ja"), { locale: "de" });
  await fill(page, { user: "reader" });
  await page.click("#submit");
  await done(page);
  const { file } = await site.demo.mailTo("reader@example.org");
  assert.match(await readFile(file, "utf8"), /\r\nContent-Language: ja\r\n/);
  assert.equal(await page.textContent("#done-subject"), sentence("ja", "done_subject", { subject: sentence("ja", "mail_subject", { site: SITE }) }));
  await page.context().close();
});

test("without its texts the page says so, and goes on once they can be had", async () => {
  const page = await openSignUp(site.browser, "about:blank", { locale: "fr" });
  await page.route("**/lang/*", (route) => route.abort());
  await page.goto(site.demo.url("signup.html"));
  await page.waitForSelector("#mute:not([hidden])");
  assert.equal(await page.textContent("#submit"), textsOf("en").submit);
  await page.unroute("**/lang/*");
  await page.click("#submit");
  await page.waitForFunction(() => document.documentElement.lang === "fr");
  assert.equal(await page.isVisible("#mute"), false);
  await page.waitForSelector('#user[aria-invalid="true"]');
  assert.equal(await focused(page), "user");
  await page.context().close();
});
