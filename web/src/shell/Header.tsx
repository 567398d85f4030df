import { useId, type ReactNode } from "react";
import { useMeta, useSignOut } from "../api/queries";
import type { UserView } from "../api/schema";
import { useWords, type Language } from "../i18n";
import { External } from "../ui/External";
import { LiveChip } from "./LiveChip";
import { useTheme, type Theme } from "./theme";

const LANGUAGES: Record<Language, string> = { en: "English", "pt-BR": "Português" };
const THEMES: readonly Theme[] = ["system", "light", "dark"];

/** Name, environment, connection, the other pages, and who is signed in. */
export function Header({ me }: { me: UserView }): ReactNode {
  const { t } = useWords();
  const meta = useMeta().data;
  const signOut = useSignOut();
  return (
    <header className="border-b border-line bg-panel">
      <div className="mx-auto flex max-w-[1280px] flex-wrap items-center gap-x-4 gap-y-2 px-4 py-2.5">
        <Brand />
        <LiveChip />
        {meta && meta.env !== "prod" && (
          <span className="rounded bg-ending-tint px-2 py-0.5 text-[13px] font-bold text-ending uppercase">
            {meta.env}
          </span>
        )}
        <nav aria-label={t("app.links")} className="flex gap-4 text-[13px] sm:ml-auto">
          {meta?.temporal_ui_url && (
            <External href={meta.temporal_ui_url}>{t("app.temporal")}</External>
          )}
          <External href="/api/docs">{t("app.apiDocs")}</External>
        </nav>
        <Preferences />
        <span className="text-[13px] break-all text-muted">{me.email}</span>
        <button
          type="button"
          className="control min-h-7 px-2 text-[13px]"
          disabled={signOut.isPending}
          onClick={() => signOut.mutate()}
        >
          {t("app.signOut")}
        </button>
      </div>
    </header>
  );
}

/** The product's name and mark. */
export function Brand(): ReactNode {
  return (
    <span className="inline-flex items-center gap-2 text-lg font-bold">
      <img alt="" className="size-6" height="24" src="/favicon.svg" width="24" />
      Dumont
    </span>
  );
}

/** Language and theme. */
export function Preferences(): ReactNode {
  const { t, language, setLanguage } = useWords();
  const [theme, setTheme] = useTheme();
  return (
    <div className="flex gap-2">
      <Choice
        label={t("app.language")}
        onChoose={(value) => setLanguage(value as Language)}
        options={Object.entries(LANGUAGES)}
        value={language}
      />
      <Choice
        label={t("app.theme")}
        onChoose={(value) => setTheme(value as Theme)}
        options={THEMES.map((name) => [name, t(`app.theme.${name}`)])}
        value={theme}
      />
    </div>
  );
}

interface ChoiceProps {
  label: string;
  value: string;
  options: [string, string][];
  onChoose(value: string): void;
}

function Choice({ label, value, options, onChoose }: ChoiceProps): ReactNode {
  const id = useId();
  return (
    <>
      <label className="sr-only" htmlFor={id}>
        {label}
      </label>
      <select
        className="input min-h-7 w-auto py-0 text-[13px]"
        id={id}
        onChange={(event) => onChoose(event.target.value)}
        value={value}
      >
        {options.map(([key, text]) => (
          <option key={key} value={key}>
            {text}
          </option>
        ))}
      </select>
    </>
  );
}
