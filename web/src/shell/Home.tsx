import { useState, type ReactNode } from "react";
import { useEvents, useMachines } from "../api/queries";
import type { MachineView } from "../api/schema";
import { EventFeed } from "../events/EventFeed";
import { useWords } from "../i18n";
import { DestroyDialog } from "../machines/DestroyDialog";
import { MachineList } from "../machines/MachineList";
import { StartDialog } from "../machines/StartDialog";
import { Summary } from "../machines/Summary";
import { Problem } from "../ui/Problem";
import { Skeleton } from "../ui/Skeleton";
import { StaleBanner } from "./LiveChip";
import { useLive } from "./LiveContext";

/** The page: what runs, what it costs, what happened, and the two things one does. */
export function Home(): ReactNode {
  const { t } = useWords();
  const { state } = useLive();
  const machines = useMachines(state.state !== "connecting");
  const events = useEvents(machines.data?.items);
  const [starting, setStarting] = useState(false);
  const [destroying, setDestroying] = useState<MachineView | null>(null);
  return (
    <main className="mx-auto max-w-[1280px] space-y-6 px-4 py-6" id="main" tabIndex={-1}>
      <StaleBanner />
      <Summary machines={machines.data?.items} />
      <section aria-labelledby="machines-title" className="space-y-3">
        <div className="flex flex-wrap items-center justify-between gap-3">
          <h1 className="text-[22px] font-bold" id="machines-title">
            {t("machines.title")}
          </h1>
          <button
            type="button"
            className="control control-primary"
            onClick={() => setStarting(true)}
          >
            {t("machines.start")}
          </button>
        </div>
        {machines.isError && (
          <Problem error={machines.error} retry={() => void machines.refetch()} />
        )}
        {/* After an error the last known machines stay: an empty list would be a lie. */}
        {machines.data ? (
          <div className="panel overflow-x-auto">
            <MachineList machines={machines.data} onDestroy={setDestroying} />
          </div>
        ) : (
          machines.isPending && <Skeleton rows={3} />
        )}
      </section>
      {/* Below the machines, and only once they are there: what is read must not move. */}
      {machines.data && (
        <section aria-labelledby="events-title" className="space-y-3">
          <h2 className="text-lg font-bold" id="events-title">
            {t("events.title")}
          </h2>
          {events.isError && <Problem error={events.error} retry={() => void events.refetch()} />}
          {events.data && (
            <div className="panel">
              <EventFeed events={events.data} />
            </div>
          )}
          {events.isLoading && <Skeleton rows={4} />}
        </section>
      )}
      {starting && (
        <StartDialog
          onClose={() => setStarting(false)}
          taken={machines.data?.items.map((machine) => machine.name) ?? []}
        />
      )}
      {destroying && (
        <DestroyDialog machine={destroying} onClose={() => setDestroying(null)} />
      )}
    </main>
  );
}
