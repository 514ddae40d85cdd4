// The visitor's way through the real demo: form, mail, link, sign-in page; the password never leaves.

import { createHash } from "node:crypto";
import { cp, readFile } from "node:fs/promises";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import assert from "node:assert/strict";
import { fill, launch, openSignUp } from "./support/browser.mjs";
import { Demo } from "./support/demo.mjs";

const PASSWORD = "pässwörd: & 100 % 🔑";
let browser;

before(async () => { browser = await launch(); });
after(() => browser.close());

/** Everything that a page sends, as one text a request. */
function listen(page) {
  const sent = [];
  page.on("request", async (request) => {
    sent.push([request.method(), request.url(), JSON.stringify(await request.allHeaders()), request.postData() ?? ""].join("\n"));
  });
  return sent;
}

/** The shapes in which a password could hide in a request. */
function disguises(password) {
  const bytes = Buffer.from(password, "utf8");
  return [
    password, encodeURIComponent(password), new URLSearchParams({ p: password }).toString().slice(2),
    JSON.stringify(password).slice(1, -1), bytes.toString("base64").replace(/=+$/, ""), bytes.toString("hex"),
  ];
}

/** Signs up at `url`, follows the mail's link, lands on the sign-in page. */
async function wholeWay(demo, url, user, realm) {
  const page = await openSignUp(browser, url);
  const sent = listen(page);
  await fill(page, { user, name: "Ålice Doe", password: PASSWORD });
  await page.click("#submit");
  await page.waitForSelector("#done:not([hidden])");
  assert.match(await page.textContent("#done-where"), new RegExp(`${user}@example\\.org`));
  assert.equal(await page.inputValue("#password"), "", "the password is forgotten once the form went through");

  const { link } = await demo.mailTo(`${user}@example.org`);
  assert.ok(link.startsWith(demo.url("activate.ashx?token=")), "the link has the configured base_url");
  const pending = await demo.account(user);
  assert.equal(pending.disabled, "1");
  assert.equal(pending.role, "guest");
  assert.equal(pending.ha1, createHash("md5").update(`${user}:${realm}:${PASSWORD}`, "utf8").digest("hex"));

  const activation = await page.goto(link);
  assert.equal(activation.status(), 200);
  await page.waitForURL(demo.url("login.html"));
  assert.match(await page.textContent("h1:visible"), /ready/);
  assert.equal((await demo.account(user)).disabled, "0");
  const view = await readFile(join(demo.dir, "state/htdigest"), "utf8");
  assert.ok(view.includes(`${user}:${realm}:${pending.ha1}\n`), "the view has the account");

  const again = await page.goto(link);
  assert.equal(again.status(), 400, "a link works once");
  assert.ok(sent.some((request) => request.includes("/signup.ashx") && request.includes(`user=${user}`)));
  for (const disguise of disguises(PASSWORD)) {
    assert.ok(!sent.some((request) => request.includes(disguise)), "a request carries the password");
  }
  assert.deepEqual(page.faults, []);
  await page.context().close();
}

describe("with the realm of the host", () => {
  let demo;
  before(async () => { demo = await Demo.start(); });
  after(() => demo.stop());

  test("a visitor of the alias host gets from the form to the sign-in page", () =>
    wholeWay(demo, demo.url("signup.html"), "alice", "localhost"));

  test("the page works below a path", async () => {
    await cp(join(demo.dir, "html"), join(demo.dir, "below/a/path"), { recursive: true });
    await cp(join(demo.dir, "below"), join(demo.dir, "html"), { recursive: true });
    await wholeWay(demo, demo.url("a/path/signup.html"), "path.finder", "localhost");
  });
});

describe("with a realm that is no host", () => {
  let demo;
  before(async () => { demo = await Demo.start("--realm", "users of example"); });
  after(() => demo.stop());

  test("the HA1 is computed with the realm that the captcha names", () =>
    wholeWay(demo, demo.url("signup.html", "localhost"), "bob", "users of example"));
});
