import { setImmediate } from "node:timers/promises";
import { expect, it } from "vitest";
import { yieldForLarge } from "../../src/messages/yield-for-large.ts";

it("large messages are read one after the other, with a turn of all else between; small ones at once", async () => {
  const order: string[] = [];
  const read = async (name: string, bytes: number) => {
    await yieldForLarge(bytes);
    order.push(name);
  };
  const other = async () => {
    for (const name of ["timer 1", "timer 2"]) {
      await setImmediate();
      order.push(name);
    }
  };
  await Promise.all([read("large 1", 100_000), read("large 2", 100_000), read("small", 1000), other()]);
  expect(order[0]).toBe("small");
  const [first, second] = [order.indexOf("large 1"), order.indexOf("large 2")];
  expect(order.slice(first + 1, second)).toEqual([expect.stringMatching(/^timer/)]);
});
