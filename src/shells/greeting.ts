const BEGINS = "mento-begins";

/**
 * A script for a shell that an account's login shell has started: that may have printed before, also without a line end
 * (a greeting in `.bashrc`, a terminal's title), to either output.
 */
export function behindGreeting(script: string): string {
  return `printf '\\n${BEGINS}\\n'; printf '\\n${BEGINS}\\n' >&2\n${script}`;
}

/** What such a script has printed itself; everything, if the shell never came to it. */
export function withoutGreeting(output: Buffer): Buffer {
  const mark = `\n${BEGINS}\n`;
  const at = output.indexOf(mark);
  return at < 0 ? output : output.subarray(at + mark.length);
}
