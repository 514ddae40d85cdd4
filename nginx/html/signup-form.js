// The sign-up page from the first field on: checks what is typed, computes the HA1 here, sends the form,
// says what came of it, offers the mail once more. Goes on from signup.js, which fetches it.
//
// Promised: the password is never part of what is sent (its input has no name; the body is built from
// the fields of the API alone).
"use strict";

// --- rules ---------------------------------------------------------------------------------------
// The server's rules, for an answer while typing; a test compares them with its verdicts. It has the
// last word all the same: a tenant may reserve more names.

const RESERVED = ("admin administrator root system postmaster hostmaster webmaster abuse security noreply "
  + "no-reply anonymous guest nobody . ..").split(" ");
const DOT_ATOM = /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$/;
const LABEL = /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;
const DISTURBING = /[\p{Cc}\u2028\u2029\u202a-\u202e\u2066-\u2069]/u;

const lengthOf = (text) => [...text].length;
const bytesOf = (text) => new TextEncoder().encode(text).length;

// Field, the text of who breaks the rule, whether a value breaks it. The first that is broken counts.
const RULES = [
  ["user", "user_empty", (value) => value === ""],
  ["user", "user_shape", (value) => !/^[a-z0-9_.-]{1,64}$/.test(value)],
  ["user", "user_reserved", (value) => RESERVED.includes(value)],
  ["name", "name_shape", (value) => DISTURBING.test(value)],
  ["name", "name_empty", (value) => trimmed(value) === ""],
  ["name", "name_shape", (value) => lengthOf(trimmed(value)) > 120],
  ["email", "email_empty", (value) => value === ""],
  ["email", "email_shape", (value) => !isAddress(value)],
  ["password", "password_empty", (value) => value === ""],
  ["password", "password_short", (value) => lengthOf(value) < PASSWORD_LEAST],
  ["answer", "answer_empty", (value) => value === ""],
  ["answer", "answer_shape", (value) => !/^[+-]?[0-9]+$/.test(value)],
];

/** The text of the rule that a value breaks, or null. */
function brokenRule(field, value) {
  return RULES.find(([of, , breaks]) => of === field && breaks(value))?.[1] ?? null;
}

/** One plain address: a dot-atom, `@`, a domain of at least two labels. */
function isAddress(text) {
  const at = text.lastIndexOf("@");
  const [local, domain] = [text.slice(0, Math.max(at, 0)), asciiDomain(text.slice(at + 1))];
  const labels = domain.split(".");
  return bytesOf(text) <= 254 && local.length + 1 + domain.length <= 254 && local.length <= 64
    && DOT_ATOM.test(local) && labels.length >= 2 && labels.every((label) => LABEL.test(label));
}

/** A domain in its A-labels, as the browser's addresses have it; "" where there are none. */
function asciiDomain(domain) {
  if (!/[^\x00-\x7f]/.test(domain)) return domain;
  if (/[^A-Za-z0-9.\-\x80-\u{10ffff}]/u.test(domain)) return "";
  try {
    const { hostname } = new URL(`http://${domain}`);
    return /\.\d+$/.test(hostname) ? "" : hostname;
  } catch {
    return "";
  }
}

const SPELLED = { ß: "ss", æ: "ae", œ: "oe", ø: "o", ł: "l", đ: "d", ð: "d", þ: "th", ı: "i" };

/** A user name that comes near to what was typed and breaks no rule, or null. */
function nearUser(typed) {
  const small = typed.toLowerCase().replace(/[ßæœøłđðþı]/g, (letter) => SPELLED[letter]).normalize("NFKD");
  const near = trimmed(small).replace(/\p{White_Space}+/gu, ".").replace(/[^a-z0-9_.-]/g, "").slice(0, 64);
  return /[a-z0-9]/.test(near) && !brokenRule("user", near) ? near : null;
}

// --- checks --------------------------------------------------------------------------------------

/** Checks a field and marks it; true when all is well there. */
function check(field) {
  const value = valueOf(field);
  const broken = brokenRule(field, value);
  const near = broken === "user_shape" ? nearUser(value) : null;
  mark(field, near ? "user_suggest" : broken, () => ({ example: near, least: PASSWORD_LEAST, count: lengthOf(value) }));
  if (near) {
    part("suggestion").textContent = near;
    part("suggestion").hidden = false;
  }
  return !broken;
}

/** Checks all fields, marks what is wrong, leads to the first; true when all is well. */
function allWell() {
  const wrong = mode.fields.filter((field) => !check(field));
  if (!wrong.length) return true;
  announce(wrong.length === 1 ? "check_one" : "check_many", () => ({ count: wrong.length }));
  part(wrong[0]).focus();
  return false;
}

const TYPING_PAUSE_MS = 1200;
let pressed = false; // a mouse button is down

/** Does `then` once no mouse button is down: an error that appears in between moves the button away. */
function whenReleased(then) {
  if (pressed) addEventListener("click", () => setTimeout(then), { once: true, capture: true });
  else then();
}

/** An error shows when a field is left or typing pauses, and goes as soon as it is mended. */
function watch(field) {
  let pause = 0;
  const look = () => whenReleased(() => {
    if (valueOf(field) && !busy) check(field);
  });
  const typed = () => {
    clearTimeout(pause);
    if (!brokenRule(field, valueOf(field))) mark(field, null);
    else if (field !== "answer") pause = setTimeout(look, TYPING_PAUSE_MS);
  };
  part(field).addEventListener("change", look);
  part(field).addEventListener("input", typed);
  if (valueOf(field)) typed(); // before this file was here
}

// --- MD5 (RFC 1321) ------------------------------------------------------------------------------
// Digest authentication is defined over it; no browser offers it.

const MD5_SHIFTS = [[7, 12, 17, 22], [5, 9, 14, 20], [4, 11, 16, 23], [6, 10, 15, 21]];
const MD5_SINES = Uint32Array.from({ length: 64 }, (_, i) => Math.floor(Math.abs(Math.sin(i + 1)) * 2 ** 32));

/** The MD5 of a text's UTF-8 bytes, as 32 lower-case hex digits. */
function md5(text) {
  const message = new TextEncoder().encode(text);
  const padded = new DataView(new ArrayBuffer(((message.length + 8) >> 6 << 6) + 64));
  message.forEach((byte, at) => padded.setUint8(at, byte));
  padded.setUint8(message.length, 0x80);
  padded.setUint32(padded.byteLength - 8, message.length << 3, true);
  padded.setUint32(padded.byteLength - 4, Math.floor(message.length / 2 ** 29), true);

  const state = Uint32Array.of(0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476);
  for (let block = 0; block < padded.byteLength; block += 64) {
    let [a, b, c, d] = state;
    for (let i = 0; i < 64; i++) {
      const round = i >> 4;
      const [mix, word] = [
        () => [(b & c) | (~b & d), i],
        () => [(b & d) | (c & ~d), 5 * i + 1],
        () => [b ^ c ^ d, 3 * i + 5],
        () => [c ^ (b | ~d), 7 * i],
      ][round]();
      const sum = (a + mix + MD5_SINES[i] + padded.getUint32(block + (word & 15) * 4, true)) | 0;
      const by = MD5_SHIFTS[round][i & 3];
      [a, d, c, b] = [d, c, b, (b + ((sum << by) | (sum >>> (32 - by)))) | 0];
    }
    [a, b, c, d].forEach((word, at) => { state[at] += word; });
  }
  const digest = new DataView(state.buffer.slice(0));
  state.forEach((word, at) => digest.setUint32(at * 4, word, true));
  return Array.from(new Uint8Array(digest.buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** What digest authentication keeps instead of a password (RFC 7616 §3.4.2). */
function ha1(user, realm, password) {
  return md5(`${user}:${realm}:${password}`);
}

// --- sending -------------------------------------------------------------------------------------

/** Sends the form, if all is well, and shows what came of it. The history's note of it tells a page
    that is reloaded or come back to. */
async function send() {
  if (!allWell()) return;
  if (!captcha) {
    if (await renewCaptcha()) refuseAt("answer", "answer_empty");
    else if (!said.get("summary").key) refuse(said.get("answer-error").key, said.get("answer-error").values);
    return;
  }
  const form = { user: valueOf("user"), email: valueOf("email"), again: mode === MODES.resend };
  history.replaceState({ sent: !form.again }, "");
  const answer = await ask(mode.url, { method: "POST", body: bodyOf() });
  const accepted = answer.status === 200 && answer.json.ok;
  history.replaceState(accepted ? { done: { ...form, at: Date.now() } } : null, "");
  if (accepted) showDone();
  else await showRefusal(answer);
}

/** The body of a request: the fields of the API, and nothing else. */
function bodyOf() {
  const [user, email] = [valueOf("user"), valueOf("email")];
  const own = mode === MODES.resend ? {} : {
    name: valueOf("name"),
    ha1: ha1(user, captcha.realm, valueOf("password")),
    lang: document.documentElement.lang,
  };
  return new URLSearchParams({ user, email, ...own, captcha_token: captcha.token, captcha_answer: valueOf("answer") });
}

/** Shows what the service answered to a form that it did not accept. */
async function showRefusal({ status, json, retryAfter }) {
  if (status === 400 && json.error === "captcha_failed") {
    if (await renewCaptcha()) refuseAt("answer", "answer_wrong");
  } else if (status === 400) {
    refuseInvalid(json.error_description ?? "");
  } else if (status === 409) {
    refuseAt("user", "user_taken");
  } else {
    refuse(...sentenceFor(status, json.error, retryAfter));
  }
}

/** A 400 names the field that it is about. */
function refuseInvalid(description) {
  const [field] = /^(user|name|email)\b(?!,)/.exec(description) ?? [];
  if (field) refuseAt(field, /reserved/.test(description) ? "user_reserved" : `${field}_shape`);
  else refuse("refused");
}

// --- after it ------------------------------------------------------------------------------------

/** The form went through: says where the mail is, and forgets what was typed. */
async function showDone() {
  const { user, email, again, at } = history.state.done;
  if (again) tell("done-where", "resend_sent");
  else tell("done-where", "done_where", () => ({ domain: email.split("@").pop() }));
  // The mail names the host by its configured `base_url`, which under an alias is not that of the address bar.
  tell("done-subject", "done_subject", () => ({ subject: say("mail_subject", { host: "…" }) }));
  part("form").reset();
  showPassword(false);
  showSection("done");
  part("done-title").focus();
  countDown(at + MAIL_AGAIN_AFTER_MS, user, email, await ask("resend.ashx"));
}

const MAIL_AGAIN_AFTER_MS = 5 * 60_000; // the server's rule: an earlier wish is passed over in silence
let countdown = 0;

/** Offers the mail once more when its time has come, where the host does that (405, not 404). */
function countDown(until, user, email, { status }) {
  clearInterval(countdown);
  const tick = () => {
    const left = Math.max(0, Math.ceil((until - Date.now()) / 1000));
    const time = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
    tell("resend-wait", left ? "resend_wait" : null, () => ({ time }));
    part("resend").hidden = left > 0;
    if (!left) clearInterval(countdown);
  };
  part("resend").hidden = true;
  if (status === 405) {
    countdown = setInterval(tick, 1000);
    tick();
  } else {
    tell("resend-wait", status === 404 ? "resend_off" : null);
  }
  part("resend").onclick = () => askAgain(user, email);
}

/** The form for one more mail. */
function askAgain(user, email) {
  setMode("resend");
  part("user").value = user;
  part("email").value = email;
  showSection("ask");
  part(user ? "answer" : "user").focus();
  renewCaptcha();
}

/** Back to an empty form. */
function startAgain() {
  history.replaceState(null, "", location.pathname + location.search);
  setMode("signup");
  showSection("ask");
  part("user").focus();
  renewCaptcha();
}

/** Which of the two sections is seen, and the step that it is. */
function showSection(section) {
  const done = section === "done" || mode === MODES.resend;
  part("ask").hidden = section === "done";
  part("done").hidden = section !== "done";
  clearInterval(countdown);
  part("step-form").classList.toggle("past", done);
  for (const step of ["step-form", "step-mail"]) part(step).removeAttribute("aria-current");
  part(done ? "step-mail" : "step-form").setAttribute("aria-current", "step");
}

// --- start ---------------------------------------------------------------------------------------

MODES.signup.fields.forEach(watch);
addEventListener("pointerdown", () => { pressed = true; }, true);
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => { pressed = false; }, true);
part("suggestion").addEventListener("click", () => {
  part("user").value = part("suggestion").textContent;
  check("user");
  part("user").focus();
});
