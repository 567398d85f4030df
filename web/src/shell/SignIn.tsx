import { useState, type ReactNode } from "react";
import { useSignIn } from "../api/queries";
import { useWords } from "../i18n";
import { Field } from "../ui/Field";
import { FormProblem } from "../ui/Problem";
import { Brand, Preferences } from "./Header";

/** E-mail and password; the server answers with a cookie that scripts cannot read. */
export function SignIn({ ended }: { ended: boolean }): ReactNode {
  const { t } = useWords();
  const [email, setEmail] = useState("owner@dumont.local");
  const [password, setPassword] = useState("");
  const signIn = useSignIn();
  return (
    <main className="mx-auto flex min-h-dvh max-w-sm flex-col justify-center gap-6 p-4">
      <div className="flex flex-wrap items-center justify-between gap-2">
        <Brand />
        <Preferences />
      </div>
      <form
        className="panel space-y-4 p-6"
        onSubmit={(event) => {
          event.preventDefault();
          if (!signIn.isPending) signIn.mutate({ email, password });
        }}
      >
        <h1 className="text-[22px] font-bold">{t("signIn.title")}</h1>
        {ended && (
          <p className="rounded bg-ending-tint p-3 text-ending" role="status">
            {t("signIn.ended")}
          </p>
        )}
        <Field
          required
          autoComplete="username"
          label={t("signIn.email")}
          onText={setEmail}
          type="email"
          value={email}
        />
        <Field
          required
          autoComplete="current-password"
          help={t("signIn.first")}
          label={t("signIn.password")}
          onText={setPassword}
          type="password"
          value={password}
        />
        {signIn.isError && <FormProblem error={signIn.error} />}
        <button
          type="submit"
          className="control control-primary w-full"
          disabled={signIn.isPending || password === ""}
        >
          {t(signIn.isPending ? "signIn.busy" : "signIn.submit")}
        </button>
      </form>
    </main>
  );
}
