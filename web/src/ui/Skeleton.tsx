import type { ReactNode } from "react";
import { useWords } from "../i18n";

/** Stands where a list will be, in about its size. */
export function Skeleton({ rows }: { rows: number }): ReactNode {
  const { t } = useWords();
  return (
    <div className="panel space-y-3 p-4" role="status">
      <span className="sr-only">{t("app.loading")}</span>
      {Array.from({ length: rows }, (_, index) => (
        <div key={index} className="h-6 rounded bg-sunk" />
      ))}
    </div>
  );
}
