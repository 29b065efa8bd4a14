import { MentoError } from "../../src/errors.ts";

/** The code of the error that the work ends with; `none` if it succeeds. */
export async function codeOf(work: Promise<unknown>): Promise<string> {
  try {
    await work;
    return "none";
  } catch (error) {
    if (error instanceof MentoError) return error.code;
    throw error;
  }
}
