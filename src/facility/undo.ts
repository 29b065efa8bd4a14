import { errorText } from "../errors.ts";
import type { Say } from "./packages.ts";

/** What takes back each step that was done so far, in the order of the steps. */
export type Undo = (() => void | Promise<void>)[];

/** Takes all of it back, the last step first. One that cannot be taken back does not keep the others. */
export async function takeBack(undo: Undo, say: Say): Promise<void> {
  for (const step of undo.toReversed()) {
    try {
      await step();
    } catch (error) {
      say(`Could not take everything back: ${errorText(error)}`);
    }
  }
}
