import { useQueryClient, type QueryClient } from "@tanstack/react-query";
import { createContext, useContext, useEffect, useState, useSyncExternalStore, type ReactNode } from "react";
import { Live, type LiveState } from "../api/live";
import { endSession, keys, placeEvent, placeMachine } from "../api/queries";
import type { EventView, MachineView } from "../api/schema";

const Context = createContext<Live | null>(null);

/** Holds the page's one event stream and lets its news into the data that is shown. */
export function LiveProvider({ children }: { children: ReactNode }): ReactNode {
  const client = useQueryClient();
  const [live, setLive] = useState<Live | null>(null);
  useEffect(() => {
    const stream = new Live(feed(client));
    setLive(stream);
    stream.start();
    return () => stream.stop();
  }, [client]);
  return <Context.Provider value={live}>{children}</Context.Provider>;
}

/** Gathers news between two frames, so that a burst is one change of the page. */
function feed(client: QueryClient): ConstructorParameters<typeof Live>[0] {
  let waiting: (() => void)[] = [];
  const later = (change: () => void): void => {
    if (waiting.push(change) > 1) return;
    requestAnimationFrame(() => {
      const changes = waiting;
      waiting = [];
      for (const each of changes) each();
    });
  };
  return {
    onEvent: (event: EventView) => later(() => placeEvent(client, event)),
    onMachine: (machine: MachineView) => later(() => placeMachine(client, machine)),
    onGap: () => {
      void client.invalidateQueries({ queryKey: keys.machines });
      void client.invalidateQueries({ queryKey: keys.events });
    },
    onRefused: () => endSession(client),
  };
}

const NOT_YET: LiveState = { state: "connecting" };
const never = (): (() => void) => () => undefined;

/** How the connection is, and a way to hurry it. */
export function useLive(): { state: LiveState; retry(): void } {
  const live = useContext(Context);
  const state = useSyncExternalStore(live?.subscribe ?? never, live?.snapshot ?? (() => NOT_YET));
  return { state, retry: live?.retryNow ?? (() => undefined) };
}
