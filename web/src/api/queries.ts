import {
  MutationCache,
  QueryCache,
  QueryClient,
  useMutation,
  useQuery,
  useQueryClient,
  type UseMutationResult,
  type UseQueryResult,
} from "@tanstack/react-query";
import { api, ApiError, data, intentKey } from "./client";
import type {
  EventView,
  Login,
  MachineCreate,
  MachineView,
  Meta,
  OfferList,
  SshKeyView,
  UserView,
} from "./schema";

export const keys = {
  me: ["me"],
  ended: ["session-ended"],
  meta: ["meta"],
  machines: ["machines"],
  events: ["events"],
  offers: ["offers"],
  sshKeys: ["ssh-keys"],
} as const;

const PAGE = 200;
/** More machines than this are for the command line, until this list can show them by the window. */
export const MOST_MACHINES = 1_000;
/** Machines whose past the feed begins with, and how much of it. */
const FEED_MACHINES = 5;
const FEED_EACH = 20;
export const FEED_LENGTH = 100;

export function makeQueryClient(): QueryClient {
  const onError = (error: Error): void => {
    if (error instanceof ApiError && error.status === 401) endSession(client);
  };
  const client = new QueryClient({
    queryCache: new QueryCache({ onError }),
    mutationCache: new MutationCache({ onError }),
    defaultOptions: {
      queries: {
        staleTime: 5_000,
        retry: (count, error) => count < 2 && error instanceof ApiError && error.passing,
      },
    },
  });
  return client;
}

/** The server no longer knows our session: back to signing in, with a word about why. */
export function endSession(client: QueryClient): void {
  if (!client.getQueryData(keys.me)) return;
  client.setQueryData(keys.ended, true);
  leave(client);
}

/** Nobody is logged in any more: nothing of theirs stays in this page. */
function leave(client: QueryClient): void {
  client.setQueryData(keys.me, null);
  const kept: readonly string[] = [keys.me[0], keys.ended[0], keys.meta[0]];
  client.removeQueries({ predicate: (query) => !kept.includes(String(query.queryKey[0])) });
}

/** Whether the session ended by itself. */
export function useSessionEnded(): boolean {
  const client = useQueryClient();
  return client.getQueryData<boolean>(keys.ended) ?? false;
}

/** Who is logged in; null when nobody is. */
export function useMe(): UseQueryResult<UserView | null> {
  return useQuery({
    queryKey: keys.me,
    staleTime: 60_000,
    queryFn: async () => {
      try {
        return await data(api.GET("/api/v1/auth/me"));
      } catch (error) {
        if (error instanceof ApiError && error.status === 401) return null;
        throw error;
      }
    },
  });
}

export function useMeta(): UseQueryResult<Meta> {
  return useQuery({
    queryKey: keys.meta,
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: () => data(api.GET("/api/v1/meta")),
  });
}

export interface Machines {
  items: MachineView[];
  /** There are more than are shown. */
  truncated: boolean;
}

/** All machines; read once somebody listens for their changes. */
export function useMachines(listening: boolean): UseQueryResult<Machines> {
  const client = useQueryClient();
  return useQuery({
    queryKey: keys.machines,
    enabled: listening,
    queryFn: async () => {
      const items: MachineView[] = [];
      let cursor: string | null = null;
      do {
        const page: { items: MachineView[]; next_cursor?: string | null } = await data(
          api.GET("/api/v1/machines", { params: { query: { limit: PAGE, cursor } } }),
        );
        items.push(...page.items);
        cursor = page.next_cursor ?? null;
      } while (cursor !== null && items.length < MOST_MACHINES);
      // News that came while the pages did must not be undone by them.
      const before = client.getQueryData<Machines>(keys.machines)?.items ?? [];
      const known = new Map(before.map((machine) => [machine.machine_id, machine]));
      return {
        items: items.map((machine) => newer(known.get(machine.machine_id), machine)),
        truncated: cursor !== null,
      };
    },
  });
}

function newer(known: MachineView | undefined, read: MachineView): MachineView {
  if (known === undefined) return read;
  const order = Date.parse(known.updated_at) - Date.parse(read.updated_at);
  return order > 0 || (order === 0 && climbed(known) > climbed(read)) ? known : read;
}

function climbed(machine: MachineView): number {
  return (machine.ladder ?? []).filter((rung) => rung.reached_at !== null).length;
}

/** Takes a machine as the stream brought it into the list. */
export function placeMachine(client: QueryClient, machine: MachineView): void {
  client.setQueryData<Machines>(keys.machines, (machines) => {
    if (machines === undefined) return undefined;
    const others = machines.items.filter((item) => item.machine_id !== machine.machine_id);
    if (machine.phase === "destroyed") return { ...machines, items: others };
    const index = machines.items.findIndex((item) => item.machine_id === machine.machine_id);
    if (index < 0) return { ...machines, items: [machine, ...others] };
    return { ...machines, items: machines.items.with(index, newer(machines.items[index], machine)) };
  });
}

/** What happened lately, newest first: begins with the past of the machines listed. */
export function useEvents(machines: MachineView[] | undefined): UseQueryResult<EventView[]> {
  const client = useQueryClient();
  return useQuery({
    queryKey: keys.events,
    enabled: machines !== undefined,
    queryFn: async () => {
      const latest = [...(machines ?? [])]
        .sort((a, b) => Date.parse(b.updated_at) - Date.parse(a.updated_at))
        .slice(0, FEED_MACHINES);
      const pages = await Promise.all(
        latest.map((machine) =>
          data(
            api.GET("/api/v1/machines/{machine}/events", {
              params: { path: { machine: machine.machine_id }, query: { limit: FEED_EACH } },
            }),
          ),
        ),
      );
      const before = client.getQueryData<EventView[]>(keys.events) ?? [];
      return merged(before, pages.flatMap((page) => page.items));
    },
  });
}

/** Adds an event that the stream brought. */
export function placeEvent(client: QueryClient, event: EventView): void {
  client.setQueryData<EventView[]>(keys.events, (events) => merged(events ?? [], [event]));
}

function merged(a: EventView[], b: EventView[]): EventView[] {
  const bySeq = new Map([...a, ...b].map((event) => [event.seq, event]));
  return [...bySeq.values()].sort((x, y) => y.seq - x.seq).slice(0, FEED_LENGTH);
}

/** What the market rents now; asked for only while somebody looks. */
export function useOffers(enabled: boolean): UseQueryResult<OfferList> {
  return useQuery({
    queryKey: keys.offers,
    enabled,
    staleTime: 30_000,
    queryFn: () => data(api.GET("/api/v1/offers", { params: { query: { limit: PAGE } } })),
  });
}

export function useSshKeys(enabled: boolean): UseQueryResult<SshKeyView[]> {
  return useQuery({
    queryKey: keys.sshKeys,
    enabled,
    queryFn: () => data(api.GET("/api/v1/ssh-keys")),
  });
}

export function useSignIn(): UseMutationResult<unknown, Error, Login> {
  const client = useQueryClient();
  return useMutation({
    // The tokens in the answer are for programs; a browser has its cookie, which scripts cannot read.
    mutationFn: (body: Login) => data(api.POST("/api/v1/auth/login", { body })).then(() => null),
    onSuccess: () => {
      client.removeQueries({ queryKey: keys.ended });
      return client.invalidateQueries({ queryKey: keys.me });
    },
  });
}

export function useSignOut(): UseMutationResult<unknown, Error, void> {
  const client = useQueryClient();
  return useMutation({
    mutationFn: () => data(api.POST("/api/v1/auth/logout")),
    onSuccess: () => leave(client),
  });
}

/** Asks for a machine; `intent` makes a repeated click the same request. */
export function useStartMachine(): UseMutationResult<
  MachineView,
  Error,
  { body: MachineCreate; intent: string }
> {
  const client = useQueryClient();
  return useMutation({
    mutationFn: ({ body, intent }) =>
      data(
        api.POST("/api/v1/machines", {
          body,
          params: { header: { "idempotency-key": intent } },
        }),
      ),
    onSuccess: (machine) => placeMachine(client, machine),
  });
}

export function useDestroyMachine(): UseMutationResult<unknown, Error, string> {
  const client = useQueryClient();
  return useMutation({
    mutationFn: (machine: string) =>
      data(
        api.DELETE("/api/v1/machines/{machine}", {
          params: { path: { machine }, header: { "idempotency-key": intentKey() } },
        }),
      ),
    onSuccess: (accepted) => placeMachine(client, accepted.machine),
  });
}
