import type { ReactNode } from "react";
import type { MachinePhase } from "../api/schema";
import { useWords } from "../i18n";
import { Icon, type IconName } from "../ui/Icon";

const LOOK: Record<MachinePhase, { icon: IconName; className: string }> = {
  requested: { icon: "spin", className: "bg-starting-tint text-starting" },
  provisioning: { icon: "spin", className: "bg-starting-tint text-starting" },
  running: { icon: "dot", className: "bg-running-tint text-running" },
  on_standby: { icon: "copy", className: "bg-starting-tint text-starting" },
  replacing: { icon: "spin", className: "bg-starting-tint text-starting" },
  hibernating: { icon: "spin", className: "bg-ending-tint text-ending" },
  hibernated: { icon: "ring", className: "bg-gone-tint text-gone" },
  waking: { icon: "spin", className: "bg-starting-tint text-starting" },
  stuck: { icon: "warning", className: "bg-failing-tint text-failing" },
  destroying: { icon: "spin", className: "bg-ending-tint text-ending" },
  destroyed: { icon: "ring", className: "bg-gone-tint text-gone" },
};

/** Where a machine is in its life: a sign, a word and a colour that say the same. */
export function Phase({ phase }: { phase: MachinePhase }): ReactNode {
  const { t } = useWords();
  const { icon, className } = LOOK[phase] ?? LOOK.requested;
  return (
    <span
      className={`inline-flex items-center gap-1.5 rounded-full px-2.5 py-0.5 text-[13px] font-[550] ${className}`}
      data-phase={phase}
    >
      <Icon name={icon} className="size-3.5" />
      {t(`phase.${phase}`)}
    </span>
  );
}
