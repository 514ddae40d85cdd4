// The HTML of a mail that the demo has sent, as a mail program would show it.

import { readFile } from "node:fs/promises";

/** The parts of one MIME entity: its header fields in lower case, its body. */
function entity(text) {
  const at = text.indexOf("\r\n\r\n");
  const head = text.slice(0, at).replace(/\r\n[ \t]+/g, " ");
  const fields = Object.fromEntries(head.split("\r\n").map((line) => {
    const [, name, value] = /^([^:]+):\s*(.*)$/.exec(line);
    return [name.toLowerCase(), value];
  }));
  return { fields, body: text.slice(at + 4) };
}

/** Undoes quoted-printable (RFC 2045 §6.7) or base64. */
function decoded({ fields, body }) {
  const encoding = fields["content-transfer-encoding"]?.toLowerCase();
  if (encoding === "base64") return Buffer.from(body, "base64").toString("utf8");
  if (encoding !== "quoted-printable") return body;
  const bytes = body.replace(/=[ \t]*\r\n/g, "").replace(/=([0-9A-F]{2})/gi, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
  return Buffer.from(bytes, "latin1").toString("utf8");
}

/** The text/html part of a multipart/alternative mail. */
export async function htmlOf(file) {
  const mail = entity((await readFile(file)).toString("latin1"));
  const boundary = /boundary="?([^";]+)/.exec(mail.fields["content-type"])[1];
  const parts = mail.body.split(`--${boundary}`).slice(1, -1).map((part) => entity(part.replace(/^\r\n/, "")));
  return decoded(parts.find((part) => /^text\/html/.test(part.fields["content-type"])));
}
