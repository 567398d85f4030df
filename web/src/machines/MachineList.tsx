import type { ReactNode } from "react";
import { MOST_MACHINES, type Machines } from "../api/queries";
import type { MachineView } from "../api/schema";
import { useWords, type Key } from "../i18n";
import { Copyable } from "../ui/Copyable";
import { useWide } from "../ui/media";
import { Actions, Connect, Gpu, Price, State } from "./cells";

interface ListProps {
  machines: MachineView[];
  onDestroy(machine: MachineView): void;
}

/** The machines: a table where there is room, cards where there is not. */
export function MachineList(props: { machines: Machines; onDestroy(m: MachineView): void }): ReactNode {
  const { t } = useWords();
  const wide = useWide();
  const { items, truncated } = props.machines;
  if (items.length === 0) return <Empty />;
  const List = wide ? Table : Cards;
  return (
    <>
      <List machines={items} onDestroy={props.onDestroy} />
      {truncated && (
        <p className="p-3 text-muted">{t("machines.truncated", { count: MOST_MACHINES })}</p>
      )}
    </>
  );
}

const COLUMNS: readonly Key[] = [
  "machines.name",
  "machines.gpu",
  "machines.state",
  "machines.price",
  "machines.connect",
  "machines.actions",
];

function Table({ machines, onDestroy }: ListProps): ReactNode {
  const { t } = useWords();
  return (
    <table aria-label={t("machines.title")} className="w-full border-collapse text-left">
      <thead>
        <tr className="text-[13px] text-muted">
          {COLUMNS.map((column) => (
            <th key={column} className="px-4 py-2 font-[550]" scope="col">
              {t(column)}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {machines.map((machine) => (
          <tr key={machine.machine_id} className="border-t border-line align-top">
            <th className="max-w-[16rem] px-4 py-2.5 font-bold break-words" scope="row">
              {machine.name}
            </th>
            <td className="px-4 py-2.5 whitespace-nowrap">
              <Gpu machine={machine} />
            </td>
            <td className="px-4 py-2.5">
              <State machine={machine} />
            </td>
            <td className="px-4 py-2.5 whitespace-nowrap">
              <Price machine={machine} />
            </td>
            <td className="px-4 py-2.5">
              <Connect machine={machine} />
            </td>
            <td className="px-4 py-2.5">
              <Actions machine={machine} onDestroy={onDestroy} />
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

function Cards({ machines, onDestroy }: ListProps): ReactNode {
  return (
    <ul>
      {machines.map((machine) => (
        <li key={machine.machine_id} className="space-y-2 border-t border-line p-4 first:border-t-0">
          <h2 className="text-lg font-bold break-words">{machine.name}</h2>
          <State machine={machine} />
          <div className="flex flex-wrap justify-between gap-2">
            <div>
              <Gpu machine={machine} />
            </div>
            <div>
              <Price machine={machine} />
            </div>
          </div>
          <Connect machine={machine} />
          <Actions machine={machine} onDestroy={onDestroy} />
        </li>
      ))}
    </ul>
  );
}

function Empty(): ReactNode {
  const { t } = useWords();
  return (
    <div className="space-y-2 p-8 text-center">
      <p className="font-bold">{t("machines.empty")}</p>
      <p className="text-muted">{t("machines.emptyHow")}</p>
      <Copyable text={'dumont up my-box --gpu "RTX 4090" --max-price 0.60'} />
    </div>
  );
}
