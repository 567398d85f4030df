import createClient, { type Middleware } from "openapi-fetch";
import type { paths, Problem } from "./schema";

/** What the API refused or failed to do, in its own words; `code` is stable. */
export class ApiError extends Error {
  readonly status: number;
  readonly code: string;
  readonly field: string | null;
  readonly hint: string | null;
  readonly requestId: string | null;

  constructor(status: number, problem: Partial<Problem>) {
    super(problem.detail ?? `HTTP ${status}`);
    this.name = "ApiError";
    this.status = status;
    this.code = problem.code ?? "internal";
    this.field = problem.field ?? null;
    this.hint = problem.hint ?? null;
    this.requestId = problem.request_id ?? null;
  }

  /** Doing the same again may help. */
  get passing(): boolean {
    return this.status === 503 || this.status === 429 || this.status === 0;
  }
}

/** The server did not answer at all. */
export class Unreachable extends ApiError {
  constructor() {
    super(0, { code: "unreachable" });
    this.name = "Unreachable";
  }
}

/** Nobody waits longer than this for an answer: the slowest one is a look at the market. */
const TIMEOUT_MS = 45_000;

const throwErrors: Middleware = {
  async onResponse({ response }) {
    if (response.ok) return undefined;
    throw new ApiError(response.status, await problemOf(response));
  },
  onError() {
    return new Unreachable();
  },
};

async function problemOf(response: Response): Promise<Partial<Problem>> {
  try {
    const body: unknown = await response.clone().json();
    return typeof body === "object" && body !== null ? (body as Partial<Problem>) : {};
  } catch {
    return {};
  }
}

/** The API of the server this page came from. The session cookie travels by itself. */
export const api = createClient<paths>({
  baseUrl: typeof location === "undefined" ? "" : location.origin,
  fetch: (request) =>
    fetch(new Request(request, { signal: AbortSignal.any([request.signal, timeout()]) })),
});
api.use(throwErrors);

function timeout(): AbortSignal {
  return AbortSignal.timeout(TIMEOUT_MS);
}

/** The body of a successful answer; errors were thrown on the way. */
export async function data<T>(call: Promise<{ data?: T }>): Promise<T> {
  return (await call).data as T;
}

/** A name for one intent, so that sending it twice does it once. */
export function intentKey(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
