import { errorText } from "../../errors.ts";
import { tryPlainJson } from "../../messages/json.ts";

/** The jobs of a busy cluster are some 5 kB each, and all come at once. */
const LARGEST_ANSWER = 64 * 1024 * 1024;

export interface Request {
  method: "GET" | "POST" | "DELETE";
  url: string;
  headers: Readonly<Record<string, string>>;
  body?: object;
  /** Milliseconds for all of it: to connect, to send, and for the whole answer. */
  timeoutMs: number;
}

export type Reply =
  /** `json` is undefined if the answer is something else; `date` is the server's clock, milliseconds, if it says it. */
  | {
      kind: "answer";
      status: number;
      location: string | null;
      date: number | undefined;
      text: string;
      json: unknown;
    }
  /** Nobody was reached: the server has certainly done nothing. */
  | { kind: "unsent"; why: string }
  /** No whole answer: what the server did is not known. */
  | { kind: "broken"; why: string };

/** What went wrong before anything could be sent: no name, no connection, no TLS. */
const UNSENT =
  /^(ECONNREFUSED|ENOTFOUND|EAI_\w+|EHOSTUNREACH|ENETUNREACH|UND_ERR_CONNECT_TIMEOUT|EPROTO)$|CERT|TLS|SSL/;

export async function request({ method, url, headers, body, timeoutMs }: Request): Promise<Reply> {
  try {
    const response = await fetch(url, {
      method,
      headers: body === undefined ? headers : { ...headers, "content-type": "application/json" },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(timeoutMs),
      // Elsewhere the token is nobody's business, and a POST would arrive as a GET.
      redirect: "manual",
    });
    const text = await wholeText(response);
    if (text === undefined) return { kind: "broken", why: "its answer is larger than 64 MiB" };
    const location = response.headers.get("location");
    const date = Date.parse(response.headers.get("date") ?? "") || undefined;
    return { kind: "answer", status: response.status, location, date, text, json: tryPlainJson(text) };
  } catch (error) {
    if (error instanceof Error && error.name === "TimeoutError") {
      return { kind: "broken", why: `no whole answer within ${timeoutMs} ms` };
    }
    // fetch says only "fetch failed"; the reason is its cause.
    const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
    const code = String((cause as NodeJS.ErrnoException).code);
    return { kind: UNSENT.test(code) ? "unsent" : "broken", why: errorText(cause) || code };
  }
}

async function wholeText(response: Response): Promise<string | undefined> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  // Leaving the loop early ends the connection.
  for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    size += chunk.length;
    if (size > LARGEST_ANSWER) return undefined;
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString("utf8");
}
