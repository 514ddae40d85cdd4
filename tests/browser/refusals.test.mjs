// Every refusal in words, at its field or above the form, and nothing that was typed is lost. What a
// running demo can refuse is refused by it; statuses that need a fault are put in its place.

import { test } from "node:test";
import assert from "node:assert/strict";
import { errorAt, fill, focused, onPage, openSignUp, siteForAll, summary } from "./support/browser.mjs";

const site = siteForAll();

/** Answers the sign-up's POST in the program's place. */
function answerSignUp(page, status, error, headers = {}, description = "For a developer.") {
  return page.route("**/signup.ashx", (route) =>
    route.fulfill({
      status, headers, contentType: "application/json; charset=utf-8",
      body: JSON.stringify({ error, error_description: description }),
    }));
}

/** What was typed stands after a refusal. */
async function assertKept(page, user) {
  assert.equal(await page.inputValue("#user"), user);
  assert.equal(await page.inputValue("#name"), "Alice Doe");
  assert.equal(await page.inputValue("#email"), `${user}@example.org`);
  assert.equal(await page.inputValue("#password"), "correct horse");
}

onPage(site, "an empty form is not sent; each field says what it wants and the first has the focus", async (page) => {
  let posts = 0;
  page.on("request", (request) => { posts += request.method() === "POST"; });
  await page.click("#submit");
  assert.match(await summary(page), /^5 things still need your attention/);
  for (const field of ["user", "name", "email", "password", "answer"]) {
    assert.ok(await errorAt(page, field));
    const described = await page.getAttribute(`#${field}`, "aria-describedby");
    assert.ok(described.split(" ").includes(`${field}-error`));
  }
  assert.equal(await focused(page), "user");
  assert.equal(posts, 0);
});

onPage(site, "a field that breaks a rule says so when it is left, and is quiet again once mended", async (page) => {
  const wrong = {
    user: ["Alice Smith", /alice\.smith/], email: ["alice", /e-mail/], password: ["short", /at least 10/], answer: ["eight", /digits/],
  };
  for (const [field, [value, sentence]] of Object.entries(wrong)) {
    await page.fill(`#${field}`, value);
    await page.press(`#${field}`, "Tab");
    assert.match(await errorAt(page, field), sentence);
  }
  await page.fill("#user", "root");
  await page.press("#user", "Tab");
  assert.match(await errorAt(page, "user"), /kept for the people/);
  await page.fill("#user", "alice.smith");
  assert.equal(await page.getAttribute("#user", "aria-invalid"), null);
});

onPage(site, "a press on the button counts although an error appears above it at that moment", async (page) => {
  await fill(page, { user: "Upper" });
  await page.press("#answer", "Tab");
  await page.focus("#email");
  await page.fill("#email", "nonsense");
  await page.click("#submit");
  assert.match(await summary(page), /^2 things still need your attention/);
});

onPage(site, "a wrong sum brings a new one and loses nothing else", async (page) => {
  await fill(page, { user: "wrong.sum", answer: 99 });
  await page.click("#submit");
  assert.match(await errorAt(page, "answer"), /not the sum/);
  assert.equal(await page.inputValue("#answer"), "");
  assert.equal(await focused(page), "answer");
  await assertKept(page, "wrong.sum");
});

onPage(site, "a taken name is refused at its field, and the same form goes through with another", async (page) => {
  assert.equal((await site.demo.signUp("taken")).status, 200);
  await fill(page, { user: "taken" });
  await page.click("#submit");
  assert.match(await errorAt(page, "user"), /taken/);
  assert.equal(await focused(page), "user");
  await assertKept(page, "taken");
  await page.fill("#user", "not.taken");
  await page.click("#submit");
  await page.waitForSelector("#done:not([hidden])");
});

onPage(site, "the server's word about a field is shown at that field", async (page) => {
  await fill(page, { user: "alice" });
  for (const [field, description] of [["name", "name is not well-formed"], ["email", "email is not one plain address"], ["user", "user is reserved"]]) {
    await answerSignUp(page, 400, "invalid_request", {}, description);
    await page.click("#submit");
    assert.ok(await errorAt(page, field));
    assert.equal(await focused(page), field);
    await page.unroute("**/signup.ashx");
    await page.fill(`#${field}`, await page.inputValue(`#${field}`));
  }
});

const SENTENCES = [
  [413, "payload_too_large", {}, /too much text/],
  [421, "unknown_host", {}, /sign up at this address \(127\.0\.0\.1/],
  [429, "rate_limited", { "Retry-After": "1200" }, /Try again in 20 minutes, after .*\d/],
  [500, "server_error", {}, /No account was made/],
  [502, "server_error", {}, /cannot be reached/],
  [503, "signups_closed", { "Retry-After": "86400" }, /closed/],
  [504, "server_error", {}, /cannot be reached/],
];
for (const [status, error, headers, sentence] of SENTENCES) {
  onPage(site, `${status} ${error} has its own sentence and keeps the form`, async (page) => {
    await answerSignUp(page, status, error, headers);
    await fill(page, { user: "alice" });
    await page.click("#submit");
    assert.match(await summary(page), sentence);
    assert.equal(await focused(page), "summary");
    await assertKept(page, "alice");
  });
}

onPage(site, "no network is said in words, and the same form goes out once it is back", async (page) => {
  await fill(page, { user: "offline" });
  await page.context().setOffline(true);
  await page.click("#submit");
  assert.match(await summary(page), /no connection/);
  await assertKept(page, "offline");
  await page.context().setOffline(false);
  await page.click("#submit");
  await page.waitForSelector("#done:not([hidden])");
});

test("an unknown host is said before anything is typed", async () => {
  const page = await openSignUp(site.browser, site.demo.url("signup.html", "unknown.example"));
  assert.match(await errorAt(page, "answer"), /sign up at this address \(unknown\.example/);
  await page.context().close();
});

// After two accounts above; the demo's limit is three an hour.
onPage(site, "the fourth account of an hour is refused with the time of the next", async (page) => {
  for (const user of ["third", "fourth"]) await site.demo.signUp(user);
  await fill(page, { user: "fifth" });
  await page.click("#submit");
  assert.match(await summary(page), /Try again in \d+ minutes, after .*\d/);
});
