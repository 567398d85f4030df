import { Component, type ErrorInfo, type ReactNode } from "react";
import { useWords } from "../i18n";

/** Catches what nobody expected: a page that says so instead of a white one. */
export class Crash extends Component<{ children: ReactNode }, { failed: boolean }> {
  override state = { failed: false };

  static getDerivedStateFromError(): { failed: boolean } {
    return { failed: true };
  }

  override componentDidCatch(error: Error, info: ErrorInfo): void {
    console.error(error, info.componentStack);
  }

  override render(): ReactNode {
    return this.state.failed ? <Failed /> : this.props.children;
  }
}

function Failed(): ReactNode {
  const { t } = useWords();
  return (
    <main className="mx-auto max-w-prose space-y-4 p-8">
      <h1 className="text-lg font-bold">{t("error.crash")}</h1>
      <button type="button" className="control" onClick={() => location.reload()}>
        {t("error.reload")}
      </button>
    </main>
  );
}
