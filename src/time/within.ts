/** What the work comes to, if it does in so many milliseconds; it is not stopped. Keeps the process alive as long. */
export async function within<T>(
  milliseconds: number,
  work: Promise<T>,
): Promise<{ value: T } | { isLate: true }> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<{ isLate: true }>((resolve) => {
    timer = setTimeout(() => resolve({ isLate: true }), milliseconds);
  });
  return Promise.race([work.then((value) => ({ value })), late]).finally(() => clearTimeout(timer));
}
