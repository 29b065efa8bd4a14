import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { HeldRecords, MAX_HELD, MAX_HELD_BYTES, RECORDS_AT_ONCE } from "../../src/tracking/held-records.ts";

beforeEach(() => void vi.useFakeTimers());
afterEach(() => void vi.useRealTimers());

/** A queue as RabbitMQ has it: a consumer gets so many un-acked records, and one that begins anew as many again. */
class Queue {
  readonly waiting: number[];
  readonly held: { bytes: number; consumer: number; letGo: () => void }[] = [];
  most = { count: 0, bytes: 0 };
  #consumer = 0;
  #records: HeldRecords;

  constructor(sizes: number[]) {
    this.waiting = [...sizes];
    this.#records = new HeldRecords({
      ask: async () => {
        await Promise.resolve();
        this.#consumer += 1;
        this.deliver();
      },
      waiting: () => Promise.resolve(this.waiting.length),
      handOn: (count) => {
        for (const { bytes } of this.held.slice(0, count)) {
          this.waiting.push(bytes);
          this.letGo(0);
        }
      },
      lost: new Promise(() => undefined),
    });
    this.deliver();
  }

  deliver(): void {
    const isUnacked = () => this.held.filter(({ consumer }) => consumer === this.#consumer).length;
    while (this.waiting.length > 0 && isUnacked() < RECORDS_AT_ONCE) {
      const bytes = this.waiting.shift() ?? 0;
      this.held.push({ bytes, consumer: this.#consumer, letGo: this.#records.take(bytes) });
      const count = this.held.length;
      const all = this.held.reduce((sum, { bytes: some }) => sum + some, 0);
      this.most = { count: Math.max(this.most.count, count), bytes: Math.max(this.most.bytes, all) };
    }
  }

  letGo(at: number): void {
    const [one] = this.held.splice(at, 1);
    one?.letGo();
    one?.letGo();
    this.deliver();
  }
}

describe("the records that a worker holds", () => {
  it("are all of a queue's, if they are few", async () => {
    const queue = new Queue(Array.from({ length: 1000 }, () => 3000));
    await vi.advanceTimersByTimeAsync(10);
    expect(queue.held).toHaveLength(1000);
  });

  it.each([
    ["by number", 12_000, 3000],
    ["by bytes", 600, 1024 * 1024],
  ])(
    "are bounded %s, and take turns with those that wait",
    async (_, count, bytes) => {
      const queue = new Queue(Array.from({ length: count }, () => bytes));
      const late = 12_345;
      queue.waiting.push(late);
      await vi.advanceTimersByTimeAsync(10);
      expect(queue.held.length).toBeLessThan(count);
      let wasSeen = false;
      for (let turn = 0; turn < 40 && !wasSeen; turn++) {
        await vi.advanceTimersByTimeAsync(5000);
        wasSeen = queue.held.some((one) => one.bytes === late);
      }
      expect(wasSeen).toBe(true);
      expect(queue.most.count).toBeLessThanOrEqual(MAX_HELD + RECORDS_AT_ONCE);
      expect(queue.most.bytes).toBeLessThanOrEqual(MAX_HELD_BYTES + RECORDS_AT_ONCE * bytes);
    },
    30_000,
  );

  it("never leave one in the queue while the worker has room, in whatever order they end", async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.integer({ min: 1, max: 4 * 1024 * 1024 }), { maxLength: 400 }),
        fc.infiniteStream(fc.nat()),
        async (sizes, ends) => {
          const queue = new Queue(sizes);
          await vi.advanceTimersByTimeAsync(1);
          while (queue.held.length > 0) {
            queue.letGo((ends.next().value as number) % queue.held.length);
            await vi.advanceTimersByTimeAsync(0);
          }
          expect(queue.waiting).toEqual([]);
        },
      ),
      { numRuns: 40 },
    );
  }, 60_000);
});
