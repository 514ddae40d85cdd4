// The account was made and the answer did not arrive: what the page says then, what it remembers, and how
// a person gets on from there.

import { test } from "node:test";
import assert from "node:assert/strict";
import { done, errorAt, fill, focused, onPage, openSignUp, plain, sentence, siteForAll, summary, sumOf, violations } from "./support/browser.mjs";

const site = siteForAll("--set", "signups_per_hour = 100");

/** Sends the filled form; the account is made, and the answer is lost on its way. */
async function loseAnswer(page) {
  await page.route("**/signup.ashx", async (route) => {
    await route.fetch();
    await route.abort();
  }, { times: 1 });
  await page.click("#submit");
}

/** What the tab keeps of this page. */
const stored = (page) => page.evaluate(() => JSON.stringify(sessionStorage));

const said = async (page, key, user) => assert.equal(plain(await summary(page)), sentence("en", key, { user, email: `${user}@example.org` }));

onPage(site, "a lost answer: the page says that the name may be theirs, asks for a new sum, and goes on to the mail", async (page) => {
  await fill(page, { user: "lost" });
  await loseAnswer(page);
  await said(page, "lost", "lost");
  assert.equal(await page.inputValue("#password"), "correct horse");
  const kept = await stored(page);
  assert.match(kept, /lost@example\.org/);
  assert.doesNotMatch(kept, /correct horse|[0-9a-f]{32}/, "neither the password nor the HA1 is stored");

  await page.click("#submit");
  assert.equal(await errorAt(page, "answer"), sentence("en", "answer_again"), "the person's sum was not wrong");
  await page.fill("#answer", String(await sumOf(page)));
  await page.click("#submit");
  assert.equal(await errorAt(page, "user"), sentence("en", "user_yours", { user: "lost", email: "lost@example.org" }));
  assert.equal(await focused(page), "user");
  assert.deepEqual(await violations(page), []);
  await page.click("#mine");
  await done(page);
  assert.equal(await page.textContent("#done-where"), sentence("en", "done_where", { email: "lost@example.org" }));
  assert.equal(await stored(page), "{}", "what is answered is forgotten");
  assert.ok(await site.demo.mailTo("lost@example.org"));
});

onPage(site, "a name that somebody else has is said to be taken, lost answer or not", async (page) => {
  assert.equal((await site.demo.signUp("elses")).status, 200);
  await fill(page, { user: "mine" });
  await loseAnswer(page);
  await said(page, "lost", "mine");
  await fill(page, { user: "elses" });
  await page.click("#renew");
  await page.fill("#answer", String(await sumOf(page)));
  await page.click("#submit");
  assert.equal(await errorAt(page, "user"), sentence("en", "user_taken"));
  assert.equal(await page.isVisible("#mine"), false);
});

onPage(site, "a lost answer and a reload: user name and address stand in the form, and the page knows the name", async (page) => {
  await fill(page, { user: "reloaded" });
  await loseAnswer(page);
  await summary(page);
  await page.goto("about:blank");
  await page.goto(site.demo.url("signup.html"));
  await said(page, "interrupted", "reloaded");
  assert.equal(await page.inputValue("#user"), "reloaded");
  assert.equal(await page.inputValue("#email"), "reloaded@example.org");
  assert.equal(await page.inputValue("#password"), "");
  await fill(page, { user: "reloaded" });
  await page.click("#submit");
  assert.match(await errorAt(page, "user"), /may be yours already/);
});

onPage(site, "a refusal that is sure leaves nothing behind", async (page) => {
  await fill(page, { user: "sure", answer: 99 });
  await page.click("#submit");
  assert.equal(await errorAt(page, "answer"), sentence("en", "answer_wrong"));
  assert.equal(await stored(page), "{}");
});

test("where the browser stores nothing, the page knows it until it is left", async () => {
  const page = await openSignUp(site.browser, "about:blank");
  await page.addInitScript(() => Object.defineProperty(window, "sessionStorage", { get() { throw new DOMException("denied", "SecurityError"); } }));
  await page.goto(site.demo.url("signup.html"));
  await fill(page, { user: "nowhere" });
  await loseAnswer(page);
  await said(page, "lost", "nowhere");
  await page.click("#renew");
  await page.fill("#answer", String(await sumOf(page)));
  await page.click("#submit");
  assert.match(await errorAt(page, "user"), /may be yours already/);
  assert.deepEqual(page.faults, []);
  await page.context().close();
});
