import { useEffect, useState, type ReactNode } from "react";
import { useWords } from "../i18n";
import { Icon } from "./Icon";

const SHOWN_MS = 2_000;

/** A command with a button that copies it; the text can be selected all the same. */
export function Copyable({ text }: { text: string }): ReactNode {
  const { t } = useWords();
  const [result, setResult] = useState<"done" | "failed" | null>(null);
  useEffect(() => {
    if (result !== "done") return undefined;
    const timer = setTimeout(() => setResult(null), SHOWN_MS);
    return () => clearTimeout(timer);
  }, [result]);

  const copy = async (): Promise<void> => {
    try {
      await navigator.clipboard.writeText(text);
      setResult("done");
    } catch {
      setResult("failed"); // Without https the browser has no clipboard.
    }
  };
  return (
    <span className="inline-flex max-w-full flex-wrap items-center gap-1">
      <code className="rounded bg-sunk px-1.5 py-0.5 break-all select-all lg:break-normal">{text}</code>
      <button
        type="button"
        aria-label={t("copy.copyOf", { text })}
        className="control inline-flex min-h-7 items-center gap-1 px-2 text-[13px]"
        onClick={() => void copy()}
      >
        <Icon name={result === "done" ? "check" : "copy"} />
        {t(result === "done" ? "copy.done" : "copy.copy")}
      </button>
      <span aria-live="polite" className="text-[13px] text-muted">
        {result === "failed" && t("copy.failed")}
        {result === "done" && <span className="sr-only">{t("copy.done")}</span>}
      </span>
    </span>
  );
}
