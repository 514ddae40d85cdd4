// The mail's HTML in a browser, in every language: a picture of each in target/screenshots, what axe-core
// finds, what it would fetch, where it leads.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { after, before, test } from "node:test";
import assert from "node:assert/strict";
import { fits, launch, plain, TAGS, textsOf, violations } from "./support/browser.mjs";
import { Demo, REPOSITORY } from "./support/demo.mjs";
import { htmlOf } from "./support/mail.mjs";

const PICTURES = join(REPOSITORY, "target/screenshots");
let browser;
let demo;

before(async () => {
  await mkdir(PICTURES, { recursive: true });
  browser = await launch();
  demo = await Demo.start("--set", "signups_per_hour = 100");
});
after(async () => {
  await browser.close();
  await demo.stop();
});

for (const tag of TAGS) {
  test(`the mail in ${tag} is read on a phone, light and dark, and fetches nothing`, async () => {
    assert.equal((await demo.signUp(`mail-${tag}`, tag)).status, 200);
    const { file, link } = await demo.mailTo(`mail-${tag}@example.org`);
    const html = await htmlOf(file);
    for (const colorScheme of ["light", "dark"]) {
      const page = await browser.newPage({ colorScheme, viewport: { width: 360, height: 640 } });
      const asked = [];
      page.on("request", (request) => asked.push(request.url()));
      await page.setContent(html);
      await page.screenshot({ path: join(PICTURES, `mail-${tag}-${colorScheme}.png`), fullPage: true });
      // A mail has no landmarks and no headings of a page.
      const found = (await violations(page)).filter((one) => !/^(region|landmark-one-main|page-has-heading-one):/.test(one));
      assert.deepEqual(found, []);
      assert.ok(await fits(page));
      assert.deepEqual(asked, []);
      assert.deepEqual(await page.evaluate(() => [document.documentElement.lang, document.documentElement.dir]), [tag, textsOf(tag).dir]);
      assert.deepEqual(await page.$$eval("a", (links) => links.map((one) => one.getAttribute("href"))), [link, link]);
      assert.ok(plain(await page.innerText("body")).includes(link), "the link can be read");
      await page.close();
    }
  });
}
