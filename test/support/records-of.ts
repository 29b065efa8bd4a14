/** What one call's answer says of a job with these records; of the run 4711, unless `submitted` names another. */
export function recordsOf(
  id: string,
  { submitted = "4711\n", ended }: { submitted?: string; ended?: string },
): string {
  const encoded = (text: string) => Buffer.from(text).toString("base64");
  const run = submitted.split("\n", 1)[0] ?? "";
  return [
    "begin",
    `submitted x ${encoded(submitted)}`,
    ...(ended === undefined ? [] : [`ended ${run} ${encoded(ended)}`]),
    "end",
  ]
    .map((line) => `mento-record ${id} ${line}\n`)
    .join("");
}
