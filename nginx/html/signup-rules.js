// The rules for what is typed into the sign-up page, and the digest that is sent in place of the password.
// Fetched with signup-form.js, which goes on from here.
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

let heldUser = null; // the user name that an account with a wrong address holds

// Field, the text of who breaks the rule, whether a value breaks it. The first that is broken counts.
const RULES = [
  ["user", "user_empty", (value) => value === ""],
  ["user", "user_shape", (value) => !/^[a-z0-9_.-]{1,64}$/.test(value)],
  ["user", "user_reserved", (value) => RESERVED.includes(value)],
  ["user", "user_held", (value) => value === heldUser],
  ["name", "name_shape", (value) => DISTURBING.test(value)],
  ["name", "name_empty", (value) => trimmed(value) === ""],
  ["name", "name_shape", (value) => lengthOf(trimmed(value)) > 120],
  ["email", "email_empty", (value) => value === ""],
  ["email", "email_shape", (value) => !isAddress(value)],
  ["password", "password_empty", (value) => value === ""],
  ["password", "password_short", (value) => lengthOf(value) < PASSWORD_LEAST],
  ["password", "password_personal", (value) => isPersonal(value)],
  ["password", "password_pattern", (value) => isPattern(value)],
  ["password", "password_common", (value) => isCommon(value)],
  ["answer", "answer_empty", (value) => value === ""],
  ["answer", "answer_shape", (value) => !/^[+-]?[0-9]+$/.test(value)],
];

/** The text of the rule that a value breaks, or null. */
function brokenRule(field, value) {
  return RULES.find(([of, , breaks]) => of === field && breaks(value))?.[1] ?? null;
}

/** One plain address: a dot-atom, `@`, a domain of at least two labels, the last not all digits. */
function isAddress(text) {
  const at = text.lastIndexOf("@");
  const [local, domain] = [text.slice(0, Math.max(at, 0)), asciiDomain(text.slice(at + 1))];
  const labels = domain.split(".");
  return bytesOf(text) <= 254 && local.length + 1 + domain.length <= 254 && local.length <= 64
    && DOT_ATOM.test(local) && labels.length >= 2 && labels.every((label) => LABEL.test(label))
    && !/^\d+$/.test(labels.at(-1));
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

// Domains that many addresses have, and some that look like a slip of one of them and are none.
const DOMAINS = ("gmail.com googlemail.com outlook.com hotmail.com live.com msn.com yahoo.com icloud.com aol.com "
  + "proton.me protonmail.com fastmail.com gmx.de gmx.net gmx.com web.de t-online.de freenet.de posteo.de mailbox.org "
  + "orange.fr wanadoo.fr laposte.net libero.it virgilio.it tiscali.it ziggo.nl interia.pl telefonica.net yandex.com "
  + "mail.com ymail.com email.com rocketmail.com").split(" ");

/** The address that was probably meant, where its domain is one slip away from a big one in its name,
    in its ending or in both; else null. Short names and endings are too near to others. */
function nearAddress(address) {
  const at = address.lastIndexOf("@");
  const domain = address.slice(at + 1).toLowerCase();
  if (at < 1 || DOMAINS.includes(domain)) return null;
  const near = DOMAINS.find((big) => [0, 1].every((n) => isNear(...[domain, big].map((one) => halves(one)[n]))));
  return near ? `${address.slice(0, at)}@${near}` : null;
}

/** A domain's name and its ending. */
const halves = (domain) => [domain.slice(0, Math.max(0, domain.lastIndexOf("."))), domain.slice(domain.lastIndexOf(".") + 1)];

/** Whether one slip makes `big` of `typed`: a letter more, less, another, or two that changed places. */
function isNear(typed, big) {
  if (typed === big) return true;
  if (big.length < 3 || (big.length === 3 && !["com", "net", "org"].includes(big))) return false;
  let from = 0;
  while (typed[from] === big[from]) from++;
  const rests = (a, b) => typed.slice(from + a) === big.slice(from + b);
  return rests(1, 1) || rests(1, 0) || rests(0, 1)
    || (typed[from] === big[from + 1] && typed[from + 1] === big[from] && rests(2, 2));
}

// --- weak passwords ------------------------------------------------------------------------------
// What programs try first, long before they try everything. No list of these can be long enough; it is
// the commonest that count.

const COMMON = new Set((""
  + "password passwort passwd kennwort geheim geheimnis motdepasse contrasena contraseña senha wachtwoord welkom haslo hasło "
  + "passwordadmin adminpassword mypassword newpassword yourpassword changeme changethis letmein letmeinnow opensesame "
  + "secret topsecret nothing whatever trustno trustnoone iloveyou iloveu ichliebedich jetaime tequiero teamo loveyou lovely "
  + "admin administrator root user guest test testing testtest tester login logmein master default system server computer "
  + "internet windows microsoft google facebook youtube samsung nokia apple iphone welcome willkommen bienvenue bienvenido "
  + "benvenuto witaj hallo hello hallohallo hellohello bonjour monkey dragon tiger lion panther eagle phoenix unicorn butterfly "
  + "flower flowers princess prinzessin princesa queen angel angels babygirl baby sweetheart sweety honey sunshine sonnenschein "
  + "soleil summer sommer winter spring autumn monday friday january december shadow superman batman spiderman starwars "
  + "pokemon pikachu naruto matrix ninja samurai football fussball fußball futbol baseball basketball hockey soccer liverpool "
  + "chelsea arsenal barcelona realmadrid juventus bayern dortmund schalke ajax yankees cowboys lakers ferrari porsche mercedes "
  + "corvette mustang harley yamaha cheese chocolate schokolade chocolat cookie pepper banana orange ginger coffee michael "
  + "michelle jennifer jessica daniel thomas andreas stefan alexander alexandra jordan hunter charlie robert andrew joshua "
  + "matthew anthony ashley nicole amanda christian florian sebastian benjamin maximilian loveme fuckyou fuckoff asshole "
  + "killer blessed jesus jesuschrist godisgood freedom forever friends family happy lucky money power peace love berlin "
  + "hamburg münchen paris london madrid roma polska deutschland france espana italia portugal amsterdam "
  + "qwerty qwertz azerty 1q2w3e4r 1q2w3e4r5t 1q2w3e4r5t6y q1w2e3r4 q1w2e3r4t5 q1w2e3r4t5y6 1qaz2wsx 1qaz2wsx3edc qazwsxedc "
  + "qazwsxedcrfv zaq12wsx zaq1zaq1 abc123 a1b2c3d4 a1b2c3d4e5 123qwe 123qweasd 123qweasdzxc qweasdzxc asdzxc").split(" "));
const KEY_ROWS = ["01234567890", "abcdefghijklmnopqrstuvwxyz", "qwertyuiop", "asdfghjkl", "zxcvbnm", "qwertzuiop", "yxcvbnm", "azertyuiop",
  "qsdfghjklm", "wxcvbn"].flatMap((row) => [row, [...row].reverse().join("")]);
const LEET = { 0: "o", 1: "i", 3: "e", 4: "a", 5: "s", 7: "t", "@": "a", $: "s", "!": "i" };
const UNKNOWN_LEAST = 6; // characters that are left when what is known is taken away

/** A common word, written with other signs, with some before or behind it. */
function isCommon(password) {
  const small = password.toLowerCase();
  const word = small.replace(/^[^\p{L}]+|[^\p{L}]+$/gu, "");
  const spelled = word.replace(/[013457@$!]/g, (sign) => LEET[sign]);
  const around = lengthOf(small) - lengthOf(word);
  return COMMON.has(small) || (around <= UNKNOWN_LEAST && [word, spelled, spelled.replace(/[^\p{L}]/gu, "")].some((one) => COMMON.has(one)));
}

/** Few different characters, a piece that is repeated, digits alone, rows of keys or of the alphabet. */
function isPattern(password) {
  const small = password.toLowerCase();
  if (new Set(small).size <= 3 || /^(.{1,8}?)\1+$/su.test(small) || /^\d{1,15}$/.test(small)) return true;
  let left = "";
  for (let at = 0; at < small.length;) {
    let length = 0;
    while (at + length < small.length && KEY_ROWS.some((row) => row.includes(small.slice(at, at + length + 1)))) length++;
    if (length < 4) left += small[at++];
    else at += length;
  }
  return left.length < small.length && left.length < UNKNOWN_LEAST;
}

/** The person's own name, user name or address, and little more. */
function isPersonal(password) {
  const own = ["user", "name", "email"].flatMap((field) => {
    const words = part(field).value.split(/[^\p{L}\p{N}]+/u);
    return [part(field).value, words.join(""), ...words];
  });
  const known = own.map((word) => word.toLowerCase()).filter((word) => lengthOf(word) >= 4).sort((a, b) => b.length - a.length);
  const left = known.reduce((rest, word) => rest.replaceAll(word, ""), password.toLowerCase());
  return left.length < password.length && lengthOf(left) < UNKNOWN_LEAST;
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
