// The sign-up page from the first field on: checks what is typed, sends the form, says what came of it,
// offers the mail once more. Goes on from signup.js, which fetches it after signup-rules.js.
//
// Promised: the password is never part of what is sent (its input has no name; the body is built from
// the fields of the API alone).
"use strict";

// --- the form ------------------------------------------------------------------------------------

/** Turns the form into one of the two; nothing typed is lost. */
function setMode(name) {
  mode = MODES[name];
  for (const field of document.querySelectorAll("[data-mode]")) field.hidden = field.dataset.mode !== name;
  for (const [id, key] of Object.entries(mode.texts)) tell(id, key);
  for (const field of MODES.signup.fields) mark(field, null);
  announce(null);
}

/** Shows a refusal at its field and leads there. */
function refuseAt(field, key, values) {
  mark(field, key, values);
  announce("check", () => ({ count: 1 }));
  part(field).focus();
}

// --- checks --------------------------------------------------------------------------------------

/** Checks a field and marks it; true when all is well there. */
function check(field) {
  const value = valueOf(field);
  const broken = brokenRule(field, value);
  const near = broken === "user_shape" ? nearUser(value) : null;
  mark(field, near ? "user_suggest" : broken, () => ({ example: near, user: value, least: PASSWORD_LEAST, count: lengthOf(value) }));
  if (near) {
    part("suggestion").textContent = near;
    part("suggestion").hidden = false;
  }
  return !broken;
}

/** Checks all fields, marks what is wrong, leads to the first; true when all is well. */
function allWell() {
  const wrong = mode.fields.filter((field) => !check(field));
  hintAtAddress();
  if (!wrong.length) return true;
  announce("check", () => ({ count: wrong.length }));
  part(wrong[0]).focus();
  return false;
}

const TYPING_PAUSE_MS = 1200;
let pressed = false; // a mouse button is down

/** Offers the address that was probably meant. */
function hintAtAddress() {
  const near = brokenRule("email", valueOf("email")) ? null : nearAddress(valueOf("email"));
  tell("email-slip", near ? "email_slip" : null, () => ({ address: near }));
  part("email-slip").hidden = !near;
  part("email-slip").onclick = () => {
    part("email").value = near;
    check("email");
    hintAtAddress();
    part("email").focus();
  };
}

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
    if (field === "email") hintAtAddress();
  });
  const typed = () => {
    clearTimeout(pause);
    const broken = brokenRule(field, valueOf(field));
    if (!broken) mark(field, null);
    if (field === "email" || (broken && field !== "answer")) pause = setTimeout(look, TYPING_PAUSE_MS);
  };
  part(field).addEventListener("change", look);
  part(field).addEventListener("input", typed);
  if (valueOf(field)) typed(); // before this file was here
}

// --- a form without an answer --------------------------------------------------------------------

// The account of a form that went out and whose answer did not come may have been made. Its user name and
// address are kept for this tab alone, over a reload; the password never is.
let lostHere = null; // where there is no storage

/** The form whose answer is missing, { user, email, told }, or null. */
const lostForm = () => JSON.parse(stored(LOST)) ?? lostHere;

function keepLostForm(form) {
  lostHere = form;
  try {
    if (form) sessionStorage.setItem(LOST, JSON.stringify(form));
    else sessionStorage.removeItem(LOST);
  } catch {
    // Then it is known until the page is left.
  }
}

/** A form that went out from this tab before the page was loaded: says so once, and what it said stands
    in the fields. */
function tellOfLostForm() {
  const lost = lostForm();
  if (!lost) return;
  for (const field of ["user", "email"]) part(field).value ||= lost[field];
  if (lost.told) return;
  announce("interrupted", () => lost);
  keepLostForm({ ...lost, told: true });
}

// --- sending -------------------------------------------------------------------------------------

/** Sends the form, if all is well, and shows what came of it. */
async function send() {
  if (!allWell()) return;
  if (!captcha) {
    if (await renewCaptcha()) refuseAt("answer", "answer_empty");
    else if (!said.get("summary").key) refuse(said.get("answer-error").key, said.get("answer-error").values);
    return;
  }
  const form = { user: valueOf("user"), email: valueOf("email") };
  const again = mode === MODES.resend;
  const before = lostForm();
  if (!again) keepLostForm(form);
  const answer = await ask(mode.url, { method: "POST", body: bodyOf() });
  const accepted = answer.status === 200 && answer.json.ok;
  const unknown = answer.status <= 0 || (answer.status >= 500 && answer.json.error !== "signups_closed");
  if (!again && !unknown) keepLostForm(accepted ? null : before);
  if (accepted) finish({ ...form, again });
  else await showRefusal(answer, again ? null : unknown ? form : before);
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

/** Shows what the service answered to a form that it did not accept. `lost` is the form, this or an
    earlier one, that may have made an account all the same. */
async function showRefusal({ status, json, retryAfter }, lost) {
  const mayBeOurs = lost?.user === valueOf("user");
  if (status === 400 && json.error === "captcha_failed") {
    // The sum of a form that made an account is used up: the person's own was right.
    if (await renewCaptcha()) refuseAt("answer", mayBeOurs ? "answer_again" : "answer_wrong");
  } else if (status === 400) {
    refuseInvalid(json.error_description ?? "");
  } else if (status === 409 && mayBeOurs) {
    refuseAt("user", "user_yours", () => lost);
    part("mine").hidden = false;
    part("mine").onclick = () => finish({ ...lost, again: false });
  } else if (status === 409) {
    refuseAt("user", "user_taken");
  } else if (lost && status === 0) {
    refuse("lost", () => lost);
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

let typed = {}; // what the form said that went through, in memory alone: for a wrong address

/** The form went through, or is taken for that; a reload shows the same. */
function finish({ user, email, again }) {
  keepLostForm(null);
  if (!again) typed = Object.fromEntries(["name", "password"].map((field) => [field, part(field).value]));
  history.replaceState({ done: { user, email, again, at: Date.now() } }, "");
  showDone();
}

/** Says where the mail is, and empties the form. */
async function showDone() {
  const { user, email, again, at } = history.state.done;
  tell("done-where", again ? "resend_sent" : "done_where", () => ({ email }));
  tell("done-subject", "done_subject", () => ({ subject: say("mail_subject", { site: site() }) }));
  part("wrong").hidden = again;
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
  heldUser = null;
  typed = {};
  setMode("signup");
  showSection("ask");
  hintAtAddress();
  part("user").focus();
  renewCaptcha();
}

/** Back to the form as it was, for another address. The first one holds its user name. */
function correctAddress() {
  const { user, email } = history.state.done;
  const fields = { ...typed, user, email };
  startAgain();
  for (const [field, value] of Object.entries(fields)) part(field).value = value;
  heldUser = user;
  check("user");
  hintAtAddress();
  part("email").focus();
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

/** On a phone only the field that is being filled in shows its hint; it stays while the focus is on a
    button, which would move away. */
function showHint() {
  const field = document.activeElement.closest(".field");
  if (!field) return;
  for (const other of document.querySelectorAll(".field")) other.classList.toggle("current", other === field);
}

MODES.signup.fields.forEach(watch);
addEventListener("pointerdown", () => { pressed = true; }, true);
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => { pressed = false; }, true);
part("form").addEventListener("focusin", () => whenReleased(() => setTimeout(showHint)));
showHint();
if (location.hash !== "#resend") tellOfLostForm();
part("suggestion").addEventListener("click", () => {
  part("user").value = part("suggestion").textContent;
  check("user");
  part("user").focus();
});
part("wrong").addEventListener("click", correctAddress);
// "Next" on a phone's keyboard goes on to the next field; Enter on any other sends the form.
part("form").addEventListener("keydown", (event) => {
  const next = mode.fields[mode.fields.indexOf(event.target.id) + 1];
  if (event.key !== "Enter" || event.isComposing || event.target.enterKeyHint !== "next" || !matchMedia("(pointer: coarse)").matches) return;
  event.preventDefault();
  part(next).focus();
});
