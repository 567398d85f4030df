import type { ReactNode } from "react";
import type { MachineView } from "../api/schema";
import { useWords } from "../i18n";
import { Ago } from "../ui/Ago";
import { Copyable } from "../ui/Copyable";
import { External } from "../ui/External";
import { Ladder } from "./Ladder";
import { Phase } from "./Phase";

/** The command that enters a machine from anywhere with the right key. */
export function sshCommand(ssh: NonNullable<MachineView["ssh"]>): string {
  return `ssh -p ${ssh.port} ${ssh.user ?? "root"}@${ssh.host}`;
}

export function Gpu({ machine }: { machine: MachineView }): ReactNode {
  const live = machine.instance ?? machine.requirement;
  const count = live.gpu_count ?? 1;
  return (
    <>
      {count > 1 && `${count}× `}
      {live.gpu}
      {machine.instance?.region && (
        <span className="block text-[13px] text-muted">{machine.instance.region}</span>
      )}
    </>
  );
}

export function State({ machine }: { machine: MachineView }): ReactNode {
  const { t } = useWords();
  const climbing = machine.phase === "requested" || machine.phase === "provisioning";
  return (
    <div className="space-y-1.5">
      <Phase phase={machine.phase} />
      {machine.phase === "running" && machine.instance?.ready_at && (
        <p className="text-[13px] text-muted">
          <Sentence text={t("machines.since", { ago: "{ago}" })} at={machine.instance.ready_at} />
        </p>
      )}
      {climbing && (
        <p className="text-[13px] text-muted">
          <Sentence text={t("machines.created", { ago: "{ago}" })} at={machine.created_at} />
        </p>
      )}
      {machine.phase !== "running" && machine.reason && (
        <p className="max-w-[40ch] text-[13px] break-words">{machine.reason}</p>
      )}
      {machine.next_try_at && (
        <p className="text-[13px] text-muted">
          <Sentence text={t("machines.nextTry", { ago: "{ago}" })} at={machine.next_try_at} />
        </p>
      )}
      {climbing && (machine.ladder ?? []).length > 0 && <Ladder machine={machine} />}
    </div>
  );
}

/** A sentence with a ticking time in the place that its language gives it. */
function Sentence({ text, at }: { text: string; at: string }): ReactNode {
  const [before, after] = text.split("{ago}");
  return (
    <>
      {before}
      <Ago at={at} />
      {after}
    </>
  );
}

export function Price({ machine }: { machine: MachineView }): ReactNode {
  const { t, money } = useWords();
  if (machine.instance === null || machine.instance === undefined) {
    return (
      <span className="text-[13px] text-muted">
        {t("machines.wanted", { price: money(machine.requirement.max_usd_per_hour) })}
      </span>
    );
  }
  const price = machine.instance.usd_per_hour;
  if (price !== null && machine.phase !== "running") {
    // A stopped instance bills its disk alone, and nobody told us how much that is.
    return (
      <span className="text-[13px] text-muted">
        {t("machines.whenRunning", { price: money(price) })}
      </span>
    );
  }
  if (price === null) return <span className="text-muted">{t("machines.priceUnknown")}</span>;
  return (
    <>
      {money(price)}
      <span className="text-muted">{t("summary.perHour")}</span>
    </>
  );
}

export function Connect({ machine }: { machine: MachineView }): ReactNode {
  const { t } = useWords();
  if (!machine.ssh) {
    const coming = machine.phase === "requested" || machine.phase === "provisioning";
    return (
      <span className="text-[13px] text-muted">
        {t(coming ? "machines.noSshYet" : "machines.noSsh")}
      </span>
    );
  }
  return <Copyable text={sshCommand(machine.ssh)} />;
}

interface ActionsProps {
  machine: MachineView;
  onDestroy(machine: MachineView): void;
}

export function Actions({ machine, onDestroy }: ActionsProps): ReactNode {
  const { t } = useWords();
  const { name } = machine;
  return (
    <div className="flex flex-wrap items-center gap-3">
      {machine.workflow_url && (
        <External href={machine.workflow_url} label={t("machines.workflowOf", { name })}>
          {t("machines.workflow")}
        </External>
      )}
      {machine.phase !== "destroying" && machine.phase !== "destroyed" && (
        <button
          type="button"
          aria-label={t("machines.destroyOf", { name })}
          className="control control-danger min-h-7 px-2 text-[13px]"
          onClick={() => onDestroy(machine)}
        >
          {t("machines.destroy")}
        </button>
      )}
    </div>
  );
}
