import { quote } from "./quote.ts";

/** In a pipeline it stands as it is: a shell starts one process more for a function there. */
const DD = `dd if="$1" bs=64k count="$2" iflag=nofollow,nonblock,fullblock,count_bytes 2>/dev/null`;

/**
 * What lies in job directories and their spool was written by the account that the jobs run as, and can be anything: a
 * link, a FIFO, a device, gigabytes, a file that changes while it is read. This is the one way in which it is read.
 *
 * - `content <file> <bytes>` prints at most so many bytes of a regular file, and of anything else nothing. What the test
 *   finds may be another thing when it is opened: `dd` follows no link and waits for no FIFO's writer.
 * - `lines <file> <bytes>` sets `first` and `second` to its lines, and fails unless the first one has ended.
 * - `encoded <file> <bytes>` sets `encoded` to the content in base64: whatever it holds, it ends no line of an answer.
 */
export const BOUNDED_FILE = `nl='
'
is_plain() { [ -f "$1" ] && [ ! -L "$1" ]; }
content() { is_plain "$1" && ${DD}; }
lines() {
  first= second=
  is_plain "$1" || return 1
  text=$(content "$1" "$2"; printf .) 2>/dev/null
  case $text in *"$nl"*) ;; *) return 1 ;; esac
  first=\${text%%"$nl"*} second=\${text#*"$nl"}
  case $second in *"$nl"*) second=\${second%%"$nl"*} ;; *) second= ;; esac
}
encoded() { encoded=; is_plain "$1" && encoded=$(${DD} | base64 -w 0); }`;

/** `submitted`: an id, a reservation, a partition and a reason. */
export const SUBMITTED_BYTES = 1024;
/** The request in a run script's second line holds a message's paths, and the program's arguments. */
export const REQUEST_BYTES = 4 * 1024 * 1024;

/** So long one call reads; a file system that answers later is away. */
export const READ_SECONDS = 15;

/** A script that ends after so many seconds, whatever it meets: nothing of it stays behind on the host. */
export function within(seconds: number, script: string): string {
  return `timeout -k 1 ${seconds} /bin/sh -c ${quote(script)}`;
}

/** The exit code of `timeout` when the time has passed; 137 if it had to kill. */
export const TIMED_OUT: readonly (number | null)[] = [124, 137];
