import { existsSync, mkdirSync, mkdtempSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it, vi } from "vitest";
import { hideReady, showReady } from "../../src/worker/ready-file.ts";

const folder = mkdtempSync(join(tmpdir(), "mento-ready-"));
const file = join(folder, "ready");
afterEach(() => {
  vi.useRealTimers();
  rmSync(file, { force: true });
});

afterAll(() => rmSync(folder, { recursive: true }));

describe("the ready file", () => {
  it("is there until it is taken away, and does not grow old meanwhile", () => {
    vi.useFakeTimers();
    const hide = showReady(file, true);
    utimesSync(file, 0, 0);
    vi.advanceTimersByTime(10_000);
    expect(statSync(file).mtimeMs).toBeGreaterThan(0);
    hide();
    vi.advanceTimersByTime(10_000);
    expect(existsSync(file)).toBe(false);
    hide();
  });

  it("that cannot be written any more grows old, and the worker works on", () => {
    vi.useFakeTimers();
    const lost = mkdtempSync(join(folder, "lost-"));
    const hide = showReady(join(lost, "ready"), true);
    rmSync(lost, { recursive: true });
    vi.advanceTimersByTime(30_000);
    hide();
    expect(existsSync(lost)).toBe(false);
  });

  it("that cannot be written at the start is a mistake of the configuration", () => {
    expect(() => showReady(join(folder, "none/ready"), true)).toThrow(/worker\.readyFile cannot be written/);
  });

  it("that cannot be written when the broker is back ends no worker, and comes when it can be", () => {
    vi.useFakeTimers();
    const later = join(folder, "later");
    const hide = showReady(join(later, "ready"), false);
    mkdirSync(later);
    vi.advanceTimersByTime(10_000);
    expect(existsSync(join(later, "ready"))).toBe(true);
    hide();
  });

  it("of a worker that was killed goes when the next one begins", () => {
    writeFileSync(file, "");
    hideReady(file);
    hideReady(file);
    hideReady(null);
    expect(existsSync(file)).toBe(false);
  });

  it("is not there unless it is asked for", () => {
    showReady(null, true)();
  });
});
