import { createHash } from "node:crypto";

/**
 * A text that others wrote, no longer than `most` characters, before it goes into an event, a log line, an answer or a
 * header. It says that it was cut, and no character outside the basic plane is split.
 */
export function cut(text: string, most: number): string {
  if (text.length <= most) return text;
  const note = `… (cut from ${text.length} characters)`;
  return head(text, most - note.length) + note;
}

/** The same for an id, which tells one thing from another: two that differ are still different when they are cut. */
export function cutId(id: string, most: number): string {
  if (id.length <= most) return id;
  const note = `…${createHash("sha256").update(id).digest("hex").slice(0, 26)}`;
  return head(id, most - note.length) + note;
}

function head(text: string, length: number): string {
  const end = Math.max(0, length);
  const splitsPair = /[\ud800-\udbff]/.test(text.charAt(end - 1)) && /[\udc00-\udfff]/.test(text.charAt(end));
  return text.slice(0, splitsPair ? end - 1 : end);
}
