// The sign-up page: fetches a captcha, computes the HA1 here, sends the form, says what came of it.
//
// Promised: the password is never part of what is sent (its input has no name; the body is built
// from the six fields of the API alone); one press makes one request; what was typed survives every
// refusal. URLs are relative, so the page works under any path and any alias of the host.
"use strict";

// --- texts ---------------------------------------------------------------------------------------
// All that this script says; what stands in the page itself is marked there by data-text. Names in
// {braces} are filled in by say().

const TEXT = {
  password_show: "Show",
  password_hide: "Hide",
  submit: "Create account",
  submit_busy: "Creating your account…",
  question_loading: "…",
  question_missing: "not there yet",

  check_one: "One thing needs your attention.",
  check_many: "{count} things need your attention.",

  user_empty: "Choose a user name.",
  user_shape: "Use small letters a to z, digits, dot, hyphen and underscore, at most 64.",
  user_suggest: "Use small letters a to z, digits, dot, hyphen and underscore; for example {example}.",
  user_reserved: "This user name is kept for the operators. Choose another.",
  user_taken: "This user name is taken. Choose another.",
  name_empty: "Enter your name.",
  name_shape: "Use at most 120 characters, without line breaks.",
  email_empty: "Enter your e-mail address.",
  email_shape: "This does not look like an e-mail address, such as alice@example.org.",
  password_empty: "Choose a password.",
  password_short: "Use at least {least} characters; this has {count}.",
  answer_empty: "Enter the sum.",
  answer_shape: "Enter the sum as a number, in digits.",
  answer_wrong: "That was not the sum, or it was too old. Here is a new one.",
  answer_renewed: "The sum had become too old; here is a new one.",

  refused: "The form was refused. Check what you typed and try again.",
  too_large: "That is too much text. Shorten your name or your address.",
  wrong_host: "Sign-up is not open at this address ({host}). Use the address that the operator gave you.",
  limited: "Too many accounts were made from your network. Try again at {time}.",
  limited_minutes: "Too many accounts were made from your network. Try again at {time}, in about {minutes} minutes.",
  limited_captcha: "Too many requests came from your network. Wait a moment, then ask for a new sum.",
  failed: "Something failed on our side. No account was made; try again in a minute.",
  unreachable: "The service cannot be reached just now. Try again in a minute; if a mail comes, your account was made.",
  closed: "Sign-up is closed at the moment. Try again later.",
  closed_until: "Sign-up is closed at the moment. Try again at {time}.",
  no_captcha: "The service cannot give out sums just now. Try again in a minute.",
  offline: "There is no connection. What you typed is kept; check your network and try again.",
  slow: "The answer takes too long. Check your mail before you try again: your account may have been made.",

  done_where: "We sent a mail to your mailbox at {domain}.",
};

/** The text `key`, with what is in braces filled in. */
function say(key, values = {}) {
  return TEXT[key].replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
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

// --- rules ---------------------------------------------------------------------------------------
// The server's rules, for an answer while typing; the server has the last word. Each check gives
// null or the text to show.

const PASSWORD_LEAST = 10;
const RESERVED = ("admin administrator root system postmaster hostmaster webmaster abuse security noreply "
  + "no-reply anonymous guest nobody . ..").split(" ");
const DOT_ATOM = /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*$/;
const LABEL = /^[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/;
const FORBIDDEN_IN_NAME = /[\p{Cc}\u2028\u2029\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/u;

const CHECKS = {
  user(value) {
    if (!value) return say("user_empty");
    if (!/^[a-z0-9_.-]{1,64}$/.test(value)) {
      const example = value.normalize("NFKD").toLowerCase().trim().replace(/\s+/g, ".").replace(/[^a-z0-9_.-]/g, "").slice(0, 64);
      return /[a-z0-9]/.test(example) ? say("user_suggest", { example }) : say("user_shape");
    }
    return RESERVED.includes(value) ? say("user_reserved") : null;
  },
  name(value) {
    if (!value.trim()) return say("name_empty");
    return FORBIDDEN_IN_NAME.test(value) || [...value.trim()].length > 120 ? say("name_shape") : null;
  },
  email(value) {
    if (!value) return say("email_empty");
    const at = value.lastIndexOf("@");
    const [local, domain] = [value.slice(0, at), value.slice(at + 1)];
    const labels = domain.split(".");
    // A domain outside ASCII is the server's to judge.
    const good = at > 0 && value.length <= 254 && local.length <= 64 && DOT_ATOM.test(local) && labels.length >= 2
      && labels.every((label) => LABEL.test(label) || (/[^\x00-\x7f]/.test(label) && !/\s/.test(label)));
    return good ? null : say("email_shape");
  },
  password(value) {
    const count = [...value].length;
    if (!count) return say("password_empty");
    return count < PASSWORD_LEAST ? say("password_short", { least: PASSWORD_LEAST, count }) : null;
  },
  answer(value) {
    if (!value.trim()) return say("answer_empty");
    return /^[+-]?\d+$/.test(value.trim()) ? null : say("answer_shape");
  },
};

// --- the page's parts ----------------------------------------------------------------------------

const FIELDS = Object.keys(CHECKS);
const part = (id) => document.getElementById(id);
// Keyboards add blanks to words that they complete; no user name and no address has one.
const TRIMMED = ["user", "email"];
const valueOf = (field) => (TRIMMED.includes(field) ? part(field).value.trim() : part(field).value);

/** Shows `message` at a field, or takes its error away (null). */
function mark(field, message) {
  part(`${field}-error`).textContent = message ?? "";
  if (message) part(field).setAttribute("aria-invalid", "true");
  else part(field).removeAttribute("aria-invalid");
}

/** Says something about the form as a whole, above it, to eyes and to screen readers. */
function announce(message) {
  part("summary").textContent = message ?? "";
}

/** Shows a refusal at its field and leads there. */
function refuseAt(field, message) {
  mark(field, message);
  announce(say("check_one"));
  part(field).focus();
}

/** Shows a refusal that belongs to no field. */
function refuse(message) {
  announce(message);
  part("summary").focus();
}

/** Checks all fields, marks what is wrong, leads to the first; true when all is well. */
function allWell() {
  const wrong = FIELDS.filter((field) => {
    const message = CHECKS[field](valueOf(field));
    mark(field, message);
    return message;
  });
  if (!wrong.length) return true;
  announce(wrong.length === 1 ? say("check_one") : say("check_many", { count: wrong.length }));
  part(wrong[0]).focus();
  return false;
}

// --- the service ---------------------------------------------------------------------------------

const ANSWER_WITHIN_MS = 40_000; // nginx gives up on the program after 30 s
const CAPTCHA_FRESH_MS = 14 * 60_000; // the server's default life is 15 minutes

/** One request: the status (0 offline, -1 too slow), the JSON (or {}), the seconds of Retry-After. */
async function ask(url, options = {}) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), ANSWER_WITHIN_MS);
  try {
    const answer = await fetch(url, { cache: "no-store", signal: abort.signal, ...options });
    const json = await answer.json().catch(() => ({}));
    return { status: answer.status, json, retryAfter: Number(answer.headers.get("Retry-After")) || 0 };
  } catch {
    return { status: abort.signal.aborted ? -1 : 0, json: {}, retryAfter: 0 };
  } finally {
    clearTimeout(timer);
  }
}

/** The time of day `seconds` from now, as people here write it. */
function timeIn(seconds) {
  const then = new Date(Date.now() + seconds * 1000 + 59_999);
  return then.toLocaleTimeString(document.documentElement.lang, { hour: "2-digit", minute: "2-digit" });
}

let captcha = null; // { token, realm } of the question that is shown
let captchaTimer = 0;

/** Fetches a fresh captcha and shows its question; true when there is one. */
async function renewCaptcha() {
  captcha = null;
  clearTimeout(captchaTimer);
  part("question").textContent = say("question_loading");
  const { status, json } = await ask("captcha.ashx");
  if (status === 200 && json.token) {
    captcha = { token: json.token, realm: json.realm };
    part("question").textContent = `${json.question} =`;
    part("answer").value = "";
    mark("answer", null);
    captchaTimer = setTimeout(replaceOldCaptcha, CAPTCHA_FRESH_MS);
    return true;
  }
  part("question").textContent = say("question_missing");
  mark("answer", captchaTrouble(status, json.error));
  return false;
}

/** Why there is no captcha. */
function captchaTrouble(status, error) {
  if (status === 421) return say("wrong_host", { host: location.host });
  if (status === 429) return say("limited_captcha");
  if (status === 503) return say(error === "signups_closed" ? "closed" : "no_captcha");
  if (status <= 0) return say(status ? "slow" : "offline");
  return say("no_captcha");
}

/** A question that grew old while the page stood open; says so only where an answer is lost. */
async function replaceOldCaptcha() {
  const answered = valueOf("answer") !== "";
  if (await renewCaptcha() && answered) mark("answer", say("answer_renewed"));
}

/** The body of a sign-up: the six fields of the API, and nothing else. */
function signUpBody() {
  const user = valueOf("user");
  return new URLSearchParams({
    user,
    name: valueOf("name"),
    email: valueOf("email"),
    ha1: ha1(user, captcha.realm, valueOf("password")),
    captcha_token: captcha.token,
    captcha_answer: valueOf("answer"),
  });
}

/** Shows what the service answered to a sign-up that it did not accept. */
async function showRefusal({ status, json, retryAfter }) {
  if (status === 400 && json.error === "captcha_failed") {
    if (await renewCaptcha()) refuseAt("answer", say("answer_wrong"));
    return;
  }
  if (status === 400) {
    refuseInvalid(json.error_description ?? "");
    return;
  }
  if (status === 409) {
    refuseAt("user", say("user_taken"));
    return;
  }
  refuse(sentenceFor(status, json.error, retryAfter));
}

/** A 400 names the field that it is about. */
function refuseInvalid(description) {
  const [field] = /\b(user|name|email|ha1|captcha_answer)\b/.exec(description) ?? [];
  if (field === "user") refuseAt("user", say(/reserved/.test(description) ? "user_reserved" : "user_shape"));
  else if (field === "name") refuseAt("name", say("name_shape"));
  else if (field === "email") refuseAt("email", say("email_shape"));
  else refuse(say("refused"));
}

/** The sentence for a status that belongs to no field. */
function sentenceFor(status, error, retryAfter) {
  const time = timeIn(retryAfter);
  const minutes = Math.ceil(retryAfter / 60);
  switch (status) {
    case 0: return say("offline");
    case -1: return say("slow");
    case 413: return say("too_large");
    case 421: return say("wrong_host", { host: location.host });
    case 429: return minutes > 1 ? say("limited_minutes", { time, minutes }) : say("limited", { time });
    case 500: return say("failed");
    case 503:
      if (error !== "signups_closed") return say("no_captcha");
      return retryAfter ? say("closed_until", { time }) : say("closed");
    default: return status > 500 ? say("unreachable") : say("refused");
  }
}

let pressed = false; // a mouse button is down

/** Does `then` once no mouse button is down: an error that appears in between moves the button away. */
function whenReleased(then) {
  if (pressed) addEventListener("click", () => setTimeout(then), { once: true, capture: true });
  else then();
}

let busy = false; // a sign-up is under way: further presses do nothing

/** Sends the form once. */
async function submit(event) {
  event.preventDefault();
  if (busy) return;
  announce(null);
  if (!allWell()) return;
  if (!captcha) {
    if (await renewCaptcha()) refuseAt("answer", say("answer_empty"));
    else refuse(part("answer-error").textContent);
    return;
  }
  setBusy(true);
  const answer = await ask("signup.ashx", { method: "POST", body: signUpBody() });
  setBusy(false);
  if (answer.status === 200 && answer.json.ok) showDone();
  else await showRefusal(answer);
}

/** While busy the button stays focusable, so that a screen reader does not lose its place. */
function setBusy(now) {
  busy = now;
  part("submit").setAttribute("aria-disabled", String(now));
  part("submit").textContent = say(now ? "submit_busy" : "submit");
  part("status").textContent = now ? say("submit_busy") : "";
}

/** The form went through: says where the mail is, and forgets the password. */
function showDone() {
  const domain = valueOf("email").split("@").pop();
  part("done-where").textContent = say("done_where", { domain });
  part("form").reset();
  showPassword(false);
  showStep("done");
  part("done-title").focus();
}

/** Back to an empty form. */
function startAgain() {
  showStep("ask");
  part("user").focus();
  renewCaptcha();
}

/** Which of the two sections is seen, and the step that it is. */
function showStep(section) {
  const done = section === "done";
  part("ask").hidden = done;
  part("done").hidden = !done;
  part("step-form").classList.toggle("past", done);
  part("step-form").toggleAttribute("aria-current", false);
  part("step-mail").toggleAttribute("aria-current", false);
  part(done ? "step-mail" : "step-form").setAttribute("aria-current", "step");
}

function showPassword(shown) {
  part("password").type = shown ? "text" : "password";
  part("reveal").setAttribute("aria-pressed", String(shown));
  part("reveal").textContent = say(shown ? "password_hide" : "password_show");
}

// --- start ---------------------------------------------------------------------------------------

for (const field of FIELDS) {
  // An error shows when a field is left, and goes as soon as it is mended.
  part(field).addEventListener("change", () => whenReleased(() => {
    if (valueOf(field)) mark(field, CHECKS[field](valueOf(field)));
  }));
  part(field).addEventListener("input", () => {
    if (part(field).hasAttribute("aria-invalid") && !CHECKS[field](valueOf(field))) mark(field, null);
  });
}
addEventListener("pointerdown", () => { pressed = true; }, true);
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => { pressed = false; }, true);
part("reveal").addEventListener("click", () => showPassword(part("password").type === "password"));
part("renew").addEventListener("click", async () => {
  if (await renewCaptcha()) part("answer").focus();
});
part("again").addEventListener("click", startAgain);
part("form").addEventListener("submit", submit);
part("submit").disabled = false;
renewCaptcha();
