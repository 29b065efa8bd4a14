import { TextDecoder } from "node:util";
import { MAX_MESSAGE_BYTES } from "../messages/cloud-event.ts";
import { parseJson, shapeOf, writeJson } from "../messages/json.ts";
import type { DeadLetter } from "../messages/dead-letter.ts";
import { plainLine, plainText } from "../text/terminal.ts";
import { localTime } from "../time/local.ts";
import { groupOf } from "./dead-filter.ts";
import { fileOf } from "./event-line.ts";

const LONGEST_ID = 100;
/** So much of a body that is no message's text is shown. */
const SHOWN_BYTES = 512;
/** JSON that is nested deeper is not set out: of 1 MiB its indents would make hundreds. */
const MOST_INDENTS = 1_000_000;

/** One line for a person: which message, since when, whose, about what, and why. */
export function deadLetterLine(deadLetter: DeadLetter, prefix: string): string {
  const { cause, error, firstSeen, attempts, paths, trigger } = deadLetter;
  const group = groupOf(deadLetter, prefix) ?? "-";
  const waited = attempts === 0 ? "" : `  (deferred ${attempts} ×)`;
  return [
    plainLine(cause.id, LONGEST_ID),
    localTime(firstSeen ?? ""),
    plainLine(trigger === null ? group : `${group}/${trigger}`),
    plainLine(error.code ?? "-"),
    fileOf(paths) || "-",
    `${plainLine(error.message)}${waited}`,
  ].join("  ");
}

/** What `list --json` says of a letter: all but its headers and body. */
export function summaryJson(deadLetter: DeadLetter, prefix: string): object {
  const {
    cause,
    error,
    firstSeen,
    attempts,
    queue,
    trigger,
    exchange,
    routingKey,
    beamline,
    beamtimeId,
    paths,
  } = deadLetter;
  return {
    ...{ id: cause.id, source: cause.source, type: cause.type, error, firstSeen, attempts },
    group: groupOf(deadLetter, prefix),
    ...{ queue, trigger, exchange, routingKey, beamline, beamtimeId, paths, bytes: deadLetter.body.length },
  };
}

/** All of a letter: enough to publish it again by hand. */
export function deadLetterJson(deadLetter: DeadLetter, prefix: string): object {
  const text = textOf(deadLetter.body);
  const { headers = {}, ...properties } = deadLetter.properties;
  return {
    ...summaryJson(deadLetter, prefix),
    properties: Object.fromEntries(Object.entries(properties).filter(([, value]) => value !== undefined)),
    headers,
    ...(text === undefined ? { bodyBase64: deadLetter.body.toString("base64") } : { body: text }),
  };
}

/** All of a letter for a person. */
export function deadLetterText(deadLetter: DeadLetter): string {
  const { cause, error, firstSeen, attempts, queue, trigger, exchange, routingKey } = deadLetter;
  const { properties, received, body } = deadLetter;
  const { headers = {}, ...others } = properties;
  const facts: [string, string | null][] = [
    ["id", cause.id],
    ["source", cause.source],
    ["type", cause.type],
    ["why", `${error.message} [${error.code ?? "-"}]`],
    ["what to do", error.hint],
    ["first seen", firstSeen],
    ["deferred", `${attempts} ×`],
    [
      "published to",
      exchange === null && routingKey === null ? null : `${exchange ?? ""} ${routingKey ?? ""}`,
    ],
    ["came from", queue],
    ["for trigger", trigger],
  ];
  const rows = [
    ...facts.flatMap(([name, value]) => (value === null ? [] : [row(name, value)])),
    ...Object.entries(others).flatMap(([name, value]) => (value === undefined ? [] : [row(name, value)])),
    ...Object.entries(headers).flatMap(([name, value]) =>
      (SAID_ABOVE.test(name) && name in received.ours) || value === "" ? [] : [row(`header ${name}`, value)],
    ),
  ];
  return `${rows.join("\n")}\n\n${bodyText(body)}\n`;
}

/** Headers that the facts come from. */
const SAID_ABOVE =
  /^mento-(error-(code|message|hint)|first-seen|attempts|queue|trigger|exchange|routing-key)$/;

function row(name: string, value: unknown): string {
  return `${plainLine(name)}: ${plainLine(typeof value === "string" ? value : JSON.stringify(value))}`;
}

/** JSON is set out, other text as it is, of anything else the first bytes. */
function bodyText(body: Buffer): string {
  const text = textOf(body);
  if (text !== undefined) return plainText(pretty(text));
  const rows: string[] = [];
  for (let at = 0; at < Math.min(body.length, SHOWN_BYTES); at += 16) {
    const bytes = body.subarray(at, Math.min(at + 16, SHOWN_BYTES));
    const characters = bytes.toString("latin1").replace(/[^ -~]/g, ".");
    rows.push(
      `${at.toString(16).padStart(6, "0")}  ${bytes.toString("hex").replace(/(..)/g, "$1 ").padEnd(48)}  ${characters}`,
    );
  }
  const more = body.length > SHOWN_BYTES ? `\n… --json has all of it, in base64` : "";
  const what = body.length > MAX_MESSAGE_BYTES ? "more than a message has" : "that are not UTF-8 text";
  return `${body.length} bytes, ${what}:\n${rows.join("\n")}${more}`;
}

function pretty(text: string): string {
  const { levels, values } = shapeOf(text);
  if (levels * values > MOST_INDENTS) return text;
  try {
    return writeJson(parseJson(text), 2);
  } catch {
    return text;
  }
}

/** Of more bytes than a message has, text could become longer than JavaScript's can be: each can be an escape of six. */
function textOf(body: Buffer): string | undefined {
  if (body.length > MAX_MESSAGE_BYTES) return undefined;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(body);
  } catch {
    return undefined;
  }
}
