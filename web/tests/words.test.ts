import { expect, test } from "vitest";
import { messages } from "../src/api/sse";
import { makeWords, type Catalog } from "../src/i18n";
import { en } from "../src/i18n/en";
import { pt } from "../src/i18n/pt";

const words = makeWords("en", en, () => undefined);
const palavras = makeWords("pt-BR", pt, () => undefined);

function places(entry: Catalog[keyof Catalog]): string[] {
  const text = typeof entry === "string" ? entry : entry.other;
  return [...text.matchAll(/\{(\w+)\}/g)].map((match) => match[1] ?? "").sort();
}

test("both languages have the same texts with the same places in them", () => {
  expect(Object.keys(pt)).toEqual(Object.keys(en));
  for (const key of Object.keys(en) as (keyof Catalog)[]) {
    expect([key, places(pt[key])]).toEqual([key, places(en[key])]);
  }
});

test("plurals follow the language", () => {
  expect(words.t("summary.stuck", { count: 1 })).toBe("1 machine is stuck");
  expect(words.t("summary.stuck", { count: 0 })).toBe("0 machines are stuck");
  expect(palavras.t("summary.stuck", { count: 0 })).toBe("0 máquina está travada");
});

test("money keeps the digits that matter, and zero is zero", () => {
  expect(words.money(0.412)).toBe("$0.412");
  expect(words.money(0.0873)).toBe("$0.0873");
  expect(words.money(0)).toBe("$0.000");
  expect(words.money(1234.5)).toBe("$1,234.500");
});

test("times are said in the largest fitting unit, in both directions", () => {
  const now = Date.parse("2026-11-23T12:00:00Z");
  expect(words.ago("2026-11-23T11:59:59.500Z", now)).toBe("just now");
  expect(words.ago("2026-11-23T11:58:10Z", now)).toBe("1 min. ago");
  expect(words.ago("2026-11-23T15:30:00Z", now)).toBe("in 3 hr.");
});

test("messages survive any cut of the bytes, and a JSON text may hold any character", async () => {
  const data = JSON.stringify({ text: "a\u2028b\u0085c é 🚀" });
  const wire = `: ping\r\n\r\nid: 7\r\nevent: machine\r\ndata: ${data}\r\n\r\nid: 8\n\nevent: x\ndata: 1\n\n`;
  const bytes = new TextEncoder().encode(wire);
  for (let size = 1; size <= bytes.length; size++) {
    const body = new ReadableStream<Uint8Array>({
      start(controller) {
        for (let i = 0; i < bytes.length; i += size) controller.enqueue(bytes.slice(i, i + size));
        controller.close();
      },
    });
    const read = [];
    for await (const message of messages(body)) read.push(message);
    expect(read.filter((m) => m.event !== "")).toEqual([
      { event: "machine", data, id: "7" },
      { event: "x", data: "1", id: "8" },
    ]);
    expect(read[0]?.event).toBe("");
  }
});
