import { messages } from "./sse";
import type { EventView, MachineView } from "./schema";

export type LiveState =
  | { state: "connecting" }
  | { state: "live" }
  /** Lost; `since` is when the last word came. */
  | { state: "reconnecting"; since: number }
  /** Nobody looks at the page: it rests and catches up when somebody does. */
  | { state: "resting" };

export interface Listener {
  onEvent(event: EventView): void;
  onMachine(machine: MachineView): void;
  /** Changes may have been missed: read everything again. */
  onGap(): void;
  /** The session has ended. */
  onRefused(): void;
}

/** The server pings every 10 s: silence for longer is a broken connection. */
const SILENCE_MS = 25_000;
const WAITS_MS = [500, 1_000, 2_000, 5_000, 10_000];
/** A hidden page gives its connection back after this: browsers allow six for one server. */
const REST_AFTER_MS = 60_000;

/** The one event stream of this page: connects, notices silence, comes back where it was. */
export class Live {
  #listener: Listener;
  #state: LiveState = { state: "connecting" };
  #watchers = new Set<() => void>();
  #lastId: string | null = null;
  #lastWord = Date.now();
  /** Data may have been read since the page was opened, and changed unheard. */
  #mayHaveMissed = false;
  #stopped = new AbortController();
  #connection: AbortController | null = null;
  #wake: (() => void) | null = null;
  #restTimer: ReturnType<typeof setTimeout> | undefined;

  constructor(listener: Listener) {
    this.#listener = listener;
  }

  /** Begins; call `stop` to end it. */
  start(): void {
    document.addEventListener("visibilitychange", this.#onVisibility, {
      signal: this.#stopped.signal,
    });
    addEventListener("online", this.retryNow, { signal: this.#stopped.signal });
    void this.#run();
  }

  stop(): void {
    this.#stopped.abort();
    this.#connection?.abort();
    clearTimeout(this.#restTimer);
    this.#wake?.();
  }

  readonly subscribe = (watcher: () => void): (() => void) => {
    this.#watchers.add(watcher);
    return () => this.#watchers.delete(watcher);
  };

  readonly snapshot = (): LiveState => this.#state;

  /** Do not wait for the next try. */
  readonly retryNow = (): void => this.#wake?.();

  async #run(): Promise<void> {
    for (let failures = 0; !this.#stopped.signal.aborted; ) {
      if (this.#state.state === "resting") {
        await this.#sleep(Number.POSITIVE_INFINITY);
        continue;
      }
      const heard = await this.#connect();
      if (this.#stopped.signal.aborted || this.#resting()) continue;
      failures = heard ? 0 : failures + 1;
      this.#set({ state: "reconnecting", since: this.#lastWord });
      await this.#sleep(WAITS_MS[Math.min(failures, WAITS_MS.length - 1)] ?? 0);
    }
  }

  /** One connection from begin to end; tells whether anything was heard on it. */
  async #connect(): Promise<boolean> {
    const connection = new AbortController();
    this.#connection = connection;
    let silence = setTimeout(() => connection.abort(), SILENCE_MS);
    let heard = false;
    try {
      const headers: Record<string, string> = { Accept: "text/event-stream" };
      if (this.#lastId !== null) headers["Last-Event-ID"] = this.#lastId;
      const response = await fetch("/api/v1/events", { headers, signal: connection.signal });
      if (response.status === 401) {
        this.#listener.onRefused();
        return false;
      }
      if (!response.ok || response.body === null) return false;
      this.#lastWord = Date.now();
      this.#set({ state: "live" });
      // The first time nothing was read yet: the page listens first and reads then.
      if (this.#mayHaveMissed) this.#listener.onGap();
      for await (const message of messages(response.body)) {
        clearTimeout(silence);
        silence = setTimeout(() => connection.abort(), SILENCE_MS);
        this.#lastWord = Date.now();
        heard = true;
        this.#lastId = message.id ?? this.#lastId;
        this.#deliver(message.event, message.data);
      }
      return heard;
    } catch {
      return heard;
    } finally {
      clearTimeout(silence);
      this.#connection = null;
      this.#mayHaveMissed = true;
    }
  }

  #deliver(event: string, data: string): void {
    if (event === "") return;
    if (event === "reset") return this.#listener.onGap();
    const value: unknown = JSON.parse(data);
    if (event === "machine") this.#listener.onMachine(value as MachineView);
    else this.#listener.onEvent(value as EventView);
  }

  #set(next: LiveState): void {
    const same =
      this.#state.state === next.state &&
      (next.state !== "reconnecting" || this.#state.state !== "reconnecting" || this.#state.since === next.since);
    if (same) return;
    this.#state = next;
    for (const watcher of this.#watchers) watcher();
  }

  #resting(): boolean {
    return this.#state.state === "resting";
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = Number.isFinite(ms) ? setTimeout(resolve, ms) : undefined;
      this.#wake = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  readonly #onVisibility = (): void => {
    clearTimeout(this.#restTimer);
    if (document.visibilityState === "hidden") {
      this.#restTimer = setTimeout(() => {
        this.#set({ state: "resting" });
        this.#connection?.abort();
      }, REST_AFTER_MS);
    } else if (this.#resting()) {
      this.#set({ state: "connecting" });
      this.#wake?.();
    }
  };
}
