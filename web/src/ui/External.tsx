import type { ReactNode } from "react";
import { useWords } from "../i18n";
import { Icon } from "./Icon";

interface ExternalProps {
  href: string;
  label?: string;
  children: ReactNode;
}

/** A link that opens another page beside this one; anything but http(s) is shown as text. */
export function External({ href, label, children }: ExternalProps): ReactNode {
  const { t } = useWords();
  if (!/^(https?:\/\/|\/(?!\/))/i.test(href)) return <>{children}</>;
  return (
    <a
      aria-label={label && `${label} ${t("app.newTab")}`}
      className="inline-flex min-h-6 items-center gap-1"
      href={href}
      rel="noreferrer"
      target="_blank"
    >
      {children}
      <Icon name="out" className="size-3.5" />
      {!label && <span className="sr-only">{t("app.newTab")}</span>}
    </a>
  );
}
