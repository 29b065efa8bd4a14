import fc from "fast-check";

/** Values as amqplib decodes them: every field type, extremes, bytes that are no text, tables that look like types. */
const { value } = fc.letrec<{ value: unknown }>((tie) => ({
  value: fc.oneof(
    { maxDepth: 3, withCrossShrink: true },
    fc.oneof(
      fc.string({ unit: "binary", maxLength: 40 }),
      fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes).toString("utf8")),
      fc.uint8Array({ maxLength: 40 }).map((bytes) => Buffer.from(bytes)),
      fc.integer().map((length) => "x".repeat(Math.abs(length) % 3000)),
    ),
    fc.oneof(
      fc.double(),
      fc.maxSafeInteger(),
      fc.constantFrom(2 ** 63, -(2 ** 63), -1e300, NaN, Infinity, -0),
    ),
    fc.constantFrom(true, false, null, undefined),
    fc.oneof(
      fc.double().map((seconds) => ({ "!": "timestamp", value: seconds })),
      fc.constantFrom({ "!": "timestamp", value: 2 ** 64 }, { "!": 1 }, { "!": "no type" }),
      fc.nat().map((digits) => ({ "!": "decimal", value: { places: 3, digits } })),
    ),
    fc.array(tie("value"), { maxLength: 3 }),
    fc.dictionary(fc.string({ maxLength: 10 }), tie("value"), { maxKeys: 3 }),
  ),
}));

const attribute = fc.constantFrom(
  "specversion",
  "id",
  "source",
  "type",
  "time",
  "subject",
  "traceparent",
  "x1",
);
const name = fc.oneof(
  fc
    .tuple(fc.constantFrom("cloudEvents:", "cloudEvents_", "ce-", "CE-", "mento-"), attribute)
    .map((parts) => parts.join("")),
  fc.constantFrom("traceparent", "tracestate", "CC", "BCC", "x-death", "x-delivery-count", "__proto__", "!"),
  fc.string({ maxLength: 60 }),
);

const entry = fc.oneof(
  fc.tuple(name, value),
  fc.constantFrom<[string, unknown][]>(
    ["ce-specversion", "1.0"],
    ["ce-id", "1"],
    ["ce-source", "/s"],
    ["ce-type", "mento.data.ready.v1"],
    ["traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"],
  ),
);

/** Headers as amqplib gives them, which assigns one name after the other: `__proto__` sets the prototype. */
export const amqpHeaders: fc.Arbitrary<Record<string, unknown>> = fc
  .array(entry, { maxLength: 20 })
  .map((entries) => {
    const headers: Record<string, unknown> = {};
    for (const [key, of] of entries) headers[key] = of;
    return headers;
  });
