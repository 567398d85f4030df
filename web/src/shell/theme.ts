import { useState } from "react";

export type Theme = "system" | "light" | "dark";

/** The user's theme; `public/theme.js` reads it before the first paint. */
export function useTheme(): [Theme, (theme: Theme) => void] {
  const [theme, setTheme] = useState<Theme>(() => {
    const chosen = document.documentElement.dataset["theme"];
    return chosen === "light" || chosen === "dark" ? chosen : "system";
  });
  const choose = (next: Theme): void => {
    setTheme(next);
    if (next === "system") delete document.documentElement.dataset["theme"];
    else document.documentElement.dataset["theme"] = next;
    try {
      localStorage.setItem("dumont.theme", next);
    } catch {
      // Then it holds for this page alone.
    }
  };
  return [theme, choose];
}
