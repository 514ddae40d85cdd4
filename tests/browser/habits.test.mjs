// What people and their programs do: press twice, reload, go back, use no mouse, wait on a slow network,
// let a scanner open their links first.

import { readFile } from "node:fs/promises";
import { test } from "node:test";
import assert from "node:assert/strict";
import { countPosts, done, errorAt, fill, focused, onPage, openSignUp, sentence, siteForAll, startFor, summary, sumOf } from "./support/browser.mjs";
import { Demo } from "./support/demo.mjs";

const site = siteForAll("--set", "signups_per_hour = 100");

/** Lets no answer to `path` through until the returned function is called. */
async function hold(page, path) {
  let release;
  const held = new Promise((resolve) => { release = resolve; });
  await page.route(`**/${path}`, async (route) => {
    await held;
    await route.continue().catch(() => {});
  });
  return release;
}

// --- once -------------------------------------------------------------------------------------------

onPage(site, "two presses and an Enter make one request and one account", async (page) => {
  const counted = countPosts(page, "signup.ashx");
  const release = await hold(page, "signup.ashx");
  await fill(page, { user: "once" });
  await page.dblclick("#submit");
  await page.press("#user", "Enter");
  await page.waitForSelector('#submit[aria-disabled="true"]');
  assert.equal(await page.textContent("#status"), sentence("en", "submit_busy"));
  release();
  await done(page);
  assert.equal(counted.posts, 1);
  assert.equal((await site.demo.account("once")).disabled, "1");
});

onPage(site, "a reload after it shows the same and sends nothing", async (page) => {
  const counted = countPosts(page, "signup.ashx");
  await fill(page, { user: "reloader" });
  await page.click("#submit");
  await done(page);
  const where = await page.textContent("#done-where");
  assert.match(where, /reloader@example\.org/);
  await page.reload();
  await done(page);
  assert.equal(await page.textContent("#done-where"), where);
  assert.equal(counted.posts, 1);
  await page.click("#again");
  assert.equal(await focused(page), "user");
  assert.equal(await page.inputValue("#user"), "");
  await page.reload();
  await sumOf(page);
  assert.equal(await page.isVisible("#done"), false);
});

onPage(site, "a reload before the answer says to look into the mail, and sends nothing", async (page) => {
  const counted = countPosts(page, "signup.ashx");
  await hold(page, "signup.ashx");
  await fill(page, { user: "impatient" });
  await page.click("#submit");
  await page.waitForFunction(() => sessionStorage.length > 0);
  await page.reload();
  assert.equal(await summary(page), sentence("en", "interrupted", { user: "impatient", email: "impatient@example.org" }));
  assert.equal(counted.posts, 1);
  await page.reload();
  await sumOf(page);
  assert.equal(await page.textContent("#summary"), "", "it is said once");
});

onPage(site, "back from another page: the filled form is still filled, a finished one still finished", async (page) => {
  const counted = countPosts(page, "signup.ashx");
  await fill(page, { user: "returner" });
  await page.click("text=Privacy");
  await page.waitForURL(/privacy/);
  await page.goBack();
  await sumOf(page);
  assert.equal(await page.inputValue("#user"), "returner");
  assert.equal(await page.inputValue("#email"), "returner@example.org");
  await fill(page, { user: "returner" });
  await page.click("#submit");
  await done(page);
  await page.goto(site.demo.url("login.html"));
  await page.goBack();
  await done(page);
  assert.equal(counted.posts, 1);
});

onPage(site, "a wrong address: start again, with an empty form and a new sum", async (page) => {
  await fill(page, { user: "mistaken", email: "wrong@example.org" });
  await page.click("#submit");
  await done(page);
  await page.click("#again");
  await fill(page, { user: "corrected" });
  await page.click("#submit");
  await done(page);
  assert.ok(await site.demo.mailTo("corrected@example.org"));
});

// --- typing -----------------------------------------------------------------------------------------

onPage(site, "a wrong value is said while typing pauses, and a suggestion is taken by a press", async (page) => {
  await page.focus("#user");
  await page.keyboard.type("Alice Müller");
  assert.match(await errorAt(page, "user"), /alice\.muller/);
  assert.equal(await focused(page), "user", "the typing goes on");
  await page.click("#suggestion");
  assert.equal(await page.inputValue("#user"), "alice.muller");
  assert.equal(await page.getAttribute("#user", "aria-invalid"), null);
  assert.equal(await page.isVisible("#suggestion"), false);
  assert.equal(await focused(page), "user");
  await page.fill("#password", "short");
  assert.equal(await errorAt(page, "password"), sentence("en", "password_short", { least: 10, count: 5 }));
});

test("the whole way with the keyboard alone; whatever has the focus shows it", async () => {
  const page = await openSignUp(site.browser, site.demo.url("signup.html"));
  const sum = await sumOf(page);
  const stops = [];
  const tab = async (key = "Tab") => {
    await page.keyboard.press(key);
    const [id, seen] = await page.evaluate(() => {
      const { outlineStyle, outlineWidth } = getComputedStyle(document.activeElement);
      return [document.activeElement.id || document.activeElement.textContent, outlineStyle !== "none" && parseFloat(outlineWidth) >= 2];
    });
    assert.ok(seen || id === "done-title" || id === "ask-title", `the focus on ${id} is not seen`);
    stops.push(id);
    return id;
  };
  await tab();
  for (const typed of ["Keys", "Key Board", "keys@example.org", "correct horse"]) {
    await tab();
    await page.keyboard.type(typed);
    if (typed === "Keys") {
      await tab();
      // The error came when the field was left, once the part that judges was there; the suggestion is
      // next to it.
      await page.waitForSelector("#suggestion", { state: "visible" });
      await tab("Shift+Tab");
      await page.keyboard.press("Enter");
      assert.equal(await page.inputValue("#user"), "keys");
    }
  }
  assert.equal(await tab(), "reveal");
  await page.keyboard.press("Space");
  assert.equal(await page.getAttribute("#password", "type"), "text");
  assert.equal(await tab(), "answer");
  await page.keyboard.type(String(sum));
  assert.equal(await tab(), "renew");
  assert.equal(await tab(), "submit");
  await page.keyboard.press("Space");
  await done(page);
  await page.waitForFunction(() => document.activeElement.id === "done-title");
  assert.equal(await tab(), "wrong");
  assert.equal(await tab(), "again");
  const { link } = await site.demo.mailTo("keys@example.org");
  await page.goto(link);
  await page.keyboard.press("Tab");
  await page.keyboard.press("Enter");
  await page.waitForURL(site.demo.url("login.html"));
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

// --- networks ---------------------------------------------------------------------------------------

test("a slow network: a word after some seconds, and what to do once it took too long", async () => {
  const page = await openSignUp(site.browser, "about:blank");
  await page.clock.install();
  await page.goto(site.demo.url("signup.html"));
  await fill(page, { user: "snail" });
  await hold(page, "signup.ashx");
  await page.click("#submit");
  await page.waitForSelector('#submit[aria-disabled="true"]');
  await page.waitForFunction(() => sessionStorage.length > 0);
  await page.clock.runFor(10_000);
  assert.equal(await page.innerText("#status"), sentence("en", "still_waiting"));
  await page.clock.runFor(31_000);
  assert.equal(await summary(page), sentence("en", "slow", { email: "snail@example.org" }));
  assert.equal(await page.inputValue("#user"), "snail");
  await page.context().close();
});

test("a sum that is long in coming is said to be, and the page goes on when it has come", async () => {
  const page = await openSignUp(site.browser, "about:blank");
  await page.clock.install();
  const release = await hold(page, "captcha.ashx");
  await page.goto(site.demo.url("signup.html"));
  await page.waitForFunction(() => texts.dir && document.getElementById("question").textContent);
  await page.clock.runFor(10_000);
  assert.equal(await page.innerText("#status"), sentence("en", "still_waiting"));
  release();
  await sumOf(page);
  assert.equal(await page.textContent("#status"), "");
  await page.context().close();
});

test("no network when the page has come: said at the sum; the part that sends is fetched once it is back", async () => {
  const page = await openSignUp(site.browser, site.demo.url("signup.html"));
  await sumOf(page);
  await page.context().setOffline(true);
  await page.fill("#user", "tunnel");
  await page.click("#renew");
  assert.equal(await errorAt(page, "answer"), sentence("en", "offline"));
  await page.click("#submit");
  assert.equal(await summary(page), sentence("en", "offline"));
  await page.context().setOffline(false);
  await page.click("#renew");
  await fill(page, { user: "tunnel" });
  await page.click("#submit");
  await done(page);
  await page.context().close();
});

// --- one more mail ----------------------------------------------------------------------------------

test("five minutes later the page offers the mail once more, counted down", async () => {
  const page = await openSignUp(site.browser, "about:blank");
  await page.clock.install();
  await page.goto(site.demo.url("signup.html"));
  await fill(page, { user: "waiting" });
  await page.click("#submit");
  await done(page);
  await page.waitForFunction(() => /[45]:\d\d/.test(document.getElementById("resend-wait").textContent));
  assert.equal(await page.isVisible("#resend"), false);
  await page.clock.runFor(61_000);
  assert.match(await page.textContent("#resend-wait"), /3:5\d/);
  await page.clock.runFor(240_000);
  await page.click("#resend");
  assert.equal(await page.inputValue("#user"), "waiting");
  assert.equal(await page.inputValue("#email"), "waiting@example.org");
  assert.equal(await page.isVisible("#password"), false);
  assert.equal(await focused(page), "answer");
  await sumOf(page);
  await page.fill("#answer", "99");
  await page.click("#submit");
  assert.equal(await errorAt(page, "answer"), sentence("en", "answer_wrong"));
  const sent = page.waitForRequest((request) => request.url().endsWith("resend.ashx") && request.method() === "POST");
  await page.fill("#answer", String(await sumOf(page)));
  await page.click("#submit");
  const body = new URLSearchParams((await sent).postData());
  assert.deepEqual([...body.keys()].sort(), ["captcha_answer", "captcha_token", "email", "user"]);
  await done(page);
  assert.equal(await page.textContent("#done-where"), sentence("en", "resend_sent"));
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("a host that sends no second mail says so, there and where a link leads", async (t) => {
  const off = await startFor(t, "--set", "resend = false");
  const page = await openSignUp(site.browser, off.url("signup.html"));
  await fill(page, { user: "single" });
  await page.click("#submit");
  await done(page);
  await page.waitForFunction(() => document.getElementById("resend-wait").textContent);
  assert.equal(await page.textContent("#resend-wait"), sentence("en", "resend_off"));
  await page.goto(off.url("signup.html?#resend"));
  await page.fill("#user", "single");
  await page.fill("#email", "single@example.org");
  await page.fill("#answer", String(await sumOf(page)));
  await page.click("#submit");
  assert.equal(await summary(page), sentence("en", "resend_off"));
  await page.context().close();
});

// --- a closed host, a program that is gone ----------------------------------------------------------

test("a closed host says so before anything is typed", async (t) => {
  const closed = await startFor(t, "--set", 'signups = "closed"');
  const page = await openSignUp(site.browser, closed.url("signup.html"));
  assert.match(await summary(page), /^Sign-up is closed at the moment\. Try again after .*\d/);
  await page.context().close();
});

test("502 from a real web server whose program is gone: said in words, and the form is kept", async () => {
  const gone = await Demo.start();
  const page = await openSignUp(site.browser, gone.url("signup.html"));
  await fill(page, { user: "survivor" });
  const ids = await Promise.all(["1", "2"].map(async (name) => Number(await readFile(`${gone.dir}/run/${name}.pid`, "utf8"))));
  // The script would stop all when a process ends; it sleeps through this.
  gone.process.kill("SIGSTOP");
  for (const id of ids) process.kill(id, "SIGKILL");
  await page.click("#submit");
  assert.equal(await summary(page), sentence("en", "unreachable"));
  assert.equal(await page.inputValue("#password"), "correct horse");
  gone.process.kill("SIGCONT");
  await gone.ended;
  await gone.clean();
  await page.context().close();
});

// --- scanners ---------------------------------------------------------------------------------------

/** Opens all that a mail names, as a scanner does before the person sees it. */
async function scan(file) {
  const raw = (await readFile(file, "utf8")).replace(/=\r\n/g, "").replace(/=3D/g, "=");
  const links = new Set(raw.match(/https?:\/\/[^\s"'<>]+/g));
  assert.ok(links.size >= 1);
  for (const link of links) {
    for (const method of ["HEAD", "GET", "HEAD", "GET"]) await (await fetch(link, { method })).text();
  }
}

test("a scanner opens every link first, activation by get: the person is told that the account is active, and it is", async () => {
  const page = await openSignUp(site.browser, site.demo.url("signup.html"));
  await fill(page, { user: "scanned" });
  await page.click("#submit");
  await done(page);
  const { file, link } = await site.demo.mailTo("scanned@example.org");
  assert.equal((await fetch(link, { method: "HEAD" })).status, 200);
  assert.equal((await site.demo.account("scanned")).disabled, "1", "a HEAD activates nothing");
  await scan(file);
  const answer = await page.goto(link);
  assert.equal(answer.status(), 400);
  assert.match(await page.innerText("main"), new RegExp(sentence("en", "page_refused_used").replace("?", "\\?")));
  assert.equal((await site.demo.account("scanned")).disabled, "0");
  await page.click("text=Sign in");
  await page.waitForURL(site.demo.url("login.html"));
  await page.context().close();
});

test("a scanner opens every link first, activation by click: nothing happens until the person presses the button", async (t) => {
  const click = await startFor(t, "--set", 'activation = "click"');
  const page = await openSignUp(site.browser, click.url("signup.html"));
  await fill(page, { user: "scanned" });
  await page.click("#submit");
  await done(page);
  const { file, link } = await click.mailTo("scanned@example.org");
  await scan(file);
  assert.equal((await click.account("scanned")).disabled, "1");
  await page.goto(link);
  await page.click("button");
  assert.equal(await page.textContent("h1"), sentence("en", "page_active_title"));
  assert.match(await page.innerText("main"), /scanned/);
  assert.equal((await click.account("scanned")).disabled, "0");
  // Back to the link: refused in words, the account stays.
  await page.goBack();
  assert.equal(await page.textContent("h1"), sentence("en", "page_refused_title"));
  assert.equal((await click.account("scanned")).disabled, "0");
  await page.context().close();
});
