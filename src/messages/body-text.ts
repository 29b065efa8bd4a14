import { Rejected } from "../errors.ts";
import { cut } from "../text/cut.ts";
import type { MessageProperties } from "./message-properties.ts";

/** How a body begins that is no UTF-8 text, and what it then is. UTF-32 before UTF-16, whose mark begins the same. */
/* eslint-disable no-control-regex -- these are bytes, as latin1 */
const BEGINNINGS: readonly [RegExp, string][] = [
  [/^(\xff\xfe\0\0|\0\0\xfe\xff|\0\0\0[^\0]|[^\0]\0\0\0)/, "UTF-32 text"],
  [/^(\xff\xfe|\xfe\xff|\0[^\0]|[^\0]\0)/, "UTF-16 text"],
  [/^\x1f\x8b/, "compressed with gzip"],
  [/^\x28\xb5\x2f\xfd/, "compressed with zstd"],
  [/^BZh[1-9]/, "compressed with bzip2"],
  [/^\xfd7zXZ\0/, "compressed with xz"],
  [/^\x04\x22\x4d\x18/, "compressed with lz4"],
  [/^x[\x01\x5e\x9c\xda]/, "compressed with deflate"],
  [/^PK\x03\x04/, "a zip archive"],
  [/^\x89HDF\r\n/, "an HDF5 file"],
  [/^\x89PNG\r\n/, "a PNG picture"],
  [/^(II\*\0|MM\0\*)/, "a TIFF picture"],
  [/^Obj\x01/, "Avro"],
  [/^\x80[\x02-\x05]/, "a Python pickle"],
  [/^[\x80-\x8f\xde\xdf]/, "MessagePack, or another binary format"],
];
/* eslint-enable no-control-regex */

/** Content encodings that compress; others, such as `utf-8`, say nothing that the body does not. */
const COMPRESSIONS = /^(x-)?(gzip|deflate|br|zstd|compress|zlib|bzip2|xz|lz4|snappy)$/;

/**
 * The text of a body, a byte order mark left out.
 *
 * @throws Rejected `not-utf8`: names what it is instead, as far as that can be told
 */
export function bodyText(body: Uint8Array, properties: MessageProperties): string {
  const encoding = properties.contentEncoding?.trim().toLowerCase() ?? "";
  if (COMPRESSIONS.test(encoding)) throw notText(`compressed (content_encoding ${encoding})`);
  const start = Buffer.from(body.subarray(0, 16)).toString("latin1");
  const known = BEGINNINGS.find(([beginning]) => beginning.test(start))?.[1];
  // No JSON begins so, not even as UTF-8.
  if (known !== undefined && start.charCodeAt(0) !== 0x78) throw notText(known);
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(body);
  } catch (cause) {
    const declared = properties.contentType ?? "";
    throw notText(known ?? (declared === "" ? undefined : `said to be ${cut(declared, 100)}`), cause);
  }
}

function notText(what: string | undefined, cause?: unknown): Rejected {
  return new Rejected({
    code: "not-utf8",
    message: `The message is not UTF-8 text${what === undefined ? "" : `: it is ${what}`}.`,
    hint: "Send JSON in UTF-8, not compressed; write data of other forms to a file and send its path.",
    cause,
  });
}
