import { WrittenNumber } from "../messages/json.ts";

/** `parameters.geometry.poni`, `results[0].path` → its steps; undefined if the text is no name. */
export function stepsOf(name: string): (string | number)[] | undefined {
  if (!NAME.test(name)) return undefined;
  return [...name.matchAll(STEP)].map(([, key, index]) =>
    index === undefined ? (key ?? "") : Number(index),
  );
}

const NAME = /^[^.[\]\s]+(\[\d{1,9}\])*(\.[^.[\]\s]+(\[\d{1,9}\])*)*$/;
const STEP = /([^.[\]]+)|\[(\d+)\]/g;

/** What lies there; undefined where nothing does. Never what every object or list has by itself. */
export function valueAt(value: unknown, steps: readonly (string | number)[]): unknown {
  let found = value;
  for (const step of steps) {
    if (typeof step === "number") found = Array.isArray(found) ? (found[step] as unknown) : undefined;
    else found = isObject(found) && Object.hasOwn(found, step) ? found[step] : undefined;
  }
  return found ?? undefined;
}

function isObject(value: unknown): value is Record<string, unknown> {
  return (
    typeof value === "object" && value !== null && !Array.isArray(value) && !(value instanceof WrittenNumber)
  );
}
