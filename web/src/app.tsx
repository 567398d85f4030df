import { CSPProvider } from "@base-ui/react/csp-provider";
import { QueryClientProvider, type QueryClient } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { useMe, useSessionEnded } from "./api/queries";
import { LanguageProvider, useWords } from "./i18n";
import { Header } from "./shell/Header";
import { Home } from "./shell/Home";
import { LiveProvider } from "./shell/LiveContext";
import { SignIn } from "./shell/SignIn";
import { Crash } from "./ui/Crash";
import { Problem } from "./ui/Problem";

/** Everything, around one store of data. */
export function App({ client }: { client: QueryClient }): ReactNode {
  return (
    <CSPProvider disableStyleElements>
      <QueryClientProvider client={client}>
        <LanguageProvider>
          <Crash>
            <Gate />
          </Crash>
        </LanguageProvider>
      </QueryClientProvider>
    </CSPProvider>
  );
}

/** Signed in or not. */
function Gate(): ReactNode {
  const { t } = useWords();
  const me = useMe();
  const ended = useSessionEnded();
  if (me.data) {
    return (
      <LiveProvider>
        <a className="sr-only focus:not-sr-only focus:absolute focus:p-2" href="#main">
          {t("app.skip")}
        </a>
        <Header me={me.data} />
        <Home />
      </LiveProvider>
    );
  }
  if (me.data === null) return <SignIn ended={ended} />;
  if (me.isError) {
    return (
      <main className="mx-auto max-w-prose p-8">
        <Problem error={me.error} retry={() => void me.refetch()} />
      </main>
    );
  }
  return (
    <main aria-busy="true" className="p-8 text-center text-muted">
      {t("app.loading")}
    </main>
  );
}
