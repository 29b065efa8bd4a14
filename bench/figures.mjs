/**
 * @param {number[]} values
 * @param {number} share from 0 to 1
 */
export function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))] ?? NaN;
}

/**
 * A row a measurement; with `against`, the ratio of the medians.
 *
 * @param {{ what: string, values: number[], against?: number[] }[]} rows
 */
export function table(rows) {
  console.log(`${"".padEnd(46)}   n  median     p95   ratio`);
  for (const { what, values, against } of rows) {
    const median = quantile(values, 0.5);
    const ratio = against === undefined ? "" : (median / quantile(against, 0.5)).toFixed(2).padStart(8);
    const cells = [
      String(values.length).padStart(4),
      ...[median, quantile(values, 0.95)].map((one) => one.toFixed(1).padStart(8)),
    ];
    console.log(`${what.padEnd(46)}${cells.join("")}${ratio}`);
  }
}
