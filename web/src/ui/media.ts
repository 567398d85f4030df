import { useSyncExternalStore } from "react";

/** Whether the screen is wide enough for a table. */
export function useWide(): boolean {
  return useSyncExternalStore(subscribe, () => query().matches);
}

function query(): MediaQueryList {
  return matchMedia("(min-width: 60rem)");
}

function subscribe(watcher: () => void): () => void {
  const media = query();
  media.addEventListener("change", watcher);
  return () => media.removeEventListener("change", watcher);
}
