import { expect, it } from "vitest";
import { originOf } from "../../src/messages/origin.ts";

it("one body is another message with other properties, however often it was read", () => {
  const body = Buffer.from('{"path":"/a"}');
  const idOf = (properties: Parameters<typeof originOf>[1]) => originOf(body, properties).cause;
  expect(idOf({ messageId: "1", appId: "/s" })).toMatchObject({ id: "1", source: "/s" });
  expect(idOf({ messageId: "2", appId: "/s" })).toMatchObject({ id: "2", source: "/s" });
  expect(idOf({ messageId: "2", appId: "/t" })).toMatchObject({ id: "2", source: "/t" });
  expect(idOf({ messageId: "2", appId: "/t", type: "x" })).toMatchObject({ type: "x" });
  const headers = { "cloudEvents:id": "3", "cloudEvents:source": "/u", "cloudEvents:specversion": "1.0" };
  expect(idOf({ messageId: "2", appId: "/t", headers })).toMatchObject({ id: "3", source: "/u" });
});
