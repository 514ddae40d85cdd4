// Passwords that are guessed first are refused with the reason; phrases and random ones are not. What
// knows them comes late.

import { test } from "node:test";
import assert from "node:assert/strict";
import { countPosts, errorAt, fill, onPage, sentence, siteForAll, sumOf } from "./support/browser.mjs";

const site = siteForAll();

const WEAK = {
  password_pattern: ["aaaaaaaaaa", "ababababab", "abcdefghij", "1234567890", "0987654321", "qwertyuiop", "asdfghjkl1", "qwerty12345", "hello1hello1", "31121985123",
    "zyxwvutsrq", "azertyuiop"],
  password_common: ["password12", "Password123!", "p4ssw0rd2024", "iloveyou2023", "Passwort99!", "motdepasse1", "welcome2024", "1q2w3e4r5t", "sunshine!!", "letmein1234"],
  password_personal: ["alice.doe12", "alice.doe@example.org", "AliceDoe2024", "123alicedoe"],
};
const GOOD = ["correct horse", "Tr0ub4dor&3x", "vier Esel im Heu", "pässwörd: & 100 % 🔑", "xkQ9-7fTz-Lp2m", "alice likes tea and jam", "はやおきのとりはむしをたべる", "password for my garden shed"];

onPage(site, "weak passwords are refused, each with its reason; good ones are not", async (page) => {
  await fill(page, { user: "alice.doe" });
  await page.evaluate(() => fetchRest());
  const broken = (all) => page.evaluate((values) => values.map((value) => brokenRule("password", value)), all);
  for (const [reason, all] of Object.entries(WEAK)) {
    const found = await broken(all);
    assert.deepEqual(all.map((password, at) => [password, found[at]]), all.map((password) => [password, reason]));
  }
  assert.deepEqual((await broken(GOOD)).map((reason, at) => [GOOD[at], reason]), GOOD.map((password) => [password, null]));
});

onPage(site, "a form with a weak password is not sent, and the reason stands at the field", async (page) => {
  const counted = countPosts(page, "signup.ashx");
  await fill(page, { user: "weak", password: "password12" });
  await page.click("#submit");
  assert.equal(await errorAt(page, "password"), sentence("en", "password_common"));
  await page.fill("#password", "aaaaaaaaaa");
  await page.press("#password", "Tab");
  await page.waitForFunction((text) => document.getElementById("password-error").textContent === text, sentence("en", "password_pattern"));
  assert.equal(counted.posts, 0);
});

onPage(site, "the list of passwords is not part of the first paint", async (page) => {
  const asked = [];
  page.on("request", (request) => asked.push(request.url()));
  await page.reload();
  await sumOf(page);
  assert.ok(!asked.some((url) => url.endsWith("signup-rules.js")), asked.join(" "));
  await page.focus("#user");
  await page.waitForFunction(() => typeof brokenRule === "function");
  assert.ok(asked.some((url) => url.endsWith("signup-rules.js")));
});

test("no word of the list is shorter than what rules out by itself", async () => {
  const page = await site.browser.newPage();
  await page.goto(site.demo.url("signup.html"));
  await page.evaluate(() => fetchRest());
  assert.ok(await page.evaluate(() => COMMON.size >= 200 && [...COMMON].every((word) => word.length >= 4 && word === word.toLowerCase())));
  await page.close();
});
