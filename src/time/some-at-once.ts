/** Does it with all of them, so many at once, in their order. */
export async function someAtOnce<T>(
  all: readonly T[],
  atOnce: number,
  work: (one: T) => Promise<void>,
): Promise<void> {
  const left = all.values();
  const some = Array.from({ length: atOnce }, async () => {
    for (const one of left) await work(one);
  });
  await Promise.all(some);
}
