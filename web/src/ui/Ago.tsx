import type { ReactNode } from "react";
import { useWords } from "../i18n";
import { useNow } from "./now";

/** How long ago a moment is, ticking; the moment itself on hover and for machines. */
export function Ago({ at }: { at: string }): ReactNode {
  const words = useWords();
  const now = useNow();
  return (
    <time dateTime={at} title={words.clock(Date.parse(at))}>
      {words.ago(at, now)}
    </time>
  );
}
