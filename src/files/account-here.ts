import { userInfo } from "node:os";

/** The name of the account that this process runs as; in a container it may have none but its number. */
export function accountHere(): string {
  try {
    return userInfo().username;
  } catch {
    return `uid-${process.getuid?.() ?? "?"}`;
  }
}
