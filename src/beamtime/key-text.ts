import { createPrivateKey } from "node:crypto";
import ssh2 from "ssh2";

/** A private key as ssh2 and ssh(1) both read it, or what is wrong with the file, and what mends it. */
export type KeyText = { key: Buffer; type: string } | { problem: string; hint: string };

/** RSA with 16384 bits, the largest that OpenSSH makes, has 13 kB. */
const LONGEST_BLOCK = 64 * 1024;
/** RFC 1421 has two, `Proc-Type` and `DEK-Info`. */
const MOST_HEADERS = 10;

const OF_OPENSSH = "It must be a private key in OpenSSH's format or in PEM: ed25519, ECDSA or RSA.";

/**
 * The first private key in a file, alone: OpenSSH, too, passes over text around a PEM block (such as the bag attributes
 * that `openssl pkcs12` writes), and takes the first of several keys. A byte order mark and DOS line ends, which stop
 * ssh(1), are left out.
 *
 * @param source the file's name, for the hints
 */
export function privateKeyIn(bytes: Buffer, source: string): KeyText {
  const text = bytes.toString("latin1").replace(/^\xef\xbb\xbf/, "");
  const [, kind] = /^-----BEGIN ((?:[A-Z0-9]{1,10} ){0,2}PRIVATE KEY)-----[ \t\r]*$/m.exec(text) ?? [];
  if (kind === undefined) return noPrivateKey(text, source);
  const begin = text.indexOf(`-----BEGIN ${kind}-----`);
  const endMark = `-----END ${kind}-----`;
  const end = text.indexOf(endMark, begin);
  if (end < 0)
    return { problem: "its end is missing", hint: "Was it copied whole? It must be written again." };
  const block = text.slice(begin, end + endMark.length);
  if (block.length > LONGEST_BLOCK || !isPem(block)) {
    return { problem: "what stands between its BEGIN and END lines is no key", hint: OF_OPENSSH };
  }
  // ssh(1), unlike ssh2, reads no key without a last line end, or with DOS line ends ("error in libcrypto").
  const key = Buffer.from(
    `${block
      .split("\n")
      .map((line) => line.trimEnd())
      .join("\n")}\n`,
    "latin1",
  );
  const parsed = ssh2.utils.parseKey(key);
  if (parsed instanceof Error) return unusable(key, kind, parsed, source);
  if (parsed.type === "ssh-rsa" && !isInProportion(parsed.getPrivatePEM())) {
    return { problem: "its numbers are of lengths that those of no RSA key have", hint: OF_OPENSSH };
  }
  return { key, type: parsed.type };
}

/** 8192 bits: a signature with twice as many takes seconds. */
const LONGEST_MODULUS = 1024;
/** OpenSSL checks no signature of a longer one. */
const LONGEST_PUBLIC_EXPONENT = 8;

/**
 * OpenSSL signs with whatever numbers a file has, and nobody else is served meanwhile: with a prime of 64 kbit it takes
 * minutes. The primes of a key are together as long as its modulus, none much longer than the other, and no exponent is
 * longer than what it is for.
 */
function isInProportion(pem: string): boolean {
  try {
    const key = createPrivateKey(pem).export({ format: "jwk" });
    const length = (name: "n" | "e" | "d" | "p" | "q" | "dp" | "dq" | "qi") =>
      Buffer.byteLength(key[name] ?? "", "base64url");
    return (
      length("n") <= LONGEST_MODULUS &&
      length("e") <= LONGEST_PUBLIC_EXPONENT &&
      length("d") <= length("n") &&
      length("p") + length("q") <= length("n") + 1 &&
      Math.min(length("p"), length("q")) >= length("n") / 4 &&
      Math.max(length("dp"), length("qi")) <= length("p") &&
      length("dq") <= length("q")
    );
  } catch {
    return false;
  }
}

/** Lines of base64, below a few headers: what else there is would only slow down the parser. */
function isPem(block: string): boolean {
  const lines = block.split("\n").slice(1, -1);
  const headers = lines.filter((line) => line.includes(":"));
  const content = lines.filter((line) => !line.includes(":"));
  return headers.length <= MOST_HEADERS && content.every((line) => /^[A-Za-z0-9+/=]*[ \t\r]*$/.test(line));
}

function unusable(key: Buffer, kind: string, error: Error, source: string): KeyText {
  const isEncrypted = key.includes("ENCRYPTED") || /encrypted/i.test(error.message);
  const isPkcs8 = kind === "PRIVATE KEY" || kind === "ENCRYPTED PRIVATE KEY";
  const hint = isPkcs8
    ? convertPkcs8(key, source)
    : isEncrypted
      ? `Take the passphrase off: ssh-keygen -p -N "" -f ${source}`
      : OF_OPENSSH;
  if (isEncrypted) return { problem: "it has a passphrase", hint };
  if (isPkcs8) return { problem: 'it is in the format PKCS#8 ("BEGIN PRIVATE KEY")', hint };
  return { problem: error.message, hint };
}

/** As tried with OpenSSH 9.2, which converts RSA and ECDSA keys from PKCS#8, but no ed25519 key. */
function convertPkcs8(key: Buffer, source: string): string {
  if (pkcs8Type(key) !== "ed25519") return `Convert it: ssh-keygen -p -N "" -f ${source}`;
  return `OpenSSH before 9.6 cannot convert it; make a new one: ssh-keygen -t ed25519 -N "" -f ${source}`;
}

function pkcs8Type(key: Buffer): string | undefined {
  try {
    return createPrivateKey(key).asymmetricKeyType;
  } catch {
    return undefined;
  }
}

function noPrivateKey(text: string, source: string): KeyText {
  const start = text.trimStart().slice(0, 200);
  if (start === "") return { problem: "it is empty", hint: OF_OPENSSH };
  if (/^(ssh-|ecdsa-|sk-)|^-----? ?BEGIN (\w+ )?PUBLIC KEY/.test(start)) {
    return {
      problem: "it is a public key",
      hint: `The private key belongs there (ssh-keygen writes the public one to a file that ends with .pub).`,
    };
  }
  if (start.startsWith("PuTTY-User-Key-File-")) {
    const hint = `Convert it: puttygen ${source} -O private-openssh -o NEW; then put NEW in its place.`;
    return { problem: "it is in PuTTY's format", hint };
  }
  if (/^(\xff\xfe|\xfe\xff)/.test(text) || text.slice(0, 200).includes("\0")) {
    const hint = `If it is UTF-16, as Windows writes it: iconv -f UTF-16 -t ASCII ${source} > NEW`;
    return { problem: "it is not plain text", hint };
  }
  if (start.includes("-----BEGIN CERTIFICATE")) {
    return { problem: "it is a certificate, without its private key", hint: OF_OPENSSH };
  }
  return { problem: "there is no private key in it", hint: OF_OPENSSH };
}
