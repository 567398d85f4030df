import { createContext, useContext, useEffect, useMemo, useState, type ReactNode } from "react";
import { en } from "./en";

type Plural = { one: string; other: string };
export type Key = keyof typeof en;
/** Every language has every text, a plural where English has one; the compiler checks it. */
export type Catalog = {
  readonly [K in Key]: (typeof en)[K] extends string ? string : Plural;
};
export type Language = "en" | "pt-BR";
export type Values = Readonly<Record<string, string | number>>;

const STORED = "dumont.language";

/** Other languages are fetched when somebody reads them. */
const catalogs: Record<Language, () => Promise<Catalog>> = {
  en: () => Promise.resolve(en),
  "pt-BR": () => import("./pt").then((module) => module.pt),
};

export interface Words {
  language: Language;
  setLanguage(language: Language): void;
  /** A text with its values; `count` chooses the plural. */
  t(key: Key, values?: Values): string;
  /** `$0.412`; four decimals below ten cents. */
  money(usd: number): string;
  /** How long ago, or until, in the largest fitting unit. */
  ago(moment: string, now: number): string;
  /** The time of day, with the date when it is another day. */
  clock(moment: number): string;
  /** Seconds, as a stop-watch shows them. */
  seconds(value: number): string;
}

const Context = createContext<Words | null>(null);

export function useWords(): Words {
  const words = useContext(Context);
  if (words === null) throw new Error("useWords needs Language around it");
  return words;
}

export function preferredLanguage(): Language {
  try {
    const stored = localStorage.getItem(STORED);
    if (stored === "en" || stored === "pt-BR") return stored;
  } catch {
    // Storage may be forbidden.
  }
  return navigator.language.toLowerCase().startsWith("pt") ? "pt-BR" : "en";
}

export function LanguageProvider({ children }: { children: ReactNode }): ReactNode {
  const [wanted, setWanted] = useState<Language>(preferredLanguage);
  const [loaded, setLoaded] = useState<{ language: Language; catalog: Catalog }>({
    language: "en",
    catalog: en,
  });
  useEffect(() => {
    let current = true;
    catalogs[wanted]().then(
      (catalog) => current && setLoaded({ language: wanted, catalog }),
      () => undefined, // The language could not be fetched: the one shown stays.
    );
    return () => {
      current = false;
    };
  }, [wanted]);
  useEffect(() => {
    document.documentElement.lang = loaded.language;
  }, [loaded.language]);
  const words = useMemo(
    () =>
      makeWords(loaded.language, loaded.catalog, (language) => {
        try {
          localStorage.setItem(STORED, language);
        } catch {
          // Then the choice lasts as long as the page.
        }
        setWanted(language);
      }),
    [loaded],
  );
  return <Context.Provider value={words}>{children}</Context.Provider>;
}

const UNITS: readonly [Intl.RelativeTimeFormatUnit, number][] = [
  ["day", 86_400],
  ["hour", 3_600],
  ["minute", 60],
  ["second", 1],
];

export function makeWords(
  language: Language,
  catalog: Catalog,
  setLanguage: (language: Language) => void,
): Words {
  const plural = new Intl.PluralRules(language);
  const relative = new Intl.RelativeTimeFormat(language, { numeric: "always", style: "short" });
  const time = new Intl.DateTimeFormat(language, { timeStyle: "medium" });
  const dateTime = new Intl.DateTimeFormat(language, { dateStyle: "short", timeStyle: "medium" });
  const decimal = new Intl.NumberFormat(language, {
    minimumFractionDigits: 1,
    maximumFractionDigits: 1,
  });
  const dollars = (digits: number): Intl.NumberFormat =>
    new Intl.NumberFormat(language, {
      style: "currency",
      currency: "USD",
      minimumFractionDigits: digits,
    });
  const [fine, usual] = [dollars(4), dollars(3)];

  const t = (key: Key, values: Values = {}): string => {
    const entry = catalog[key];
    const text =
      typeof entry === "string"
        ? entry
        : entry[plural.select(Number(values["count"])) === "one" ? "one" : "other"];
    return text.replace(/\{(\w+)\}/g, (whole, name: string) => String(values[name] ?? whole));
  };

  return {
    language,
    setLanguage,
    t,
    money: (usd) => (usd !== 0 && Math.abs(usd) < 0.1 ? fine : usual).format(usd),
    ago: (moment, now) => {
      const seconds = (Date.parse(moment) - now) / 1000;
      if (Math.abs(seconds) < 1) return t("time.now");
      const [unit, size] = UNITS.find(([, size]) => Math.abs(seconds) >= size) ?? ["second", 1];
      return relative.format(Math.trunc(seconds / size), unit);
    },
    clock: (moment) => {
      const sameDay = new Date(moment).toDateString() === new Date().toDateString();
      return (sameDay ? time : dateTime).format(moment);
    },
    seconds: (value) => `${decimal.format(value)} s`,
  };
}
