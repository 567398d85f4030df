/** One message of an event stream; the server's ping has no event and no data, but may move the
    place (`id`) to come back to. */
export interface Message {
  event: string;
  data: string;
  id: string | null;
}

/**
 * Reads server-sent events as the HTML standard defines them.
 *
 * EventSource hides pings and refusals; reading the stream ourselves shows a silent connection
 * within seconds and an ended session at once.
 */
export async function* messages(body: ReadableStream<Uint8Array>): AsyncGenerator<Message> {
  const reader = body.getReader();
  const decoder = new TextDecoder();
  let rest = "";
  let event = "";
  let data: string[] = [];
  let id: string | null = null;
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      const lines = (rest + decoder.decode(value, { stream: true })).split(LINE_END);
      rest = lines.pop() ?? "";
      for (const line of lines) {
        if (line === "") {
          yield { event: data.length > 0 ? event || "message" : "", data: data.join("\n"), id };
          event = "";
          data = [];
        } else {
          const colon = line.indexOf(":");
          const field = colon < 0 ? line : line.slice(0, colon);
          const text = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
          if (field === "event") event = text;
          else if (field === "data") data.push(text);
          else if (field === "id" && !text.includes("\0")) id = text;
        }
      }
    }
  } finally {
    await reader.cancel().catch(() => undefined);
  }
}

// A carriage return that ends a chunk may be half of a pair.
const LINE_END = /\r\n|\n|\r(?!$)/;
