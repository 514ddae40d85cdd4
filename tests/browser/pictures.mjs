// Takes the README's pictures of a demo: see pictures.sh, which makes them small.

import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { done, fill, launch, openSignUp, sumOf } from "./support/browser.mjs";
import { Demo, REPOSITORY } from "./support/demo.mjs";
import { htmlOf } from "./support/mail.mjs";

const PICTURES = join(REPOSITORY, "deploy/pictures");
const PHONE = { width: 360, height: 640 };
const ALICE = { user: "alice", name: "Alice Doe", email: "alice@example.org", password: "correct horse" };

await mkdir(PICTURES, { recursive: true });
const browser = await launch();
const demo = await Demo.start("--set", "signups_per_hour = 100");

async function take(page, name, options = {}) {
  await page.evaluate(() => document.activeElement.blur());
  await page.screenshot({ path: join(PICTURES, `${name}.png`), ...options });
}

const open = async (options) => {
  const page = await openSignUp(browser, demo.url("signup.html"), { locale: "en", colorScheme: "light", ...options });
  await sumOf(page);
  return page;
};

try {
  const desktop = await open({ viewport: { width: 1000, height: 700 } });
  await take(desktop, "page-desktop", { fullPage: true });

  const arabic = await open({ viewport: PHONE, locale: "ar", colorScheme: "dark" });
  await take(arabic, "page-phone-ar-dark", { fullPage: true });

  const phone = await open({ viewport: PHONE });
  await take(phone, "page-phone", { fullPage: true });
  await fill(phone, { ...ALICE, user: "Alice Doe", email: "alice@example" });
  await phone.click("#submit");
  await take(phone, "error-phone", { fullPage: true });
  await fill(phone, ALICE);
  await phone.click("#submit");
  await done(phone);
  await take(phone, "done-phone", { fullPage: true });

  const { file } = await demo.mailTo(ALICE.email);
  const mail = await browser.newPage({ viewport: { width: 560, height: 400 } });
  // The demo's own address says nothing to a reader of the README.
  await mail.setContent((await htmlOf(file)).replaceAll(demo.url("").slice(0, -1), "https://users.example.org").replaceAll("127.0.0.1", "users.example.org"));
  await take(mail, "mail", { fullPage: true });
} finally {
  await browser.close();
  await demo.stop();
}
