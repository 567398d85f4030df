import { vi } from "vitest";
import type { EventView, MachineView } from "../src/api/schema";

const RUNGS = ["rented", "running", "port_mapped", "tcp", "ssh", "agent"] as const;
export const T0 = "2026-11-23T12:00:00Z";

export function at(seconds: number): string {
  return new Date(Date.parse(T0) + seconds * 1000).toISOString();
}

export function machine(changes: Partial<MachineView> = {}): MachineView {
  return {
    machine_id: "m000000000001",
    name: "my-box",
    owner_id: "u1",
    phase: "provisioning",
    reason: "looking for RTX 4090",
    generation: 1,
    requirement: { gpu: "RTX 4090", max_usd_per_hour: 0.6 },
    instance: null,
    ladder: RUNGS.map((rung) => ({ rung, sentence: rung, reached_at: null })),
    ssh: null,
    host_key: null,
    next_try_at: null,
    created_at: T0,
    updated_at: T0,
    workflow_url: "http://127.0.0.1:8233/namespaces/default/workflows/machine",
    ...changes,
  };
}

export function climbed(count: number): MachineView {
  return machine({
    updated_at: at(count),
    ladder: RUNGS.map((rung, index) => ({
      rung,
      sentence: rung,
      reached_at: index < count ? at(index + 1) : null,
    })),
  });
}

export function running(changes: Partial<MachineView> = {}): MachineView {
  return machine({
    phase: "running",
    updated_at: at(60),
    ssh: { host: "127.9.8.7", port: 40022, user: "root" },
    instance: {
      provider: "vast",
      instance_id: "77",
      label: "dmt-demo-m000000000001-g1-a1",
      gpu: "RTX 4090",
      gpu_count: 1,
      host_id: "8841",
      region: "Sao Paulo, BR",
      usd_per_hour: 0.412,
      ready_at: at(42),
    },
    ...changes,
  });
}

export function event(seq: number, summary: string): EventView {
  return {
    seq,
    machine_id: "m000000000001",
    machine_name: "my-box",
    kind: "provision.rung",
    at: at(seq),
    generation: 1,
    summary,
    data: {},
  };
}

type Answer = Response | Promise<Response>;

export function json(body: unknown, status = 200): Response {
  return new Response(JSON.stringify(body), {
    status,
    headers: { "content-type": "application/json" },
  });
}

export function problem(status: number, code: string, detail: string, more = {}): Response {
  return json({ type: "about:blank", title: code, status, code, detail, ...more }, status);
}

/** The API, at the wire: what the page asks, and what it is answered. */
export class Server {
  machines: MachineView[] = [];
  events: EventView[] = [];
  offers: { gpu: string; gpu_count: number; usd_per_hour: number }[] = [];
  sshKeys: unknown[] = [{ key_id: "k1" }];
  signedIn = true;
  down = false;
  streamDown = false;
  requests: { method: string; path: string; body: unknown; headers: Headers }[] = [];
  answers = new Map<string, () => Answer>();
  #streams: ReadableStreamDefaultController<Uint8Array>[] = [];

  constructor() {
    vi.stubGlobal("fetch", (input: RequestInfo | URL, init?: RequestInit) =>
      this.#fetch(input, init),
    );
  }

  get streams(): number {
    return this.#streams.length;
  }

  /** Sends a message on every open stream. */
  send(kind: string, data: unknown, id?: number): void {
    const text = `${id === undefined ? "" : `id: ${id}\r\n`}event: ${kind}\r\ndata: ${JSON.stringify(data)}\r\n\r\n`;
    for (const stream of this.#streams) stream.enqueue(new TextEncoder().encode(text));
  }

  /** Ends every open stream, as a restart of the server does. */
  cut(): void {
    const open = this.#streams;
    this.#streams = [];
    for (const stream of open) stream.close();
  }

  calls(method: string, path: string): unknown[] {
    return this.requests.filter((r) => r.method === method && r.path === path).map((r) => r.body);
  }

  async #fetch(input: RequestInfo | URL, init?: RequestInit): Promise<Response> {
    const request =
      input instanceof Request
        ? input
        : new Request(new URL(String(input), "http://localhost"), { headers: init?.headers ?? {} });
    const path = new URL(request.url).pathname.replace("/api/v1", "");
    const text = request.method === "GET" ? "" : await request.text();
    const body: unknown = text === "" ? null : JSON.parse(text);
    this.requests.push({ method: request.method, path, body, headers: request.headers });
    if (this.down) throw new TypeError("fetch failed");
    const answer = this.answers.get(`${request.method} ${path}`);
    if (answer) return answer();
    if (path === "/auth/login") {
      if ((body as { password: string }).password !== "secret")
        return problem(401, "unauthenticated", "e-mail or password is wrong");
      this.signedIn = true;
      return json({ access_token: "a", refresh_token: "r", expires_in: 900 });
    }
    if (path === "/meta")
      return json({ env: "demo", version: "0.1.0", temporal_ui_url: "http://127.0.0.1:8233" });
    if (!this.signedIn) return problem(401, "unauthenticated", "this needs a log-in");
    if (path === "/auth/logout") {
      this.signedIn = false;
      return new Response(null, { status: 204 });
    }
    if (path === "/auth/me")
      return json({ user_id: "u1", email: "owner@dumont.local", is_admin: true });
    if (path === "/events") return this.#stream(init?.signal ?? null);
    if (path === "/machines" && request.method === "POST") {
      const wish = body as { name: string };
      const made = machine({ name: wish.name, machine_id: "m000000000002" });
      this.machines = [made, ...this.machines];
      return json(made, 201);
    }
    if (path === "/machines") return json({ items: this.machines, next_cursor: null });
    if (path === "/offers") return json({ items: this.offers, seen_at: T0 });
    if (path === "/ssh-keys") return json(this.sshKeys);
    if (path.endsWith("/events")) return json({ items: this.events, next_cursor: null });
    if (request.method === "DELETE") {
      const ending = { ...this.machines[0], phase: "destroying", updated_at: at(99) };
      return json({ machine: ending }, 202);
    }
    return problem(404, "not_found", `no ${path}`);
  }

  #stream(signal: AbortSignal | null): Response {
    if (this.streamDown) return problem(503, "dependency_unavailable", "no database");
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => {
        this.#streams.push(controller);
        signal?.addEventListener("abort", () => {
          if (!this.#streams.includes(controller)) return;
          this.#streams = this.#streams.filter((stream) => stream !== controller);
          controller.error(new DOMException("aborted", "AbortError"));
        });
        controller.enqueue(new TextEncoder().encode(": dumont\r\n\r\n"));
      },
    });
    return new Response(body, { headers: { "content-type": "text/event-stream" } });
  }
}
