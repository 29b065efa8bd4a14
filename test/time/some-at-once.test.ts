import { expect, it } from "vitest";
import { someAtOnce } from "../../src/time/some-at-once.ts";

it("all are worked on, in their order, so many at once; one that fails is told", async () => {
  const [done, underWay]: number[][] = [[], []];
  let most = 0;
  const work = async (one: number) => {
    underWay?.push(one);
    most = Math.max(most, underWay?.length ?? 0);
    await new Promise((resolve) => setImmediate(resolve));
    underWay?.splice(underWay.indexOf(one), 1);
    done?.push(one);
  };
  const all = Array.from({ length: 20 }, (_, nth) => nth);
  await someAtOnce(all, 3, work);
  expect([done, most]).toEqual([all, 3]);
  await someAtOnce([], 3, work);
  await expect(someAtOnce([1], 3, () => Promise.reject(new Error("no")))).rejects.toThrow("no");
});
