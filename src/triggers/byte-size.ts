import * as z from "zod";

/** `50MB`, `2 GiB`, or a number of bytes. */
export const ByteSize = z.union([
  z.int().nonnegative(),
  z
    .string()
    .regex(/^\d+(\.\d+)?\s*([kMG]i?)?B?$/, "must be a size such as 50MB")
    .transform(bytesOf),
]);

function bytesOf(size: string): number {
  const [, number = "", prefix = "", binary] = /^([\d.]+)\s*([kMG]?)(i?)/.exec(size) ?? [];
  const power = ["", "k", "M", "G"].indexOf(prefix);
  return Math.floor(Number(number) * (binary === "i" ? 1024 : 1000) ** power);
}
