import type { ReactNode } from "react";
import { ApiError, Unreachable } from "../api/client";
import { useWords, type Words } from "../i18n";
import { Icon } from "./Icon";

/** What went wrong, as a person reads it: the server's own words, and its hint. */
export function sentenceOf(error: Error, { t }: Words): string {
  if (error instanceof Unreachable) return t("error.unreachable");
  if (error instanceof ApiError && error.hint) return `${error.message} – ${error.hint}`;
  return error.message;
}

/** An error in place of what could not be shown, with a way out. */
export function Problem({ error, retry }: { error: Error; retry?: () => void }): ReactNode {
  const words = useWords();
  const { t } = words;
  return (
    <div className="rounded-lg bg-failing-tint p-4 text-failing" role="alert">
      <p className="flex items-center gap-2 font-bold">
        <Icon name="warning" /> {t("error.title")}
      </p>
      <p className="mt-1 break-words">{sentenceOf(error, words)}</p>
      {error instanceof ApiError && error.requestId && (
        <p className="mt-1 text-[13px]">{t("error.request", { id: error.requestId })}</p>
      )}
      {retry && (
        <button type="button" className="control mt-3" onClick={retry}>
          {t("error.retry")}
        </button>
      )}
    </div>
  );
}

/** An error of a form that belongs to none of its fields. */
export function FormProblem({ error }: { error: Error }): ReactNode {
  return (
    <p className="rounded bg-failing-tint p-3 break-words text-failing" role="alert">
      {sentenceOf(error, useWords())}
    </p>
  );
}
