import { existsSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import type { Log } from "../../src/log.ts";
import { WorkerStatus } from "../../src/worker/worker-state.ts";

function opened(lines: number) {
  const said: string[] = [];
  const log = { info: ({ state }: { state: string }) => said.push(state) } as unknown as Log;
  const readyFile = join(mkdtempSync(join(tmpdir(), "mento-state-")), "ready");
  return { status: new WorkerStatus(lines, readyFile, {}, log), said, isShown: () => existsSync(readyFile) };
}

test("a worker is ready when all its lines are, and no longer when one is lost", () => {
  const { status, said, isShown } = opened(2);
  expect(status.state).toBe("starting");
  const lost = status.lineIsReady();
  expect([status.state, isShown()]).toEqual(["starting", false]);
  status.lineIsReady();
  expect([status.state, isShown()]).toEqual(["ready", true]);
  lost();
  lost();
  expect([status.state, isShown()]).toEqual(["reconnecting", false]);
  status.lineIsReady();
  expect([status.state, isShown()]).toEqual(["ready", true]);
  expect(said).toEqual(["ready", "reconnecting", "ready"]);
});

test("a worker that was told to stop is never ready again", () => {
  const { status, said, isShown } = opened(1);
  const lost = status.lineIsReady();
  status.stopping();
  expect(isShown()).toBe(false);
  lost();
  status.lineIsReady();
  status.stopped();
  status.stopping();
  expect([status.state, isShown()]).toEqual(["stopped", false]);
  expect(said).toEqual(["ready", "stopping", "stopped"]);
});
