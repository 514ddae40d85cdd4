// The page's own MD5, run in the browser: RFC 1321's vectors, every length around a block's end, and
// 1,000 random strings of all planes against another implementation.

import { createHash, randomInt } from "node:crypto";
import { join } from "node:path";
import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { launch } from "./support/browser.mjs";
import { REPOSITORY } from "./support/demo.mjs";

let browser;
let page;

before(async () => {
  browser = await launch();
  page = await browser.newPage();
  await page.goto(`file://${join(REPOSITORY, "nginx/html/signup.html")}`);
  await page.evaluate(() => fetchScript("signup-rules.js"));
});
after(() => browser.close());

const inPage = (texts) => page.evaluate((list) => list.map((text) => md5(text)), texts);
const elsewhere = (texts) => texts.map((text) => createHash("md5").update(text, "utf8").digest("hex"));

test("the page's MD5 gives RFC 1321's test suite", async () => {
  const suite = {
    "": "d41d8cd98f00b204e9800998ecf8427e",
    a: "0cc175b9c0f1b6a831c399e269772661",
    abc: "900150983cd24fb0d6963f7d28e17f72",
    "message digest": "f96b697d7cb7938d525a2f31aaf161d0",
    abcdefghijklmnopqrstuvwxyz: "c3fcd3d76192e4007dfb496cca67e13b",
    ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789: "d174ab98d277d9f5a5611c2c9f419d9f",
    "12345678901234567890123456789012345678901234567890123456789012345678901234567890": "57edf4a22be3c955ac49da2e2107b67a",
  };
  assert.deepEqual(await inPage(Object.keys(suite)), Object.values(suite));
});

test("the page's MD5 is right at every length around the ends of blocks", async () => {
  const texts = Array.from({ length: 200 }, (_, length) => "x".repeat(length));
  assert.deepEqual(await inPage(texts), elsewhere(texts));
});

test("the page's MD5 is right for 1,000 random strings of UTF-8", async () => {
  const planes = [[0x20, 0x7f], [0x80, 0x800], [0x800, 0xd800], [0xe000, 0x10000], [0x10000, 0x110000]];
  const character = () => {
    const [from, to] = planes[randomInt(planes.length)];
    return String.fromCodePoint(randomInt(from, to));
  };
  const texts = Array.from({ length: 1000 }, () => Array.from({ length: randomInt(120) }, character).join(""));
  assert.deepEqual(await inPage(texts), elsewhere(texts));
});
