// The pages until somebody fills in the form: their language, whose they are, the captcha. What checks
// and sends the form is in signup-rules.js and signup-form.js, fetched when the first field is entered.
// The pages beside the form use the first part alone.
//
// Promised: one press makes one request; what was typed survives every refusal; a reload sends
// nothing. URLs are relative to this file, so the pages work under any path and any alias of the host.
// No text is here: all come from lang/XX.json, later from lang/form/XX.json, and the pages themselves have
// the English ones that are seen at once (data-text, data-label).
"use strict";

const part = (id) => document.getElementById(id);
const HERE = document.currentScript.src;

// --- languages -----------------------------------------------------------------------------------

// The files in lang/, by what their speakers call them. A file that is not named here is used when
// `?lang=` asks for it.
const LANGUAGES = {
  ar: "العربية", de: "Deutsch", en: "English", es: "Español", fr: "Français",
  it: "Italiano", ja: "日本語", nl: "Nederlands", pl: "Polski", pt: "Português",
};
const OF_THE_PAGE = "en";
const UNSEEN_AT_MOST_MS = 3000;

const PASSWORD_LEAST = 10; // characters; the server never sees the password

let texts = {};
let choices = 0; // of a language; the last one counts
const folders = new Set(["lang"]); // that have texts of the page, a file a language
const said = new Map(); // id → what it says, for when the language changes

/** The text `key`, with what is in braces filled in; in a right-to-left text each keeps its order. A
    text in several forms is said in the one that fits `values.count`. */
function say(key, values = {}) {
  const [open, close] = texts.dir === "rtl" ? ["\u2068", "\u2069"] : ["", ""];
  const forms = texts[key] ?? "";
  const text = typeof forms === "string" ? forms : forms[new Intl.PluralRules(locale()).select(values.count)] ?? forms.other;
  return text.replace(/\{(\w+)\}/g, (_, name) => open + values[name] + close);
}

/** The page's language as the visitor's browser has it (de-AT, en-GB), with the digits of the texts. */
function locale() {
  const { lang } = document.documentElement;
  const own = navigator.languages.find((tag) => tag.split("-")[0] === lang) ?? lang;
  return new Intl.Locale(own, { numberingSystem: "latn" });
}

/** Lets the element `id` say `key` (null: nothing), now and in any language chosen later. */
function tell(id, key, values = () => ({})) {
  said.set(id, { key, values });
  if (!key || texts.dir) part(id).textContent = key ? say(key, values()) : "";
}

/** Takes a language over, unless another was chosen meanwhile; false where its files cannot be had. */
async function speak(tag) {
  const choice = ++choices;
  const answers = await Promise.all([...folders].map((folder) => ask(new URL(`${folder}/${tag}.json`, HERE), { cache: "no-cache" })));
  if (choice !== choices) return true;
  if (answers.some(({ status }) => status !== 200) || !answers[0].json.dir) return false;
  texts = Object.assign({}, ...answers.map(({ json }) => json));
  Object.assign(document.documentElement, { lang: tag, dir: texts.dir });
  const values = { least: PASSWORD_LEAST, site: site(), ...facts, count: facts.log_days };
  for (const element of document.querySelectorAll("[data-text]")) {
    if (element.dataset.text in texts) element.textContent = say(element.dataset.text, values);
  }
  for (const element of document.querySelectorAll("[data-label]")) element.setAttribute("aria-label", say(element.dataset.label));
  document.title += ` – ${site()}`;
  for (const [id, { key, values: own }] of said) tell(id, key, own);
  part("language").value = tag;
  keepLanguage();
  return true;
}

/** A language that the address names is in the addresses of the other pages, too. */
function keepLanguage() {
  if (!new URLSearchParams(location.search).has("lang")) return;
  const links = document.querySelectorAll("a:is([href*='signup.html'], [href*='login.html'], [href*='privacy.html'])");
  for (const link of links) link.search = `lang=${document.documentElement.lang}`;
}

/** The tags to try, best first: `?lang=`, the browser's, the page's own. */
function wantedLanguages() {
  const named = new URLSearchParams(location.search).get("lang")?.toLowerCase() ?? "";
  const known = (tag) => [tag, tag.split("-")[0]].find((one) => Object.hasOwn(LANGUAGES, one));
  const unknown = /^[a-z]{2,3}(-[a-z0-9]{2,8})*$/.test(named) ? named : null;
  const browser = navigator.languages.map((tag) => known(tag.toLowerCase()));
  return [...new Set([known(named) ?? unknown, ...browser, OF_THE_PAGE])].filter(Boolean);
}

/** Speaks the best language that there is. */
async function speakBest() {
  let spoke = false;
  for (const tag of wantedLanguages()) if (spoke ||= await speak(tag)) break;
  document.documentElement.classList.remove("waiting");
  if (part("mute")) part("mute").hidden = spoke;
}

/** The language menu's choice goes into the address, so that a reload and a link keep it. Until its
    texts are here, the menu names the language that is seen. */
async function chooseLanguage() {
  const tag = part("language").value;
  part("language").value = document.documentElement.lang;
  spoken = speak(tag);
  if (!await spoken) {
    if (part("form")) announce("offline");
    return;
  }
  history.replaceState(history.state, "", `?lang=${document.documentElement.lang}${location.hash}`);
  keepLanguage();
}

// --- whose pages these are -----------------------------------------------------------------------

/** What the site is called: `codeb-signup pages` writes that into the page; else it is the host. */
const site = () => part("site").textContent || location.hostname;

// What the operator filled in on the page itself, for its texts in the other languages.
const facts = {};

// The activation page leaves this word to the page that it leads to.
const ACTIVATED = "codeb-signup-activated";

// User name and address of a form that went out and whose answer did not come (see signup-form.js).
const LOST = "codeb-signup-lost";

/** What this tab keeps under `key`, or null; null, too, where the browser keeps nothing. */
function stored(key) {
  try {
    return sessionStorage.getItem(key);
  } catch {
    return null;
  }
}

/** Whether the visitor comes from an activation; still known after a reload. */
function comesFromActivation() {
  if (stored(ACTIVATED)) {
    sessionStorage.removeItem(ACTIVATED);
    history.replaceState({ activated: true }, "");
  }
  return Boolean(history.state?.activated);
}

// --- the form ------------------------------------------------------------------------------------

// What the form is for: where it goes, and what is asked.
const MODES = {
  signup: {
    url: "signup.ashx", fields: ["user", "name", "email", "password", "answer"],
    texts: { "ask-title": "heading", lead: "lead", submit: "submit" }, busy: "submit_busy",
  },
  resend: {
    url: "resend.ashx", fields: ["user", "email", "answer"],
    texts: { "ask-title": "resend_heading", lead: "resend_lead", submit: "resend_button" }, busy: "resend_busy",
  },
};
let mode = MODES.signup;

/** Without blanks at its ends (those of Unicode, as the server takes them). */
const trimmed = (text) => text.replace(/^\p{White_Space}+|\p{White_Space}+$/gu, "");

/** What a field says, as it is sent: no user name, address or sum begins or ends with a blank, which
    keyboards add, and sums are in digits of ASCII. */
function valueOf(field) {
  const { value } = part(field);
  if (field === "answer") return trimmed(value).replace(/[٠-٩۰-۹０-９]/g, (digit) => digit.charCodeAt(0) & 15);
  return ["user", "email"].includes(field) ? trimmed(value) : value;
}

/** Shows the text `key` at a field, or takes its error away (null). */
function mark(field, key, values) {
  tell(`${field}-error`, key, values);
  if (key) part(field).setAttribute("aria-invalid", "true");
  else part(field).removeAttribute("aria-invalid");
  if (field === "user") for (const id of ["suggestion", "mine"]) part(id).hidden = true;
}

/** Says something about the form as a whole, above it, to eyes and to screen readers. */
const announce = (key, values) => tell("summary", key, values);

/** Shows a refusal that belongs to no field. */
function refuse(key, values) {
  announce(key, values);
  part("summary").focus();
}

// --- the service ---------------------------------------------------------------------------------

const ANSWER_WITHIN_MS = 40_000; // nginx gives up on the program after 30 s
const SLOW_AFTER_MS = 6_000;
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

/** The time of day `seconds` from now, as the visitor writes it; with the date where it is far. */
function timeIn(seconds) {
  const then = new Date(Date.now() + seconds * 1000 + 59_999);
  const date = seconds > 43_200 ? { dateStyle: "long" } : {};
  return new Intl.DateTimeFormat(locale(), { ...date, timeStyle: "short" }).format(then);
}

let captcha = null; // { token, realm } of the question that is shown
let captchaTimer = 0;

/** Fetches a fresh captcha and shows its question; true when there is one. */
async function renewCaptcha() {
  captcha = null;
  clearTimeout(captchaTimer);
  tell("question", "question_loading");
  const slow = setTimeout(() => progress("still_waiting", true), SLOW_AFTER_MS);
  const { status, json, retryAfter } = await ask("captcha.ashx");
  clearTimeout(slow);
  if (!busy) progress(null, false);
  await spoken;
  if (status === 200 && json.token) {
    captcha = { token: json.token, realm: json.realm };
    said.delete("question");
    part("question").textContent = `${json.question} =`;
    part("answer").value = "";
    mark("answer", null);
    captchaTimer = setTimeout(replaceOldCaptcha, CAPTCHA_FRESH_MS);
    return true;
  }
  tell("question", "question_missing");
  if (json.error === "signups_closed") announce(...sentenceFor(status, json.error, retryAfter));
  else mark("answer", ...(status === 429 ? ["limited_captcha"] : status >= 500 ? ["no_captcha"] : sentenceFor(status)));
  return false;
}

/** A question that grew old while the page stood open; says so only where an answer is lost. */
async function replaceOldCaptcha() {
  const answered = valueOf("answer") !== "";
  if (await renewCaptcha() && answered) mark("answer", "answer_renewed");
}

/** The sentence for a status that belongs to no field, and what is filled into it. */
function sentenceFor(status, error, retryAfter = 0) {
  const minutes = Math.ceil(retryAfter / 60);
  const values = () => ({
    time: timeIn(retryAfter), wait: new Intl.RelativeTimeFormat(locale()).format(minutes, "minute"),
    host: location.host, email: valueOf("email"),
  });
  const key = {
    0: "offline", "-1": "slow", 404: "resend_off", 413: "too_large", 421: "wrong_host", 500: "failed",
    429: minutes > 1 ? "limited_minutes" : "limited",
    503: error !== "signups_closed" ? "no_captcha" : retryAfter ? "closed_until" : "closed",
  }[status];
  return [key ?? (status > 500 ? "unreachable" : "refused"), values];
}

const scripts = new Map(); // file → settles once it is here

/** Fetches a script of the page, once; false where it does not come. */
function fetchScript(src) {
  if (!scripts.has(src)) {
    scripts.set(src, new Promise((resolve) => {
      const script = Object.assign(document.createElement("script"), { src });
      script.addEventListener("load", () => resolve(true));
      script.addEventListener("error", () => {
        scripts.delete(src);
        resolve(false);
      });
      document.head.append(script);
    }));
  }
  return scripts.get(src);
}

let rest = null; // settles once what judges the fields and sends the form is here, with its texts

/** Fetches that; false where it does not come. */
function fetchRest() {
  const fetchAll = async () => {
    await spoken;
    folders.add("lang/form");
    const all = await speak(document.documentElement.lang) && await fetchScript("signup-rules.js") && await fetchScript("signup-form.js");
    if (!all) rest = null;
    return all;
  };
  return rest ??= fetchAll();
}

let busy = false; // a request is under way: further presses do nothing

/** Sends the form once. */
async function submit(event) {
  event.preventDefault();
  if (busy) return;
  announce(null);
  setBusy(true);
  if (!texts.dir) spoken = speakBest();
  await spoken;
  if (!await fetchRest()) refuse("offline");
  else if (texts.dir) await send();
  setBusy(false);
}

let slowTimer = 0;

/** Says how it goes: to screen readers, and to eyes where the button does not say it already. */
function progress(key, seen) {
  part("status").classList.toggle("visually-hidden", !seen);
  tell("status", key);
}

/** While busy the button stays focusable, so that a screen reader does not lose its place. */
function setBusy(now) {
  busy = now;
  clearTimeout(slowTimer);
  if (now) slowTimer = setTimeout(() => progress("still_waiting", true), SLOW_AFTER_MS);
  part("submit").setAttribute("aria-disabled", String(now));
  tell("submit", now ? mode.busy : mode.texts.submit);
  progress(now ? mode.busy : null, false);
}

// --- start ---------------------------------------------------------------------------------------

function showPassword(shown) {
  part("password").type = shown ? "text" : "password";
  const key = shown ? "password_hide" : "password_show";
  part("reveal").dataset.label = `${key}_label`;
  if (texts.dir) part("reveal").setAttribute("aria-label", say(`${key}_label`));
  tell("reveal", key);
}

function startForm() {
  part("reveal").addEventListener("click", () => showPassword(part("password").type === "password"));
  part("renew").addEventListener("click", async () => {
    if (await renewCaptcha()) part("answer").focus();
  });
  part("again").addEventListener("click", () => startAgain());
  part("form").addEventListener("submit", submit);
  part("form").addEventListener("focusin", fetchRest, { once: true });
  part("submit").disabled = false;
  const { done } = history.state ?? {};
  if (done || location.hash === "#resend") {
    const show = () => (done ? showDone() : askAgain("", ""));
    // What is seen until then is another form: nobody shall fill it in.
    part("ask").hidden = true;
    fetchRest().then((here) => {
      if (here) return show();
      part("ask").hidden = false;
      return refuse("offline");
    });
    return;
  }
  if (stored(LOST)) fetchRest();
  renewCaptcha();
}

/** What the page is before anybody does anything. */
function start() {
  part("site").textContent ||= location.hostname;
  part("language").replaceChildren(...Object.entries(LANGUAGES).map(([tag, name]) =>
    Object.assign(new Option(name, tag), { lang: tag })));
  part("language").value = document.documentElement.lang;
  part("language").addEventListener("change", chooseLanguage);
  if (document.documentElement.dataset.texts) folders.add(`lang/${document.documentElement.dataset.texts}`);
  for (const element of document.querySelectorAll("[data-fact]")) facts[element.dataset.fact] = element.textContent;
  const arrivals = document.querySelectorAll("[data-after-activation]");
  const activated = arrivals.length > 0 && comesFromActivation();
  if (activated) document.querySelector("title").dataset.text = "login_title";
  for (const element of arrivals) element.hidden = (element.dataset.afterActivation === "yes") !== activated;
  spoken = speakBest();
  if (part("form")) startForm();
}

let spoken = null; // settles once the page has its texts, and those of a language that was chosen

// Until these come, only who reads English sees the page: it would change under the reader's eyes.
if (wantedLanguages()[0] !== OF_THE_PAGE) document.documentElement.classList.add("waiting");
setTimeout(() => document.documentElement.classList.remove("waiting"), UNSEEN_AT_MOST_MS);
document.addEventListener("DOMContentLoaded", start);
