import { Misconfigured } from "../errors.ts";

/** A command was called in a way that can never work. */
export function wrongUsage(message: string, hint: string): Misconfigured {
  return new Misconfigured({ code: "wrong-usage", message, hint });
}
