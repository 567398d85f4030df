import type { ReactNode } from "react";
import type { EventView } from "../api/schema";
import { useWords } from "../i18n";

/** What happened, newest first, as the event log tells it. */
export function EventFeed({ events }: { events: EventView[] }): ReactNode {
  const { t, clock } = useWords();
  if (events.length === 0) return <p className="p-4 text-muted">{t("events.empty")}</p>;
  return (
    // A region that scrolls must be reachable by keyboard.
    <ol
      aria-label={t("events.title")}
      className="max-h-[28rem] overflow-auto"
      tabIndex={0}
    >
      {events.map((event) => (
        <li
          key={event.seq}
          className="grid gap-x-4 border-t border-line px-4 py-1.5 first:border-t-0 sm:grid-cols-[10rem_10rem_1fr]"
          data-kind={event.kind}
        >
          <time className="text-[13px] text-muted" dateTime={event.at}>
            {clock(Date.parse(event.at))}
          </time>
          <span className="font-[550] break-words">{event.machine_name}</span>
          <span className="break-words">{event.summary}</span>
        </li>
      ))}
    </ol>
  );
}
