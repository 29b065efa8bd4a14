import { MentoError } from "../../src/errors.ts";

/** The error that the work ends with. */
export function errorOf(work: () => unknown): MentoError {
  try {
    work();
  } catch (error) {
    if (error instanceof MentoError) return error;
    throw error;
  }
  throw new Error("It did not fail.");
}
