import type { ReactNode } from "react";
import type { MachineView } from "../api/schema";
import { useWords } from "../i18n";
import { Icon } from "../ui/Icon";

/** The readiness ladder of a starting machine: each rung, and when it was reached. */
export function Ladder({ machine }: { machine: MachineView }): ReactNode {
  const { t, seconds } = useWords();
  const rungs = machine.ladder ?? [];
  const firstReached = rungs.find((rung) => rung.reached_at !== null)?.reached_at;
  // A later generation begins long after the machine was asked for.
  const since = machine.generation > 1 ? firstReached : machine.created_at;
  const under = rungs.findIndex((rung) => rung.reached_at === null);
  return (
    <ol aria-label={t("machines.ladder", { name: machine.name })} className="space-y-0.5">
      {rungs.map((rung, index) => {
        const done = rung.reached_at !== null;
        const now = index === under;
        const state = done ? "rungDone" : now ? "rungNow" : "rungLater";
        return (
          <li
            key={rung.rung}
            aria-current={now ? "step" : undefined}
            className={`flex items-center gap-2 text-[13px] ${done ? "text-running" : now ? "text-starting" : "text-muted"}`}
          >
            <Icon name={done ? "check" : now ? "spin" : "ring"} className="size-3.5" />
            <span>{t(`rung.${rung.rung}`)}</span>
            <span className="sr-only">({t(`machines.${state}`)})</span>
            {done && since && rung.reached_at && (
              <span className="text-muted">
                +{seconds((Date.parse(rung.reached_at) - Date.parse(since)) / 1000)}
              </span>
            )}
          </li>
        );
      })}
    </ol>
  );
}
