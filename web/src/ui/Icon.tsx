import type { ReactNode } from "react";

const PATHS = {
  dot: <circle cx="8" cy="8" r="4" fill="currentColor" stroke="none" />,
  ring: <circle cx="8" cy="8" r="4.5" />,
  spin: <path d="M8 2.5a5.5 5.5 0 1 0 5.5 5.5" />,
  check: <path d="m3 8.5 3.2 3.2L13 5" />,
  cross: <path d="m4 4 8 8m0-8-8 8" />,
  warning: <path d="M8 2.5 14 13H2L8 2.5Zm0 4v3m0 1.8v.2" />,
  copy: <path d="M5.5 5.5h7v7h-7zM3.5 10.5v-7h7" />,
  out: <path d="M6.5 3.5h-3v9h9v-3M9 2.5h4.5V7M13.5 2.5 7.5 8.5" />,
} satisfies Record<string, ReactNode>;

export type IconName = keyof typeof PATHS;

/** A small sign beside a word that says the same. */
export function Icon({ name, className = "" }: { name: IconName; className?: string }): ReactNode {
  return (
    <svg
      aria-hidden="true"
      className={`inline-block size-4 shrink-0 ${name === "spin" ? "spin" : ""} ${className}`}
      fill="none"
      stroke="currentColor"
      strokeLinecap="round"
      strokeLinejoin="round"
      strokeWidth="1.6"
      viewBox="0 0 16 16"
    >
      {PATHS[name]}
    </svg>
  );
}
