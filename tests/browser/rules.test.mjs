// The page's rules against the server's verdicts, on more than 500 strings a field. With a captcha that
// is none the server makes no account: a form that is well fails there, any other is refused before.

import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { launch, openSignUp } from "./support/browser.mjs";
import { Demo } from "./support/demo.mjs";

const GOOD = { user: "alice", name: "Alice Doe", email: "alice@example.org", ha1: "0".repeat(32), captcha_token: "none", captcha_answer: "0" };
const AT_ONCE = 16;
let browser;
let demo;
let page;

before(async () => {
  browser = await launch();
  demo = await Demo.start();
  page = await openSignUp(browser, demo.url("signup.html"));
  await page.evaluate(() => fetchRest());
});
after(async () => {
  await browser.close();
  await demo.stop();
});

/** Numbers that look random and are the same in every run (xorshift). */
function numbers(seed) {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** `count` strings of up to `longest` pieces. */
function strings(seed, count, longest, pieces) {
  const next = numbers(seed);
  return Array.from({ length: count }, () => Array.from({ length: 1 + next(longest) }, () => pieces[next(pieces.length)]).join(""));
}

const ODD = ["\0", "\t", "\n", "\r", "\x7f", "\x85", "\xa0", "\xad", "\u200b", "\u200d", "\u200e", "\u2028", "\u2029", "\u202a", "\u202e",
  "\u2066", "\u2069", "\u206a", "\u3000", "\ufeff", "\ufffd", "\u061c", "\u1680", "é", "ß", "İ", "ı", "ſ", "ＡＢ", "中", "🔑", "👩‍👩‍👧", "e\u0301"];
const RESERVED = ["admin", "administrator", "root", "system", "postmaster", "hostmaster", "webmaster", "abuse", "security", "noreply", "no-reply",
  "anonymous", "guest", "nobody", ".", ".."];

const USERS = [
  "", ...RESERVED, ...RESERVED.map((name) => name.toUpperCase()), ...RESERVED.map((name) => `${name}1`), ...RESERVED.map((name) => ` ${name}`),
  "...", "-", "_", "a".repeat(63), "a".repeat(64), "a".repeat(65), "a".repeat(1000), "é".repeat(32), "Alice", "alice ", "alice\n", "a:b", "a/b", "a@b",
  ...ODD, ...ODD.map((odd) => `a${odd}b`), ...strings(11, 220, 6, [..."abz019._-", "A", " ", "é"]), ...strings(12, 180, 70, [..."abcxyz0189_.-"]),
];

const NAMES = [
  "", " ", "   ", "\u3000", "\xa0", "\ufeff", "\u200b", "x".repeat(119), "x".repeat(120), "x".repeat(121), "ß".repeat(120), "🔑".repeat(120), "🔑".repeat(121),
  ` ${"x".repeat(120)} `, ` ${"x".repeat(121)}`, "\u3000Alice\u3000", "<b>Alice</b>", "Alice & Bob", "=1+1", "%00", "+", ...ODD, ...ODD.map((odd) => `A${odd}B`),
  ...ODD.map((odd) => `${odd}B`), ...ODD.map((odd) => `A${odd}`), ...ODD.map((odd) => odd.repeat(121)),
  ...strings(21, 250, 8, ["A", "b", " ", "'", "-", ".", ...ODD]), ...strings(22, 150, 130, ["A", "é", "🔑", " ", "中"]),
];

const LOCALS = ["a", "alice.doe", "a+b", "a_b-c", "!#$%&'*+-/=?^_`{|}~", ".a", "a.", "a..b", "\"a b\"", "a b", "a@b", "ä", "", "a".repeat(64), "a".repeat(65),
  "a,b", "a(b)", "a<b", "a\\b", "A"];
const DOMAINS = ["example.org", "EXAMPLE.org", "example", "a.b", "a..b", ".a.b", "a.b.", "-a.b", "a-.b", "a_b.org", "1.2.3.4", "[1.2.3.4]", "a.1", "xn--bcher-kva.example",
  "xn--a.example", "bücher.example", "BÜCHER.example", "straße.example", "例え.テスト", "a。例え", "ａ.ｂ", "１.２.３.４", "ü.1", "ü%2e.example", "ü:80.example", "ü/.example", "ü .example",
  "☃.example", "🔑.example", "مثال.إختبار", "ü-.example", "-ü.example", "ü", "ü..example", "ü.example.", "ü\u200d.example", "\u00ad.ü", "ü＠b.example", "ü／b.example", "ﬁ.example",
  `${"a".repeat(63)}.example`, `${"a".repeat(64)}.example`, `${"ü".repeat(40)}.example`, `${"ü".repeat(60)}.example`, `ü.${"a.".repeat(110)}org`, `${"a.".repeat(94)}org`,
  `${"a.".repeat(95)}org`, `${"a.".repeat(123)}org`, `${"a.".repeat(125)}org`, "a b.org", "a.org,b@c.org", "a.org\r\nBcc: x@y.org", "ü_.example", "ب1.example", "1ب.example"];
const EMAILS = [
  "", "a", "@", "@a.b", "a@", "a@@b.c", "Alice <a@b.c>", "mailto:a@b.c", " a@b.c", "a@b.c ", "a@b.c\n",
  ...LOCALS.map((local) => `${local}@example.org`), ...DOMAINS.map((domain) => `a@${domain}`), ...DOMAINS.map((domain) => `${"b".repeat(60)}@${domain}`),
  ...ODD.map((odd) => `a${odd}@b.example`), ...ODD.map((odd) => `a@b${odd}.example`), ...ODD.map((odd) => `a@b.example${odd}`),
  ...strings(31, 220, 10, [..."aB1.-_@@..", " ", "ü"]), ...strings(32, 220, 5, ["a", "1", "-", ".", "@b", "ü", "ß", "中", "xn--"]).map((tail) => `a@${tail}.example`),
];

/** The server's verdict: null, "required", or what it says about the field. */
async function verdict(field, value) {
  const answer = await fetch(demo.url("signup.ashx"), { method: "POST", body: new URLSearchParams({ ...GOOD, [field]: value }) });
  const { error, error_description: description } = await answer.json();
  if (error === "captcha_failed") return null;
  assert.equal(error, "invalid_request", JSON.stringify(value));
  if (description === "user, name, email, ha1, captcha_token, captcha_answer required") return "required";
  assert.ok(description.startsWith(`${field} `), `${JSON.stringify(value)}: ${description}`);
  return description;
}

/** What the page's rule must say where the server says this. */
function fitting(field, value, said) {
  if (said === null) return [null];
  if (said === "required") return [`${field}_empty`];
  if (field === "user") return [/reserved/.test(said) ? "user_reserved" : "user_shape"];
  return [`${field}_shape`, ...(field === "name" ? ["name_empty"] : [])];
}

for (const [field, list] of Object.entries({ user: USERS, name: NAMES, email: EMAILS })) {
  test(`the page and the server judge alike about ${field}`, async () => {
    const values = [...new Set(list)];
    assert.ok(values.length >= 500, `${values.length} strings`);
    const pages = await page.evaluate(([of, all]) => all.map((value) => brokenRule(of, value)), [field, values]);
    const differ = [];
    let accepted = 0;
    for (let at = 0; at < values.length; at += AT_ONCE) {
      const some = values.slice(at, at + AT_ONCE);
      const said = await Promise.all(some.map((value) => verdict(field, value)));
      said.forEach((server, i) => {
        accepted += server === null;
        if (!fitting(field, some[i], server).includes(pages[at + i])) differ.push({ value: some[i], server, page: pages[at + i] });
      });
    }
    assert.deepEqual(differ, []);
    assert.ok(accepted >= 50 && accepted <= values.length - 100, `${accepted} of ${values.length} are good`);
  });
}

test("a suggested user name is one that the rules take, and near to what was typed", async () => {
  const typed = { "Alice Smith": "alice.smith", "Müller": "muller", "Strauß": "strauss", "Łukasz": "lukasz", "  JOE  ": "joe", "a@b.c": "ab.c", "Ｊｏｅ": "joe" };
  const near = (names) => page.evaluate((all) => all.map((name) => nearUser(name)), names);
  assert.deepEqual(await near(Object.keys(typed)), Object.values(typed));
  assert.deepEqual(await near(["Root", "中文", "..", "!", ""]), [null, null, null, null, null]);
  const many = await near(USERS);
  const broken = await page.evaluate((all) => all.map((name) => name !== null && brokenRule("user", name)), many);
  assert.ok(broken.every((rule) => !rule));
});

test("a sum may be typed in the digits of any keyboard", async () => {
  for (const typed of ["12", " 12 ", "١٢", "۱۲", "１２", "+12"]) {
    await page.fill("#answer", typed);
    assert.equal(Number(await page.evaluate(() => valueOf("answer"))), 12);
    assert.equal(await page.evaluate(() => brokenRule("answer", valueOf("answer"))), null);
  }
});
