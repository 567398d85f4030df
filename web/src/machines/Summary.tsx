import type { ReactNode } from "react";
import type { MachineView } from "../api/schema";
import { useWords } from "../i18n";

/** What runs, what it costs now, and whether anything needs a person. Unknown is said, never zero. */
export function Summary(props: { machines: MachineView[] | undefined }): ReactNode {
  const { t, money } = useWords();
  const loaded = props.machines !== undefined;
  const machines = props.machines ?? [];
  const running = machines.filter((machine) => machine.phase === "running");
  const rented = machines.filter((machine) => machine.instance);
  // What a machine costs that does not run, and still has an instance, nobody told us.
  const prices = rented.map((machine) =>
    machine.phase === "running" ? (machine.instance?.usd_per_hour ?? null) : null,
  );
  const known = prices.filter((price) => price !== null);
  const unknown = prices.length - known.length;
  const starting = machines.filter((m) => m.phase === "provisioning" || m.phase === "requested").length;
  const stuck = machines.filter((machine) => machine.phase === "stuck").length;
  return (
    <section aria-label={t("summary.title")} className="panel">
      <dl className="grid grid-cols-2 gap-4 p-4 sm:grid-cols-3">
        <Figure name={t("summary.running")}>
          {loaded ? t("summary.of", { running: running.length, all: machines.length }) : "–"}
        </Figure>
        <Figure name={t("summary.cost")} title={t("summary.costNote")}>
          {loaded ? (
            <span data-testid="cost">{money(known.reduce((sum, price) => sum + price, 0))}</span>
          ) : (
            "–"
          )}
          <span className="text-base font-normal text-muted">{t("summary.perHour")}</span>
          {unknown > 0 && <Aside>{t("summary.unknown", { count: unknown })}</Aside>}
          {starting > 0 && <Aside>{t("summary.starting", { count: starting })}</Aside>}
        </Figure>
        <Figure name={t("summary.attention")}>
          {stuck > 0 ? (
            <span className="text-failing">{t("summary.stuck", { count: stuck })}</span>
          ) : (
            <span className="text-base font-normal text-muted">
              {loaded ? t("summary.nothing") : "–"}
            </span>
          )}
        </Figure>
      </dl>
    </section>
  );
}

interface FigureProps {
  name: string;
  title?: string;
  children: ReactNode;
}

function Figure({ name, title, children }: FigureProps): ReactNode {
  return (
    <div>
      <dt className="text-[13px] text-muted" title={title}>
        {name}
      </dt>
      <dd className="text-[22px] leading-tight font-bold">{children}</dd>
    </div>
  );
}

function Aside({ children }: { children: ReactNode }): ReactNode {
  return <span className="block text-[13px] font-normal text-muted">{children}</span>;
}
