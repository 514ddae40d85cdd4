// Whose account this is: `codeb-signup pages` writes a name and a logo into the static pages. And the privacy
// page in every language, with what the operator filled in once.

import { execFile } from "node:child_process";
import { cp, readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import assert from "node:assert/strict";
import { fits, openSignUp, sentence, SITE, siteForAll, TAGS, textsOf, violations } from "./support/browser.mjs";
import { REPOSITORY } from "./support/demo.mjs";

const LOGO = "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 80 40'><rect width='80' height='40' rx='8' fill='#0b6455'/></svg>";
const PAGES = ["signup.html", "login.html", "privacy.html", "404.html"];
const site = siteForAll();

/** Runs the demo's program with its configuration. */
const run = (...words) => promisify(execFile)(join(site.demo.dir, "bin/codeb-signup"), words, { cwd: site.demo.dir });

test("each page names the site, in its head and in its title; without a name it is the host", async () => {
  await cp(join(REPOSITORY, "nginx/html"), join(site.demo.dir, "html/plain"), { recursive: true });
  for (const [folder, name] of [["", SITE], ["plain/", "127.0.0.1"]]) {
    for (const file of PAGES.slice(0, 3)) {
      const page = await openSignUp(site.browser, site.demo.url(folder + file));
      await page.waitForFunction(() => document.title.includes("–"));
      assert.equal(await page.textContent("#site"), name);
      assert.ok((await page.title()).endsWith(` – ${name}`));
      assert.equal(await page.isVisible("#logo"), false);
      await page.context().close();
    }
  }
});

test("a name and a logo of the configuration are in every page that `pages` writes, and only there", async () => {
  const { dir } = site.demo;
  const config = (await readFile(join(dir, "config.toml"), "utf8")).replace(`"${SITE}"`, '"Bücher & <Co>"\nlogo = "/logo.svg"').replace(/(base_url = "[^"]*)"/, '$1/join"');
  await writeFile(join(dir, "named.toml"), config);
  await run("pages", "--config", "named.toml", "--tenant", "127.0.0.1", "--to", "html/named");
  for (const file of PAGES) {
    const html = await readFile(join(dir, "html/named", file), "utf8");
    assert.ok(html.includes('<span id="site">Bücher &amp; &lt;Co&gt;</span>'), file);
    assert.ok(html.includes('<img id="logo" alt="" src="/logo.svg">'), file);
    assert.equal((await stat(join(dir, "html/named", file))).mode & 0o777, 0o644, "the web server reads it");
  }
  assert.match(await readFile(join(dir, "html/named/404.html"), "utf8"), /href="\/join\/signup\.css"/);
  assert.deepEqual(await readFile(join(dir, "html/named/signup.js")), await readFile(join(REPOSITORY, "nginx/html/signup.js")));

  await writeFile(join(dir, "html/logo.svg"), LOGO);
  await run("pages", "--config", "named.toml", "--to", "html/named");
  const page = await openSignUp(site.browser, site.demo.url("named/signup.html"), { viewport: { width: 360, height: 640 } });
  await page.waitForFunction(() => document.title === "Create your account – Bücher & <Co>");
  await page.waitForFunction(() => document.getElementById("logo").naturalWidth > 0);
  assert.equal(await page.isVisible("#logo"), true);
  assert.ok(await fits(page));
  assert.deepEqual(await violations(page), []);
  assert.deepEqual(page.faults, []);
  await page.context().close();
});

test("`pages` writes nothing into the directory that it reads", async () => {
  const { dir } = site.demo;
  await writeFile(join(dir, "itself.toml"), (await readFile(join(dir, "config.toml"), "utf8")).replace(/html = .*/, `html = "${dir}/html"`));
  const failed = await run("pages", "--config", "itself.toml", "--to", "html/below").then(() => assert.fail("it was not refused"), (error) => error);
  assert.equal(failed.code, 64);
  assert.match(failed.stderr, /name a directory outside it/);
});

test("the privacy page speaks every language, with what was filled in once", async () => {
  const { dir } = site.demo;
  const source = await readFile(join(REPOSITORY, "nginx/html/privacy.html"), "utf8");
  const filled = source.replace("[14]", "7").replace(/>\[Name, postal[^\]]*\]/, ">Alice, 1 High Street").replace(/>\[Name and web[^\]]*\]/, ">The authority");
  assert.doesNotMatch(filled.replace(/<!--.*?-->/gs, ""), /\[/);
  await writeFile(join(dir, "html/privacy.html"), filled);
  for (const tag of TAGS) {
    const page = await openSignUp(site.browser, site.demo.url("privacy.html"), { locale: tag, viewport: { width: 360, height: 640 } });
    await page.waitForFunction((lang) => document.documentElement.lang === lang, tag);
    const text = await page.innerText("main");
    for (const key of Object.keys(textsOf(tag)).filter((one) => one.startsWith("privacy_") && one !== "privacy_back")) {
      assert.ok(text.replace(/[\u2066-\u2069]/g, "").includes(sentence(tag, key, { log_days: 7, count: 7 })), `${tag}: ${key}`);
    }
    assert.match(text, /Alice, 1 High Street/);
    assert.deepEqual(await violations(page), []);
    assert.ok(await fits(page));
    assert.deepEqual(page.faults, []);
    await page.context().close();
  }
});

test("`check` tells what nobody filled in, and is quiet once somebody has", async () => {
  const { stderr } = await run("check", "--config", "config.toml");
  assert.equal(stderr.match(/html: has \[/g).length, 3, stderr);
  assert.match(stderr, /html: has \[14\] in .*privacy\.html, line \d+ \(replace it/);
  const { dir } = site.demo;
  await cp(join(REPOSITORY, "nginx/html"), join(dir, "finished"), { recursive: true });
  const page = (await readFile(join(dir, "finished/privacy.html"), "utf8")).replace(/\[(?!brackets)[^\]]*\]/g, "done");
  await writeFile(join(dir, "finished/privacy.html"), page);
  await writeFile(join(dir, "finished.toml"), (await readFile(join(dir, "config.toml"), "utf8")).replace(/html = .*/, `html = "${dir}/finished"`));
  assert.doesNotMatch((await run("check", "--config", "finished.toml")).stderr, /html:/);
});

