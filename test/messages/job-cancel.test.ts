import { expect, it } from "vitest";
import { CancelAnswer, cancelAnswerBytes } from "../../src/messages/job-cancel.ts";

const outcome = (job: string) => ({
  ...{ job, id: null, outcome: "unknown" as const, end: null, cancelledBy: null },
  error: { code: "job-unknown" as const, message: "There is no such job. ü", hint: "" },
});

it("an answer about jobs that were to be cancelled has so many bytes at most, and counts what is left out", () => {
  const outcomes = Array.from({ length: 1000 }, (_, at) => outcome(`job${at}`));
  const whole = cancelAnswerBytes({ outcomes }, 1024 * 1024);
  expect(JSON.parse(whole.toString())).toEqual({ outcomes });
  for (const most of [whole.byteLength - 1, 20_000, 300]) {
    const bytes = cancelAnswerBytes({ outcomes }, most);
    expect(bytes.byteLength).toBeLessThanOrEqual(most);
    const answer = CancelAnswer.parse(JSON.parse(bytes.toString()));
    expect(answer.outcomes).toEqual(outcomes.slice(0, answer.outcomes.length));
    expect(answer.outcomes.length + (answer.outcomesCut ?? 0)).toBe(1000);
  }
});
