import { createHash } from "node:crypto";

const ALPHABET = "abcdefghijklmnopqrstuvwxyz234567";

/** The same parts always give the same id: 26 characters of base 32, 130 bits of SHA-256. */
export function derivedId(...parts: string[]): string {
  const digest = createHash("sha256").update(JSON.stringify(parts)).digest();
  let bits = "";
  for (const byte of digest) bits += byte.toString(2).padStart(8, "0");
  const deadLetters = (bits.match(/.{5}/g) ?? []).map((five) => ALPHABET[parseInt(five, 2)]);
  return deadLetters.join("").slice(0, 26);
}

/** The id as an AMQP property, which has at most 255 bytes; a structured message has the whole id in its body. */
export function shortId(id: string): string {
  return Buffer.byteLength(id) <= 255 ? id : derivedId(id);
}
