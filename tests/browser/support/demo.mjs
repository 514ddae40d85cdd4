// Runs deploy/demo.sh on a free port in a directory of its own, and stops it as a person would.

import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import assert from "node:assert/strict";

export const REPOSITORY = fileURLToPath(new URL("../../..", import.meta.url));
const PROFILE = process.env.CODEB_SIGNUP_PROFILE ?? "dev";
const BUILT_WITHIN_MS = 600_000;
const MAIL_WITHIN_MS = 20_000;

/** A port that was free a moment ago. */
export function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

// A test that fails before it stops its demo must neither hang nor leave it running.
const running = new Set();
process.on("exit", () => {
  for (const demo of running) for (const signal of ["SIGCONT", "SIGTERM"]) demo.process.kill(signal);
});
process.once("SIGTERM", () => process.exit(1));

/** A running demo: `url(path)`, `mailTo(address)`, `account(user)`, `stop()`. */
export class Demo {
  static async start(...flags) {
    const demo = new Demo();
    const at = flags.indexOf("--dir");
    demo.dir = at < 0 ? await mkdtemp(join(tmpdir(), "codeb-demo-")) : flags[at + 1];
    demo.port = await freePort();
    demo.lines = [];
    demo.said = "";
    const script = join(REPOSITORY, "deploy/demo.sh");
    demo.process = spawn(script, ["--port", String(demo.port), "--dir", demo.dir, "--profile", PROFILE, ...flags]);
    demo.exit = new Promise((resolve) => demo.process.once("exit", resolve));
    running.add(demo);
    demo.exit.then(() => running.delete(demo));
    for (const handle of [demo.process, demo.process.stdout, demo.process.stderr]) handle.unref();
    demo.process.stderr.on("data", (data) => { demo.said += data; });
    createInterface({ input: demo.process.stdout }).on("line", (line) => demo.lines.push(line));
    await demo.until(() => demo.lines.includes(`ready: ${demo.url("signup.html")}`), BUILT_WITHIN_MS, "ready:");
    return demo;
  }

  /** Its exit code, once it has ended. */
  get ended() {
    this.process.ref();
    return this.exit;
  }

  url(path, host = "127.0.0.1") {
    return `http://${host}:${this.port}/${path}`;
  }

  /** Waits until `found` gives something; fails when the demo ends or the time is over. */
  async until(found, within, what) {
    let over = false;
    this.exit.then(() => { over = true; });
    for (const end = Date.now() + within; Date.now() < end;) {
      const value = await found();
      if (value) return value;
      assert.ok(!over, `the demo ended before ${what}:\n${this.said}`);
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
    throw new Error(`no ${what} within ${within} ms:\n${this.said}`);
  }

  /** The file and the link of the mail to an address, as the demo tells them. */
  mailTo(address) {
    const told = async () => {
      for (const line of this.lines) {
        const [, file, link] = /^mail: (\S+) (\S+)$/.exec(line) ?? [];
        if (file && (await readFile(file, "utf8")).includes(`\nTo: ${address}\r\n`)) return { file, link };
      }
      return null;
    };
    return this.until(told, MAIL_WITHIN_MS, "mail for the new account");
  }

  /** An account's line in the credentials file, in its parts. */
  async account(user) {
    const lines = (await readFile(join(this.dir, "state/credentials"), "utf8")).split("\n");
    const line = lines.findLast((text) => text.startsWith(`${user}:`));
    if (!line) return null;
    const [, realm, ha1, disabled, role] = line.split(":");
    return { realm, ha1, disabled, role };
  }

  /** The sign-up of the README's curl lines: for accounts that a test needs beside the page's. */
  async signUp(user, lang = "en") {
    const { question, token } = await (await fetch(this.url("captcha.ashx"))).json();
    const answer = question.match(/\d+/g).map(Number).reduce((a, b) => a + b);
    const body = new URLSearchParams({
      lang, user, name: "Somebody", email: `${user}@example.org`, ha1: "0".repeat(32), captcha_token: token, captcha_answer: String(answer),
    });
    return fetch(this.url("signup.ashx"), { method: "POST", body });
  }

  /** Ends it with SIGTERM, as a program would, and removes its directory. */
  async stop() {
    await this.end("SIGTERM");
    await this.clean();
  }

  /** Ends it with SIGINT, as a person would; its directory stays. */
  interrupt() {
    return this.end("SIGINT");
  }

  async end(signal) {
    this.process.kill(signal);
    assert.equal(await this.ended, 0, `the demo's exit code after ${signal}:\n${this.said}`);
  }

  async clean() {
    await rm(this.dir, { recursive: true, force: true });
    await rm(`${this.dir}-other`, { recursive: true, force: true });
  }
}
