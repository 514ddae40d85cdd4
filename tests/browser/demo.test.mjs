// deploy/demo.sh as its user meets it: goes on where it stopped, refuses what it cannot do in words,
// leaves nothing running; and what the demo's nginx writes into its logs.

import { execFile } from "node:child_process";
import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";
import assert from "node:assert/strict";
import { Demo, REPOSITORY } from "./support/demo.mjs";

const SCRIPT = join(REPOSITORY, "deploy/demo.sh");

/** The demo run with arguments that it refuses: its exit code and what it says. */
async function refused(...flags) {
  const error = await promisify(execFile)(SCRIPT, flags).then(() => assert.fail("it was not refused"), (failed) => failed);
  assert.equal(error.stdout, "", "stdout is for ready: and mail: alone");
  return { code: error.code, said: error.stderr };
}

/** The process ids that a demo has written down. */
async function children(demo) {
  const ids = ["1", "2", "nginx"].map((name) => readFile(join(demo.dir, `run/${name}.pid`), "utf8"));
  return (await Promise.all(ids)).map(Number);
}

const alive = (pid) => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

async function logsOf(demo) {
  const files = await readdir(join(demo.dir, "log"));
  return (await Promise.all(files.map((file) => readFile(join(demo.dir, "log", file), "utf8")))).join("\n");
}

/** An account's mail, activated; gives the token. */
async function activate(demo, user) {
  assert.equal((await demo.signUp(user)).status, 200);
  const { link } = await demo.mailTo(`${user}@example.org`);
  assert.equal((await fetch(link)).status, 200);
  return new URL(link).searchParams.get("token");
}

test("a stopped demo leaves nothing running, and the next one goes on with its accounts", async () => {
  const first = await Demo.start();
  await activate(first, "stays");
  const ids = await children(first);
  await first.interrupt();
  assert.deepEqual(ids.filter(alive), []);

  const second = await Demo.start("--dir", first.dir);
  assert.equal((await second.signUp("stays")).status, 409);
  assert.ok(!second.lines.some((line) => line.startsWith("mail:")), "old mails are not told again");
  await second.stop();
  await first.clean();
});

test("a second demo in one directory, a taken port and a wrong flag are refused in words", async () => {
  const demo = await Demo.start();
  const again = await refused("--port", "1", "--dir", demo.dir, "--profile", "dev");
  assert.equal(again.code, 75);
  assert.match(again.said, /running in .* already/);
  const taken = await refused("--port", String(demo.port), "--dir", `${demo.dir}-other`, "--profile", "dev");
  assert.equal(taken.code, 75);
  assert.match(taken.said, new RegExp(`port ${demo.port} is taken`));
  assert.equal((await refused("--port", "65536")).code, 64);
  assert.equal((await refused("--prot", "8080")).code, 64);
  await demo.stop();
});

test("what a killed demo left behind is stopped by the next one in its directory", async () => {
  const killed = await Demo.start();
  const ids = await children(killed);
  killed.process.kill("SIGKILL");
  await killed.ended;
  assert.deepEqual(ids.filter(alive), ids);
  const next = await Demo.start("--dir", killed.dir);
  assert.deepEqual(ids.filter(alive), []);
  await next.stop();
  await killed.clean();
});

test("no log has an activation's query, an HA1 or an address, not even while the program is gone", async () => {
  const demo = await Demo.start();
  const used = await activate(demo, "quiet");
  const { ha1 } = await demo.account("quiet");
  const [one, two] = await children(demo);
  // The script would stop all when a process ends; it sleeps through this.
  demo.process.kill("SIGSTOP");
  for (const pid of [one, two]) process.kill(pid, "SIGKILL");
  const unused = "u".repeat(43);
  const answer = await fetch(demo.url(`activate.ashx?token=${unused}`));
  assert.equal(answer.status, 502);
  assert.equal(answer.headers.get("content-type"), "text/html; charset=utf-8");
  assert.ok(!(await answer.text()).includes(unused));
  const long = await fetch(demo.url(`activate.ashx?token=${unused}${"x".repeat(9000)}`));
  assert.equal(long.status, 414);
  assert.equal((await fetch(demo.url("captcha.ashx?seen"))).status, 502);
  demo.process.kill("SIGCONT");
  await demo.ended;

  const logs = await logsOf(demo);
  assert.match(logs, /captcha\.ashx/, "the logs are those of this demo");
  for (const secret of [used, unused, ha1, "quiet@example.org", "seen"]) {
    assert.ok(!logs.includes(secret));
  }
  await demo.clean();
});
