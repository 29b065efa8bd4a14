import * as z from "zod";
import type { CancelledBy } from "../messages/job-event.ts";
import { parsePlainJson } from "../messages/json.ts";
import { quote } from "../shells/quote.ts";

/** Who asks for a job to be cancelled, and why; kept in the job's directory. */
export const CancelRequest = z.strictObject({
  who: z.string(),
  reason: z.string().nullable(),
  at: z.iso.datetime(),
});
export type CancelRequest = z.infer<typeof CancelRequest>;

/** What a job directory says of it. */
export interface AskedToCancel {
  by: CancelledBy;
  /** Slurm has taken the cancellation, while the job lived. */
  isAccepted: boolean;
}

const ACCEPTED = "accepted";

/** Whoever can write to the directory can write anything into the file: an event is a message of at most 1 MiB. */
const MAX_TEXT = 500;
/** Of the whole file: a reason has a limit, and each who cancels the job adds a line. */
export const CANCEL_REQUEST_BYTES = 16 * 1024;

/**
 * Defines the shell function `ask <directory>`: leaves the request in `.cancelled`, before anything is done, so that
 * whoever sees the job end can tell who has ended it. A link is made by one caller only: the first who asked is named.
 */
export function askFunction({ who, reason, at }: CancelRequest): string {
  return `ask() {
  printf %s ${quote(JSON.stringify({ who, reason, at }))} > "$1/.cancel.$$" || return
  ln "$1/.cancel.$$" "$1/.cancelled" 2>/dev/null
  rm -f "$1/.cancel.$$"
  # Rings for whoever watches the job: what is to be submitted again shall not be. (A \`:\` that fails ends some shells.)
  { true > "\${1%/*}/.spool/\${1##*/}.ended"; } 2>/dev/null
  [ -f "$1/.cancelled" ]
}`;
}

/** Defines the shell function `accepted <directory>`: also when Slurm has forgotten the job, its end is then known. */
export const ACCEPTED_FUNCTION = `accepted() { [ ! -f "$1/.cancelled" ] || printf '\\n${ACCEPTED}\\n' >> "$1/.cancelled"; }`;

/** Undefined if it is not of ours. */
export function parseCancelRequest(bytes: Uint8Array): AskedToCancel | undefined {
  try {
    const [request = "", ...more] = new TextDecoder().decode(bytes).split("\n");
    const { who, reason } = CancelRequest.parse(parsePlainJson(request));
    const cut = (text: string) => text.slice(0, MAX_TEXT).toWellFormed();
    const by = { who: cut(who), reason: reason === null ? null : cut(reason) };
    return { by, isAccepted: more.includes(ACCEPTED) };
  } catch {
    return undefined;
  }
}
