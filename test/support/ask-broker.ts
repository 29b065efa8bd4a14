import { facility } from "./site.ts";

/** The tests' virtual host, as a part of a path. */
export const VHOST = encodeURIComponent(
  decodeURIComponent(new URL(facility.broker.url).pathname.slice(1)) || "/",
);

/** Asks the management API of the tests' broker; returns the answer of a GET. */
export async function askBroker(method: string, path: string, body?: object): Promise<unknown> {
  const { managementUrl, user, password } = facility.broker;
  const answer = await fetch(`${managementUrl}/api/${path}`, {
    method,
    headers: {
      authorization: `Basic ${Buffer.from(`${user}:${password}`).toString("base64")}`,
      "content-type": "application/json",
    },
    ...(body && { body: JSON.stringify(body) }),
  });
  if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${await answer.text()}`);
  return method === "GET" ? answer.json() : undefined;
}
