// The places where a person stood still: a wrong address, a slip in it, a page in the wrong language, a
// sign-in page that congratulates a stranger, a phone.

import { test } from "node:test";
import assert from "node:assert/strict";
import { done, errorAt, fill, fits, focused, LONG, onPage, openSignUp, plain, sentence, SITE, siteForAll, summary, sumOf, TAGS, textsOf, violations } from "./support/browser.mjs";
import { htmlOf } from "./support/mail.mjs";

const site = siteForAll("--set", "signups_per_hour = 100");
const PHONE = { width: 360, height: 640 };
// Long words, another direction, another script; all of them in tests/all.sh.
const SOME = LONG ? TAGS : ["en", "ar", "de", "ja"];

// --- the address ------------------------------------------------------------------------------------

onPage(site, "a wrong address: the whole of it is seen, and the form comes back with every field", async (page) => {
  await fill(page, { user: "typo", email: "typo@example.net" });
  await page.click("#submit");
  await done(page);
  assert.equal(await page.textContent("#done-where"), sentence("en", "done_where", { email: "typo@example.net" }));
  assert.equal(await page.inputValue("#password"), "");
  await page.click("#wrong");
  assert.equal(await focused(page), "email");
  const values = await Promise.all(["user", "name", "email", "password"].map((field) => page.inputValue(`#${field}`)));
  assert.deepEqual(values, ["typo", "Alice Doe", "typo@example.net", "correct horse"]);
  assert.equal(await errorAt(page, "user"), sentence("en", "user_held", { user: "typo" }));
  assert.deepEqual(await violations(page), []);
  await page.fill("#email", "typo@example.org");
  await page.fill("#answer", String(await sumOf(page)));
  await page.click("#submit");
  assert.equal(await focused(page), "user", "the name is held, and the form is not sent with it");
  await page.fill("#user", "typo.2");
  await page.click("#submit");
  await done(page);
  assert.ok(await site.demo.mailTo("typo@example.org"));
});

onPage(site, "a slip in a well-known domain is asked about at the field, and sent as it is where it is meant", async (page) => {
  await page.focus("#email");
  await page.keyboard.type("alice@gmial.con");
  await page.waitForSelector("#email-slip:not([hidden])");
  assert.equal(await page.textContent("#email-slip"), sentence("en", "email_slip", { address: "alice@gmail.com" }));
  assert.equal(await page.getAttribute("#email", "aria-invalid"), null, "it is no error");
  assert.deepEqual(await violations(page), []);
  await page.click("#email-slip");
  assert.equal(await page.inputValue("#email"), "alice@gmail.com");
  assert.equal(await page.isVisible("#email-slip"), false);
  await fill(page, { user: "meant", email: "meant@gmial.con" });
  await page.click("#submit");
  await done(page);
  assert.ok(await site.demo.mailTo("meant@gmial.con"));
});

onPage(site, "only slips of big domains are asked about", async (page) => {
  await page.evaluate(() => fetchRest());
  const near = (all) => page.evaluate((domains) => domains.map((domain) => nearAddress(`a@${domain}`)), all);
  assert.deepEqual(await near(["gmial.con", "gmai.com", "gnail.com", "gmail.co", "hotmial.com", "outlok.com", "yaho.com", "iclould.com", "gmaill.com", "T-onlien.de"]),
    ["gmail.com", "gmail.com", "gmail.com", "gmail.com", "hotmail.com", "outlook.com", "yahoo.com", "icloud.com", "gmail.com", "t-online.de"].map((domain) => `a@${domain}`));
  const fine = ["gmail.com", "mail.com", "ymail.com", "gmx.de", "gmx.at", "gmx.ch", "yahoo.de", "yahoo.co.uk", "web.de", "wob.de", "hotmail.fr", "live.nl", "example.org", "gm.com", "mit.edu", "orange.es", "aol.de"];
  assert.deepEqual(await near(fine), fine.map(() => null));
});

// --- the language -----------------------------------------------------------------------------------

test("on a slow net the page is never seen in another language than the one that its menu names", async () => {
  const page = await openSignUp(site.browser, "about:blank", { locale: "fr" });
  const release = {};
  for (const tag of ["fr", "de"]) {
    const held = new Promise((resolve) => { release[tag] = resolve; });
    await page.route(`**/lang/${tag}.json`, async (route) => {
      await held;
      await route.continue();
    });
  }
  const seen = () => page.evaluate(() => [document.getElementById("language").value, document.querySelector("h1").textContent]);
  await page.clock.install();
  await page.goto(site.demo.url("signup.html"));
  assert.equal(await page.isVisible("h1"), false);
  await page.clock.runFor(3100);
  assert.equal(await page.isVisible("h1"), true);
  assert.deepEqual(await seen(), ["en", textsOf("en").heading]);
  await page.selectOption("#language", "de");
  assert.deepEqual(await seen(), ["en", textsOf("en").heading]);
  release.de();
  await page.waitForFunction(() => document.documentElement.lang !== "en");
  assert.deepEqual(await seen(), ["de", textsOf("de").heading]);
  const late = page.waitForEvent("requestfinished", (request) => request.url().endsWith("/fr.json"));
  release.fr();
  await late;
  await page.evaluate(() => spoken);
  assert.deepEqual(await seen(), ["de", textsOf("de").heading], "the last choice counts");
  await page.context().close();
});

test("a language that is chosen while another is on its way, and the first field entered, comes whole", async () => {
  const page = await openSignUp(site.browser, "about:blank", { locale: "fr" });
  let release;
  const held = new Promise((resolve) => { release = resolve; });
  for (const tag of ["fr", "pl"]) {
    await page.route(`**/lang/${tag}.json`, async (route) => {
      await held;
      await (tag === "fr" ? route.abort() : route.continue());
    });
  }
  await page.clock.install();
  await page.goto(site.demo.url("signup.html"));
  await page.clock.runFor(3100);
  await page.selectOption("#language", "pl");
  await page.focus("#user");
  release();
  await page.waitForFunction(() => typeof send === "function");
  await page.waitForFunction(() => document.documentElement.lang === "pl");
  assert.equal(await page.isVisible("#mute"), false);
  await page.click("#submit");
  assert.equal(await summary(page), sentence("pl", "check", { count: 5 }));
  assert.match(page.url(), /\?lang=pl$/);
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("a language whose texts do not come is not named by the menu", async () => {
  const page = await openSignUp(site.browser, site.demo.url("signup.html"), { locale: "en" });
  await sumOf(page);
  await page.route("**/lang/fr.json", (route) => route.abort());
  await page.selectOption("#language", "fr");
  assert.equal(await summary(page), sentence("en", "offline"));
  assert.equal(await page.inputValue("#language"), "en");
  assert.equal(await page.textContent("h1"), textsOf("en").heading);
  await page.context().close();
});

test("numbers, times and waits are said as the language says them, in the visitor's zone", async () => {
  for (const [locale, zone] of [["de", "Europe/Berlin"], ["pl", "Europe/Warsaw"], ["ar", "Asia/Riyadh"], ["ja", "Asia/Tokyo"]]) {
    const page = await openSignUp(site.browser, site.demo.url("signup.html"), { locale, timezoneId: zone });
    await page.route("**/signup.ashx", (route) => route.fulfill({
      status: 429, headers: { "Retry-After": "1200" }, contentType: "application/json", body: JSON.stringify({ error: "rate_limited", error_description: "-" }),
    }));
    await fill(page, { user: "often" });
    const before = Date.now();
    await page.click("#submit");
    const said = plain(await summary(page));
    // The minute may turn while the page answers.
    const times = [0, 60_000, 120_000].map((more) => new Intl.DateTimeFormat(`${locale}-u-nu-latn`, { timeStyle: "short", timeZone: zone }).format(before + 1200_000 + more));
    const wait = new Intl.RelativeTimeFormat(`${locale}-u-nu-latn`).format(20, "minute");
    assert.ok(times.some((time) => said === sentence(locale, "limited_minutes", { time, wait })), said);
    await page.context().close();
  }
  const page = await openSignUp(site.browser, site.demo.url("signup.html"), { locale: "pl" });
  await page.evaluate(() => fetchRest());
  for (const count of [1, 2, 5, 22]) assert.equal(await page.evaluate((n) => say("check", { count: n }), count), sentence("pl", "check", { count }));
  assert.equal(await page.evaluate(() => say("check", { count: 3 })), "3 rzeczy wymagają jeszcze uwagi.");
  await page.context().close();
});

test("a mail says its time as its language writes it, with the zone", async () => {
  const month = "Januar|Februar|März|April|Mai|Juni|Juli|August|September|Oktober|November|Dezember";
  assert.equal((await site.demo.signUp("datum", "de")).status, 200);
  const { file } = await site.demo.mailTo("datum@example.org");
  const html = await htmlOf(file);
  assert.match(html, new RegExp(`bis \\d{1,2}\\. (${month}) \\d{4}, \\d{2}:\\d{2} Uhr \\(UTC\\)`));
  assert.ok(html.includes(sentence("de", "mail_why", { site: SITE })), "the mail names the site");
  assert.ok(!/<img/.test(html));
});

// --- the sign-in page -------------------------------------------------------------------------------

test("who has an account already is not told that one is ready; who comes from an activation is", async () => {
  const page = await openSignUp(site.browser, site.demo.url("signup.html"));
  await page.click("text=I already have an account");
  await page.waitForURL(/login\.html/);
  assert.equal(await page.textContent("h1:visible"), sentence("en", "login_here_title"));
  assert.equal(await page.isVisible(".steps"), false);
  assert.doesNotMatch(await page.innerText("main"), /ready|✓/);
  assert.deepEqual(await violations(page), []);

  assert.equal((await site.demo.signUp("arrival")).status, 200);
  await page.goto((await site.demo.mailTo("arrival@example.org")).link);
  await page.click("#on");
  await page.waitForURL(/login\.html/);
  await page.waitForFunction(() => document.title.includes("ready"));
  for (const again of [false, true]) {
    if (again) await page.reload();
    assert.equal(await page.textContent("h1:visible"), sentence("en", "login_title"));
    assert.equal(await page.isVisible(".steps"), true);
  }
  await page.goto(site.demo.url("login.html?later"));
  assert.equal(await page.textContent("h1:visible"), sentence("en", "login_here_title"), "it is said once");
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("the sign-in page and the page for what is not there come with the other pages' headers", async () => {
  const headers = async (path) => {
    const answer = await fetch(site.demo.url(path));
    return [answer.status, ...["content-security-policy", "referrer-policy", "x-content-type-options", "cache-control"].map((name) => answer.headers.get(name))];
  };
  const [, ...model] = await headers("signup.html");
  assert.ok(model.every(Boolean));
  assert.deepEqual(await headers("login.html"), [200, ...model]);
  assert.deepEqual(await headers("no/such/page"), [404, ...model]);
});

test("an address that is not there has a page in the visitor's language that leads back", async () => {
  for (const tag of SOME) {
    const page = await openSignUp(site.browser, site.demo.url("no/such/page.html"), { locale: tag, viewport: PHONE });
    await page.waitForFunction((lang) => document.documentElement.lang === lang, tag);
    assert.equal(await page.textContent("h1"), textsOf(tag).not_found_title);
    assert.deepEqual(await violations(page), []);
    assert.deepEqual(page.faults, []);
    await page.click("main a");
    await page.waitForURL(site.demo.url("signup.html"));
    await page.context().close();
  }
});

test("a name that is taken comes with what to do, and no other name is proposed", async () => {
  const page = await openSignUp(site.browser, site.demo.url("signup.html"));
  assert.equal((await site.demo.signUp("popular")).status, 200);
  await fill(page, { user: "popular" });
  await page.click("#submit");
  const said = await errorAt(page, "user");
  assert.match(said, /last name, a dot or a number.*sign in/);
  assert.equal(await page.isVisible("#suggestion"), false);
  await page.context().close();
});

// --- phones -----------------------------------------------------------------------------------------

for (const locale of SOME) {
  test(`on a phone the form is at most a screen and a half in ${locale}, and a hint comes with the focus`, async () => {
    const page = await openSignUp(site.browser, site.demo.url("signup.html"), { locale, viewport: PHONE, hasTouch: true, isMobile: true });
    await sumOf(page);
    const height = () => page.evaluate(() => document.documentElement.scrollHeight);
    assert.ok(await height() <= 1.5 * PHONE.height, `${await height()} pixels`);
    assert.equal(await page.isVisible("#password-hint"), false);
    await page.tap("#password");
    await page.waitForSelector("#password-hint", { state: "visible" });
    await page.tap("#user");
    await page.waitForSelector("#user-hint", { state: "visible" });
    assert.equal(await page.isVisible("#password-hint"), false);
    assert.equal(await focused(page), "user");
    assert.ok(await fits(page));
    await page.context().close();
  });
}

onPage(site, "on a desktop every hint is there from the start", async (page) => {
  for (const field of ["user", "name", "email", "password"]) assert.equal(await page.isVisible(`#${field}-hint`), true);
});

test("a press on the button counts although the hint of the last field stands above it", async () => {
  // So high that nothing scrolls, which would hide that the button moves.
  const viewport = { width: PHONE.width, height: 1500 };
  for (const [user, press, options] of [["thumb", "tap", { hasTouch: true, isMobile: true }], ["mouse", "click", {}]]) {
    const page = await openSignUp(site.browser, site.demo.url("signup.html"), { viewport, ...options });
    await fill(page, { user });
    await page[press]("#password");
    await page.waitForSelector("#password-hint", { state: "visible" });
    await page[press]("#submit");
    await done(page);
    await page.context().close();
  }
});

test("a phone's keyboard says next and goes there; the last field sends", async () => {
  const page = await openSignUp(site.browser, site.demo.url("signup.html"), { viewport: PHONE, hasTouch: true, isMobile: true });
  await sumOf(page);
  const fields = ["user", "name", "email", "password", "answer"];
  assert.deepEqual(await page.evaluate((ids) => ids.map((id) => document.getElementById(id).enterKeyHint), fields), ["next", "next", "next", "next", "go"]);
  await page.tap("#user");
  await page.waitForFunction(() => typeof send === "function");
  for (const next of fields.slice(1)) {
    await page.keyboard.press("Enter");
    assert.equal(await focused(page), next);
  }
  await page.keyboard.press("Enter");
  assert.match(await summary(page), /still need/);
  await page.context().close();
});

onPage(site, "the button at the password says what it shows", async (page) => {
  const name = () => page.getAttribute("#reveal", "aria-label");
  await sumOf(page);
  assert.equal(await name(), sentence("en", "password_show_label"));
  await page.click("#reveal");
  assert.equal(await name(), sentence("en", "password_hide_label"));
  await page.selectOption("#language", "de");
  await page.waitForFunction(() => document.documentElement.lang === "de");
  assert.equal(await name(), sentence("de", "password_hide_label"));
  assert.equal(await page.textContent("#reveal"), sentence("de", "password_hide"));
});

for (const viewport of [PHONE, { width: 1280, height: 800 }]) {
  test(`the new sum is beside the sum at ${viewport.width} pixels`, async () => {
    for (const locale of SOME) {
      const page = await openSignUp(site.browser, site.demo.url("signup.html"), { locale, viewport });
      await sumOf(page);
      const boxes = await page.evaluate(() => ["question", "answer", "renew"].map((id) => {
        const { top, bottom, width } = document.getElementById(id).getBoundingClientRect();
        return { top: Math.round(top), bottom: Math.round(bottom), width };
      }));
      for (const { top, bottom, width } of boxes) assert.ok(top === boxes[0].top && bottom === boxes[0].bottom && width >= 40, `${locale}: ${JSON.stringify(boxes)}`);
      assert.equal((await page.textContent("#renew")).trim(), sentence(locale, "answer_renew"));
      await page.context().close();
    }
  });
}
