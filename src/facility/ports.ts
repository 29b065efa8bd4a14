import { randomInt } from "node:crypto";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";

/** Below the range from which Linux takes ports for outgoing connections: none of those is in the way after a restart. */
const LOWEST = 20_000;
const HIGHEST = 32_000;

/** True if nobody listens on this port of 127.0.0.1 now. Somebody may a moment later. */
export function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen({ port, host: "127.0.0.1", exclusive: true }, () => server.close(() => resolve(true)));
  });
}

/** A server that has ended keeps its ports until the last of its threads has, which takes a moment on a busy machine. */
const SOON_MS = 5_000;
const LOOK_EVERY_MS = 50;

/** True if nobody listens on any of these ports, or soon nobody does. */
export async function areSoonFree(ports: readonly number[], withinMs = SOON_MS): Promise<boolean> {
  const until = Date.now() + withinMs;
  for (;;) {
    const free = await Promise.all(ports.map(isFree));
    if (free.every(Boolean)) return true;
    if (Date.now() > until) return false;
    await sleep(LOOK_EVERY_MS);
  }
}

/** Free ports, random ones so that facilities that start at the same time rarely choose the same. */
export async function chooseFreePorts(count: number, taken: ReadonlySet<number>): Promise<number[]> {
  const chosen = new Set<number>();
  for (let attempt = 0; chosen.size < count; attempt++) {
    if (attempt > 1000) throw new Error(`There are no ${count} free ports between ${LOWEST} and ${HIGHEST}.`);
    const port = randomInt(LOWEST, HIGHEST);
    if (!taken.has(port) && (await isFree(port))) chosen.add(port);
  }
  return [...chosen];
}
