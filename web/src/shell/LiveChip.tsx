import type { ReactNode } from "react";
import { useWords } from "../i18n";
import { Icon, type IconName } from "../ui/Icon";
import { useNow } from "../ui/now";
import { useLive } from "./LiveContext";

/** Data older than this is called old. */
const STALE_MS = 15_000;

type Look = { icon: IconName; className: string; text: string };

/** Says whether the page is live. */
export function LiveChip(): ReactNode {
  const { t, clock } = useWords();
  const { state } = useLive();
  const stale = useStaleSince();
  const looks: Record<string, Look> = {
    connecting: { icon: "spin", className: "bg-sunk text-muted", text: t("live.connecting") },
    live: { icon: "dot", className: "bg-running-tint text-running", text: t("live.live") },
    reconnecting: { icon: "spin", className: "bg-ending-tint text-ending", text: t("live.reconnecting") },
    resting: { icon: "ring", className: "bg-sunk text-muted", text: t("live.resting") },
  };
  const look =
    stale === null
      ? looks[state.state]
      : {
          icon: "warning" as const,
          className: "bg-failing-tint text-failing",
          text: t("live.stale", { time: clock(stale) }),
        };
  return (
    <span
      className={`inline-flex items-center gap-1.5 rounded-full px-2.5 py-0.5 text-[13px] font-[550] ${look?.className}`}
      data-live={stale === null ? state.state : "stale"}
      role="status"
    >
      <Icon name={look?.icon ?? "ring"} className="size-3.5" />
      {look?.text}
    </span>
  );
}

/** A line across the page while what it shows is old. */
export function StaleBanner(): ReactNode {
  const { t, clock } = useWords();
  const { retry } = useLive();
  const stale = useStaleSince();
  if (stale === null) return null;
  return (
    <div className="flex flex-wrap items-center gap-3 rounded-lg bg-failing-tint p-3 text-failing" role="alert">
      <Icon name="warning" />
      <span>{t("live.banner", { time: clock(stale) })}</span>
      <button type="button" className="control min-h-7 px-2 text-[13px]" onClick={retry}>
        {t("live.retry")}
      </button>
    </div>
  );
}

function useStaleSince(): number | null {
  const { state } = useLive();
  const now = useNow();
  return state.state === "reconnecting" && now - state.since > STALE_MS ? state.since : null;
}
